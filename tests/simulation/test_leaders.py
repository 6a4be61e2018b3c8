"""A process that believes to lead and sees the past: it takes no agent away, and moves nothing."""

import pytest

from simulation.bodies import NOTHING
from simulation.cluster import Simulation
from simulation.invariants import Guard
from simulation.line import Weather


@pytest.fixture
def sim():
    """Release a is stable; operator-2 believes to lead, as well as operator-1."""
    with Simulation(4, operators=2) as found:
        found.watchers.append(Guard(two_leaders=True))
        found.add_nodes("canary", 1)
        found.add_nodes("workers", 3)
        found.apply_channel()
        found.publish("a")
        found.until_phase("a", "Completed")
        yield found


def mislead(sim, *late):
    """operator-2 starts now, believes to lead, and sees nothing more of these kinds."""
    second = sim.operators[1]
    second.weather = Weather(lag=lambda path: 1e6 if path.rpartition("/")[2] in late else 0.0)
    second.believes = True
    sim.act(second.kill)
    sim.until("operator-1 leads", lambda: sim.operators[0].leader is not None)
    sim.run(5)
    sim.act(second.start)
    sim.run(5)


def test_a_leader_with_an_old_record_deletes_no_revision_that_is_newer(sim) -> None:
    mislead(sim, "securitycontentreleases", "configmaps", "pods")
    sim.publish("b")
    sim.until_phase("b", "Completed")
    sim.run(60)
    assert sim.everywhere("b")


def test_a_leader_with_an_old_record_gives_no_node_back_to_an_old_revision(sim) -> None:
    mislead(sim, "securitycontentreleases", "configmaps")
    old = sim.record.stable.attempt
    sim.publish("b")
    sim.until_phase("b", "Completed")
    sim.run(60)
    assert sim.targets(old) == NOTHING
    assert sim.everywhere("b")


def test_a_revision_that_was_replaced_and_is_pointed_at_nodes_again_is_taken_back(sim) -> None:
    old = sim.record.stable.attempt
    sim.publish("b")
    sim.until_phase("b", "Completed")
    sim.retarget(old, [])
    sim.until("it matches no node", lambda: sim.targets(old) == NOTHING)
    assert sim.everywhere("b")


def test_a_leader_that_repeats_a_fence_of_the_past_stops_no_later_release(sim) -> None:
    """A fence is unconditional: while it believes, the revision before stable matches nodes too."""
    sim.publish("b")
    sim.until("a node runs b", lambda: len(set(sim.agents().values())) == 2)
    old = sim.record.stable.attempt
    sim.crash("canary-1")  # so that the revert can't end
    sim.decide("back", "b", "Revert")
    sim.until_phase("b", "Reverting")
    mislead(sim, "configmaps")
    sim.boot("canary-1")
    sim.until_phase("b", "Reverted")
    sim.publish("c")
    sim.until_phase("c", "Completed")
    assert any(f"operator-2: rules-{old} targets all" in line for line in sim.log)
    sim.operators[1].believes = False
    sim.act(sim.operators[1].kill)
    sim.until("it matches no node", lambda: sim.targets(old) == NOTHING)
    sim.run(30)
    assert sim.everywhere("c")


def test_a_leader_that_has_not_seen_a_release_yet_does_not_take_it_for_deleted(sim) -> None:
    mislead(sim, "securitycontentreleases")
    sim.publish("b")
    sim.until_phase("b", "Completed")
    assert sim.everywhere("b")


def test_a_release_that_was_deleted_unseen_is_reverted_by_the_next_leader(sim) -> None:
    sim.publish("b")
    sim.until("a node runs b", lambda: len(set(sim.agents().values())) == 2)
    for operator in sim.operators:
        sim.act(operator.kill)
    sim.delete("Release", "b")
    sim.run(60)
    sim.act(sim.operators[0].start)
    sim.until("all are back", lambda: sim.record.rollout is None and sim.everywhere("a"))
