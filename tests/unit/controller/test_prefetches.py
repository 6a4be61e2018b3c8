"""Pulling ahead in the background: what is asked of the apiserver, when, and how often."""

import asyncio
import math
from contextlib import suppress
from dataclasses import replace

import pytest

from support.builders import make_channel
from support.fake_apiserver import until
from support.invariants import in_wave, with_stable
from support.world import SimCluster
from wavegate.api import Phase, WaveState
from wavegate.cluster import paths
from wavegate.cluster.client import ApiError
from wavegate.controller.prefetches import RETRY_SECONDS, PrefetchRunner

KEY = ("agents", "rules")
AHEAD = {"rollout": {"prefetch": "NextWave"}}


class FakeClient:
    """Keeps pods, as many as `quota` has room for; `error` is what the next requests are answered
    with, `held` keeps one back.
    """

    def __init__(self):
        self.pods, self.made, self.deleted, self.version = {}, [], [], 1
        self.error, self.held, self.listens = None, None, True
        self.quota = math.inf

    async def list(self, path, params=None):
        if not self.listens:
            raise ApiError(503, "no list")
        return {"metadata": {"resourceVersion": str(self.version)}, "items": [*self.pods.values()]}

    async def watch(self, path, params, silence):
        await asyncio.Event().wait()
        yield {}

    async def create(self, path, body):
        assert path == paths.pods("agents")
        self.made.append(body["spec"]["nodeName"])
        if self.held is not None:
            await self.held.wait()
        if self.error is not None:
            raise self.error
        if len(self.pods) >= self.quota:
            raise ApiError(403, "exceeded quota")
        self.version += 1
        metadata = {**body["metadata"], "resourceVersion": str(self.version)}
        self.pods[metadata["name"]] = {**body, "metadata": metadata}
        return self.pods[metadata["name"]]

    async def delete(self, path, params=None, body=None):
        self.deleted.append(params["labelSelector"])
        if self.error is not None:
            raise self.error


class Pulling:
    """A runner with its client and clock, and what its channel sees: four workers are next."""

    def __init__(self):
        sim = SimCluster(channel=make_channel())
        sim.add_nodes("canary", 1)
        sim.add_nodes("workers", 4)
        with_stable(sim).publish("b", 2)
        sim.run(200, until=in_wave(sim, "canary", WaveState.Soaking))
        self.obs = replace(sim.observe(), channel=make_channel(**AHEAD))
        self.client, self.now, self.leads = FakeClient(), 1_000.0, True
        self.runner = PrefetchRunner(
            self.client, lambda: self.now, lambda _: None, lambda: self.leads
        )

    def look(self, *, idle=True, **changes):
        """A pass; `changes` are of what is seen."""
        obs = replace(self.obs, prefetched=self.runner.seen(KEY), **changes)
        self.runner.ensure(KEY, obs, idle=idle)

    async def rest(self):
        """Let what runs in the background come to its end."""
        for _ in range(50):
            await asyncio.sleep(0)

    def reverting(self):
        rollout = replace(self.obs.record.rollout, phase=Phase.Reverting)
        return {"record": replace(self.obs.record, rollout=rollout)}


@pytest.fixture
async def pulling():
    made = Pulling()
    task = asyncio.create_task(made.runner.watch())
    await until(lambda: made.runner._pods.live)
    yield made
    made.runner.close()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_each_node_is_asked_once_whoever_deletes_its_pod(pulling):
    pulling.look()
    await pulling.rest()
    assert sorted(pulling.client.made) == ["workers-2", "workers-3", "workers-4", "workers-5"]
    assert len(pulling.runner.seen(KEY).pods) == 4, "what was made is seen at once"
    for name in list(pulling.client.pods):
        pulling.runner._pods._drop(("agents", name), 1_000)
    pulling.look()
    await pulling.rest()
    assert len(pulling.client.made) == 4


async def test_nothing_is_asked_while_the_watch_does_not_show_what_is_there():
    made = Pulling()
    made.look()
    await made.rest()
    assert made.client.made == []


async def test_a_pass_that_acts_begins_nothing(pulling):
    pulling.look(idle=False)
    await pulling.rest()
    assert pulling.client.made == []


async def test_a_fence_stops_it_at_the_next_pod(pulling):
    pulling.client.held = asyncio.Event()
    pulling.look()
    await pulling.rest()
    pulling.look(idle=False, **pulling.reverting())
    pulling.client.held.set()
    await pulling.rest()
    assert len(pulling.client.made) == 1


async def test_who_does_not_lead_any_more_makes_none(pulling):
    pulling.client.held = asyncio.Event()
    pulling.look()
    await pulling.rest()
    pulling.leads = False
    pulling.client.held.set()
    await pulling.rest()
    assert len(pulling.client.made) == 1


async def test_what_is_refused_is_told_tried_a_minute_later_and_no_more_told(pulling):
    pulling.client.error = ApiError(403, "exceeded quota")
    pulling.look()
    await pulling.rest()
    pulling.look()
    await pulling.rest()
    assert len(pulling.client.made) == 1
    assert "exceeded quota" in str(pulling.runner.seen(KEY).failed)
    pulling.client.error = None
    pulling.now += RETRY_SECONDS
    pulling.look()
    await pulling.rest()
    assert len(pulling.client.made) == 5
    assert pulling.runner.seen(KEY).failed == {}


async def test_what_is_there_already_is_not_made_again(pulling):
    pulling.client.error = ApiError(409, "already exists")
    for _ in range(3):
        pulling.look()
        await pulling.rest()
    assert len(pulling.client.made) == 4


async def test_when_the_soak_is_over_all_are_deleted_by_one_request(pulling):
    pulling.look()
    await pulling.rest()
    pulling.look(**pulling.reverting())
    await pulling.rest()
    attempt, ledger = pulling.runner.seen(KEY).pods[0].soak
    (selector,) = pulling.client.deleted
    assert selector.split(",") == [
        "wavegate.dev/kind=prefetch",
        "!wavegate.dev/channel",
        "wavegate.dev/prefetch-for=rules",
        f"wavegate.dev/attempt={attempt}",
        f"wavegate.dev/soaking-ledger={ledger}",
    ]


async def test_what_can_t_be_deleted_is_tried_once_a_minute(pulling):
    pulling.look()
    await pulling.rest()
    pulling.client.error = ApiError(500, "webhook down")
    for _ in range(5):
        pulling.look(**pulling.reverting())
        await pulling.rest()
    assert len(pulling.client.deleted) == 1
    pulling.now += RETRY_SECONDS
    pulling.look(**pulling.reverting())
    await pulling.rest()
    assert len(pulling.client.deleted) == 2


async def test_a_quota_that_is_full_keeps_none_from_being_deleted_in_time(pulling):
    pulling.client.quota = 2
    pulling.look()
    await pulling.rest()
    assert "exceeded quota" in str(pulling.runner.seen(KEY).failed)
    pulling.look(**pulling.reverting())
    await pulling.rest()
    assert len(pulling.client.deleted) == 1


async def test_nothing_is_written_for_a_channel_that_is_left_alone(pulling):
    pulling.look()
    await pulling.rest()
    hands_off = make_channel()
    metadata = hands_off.metadata.model_copy(
        update={"annotations": {"wavegate.dev/hands-off": "true"}}
    )
    pulling.look(channel=hands_off.model_copy(update={"metadata": metadata}))
    pulling.look(forbidden="no RoleBinding", **pulling.reverting())
    await pulling.rest()
    assert pulling.client.deleted == []
