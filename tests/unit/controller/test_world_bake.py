"""Whom the world wakes, and for whom it polls leases: a bake is woken, but polls nothing."""

import asyncio
from dataclasses import replace

import pytest

from support.builders import make_channel
from support.fake_apiserver import PATIENCE
from support.invariants import with_stable
from support.world import SimCluster
from wavegate.api import Reason
from wavegate.cluster.projections import StoredConfigMap
from wavegate.controller.world import World
from wavegate.rollout.attempt import Incident

KEY = ("agents", "rules")


@pytest.fixture
def record():
    """Release a is stable and bakes."""
    sim = SimCluster(channel=make_channel())
    sim.add_nodes("canary", 1)
    sim.add_nodes("workers", 2)
    return with_stable(sim).record


@pytest.fixture
def woken():
    return []


@pytest.fixture
def world(client, woken):
    return World(client, lambda: 5.0, woken.append)


def store(world, record):
    name = ("agents", "wavegate-record-rules")
    world.stored.items[name] = StoredConfigMap("record", "rules", "1", record=record)


def change_a_node(world):
    metadata = {"name": "n", "uid": "u", "resourceVersion": "7"}
    world.nodes.apply({"metadata": metadata})


async def test_a_node_that_changes_wakes_a_bake_for_which_no_lease_is_polled(world, woken, record):
    store(world, record)
    change_a_node(world)
    assert woken == [KEY]
    assert world.records() == []


@pytest.mark.parametrize("over", ["baked", "failed"])
async def test_a_node_that_changes_wakes_nobody_when_the_bake_is_over(world, woken, record, over):
    incident = Incident(Reason.NodeRebooted, "", (), 1.0)
    ended = replace(record.bake, incident=incident) if over == "failed" else None
    store(world, replace(record, bake=ended))
    change_a_node(world)
    assert woken == []


async def test_nodes_that_change_wake_an_idle_channel_once_and_later(
    world, woken, record, monkeypatch
):
    """Its plan is shown. However many change, and without a clock that wakes it."""
    monkeypatch.setattr("wavegate.controller.world.IDLE_SECONDS", 0.01)
    store(world, replace(record, bake=None))
    world.ours["securitycontentchannels"][KEY] = make_channel()
    for version in "789":
        metadata = {"name": "n", "uid": version, "resourceVersion": version}
        world.nodes.apply({"metadata": metadata})
    assert woken == []
    async with asyncio.timeout(PATIENCE):
        while not woken:
            await asyncio.sleep(0)
    await asyncio.sleep(0.05)  # another one would come by then
    assert woken == [KEY]
