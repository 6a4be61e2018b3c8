"""Watches of the pods that an agentSelector selects: there while a record needs them."""

import asyncio
from dataclasses import replace

import pytest
from aiohttp import web

from support.builders import CHANNEL, SPACE, make_channel
from support.fake_apiserver import until
from support.invariants import with_stable
from support.world import SimCluster
from wavegate.controller.selected import SelectedAgents
from wavegate.rollout.kept import Kept

KEY = (SPACE, CHANNEL)
QUERY = "app=edr,tier in (a,b),!old"
SPEC = {
    "agentSelector": {
        "matchLabels": {"app": "edr"},
        "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["a", "b"]},
            {"key": "old", "operator": "DoesNotExist"},
        ],
    }
}


class Pods:
    """A list of one pod, and a watch without end."""

    def __init__(self, server):
        self.asked, self.status, self.names = [], 200, ["edr-1"]
        server.handler = self.answer

    async def answer(self, request):
        self.asked.append((request.path, dict(request.query)))
        if self.status != 200:
            return web.json_response({"message": "no"}, status=self.status)
        if request.query.get("watch") != "true":
            meta = {"resourceVersion": "100"}
            return web.json_response({"metadata": meta, "items": [pod(n) for n in self.names]})
        stream = web.StreamResponse()
        await stream.prepare(request)
        await asyncio.Event().wait()
        return stream


def pod(name):
    notes = {"note": "none of ours"}
    metadata = {"name": name, "namespace": SPACE, "uid": name, "resourceVersion": "7"}
    return {
        "metadata": metadata | {"annotations": notes},
        "spec": {"nodeName": "n"},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    }


@pytest.fixture
def pods(server):
    return Pods(server)


@pytest.fixture
def now():
    return [5.0]


@pytest.fixture
def woken():
    return []


@pytest.fixture
def agents(client, pods, now, woken):
    return SelectedAgents(client, lambda: now[0], woken.append)


@pytest.fixture
def record():
    """Release a is stable and bakes; no agent of a carrier was there to be judged."""
    sim = SimCluster(channel=make_channel(**SPEC))
    sim.add_nodes("canary", 1)
    sim.add_nodes("workers", 2)
    plain = with_stable(SimCluster(channel=make_channel(), nodes=sim.nodes)).record
    plan = replace(plain.bake.rollout.plan, agents=SPEC_QUERY)
    return replace(plain, bake=replace(plain.bake, rollout=replace(plain.bake.rollout, plan=plan)))


SPEC_QUERY = make_channel(**SPEC).spec.agent_selector.query


def test_a_selector_is_written_as_the_apiserver_takes_it():
    assert SPEC_QUERY == QUERY


async def test_pods_are_watched_while_a_record_needs_them_and_not_longer(
    agents, pods, record, woken
):
    plan = record.bake.rollout.plan
    async with asyncio.TaskGroup() as tasks:
        agents.follow([record], tasks)
        assert agents.pods(SPACE, plan, 100.0, Kept()).blind
        await until(lambda: len(pods.asked) == 2)
        path, asked = pods.asked[0]
        assert path == f"/api/v1/namespaces/{SPACE}/pods"
        assert asked["labelSelector"] == f"{QUERY},!wavegate.dev/channel,!wavegate.dev/prefetch-for"
        seen = agents.pods(SPACE, plan, 100.0, Kept())
        (one,) = seen.pods
        assert (one.name, one.node, one.ready, one.annotations) == ("edr-1", "n", True, {})
        assert (seen.blind, woken) == ("", [KEY])
        agents.follow([record], tasks)  # nothing new: the same watch
        assert [m.seen_at for m in agents.mirrors_of(KEY)] == [5.0]
        agents.follow([replace(record, bake=None)], tasks)
    assert not agents.mirrors_of(KEY)
    assert agents.pods(SPACE, plan, 100.0, Kept()).blind
    assert len(pods.asked) == 2


async def test_a_watch_that_is_silent_or_refused_shows_the_past(agents, pods, record, now):
    plan, pods.status = record.bake.rollout.plan, 403
    async with asyncio.TaskGroup() as tasks:
        agents.follow([record], tasks)
        await until(lambda: pods.asked)
        assert agents.pods(SPACE, plan, 100.0, Kept()).blind
        pods.status = 200
        await until(lambda: not agents.pods(SPACE, plan, 100.0, Kept()).blind)
        now[0] += 101.0
        assert agents.pods(SPACE, plan, 100.0, Kept()).blind
        agents.follow([], tasks)


async def test_a_start_waits_for_the_first_list_but_not_for_one_that_is_refused(
    agents, pods, record
):
    plan, pods.status = record.bake.rollout.plan, 403
    async with asyncio.TaskGroup() as tasks:
        agents.follow([record], tasks)
        await agents.synced(0.05)
        assert agents.pods(SPACE, plan, 100.0, Kept()).blind
        pods.status = 200
        await agents.synced(5.0)
        assert not agents.pods(SPACE, plan, 100.0, Kept()).blind
        agents.follow([], tasks)


async def test_a_pod_that_vanishes_is_remembered_with_its_time(agents, pods, record, now):
    plan = record.bake.rollout.plan
    async with asyncio.TaskGroup() as tasks:
        agents.follow([record], tasks)
        await until(lambda: agents.pods(SPACE, plan, 100.0, Kept()).pods)
        now[0], pods.names = 9.0, []
        (mirror,) = agents.mirrors_of(KEY)
        await mirror.look()
        assert agents.pods(SPACE, plan, 100.0, Kept()).lost == {"n": 9.0}
        agents.follow([], tasks)


async def test_without_a_selector_nothing_is_watched(agents, pods, record):
    plain = replace(record, bake=None)
    async with asyncio.TaskGroup() as tasks:
        agents.follow([plain], tasks)
    assert agents.pods(SPACE, None, 100.0, Kept()).blind == ""
    assert pods.asked == []
