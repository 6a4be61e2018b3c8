"""A wave's checks are asked until after the next one has opened: no moment is seen by neither."""

import pytest

from support import answers
from support.invariants import ended, in_wave, phase_of, with_stable
from wavegate.api import WaveState
from wavegate.evidence import CheckResult
from wavegate.rollout import report
from wavegate.rollout.decide import decide
from wavegate.rollout.periods import asked_of, evidence_since

CHECK = {"name": "crashes", "query": "x", "max": 0, "interval": "1s"}
PROMETHEUS = {"url": "http://prometheus"}


@pytest.fixture
def prometheus(monkeypatch):
    """Asks as ever until it is `quiet`: then it answers nothing new."""

    class Prometheus:
        quiet = False

    ask, found = answers.ask, Prometheus()
    monkeypatch.setattr(answers, "ask", lambda sim: found.quiet or ask(sim))
    return found


@pytest.fixture
def passed(make_sim, prometheus):
    """The canary of release b has passed; from now on nothing new is answered."""

    def begin(**check):
        sim = with_stable(make_sim(checks=[CHECK | check], prometheus=PROMETHEUS))
        sim.publish("b", 2)
        sim.step_until(in_wave(sim, "canary", WaveState.Passed))
        prometheus.quiet = True
        sim.tick()
        return sim

    return begin


def wave(sim):
    return sim.record.rollout.waves[-1]


def on_b(sim):
    return sorted(node for node, release in sim.running().items() if release == "b")


def message(sim):
    obs = sim.observe()
    step = decide(obs, sim.now)
    return report.release_status(obs, sim.releases["b"], step, sim.now)["message"]


def test_no_node_is_moved_until_each_check_was_asked_after_the_opening(passed, prometheus):
    sim = passed()
    sim.run(20)
    assert (wave(sim).name, wave(sim).state, wave(sim).moved) == ("all", WaveState.Moving, 0)
    assert on_b(sim) == ["canary-0"]
    assert "check crashes has no fresh answer yet" in message(sim)
    prometheus.quiet = False
    sim.run(300, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Completed", "Completed")


def test_harm_after_the_last_answer_about_a_wave_keeps_the_next_one_from_moving(passed, prometheus):
    sim = passed()
    sim.run(20)
    sim.check_values["canary-0"], prometheus.quiet = 1.0, False
    sim.run(2)
    assert wave(sim).moved == 0
    assert [suspect.node for suspect in sim.record.rollout.suspects] == ["canary-0"]


def test_an_operator_that_restarts_before_the_first_label_asks_again(passed, prometheus):
    sim = passed()
    sim.run(2)
    sim.forget()
    sim.run(60)
    assert (wave(sim).name, wave(sim).moved) == ("all", 0)
    assert "check crashes was not asked yet" in message(sim)
    prometheus.quiet = False
    sim.run(300, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Completed", "Completed")


def test_an_answer_that_says_nothing_is_none_and_holds(passed, prometheus):
    sim = passed()
    sim.check_error, prometheus.quiet = "could not be asked", False
    sim.run(20)
    assert (wave(sim).name, wave(sim).state, wave(sim).moved) == ("all", WaveState.Held, 0)
    assert evidence_since(sim.record.rollout) == wave(sim).opened_at, "also while it is held"
    sim.check_error, prometheus.quiet = "", True
    sim.checks = {"crashes": CheckResult(wave(sim).opened_at - 1, frozenset({"canary-0"}))}
    sim.run(20)
    assert wave(sim).moved == 0
    prometheus.quiet = False
    sim.run(20, until=lambda: wave(sim).moved)


def test_a_dry_run_keeps_nothing_waiting(passed):
    sim = passed(dryRun=True)
    sim.run(20, until=lambda: len(on_b(sim)) > 1)


def test_a_wave_that_has_moved_a_node_is_what_queries_compare_with(passed, prometheus):
    sim = passed()
    sim.step_until(in_wave(sim, "all", WaveState.Moving))
    canary, opened = sim.record.rollout.waves
    assert asked_of(sim.record.rollout).waves == (canary,)
    assert asked_of(sim.record.rollout).planned.name == "canary"
    assert evidence_since(sim.record.rollout) == opened.opened_at
    prometheus.quiet = False
    sim.step_until(lambda: wave(sim).moved)
    assert asked_of(sim.record.rollout) == sim.record.rollout
    assert evidence_since(sim.record.rollout) == 0.0


def test_the_first_wave_waits_for_no_check(make_sim, prometheus):
    sim = with_stable(make_sim(checks=[CHECK], prometheus=PROMETHEUS))
    prometheus.quiet, sim.checks = True, {}
    sim.publish("b", 2)
    sim.run(60, until=lambda: on_b(sim) == ["canary-0"])
