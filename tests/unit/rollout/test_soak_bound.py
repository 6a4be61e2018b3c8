"""A soak that is interrupted again and again counts as held, and ends with a person."""

import pytest

from support.builders import make_release
from support.invariants import ended, phase_of, with_stable
from wavegate.api import Reason, WaveState
from wavegate.rollout import report
from wavegate.rollout.decide import decide

CHECK = {"name": "crashes", "query": "x", "max": 0, "interval": "1s"}
SOAK, HOLD = 30, 120
FLICKERING = {
    "checks": [CHECK],
    "prometheus": {"url": "http://prometheus"},
    "rollout": {"holdTimeout": f"{HOLD}s"},
}


@pytest.fixture
def soaking(make_sim):
    """The canary of release b soaks, under a check."""
    sim = with_stable(make_sim(**FLICKERING))
    sim.publish("b", 2)
    sim.run(300, until=lambda: sim.record.rollout.waves and wave(sim).state is WaveState.Soaking)
    return sim


def wave(sim):
    return sim.record.rollout.waves[-1]


def flicker(sim, seconds, restarts=False, until=lambda: False):
    """Prometheus is gone for 5 of each 20 s; the operator may restart each time."""
    for second in range(seconds):
        sim.check_error = "could not be asked" if second % 20 < 5 else ""
        if restarts and second % 20 == 10:
            sim.forget()
        sim.run(1)
        if until():
            return
    assert not until(), sim.story[-5:]


def said(sim):
    obs = sim.observe()
    status = report.release_status(obs, sim.releases["b"], decide(obs, sim.now), sim.now)
    return status["phase"], status["reason"], status["waitingFor"], status["message"]


def paused(sim):
    return lambda: sim.record.rollout.paused is Reason.HoldTimeout


@pytest.mark.parametrize("restarts", [False, True])
def test_a_soak_that_is_interrupted_for_ever_says_by_what_and_then_asks_a_person(soaking, restarts):
    sim = soaking
    began = sim.now
    flicker(sim, 4 * SOAK, restarts)
    assert wave(sim).overrun_since - began == pytest.approx(3 * SOAK, abs=5)
    sim.check_error = ""
    sim.run(3)
    phase, reason, waiting, message = said(sim)
    assert (phase, reason, waiting) == ("Rolling", "SoakInterrupted", "Evidence")
    assert "could not be asked" in message
    flicker(sim, 4 * HOLD, restarts, paused(sim))
    assert sim.now - began == pytest.approx(3 * SOAK + HOLD, abs=30)
    assert len(sim.record.rollout.waves) == 1


def test_a_soak_over_its_bound_goes_on_by_itself_once_nothing_interrupts_it(soaking):
    sim = soaking
    flicker(sim, 4 * SOAK)
    assert wave(sim).overrun_since is not None
    sim.check_error = ""
    sim.run(400, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Completed", "Completed")


def test_an_operator_that_was_away_for_long_soaks_on_and_blames_itself(soaking):
    sim = soaking
    watchers, sim.watchers = sim.watchers, []
    work, sim.kill_after = sim.writes, None
    for _ in range(100 * SOAK):
        sim.tick()
    assert sim.writes == work
    sim.watchers = watchers
    sim.forget()
    sim.run(2)
    assert said(sim)[1] == "SoakInterrupted"
    assert "no operator watched" in said(sim)[3]
    sim.run(400, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Completed", "Completed")


def test_a_person_gives_the_soak_another_try_with_a_bound_of_its_own(soaking):
    sim = soaking
    flicker(sim, 10 * SOAK, until=paused(sim))
    sim.releases["b"] = make_release("b", 2, suspend=True)
    sim.run(5)
    sim.releases["b"] = make_release("b", 2)
    sim.run(2)
    resumed = sim.now
    assert wave(sim).overrun_since is None
    flicker(sim, 10 * SOAK, until=paused(sim))
    assert sim.now - resumed > 3 * SOAK + HOLD - 20


def test_nothing_is_moved_while_a_soak_is_over_its_bound(soaking):
    sim = soaking
    flicker(sim, 4 * SOAK)
    moved = {node.name for node in sim.nodes.values() if node.attempt == sim.record.rollout.attempt}
    assert moved == {"canary-0"}


def test_a_wave_that_has_passed_no_longer_keeps_what_interrupted_it(soaking):
    sim = soaking
    sim.check_error = "could not be asked"
    sim.run(60, until=lambda: wave(sim).interrupted)
    sim.check_error = ""
    sim.run(300, until=lambda: len(sim.record.rollout.waves) > 1)
    first = sim.record.rollout.waves[0]
    assert (first.state, first.interrupted, first.unsteady) == (WaveState.Passed, "", ())
