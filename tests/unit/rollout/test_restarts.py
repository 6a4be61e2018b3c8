"""The operator is killed right after each single write of a story: the same end, node by node."""

import pytest

from support.builders import digest
from support.invariants import ended, phase_of, with_stable


def good(sim):
    sim.publish("b", 2)
    sim.run(900, until=ended(sim, "b"))
    sim.run(20)


def loops(sim):
    sim.harms[digest("b")] = "loop"
    good(sim)


def kills(sim):
    sim.harms[digest("b")] = "kill"
    sim.publish("b", 2)
    sim.run(900, until=lambda: not sim.nodes["canary-0"].alive)
    sim.run(90)
    sim.revive("canary-0")
    sim.run(400, until=ended(sim, "b"))
    sim.run(20)


def told(make_sim, story, kill_after):
    """How a story ends when the operator is killed after so many writes of release b."""
    sim = with_stable(make_sim())
    before = sim.writes
    sim.kill_after = before + kill_after
    story(sim)
    return (phase_of(sim, "b"), sim.running(), len(sim.sets)), sim.writes - before


@pytest.mark.parametrize("story", [good, loops, kills])
def test_a_kill_after_any_write_changes_nothing_of_the_outcome(make_sim, story):
    expected, writes = told(make_sim, story, 10_000)
    assert writes > 8
    for number in range(1, writes + 1):
        outcome, _ = told(make_sim, story, number)
        assert outcome == expected, f"killed after write {number} of {writes}"
