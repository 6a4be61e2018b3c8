"""After a revert, agents that agentSelector selects must be well again, as they were before."""

import pytest

from support.builders import make_decision
from support.carrying import carrying
from support.invariants import ended, in_wave, phase_of, with_stable
from wavegate.api import Phase
from wavegate.rollout.decide import decide

LOOPING = {"ready": False, "ready_since": None, "waiting": "CrashLoopBackOff"}
INTERRUPTED = "the watch of the pods that agentSelector selects is interrupted"


@pytest.fixture
def sim(make_sim):
    return with_stable(carrying(make_sim))


def crash(sim, node="canary-0", restarts=8):
    sim.change(node, restarts=restarts, unready_since=sim.now, **LOOPING)


def recover(sim, node="canary-0", **changes):
    well = {"ready": True, "ready_since": sim.now, "waiting": "", "unready_since": None}
    sim.change(node, **well | changes)


def moved_everywhere(sim):
    sim.publish("b", 2)
    sim.run(400, until=in_wave(sim, "all"))


def revert(sim):
    """A person reverts, and all nodes have their own agent back."""
    sim.decisions.append(make_decision("back", "b", "Revert"))
    sim.run(20)
    assert set(sim.running().values()) == {"a"}


def crashed_and_reverted(sim):
    """Release b crashes the other agent on the canary, and is fenced."""
    sim.publish("b", 2)
    sim.run(200, until=in_wave(sim, "canary"))
    crash(sim)
    sim.run(10)
    assert set(sim.running().values()) == {"a"}
    assert sim.record.rollout.phase is Phase.Reverting


def test_a_revert_waits_until_the_agent_that_read_the_content_is_well_again(sim):
    crashed_and_reverted(sim)
    waiting = decide(sim.observe(), sim.now).waiting
    assert waiting == "the selected agents on 1 nodes to be well again (canary-0)"
    sim.run(60)
    recover(sim)
    sim.run(10, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Reverted", "Reverted")


def test_one_that_is_ready_between_two_crashes_is_not_well_again(sim):
    crashed_and_reverted(sim)
    for restarts in range(9, 14):
        recover(sim)
        sim.run(4)  # settle is 5 s
        crash(sim, restarts=restarts)
        sim.run(4)
    recover(sim)
    sim.run(4)
    assert sim.record.rollout.phase is Phase.Reverting
    sim.run(2, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Reverted", "Reverted")


def test_one_that_stays_ill_is_named_after_the_deadline_and_keeps_nobody_waiting(sim):
    crashed_and_reverted(sim)
    sim.run(100)
    assert sim.record.rollout.phase is Phase.Reverting
    sim.run(15, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Reverted", "RevertedAgentsUnwell")
    assert (
        "nothing shows that the selected agents on 1 nodes are well again (canary-0)"
        in sim.record.outcomes[0].message
    )


def test_one_that_is_gone_is_not_well(sim):
    crashed_and_reverted(sim)
    sim.theirs.pop("edr-canary-0")
    sim.run(120, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Reverted", "RevertedAgentsUnwell")


def test_one_that_was_replaced_is_well_as_soon_as_it_is_ready(sim):
    crashed_and_reverted(sim)
    recover(sim, uid="another", restarts=0)
    sim.run(2, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Reverted", "Reverted")


def test_one_that_was_ill_before_is_not_waited_for(sim):
    sim.observe()
    crash(sim, "workers-2")
    moved_everywhere(sim)
    revert(sim)
    assert phase_of(sim, "b") == ("Reverted", "Reverted")


def test_on_a_node_that_never_had_the_content_it_is_not_waited_for(sim):
    crashed_and_reverted(sim)
    crash(sim, "workers-2")
    recover(sim)
    sim.run(10, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Reverted", "Reverted")


def test_agents_that_nobody_sees_are_not_well_and_keep_no_fence_waiting(sim):
    moved_everywhere(sim)
    sim.hidden = INTERRUPTED
    revert(sim)
    assert sim.record.rollout.phase is Phase.Reverting
    sim.run(120, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Reverted", "RevertedAgentsUnwell")


def test_a_new_leader_gives_an_agent_that_restarted_the_whole_deadline(sim):
    crashed_and_reverted(sim)
    sim.run(90)
    sim.forget()
    recover(sim)  # since when it is Ready, the new one does not know
    sim.now += 40
    recover(sim)
    sim.run(10, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Reverted", "Reverted")


def test_where_nothing_was_stable_the_agent_must_be_well_too(make_sim):
    sim = carrying(make_sim)
    sim.publish("a", 1)
    sim.run(200, until=in_wave(sim, "canary"))
    crash(sim)
    sim.run(30)
    assert sim.record.rollout.phase is Phase.Reverting
    sim.run(120, until=ended(sim, "a"))
    assert phase_of(sim, "a") == ("Reverted", "RevertedAgentsUnwell")


def test_after_a_failed_bake_it_must_be_well_too(sim):
    moved_everywhere(sim)
    sim.run(100, until=ended(sim, "b"))
    for node in ("canary-0", "workers-2", "workers-3", "workers-4"):
        crash(sim, node)
    sim.run(30)
    assert sim.record.rollout.phase is Phase.Reverting
    for node in ("canary-0", "workers-2", "workers-3"):
        recover(sim, node)
    sim.run(120, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Reverted", "RevertedAgentsUnwell")
    assert "on 1 nodes are well again (workers-4)" in sim.record.outcomes[0].message
