"""Sweeps under churn come to an end: two are soaked, then a few nodes are moved without a soak."""

import pytest

from support.invariants import ended, phase_of, with_stable
from wavegate.api import WaveState


@pytest.fixture
def sim(make_sim):
    """One canary and 39 workers on `a`: two nodes are 5 %."""
    return with_stable(make_sim(workers=39))


def joins(sim, per_sweep, sweeps=100):
    """So many nodes join while each of the first `sweeps` sweeps soaks."""
    seen = set()

    def watch(world, _obs, _step):
        wave = current(world)
        wanted = wave is not None and wave.name != "canary" and wave.state is WaveState.Judging
        if wanted and wave.name not in seen and len(seen) < sweeps:
            seen.add(wave.name)
            world.add_nodes("workers", per_sweep)

    sim.watchers.append(watch)


def current(sim):
    """The wave that is under way, if there is one."""
    waves = sim.record.rollout.waves if sim.record.rollout else ()
    return waves[-1] if waves else None


def in_last(sim, state):
    """A condition: a last ledger is in this state."""

    def reached():
        wave = current(sim)
        return wave is not None and wave.last and wave.state is state

    return reached


def names(sim):
    return [wave.name for wave in sim.record.outcomes[0].waves]


def rolled(sim):
    sim.publish("b", 2)
    sim.run(4000, until=ended(sim, "b"))
    sim.run(10)
    assert phase_of(sim, "b") == ("Completed", "Completed")
    assert sim.running() == dict.fromkeys(sim.nodes, "b")


def test_few_nodes_that_join_in_each_sweep_end_in_a_last_ledger(sim):
    joins(sim, 2, sweeps=3)
    rolled(sim)
    assert names(sim) == ["canary", "all", "rest-1", "rest-2", "last-1"]
    last = sim.record.outcomes[0].waves[-1]
    assert (last.last, last.nodes, last.state) == (True, 2, WaveState.Passed)


def test_a_last_ledger_is_not_soaked_but_its_nodes_are_heard_from(sim):
    joins(sim, 1, sweeps=3)
    rolled(sim)
    *_, second, last = sim.record.outcomes[0].waves
    assert last.passed_at - last.opened_at < 25
    assert second.passed_at - second.opened_at > 30


def test_more_nodes_than_that_are_swept_and_soaked_again(sim):
    joins(sim, 5, sweeps=4)
    rolled(sim)
    assert names(sim) == ["canary", "all", "rest-1", "rest-2", "rest-3", "rest-4"]


def test_nodes_that_join_during_a_last_ledger_get_another(sim):
    joins(sim, 1, sweeps=5)
    rolled(sim)
    assert names(sim)[-3:] == ["last-1", "last-2", "last-3"]


def test_a_last_ledger_stays_small_when_many_join_before_it_is_stored(sim):
    joins(sim, 1, sweeps=3)
    sim.publish("b", 2)
    sim.step_until(in_last(sim, WaveState.Pending))
    sim.add_nodes("workers", 10)
    sim.run(4000, until=ended(sim, "b"))
    sizes = {wave.name: wave.nodes for wave in sim.record.outcomes[0].waves}
    assert sizes["last-1"] == 3  # 5 % of 53 nodes
    assert sizes["rest-3"] == 8


def test_maxunavailable_bounds_a_last_ledger_too(make_sim):
    sim = with_stable(make_sim(workers=20, rollout={"maxUnavailable": 1, "settle": "1s"}))
    joins(sim, 2, sweeps=3)
    rolled(sim)
    assert names(sim)[-1] == "rest-3"


@pytest.mark.parametrize(("harmed", "end"), [(1, "Completed"), (2, "Reverted")])
def test_harm_on_two_nodes_of_the_last_ledger_reverts(sim, harmed, end):
    joins(sim, 2, sweeps=3)
    sim.publish("b", 2)
    sim.step_until(in_last(sim, WaveState.Judging))
    attempt = sim.record.rollout.attempt
    ledger = sim.ledgers[attempt, sim.record.rollout.waves[-1].ledger]
    for entry in ledger.nodes[:harmed]:
        sim.nodes[entry.name].boot += 1
    sim.run(600, until=ended(sim, "b"))
    assert phase_of(sim, "b")[0] == end
