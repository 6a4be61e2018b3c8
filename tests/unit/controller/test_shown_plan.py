"""The plan of an idle channel is remembered between its passes, and nothing else is."""

from dataclasses import replace

import pytest

from support import fleet
from support.builders import CHANNEL, SPACE
from wavegate.api import Channel
from wavegate.controller.gather import Gatherer
from wavegate.rollout import forecast


class AcceptingServer:
    async def try_create(self, _path, body):
        return body


class Idle:
    """An idle channel on 300 nodes, and one pass after the other on it."""

    def __init__(self) -> None:
        client = AcceptingServer()
        obs = fleet.observe(300, "idle")
        self.clock = fleet.NOW
        self.world = fleet.world_of(obs, client, lambda: self.clock)
        self.gatherer = Gatherer(client, self.world, obs.soak_floor, lambda: self.clock)
        self.kept = None

    async def looks(self) -> int:
        """How many passes it takes until the plan is complete."""
        for passes in range(1, 100):
            obs = (await self.gatherer.gather((SPACE, CHANNEL), {}, "")).observation
            assert obs.kept is not self.kept
            self.kept = obs.kept
            if not forecast.is_under_way(obs):
                return passes
        raise AssertionError("never complete")

    def change_a_node(self) -> None:
        key, node = next(iter(self.world.nodes.items.items()))
        labels = {**node.labels, "seen": str(self.clock)}
        self.world.nodes.items = {**self.world.nodes.items, key: replace(node, labels=labels)}


@pytest.fixture
def idle():
    return Idle()


async def test_a_large_idle_fleet_is_planned_once_a_minute(idle):
    assert await idle.looks() > 5
    idle.clock += 50.0
    idle.change_a_node()
    assert await idle.looks() == 1
    idle.clock += 11.0
    assert await idle.looks() > 5


async def test_the_plan_of_a_channel_that_is_gone_is_forgotten(idle):
    await idle.looks()
    assert idle.gatherer._shown
    del idle.world.ours[Channel.plural][SPACE, CHANNEL]
    await idle.looks()
    assert not idle.gatherer._shown
