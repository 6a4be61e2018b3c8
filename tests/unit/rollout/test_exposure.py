"""The exposure rule on nodes of every kind: who is in flight, who settled, how many may follow."""

from dataclasses import replace

import pytest

from wavegate.evidence import Ledger, LedgerNode, Side
from wavegate.rollout import exposure
from wavegate.rollout.exposure import Exposure

SETTLE = 5.0


@pytest.fixture
def soaking(make_sim):
    """A cluster of one canary and 24 workers that soaks its canary on a first release."""
    sim = make_sim(workers=24)
    sim.publish("a", 1)
    sim.run(100, until=lambda: "Soaking" in str(sim.record.rollout))
    return sim


def measured(sim, **changes):
    obs = replace(sim.observe(), **changes)
    return exposure.measure(obs, obs.record.rollout, sim.now)


def test_a_node_is_settled_when_it_was_heard_from_for_settle_after_it_was_ready(soaking):
    sim = soaking
    (pod,) = sim.observe().pods
    assert measured(sim).settled == ("canary-0",)
    early = {"canary-0": pod.ready_since + SETTLE - 0.1}
    assert measured(sim, leases=early).in_flight == ("canary-0",)
    assert measured(sim, leases={}).in_flight == ("canary-0",)
    assert measured(sim, leases={"canary-0": sim.now - 25.1}).in_flight == ("canary-0",)


@pytest.mark.parametrize(
    ("changes", "running"),
    [
        ({"ready": False, "ready_since": None}, True),
        ({"phase": "Pending", "ready": False, "ready_since": None}, False),
        ({"terminating": True}, False),
        ({"node": None}, False),
    ],
)
def test_a_pod_that_is_not_well_keeps_the_slot_of_its_node(soaking, changes, running):
    (pod,) = soaking.observe().pods
    found = measured(soaking, pods=(replace(pod, **changes),))
    assert found.in_flight == ("canary-0",)
    assert found.not_running == (() if running else ("canary-0",))


@pytest.mark.parametrize("changes", [{"ready": False}, {"boot_id": "other"}, {"uid": "other"}])
def test_a_node_that_changed_keeps_its_slot(soaking, changes):
    obs = soaking.observe()
    nodes = {**obs.nodes, "canary-0": replace(obs.nodes["canary-0"], **changes)}
    assert measured(soaking, nodes=nodes).in_flight == ("canary-0",)


def with_ledger(sim, settled, unmoved, healthy=True):
    """An observation in which so many workers carry the candidate and so many may follow."""
    obs = sim.observe()
    attempt = obs.record.rollout.attempt
    names = [name for name in obs.nodes if name.startswith("workers")][: settled + unmoved]
    moved = names[:settled]
    nodes = {
        name: replace(node, sides={obs.key: Side(attempt, 0.0)}) if name in moved else node
        for name, node in obs.nodes.items()
    }
    entries = (
        LedgerNode(n, nodes[n].uid, nodes[n].boot_id, healthy=n in moved or healthy) for n in names
    )
    (canary,) = obs.pods
    pods = (canary, *(replace(canary, node=n, uid=n) for n in moved))
    moving = obs.record.rollout.with_wave(labelled=settled)
    return {
        "record": replace(obs.record, rollout=moving),
        "nodes": nodes,
        "ledgers": {0: Ledger(attempt, 0, tuple(entries))},
        "pods": pods,
        "leases": dict.fromkeys(names, sim.now),
    }


@pytest.mark.parametrize(("settled", "room"), [(0, 1), (1, 1), (2, 2), (4, 4), (8, 8), (12, 12)])
def test_as_many_may_follow_as_have_settled(soaking, settled, room):
    found = measured(soaking, **with_ledger(soaking, settled, 24 - settled))
    assert (len(found.settled), len(found.unmoved), found.room) == (settled, 24 - settled, room)


def test_max_unavailable_is_a_share_of_the_whole_fleet(make_sim):
    sim = make_sim(workers=24, rollout={"maxUnavailable": "10%"})
    sim.publish("a", 1)
    sim.run(100, until=lambda: "Soaking" in str(sim.record.rollout))
    assert measured(sim, **with_ledger(sim, 12, 12)).limit == 3


@pytest.mark.parametrize(
    ("limit", "in_flight", "not_running", "room"),
    [
        (50, 0, 0, 20),
        (50, 30, 0, 20),
        (50, 45, 0, 5),
        (50, 25, 19, 1),
        (50, 60, 0, 0),
        (1, 1, 1, 0),
    ],
)
def test_at_most_20_pods_may_not_run_yet_and_room_is_never_negative(
    limit, in_flight, not_running, room
):
    names = tuple(str(number) for number in range(in_flight))
    found = Exposure((), names, names[:not_running], (), limit)
    assert found.room == room


@pytest.mark.parametrize(
    ("limit", "left", "least"),
    [(1, 9, 1), (7, 9, 1), (8, 9, 2), (20, 9, 5), (500, 9, 5), (20, 3, 3)],
)
def test_nodes_are_moved_in_batches_that_are_worth_a_write(soaking, limit, left, least):
    node = next(iter(soaking.observe().nodes.values()))
    assert Exposure((), (), (), (node,) * left, limit).worthwhile == least


@pytest.mark.parametrize(
    ("changes", "may_move"),
    [
        ({}, True),
        ({"ready": False}, False),
        ({"boot_id": "other"}, False),
        ({"uid": "other"}, False),
    ],
)
def test_a_node_that_changed_since_its_ledger_is_not_moved(soaking, changes, may_move):
    seen = with_ledger(soaking, 0, 1)
    (entry,) = seen["ledgers"][0].nodes
    seen["nodes"][entry.name] = replace(seen["nodes"][entry.name], **changes)
    assert bool(measured(soaking, **seen).unmoved) is may_move


def test_a_node_that_was_ill_before_may_be_moved_and_uses_no_slot(soaking):
    seen = with_ledger(soaking, 0, 1, healthy=False)
    (entry,) = seen["ledgers"][0].nodes
    ill = replace(seen["nodes"][entry.name], ready=False)
    seen["nodes"][entry.name] = ill
    assert measured(soaking, **seen).unmoved == (ill,)
    moved = replace(ill, sides={soaking.observe().key: Side(seen["ledgers"][0].attempt, 0.0)})
    seen["nodes"][entry.name] = moved
    found = measured(soaking, **seen)
    assert (found.in_flight, found.not_running, found.settled) == ((), (), ())
