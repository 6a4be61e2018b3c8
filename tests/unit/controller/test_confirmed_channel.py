"""Before a plan is frozen, the channel is asked for by name: what is stored counts."""

import pytest

from support import fleet
from support.builders import CHANNEL, SPACE
from wavegate.api import Channel
from wavegate.cluster import paths
from wavegate.cluster.client import ApiError
from wavegate.controller.gather import Gatherer

PATH = paths.ours(Channel.plural, SPACE, CHANNEL)


@pytest.fixture
def confirm(client, objects):
    """Call it with what is otherwise in the metadata that are stored; None: nothing is stored."""
    obs = fleet.observe(5, "idle")
    world = fleet.world_of(obs, client, lambda: fleet.NOW)
    gatherer = Gatherer(client, world, obs.soak_floor, lambda: fleet.NOW)
    body = obs.channel.model_dump(by_alias=True, exclude_none=True, mode="json")

    async def ask(changes):
        if changes is not None:
            objects.put(PATH, {**body, "metadata": body["metadata"] | changes})
        await gatherer.confirm_channel(obs)

    return ask


async def test_what_is_as_it_was_seen_is_confirmed(confirm):
    await confirm({})


@pytest.mark.parametrize("changes", [None, {"generation": 99}, {"annotations": {"new": "one"}}])
async def test_a_channel_that_is_gone_or_otherwise_is_looked_at_anew(confirm, changes):
    with pytest.raises(ApiError, match="the channel is not as it was seen") as error:
        await confirm(changes)
    assert error.value.status == 409
