"""The actor does all actions in order; a revert does not depend on a delete, nor go on unled."""

from dataclasses import replace

import pytest

from support.builders import make_channel
from support.fake_apiserver import until
from support.invariants import with_stable
from support.world import SimCluster
from wavegate.api import Phase
from wavegate.cluster import paths
from wavegate.cluster.client import ApiError
from wavegate.cluster.projections import encode_record
from wavegate.controller import act
from wavegate.controller.act import Actor, NotLeader
from wavegate.controller.world import World
from wavegate.rollout.decide import decide
from wavegate.rollout.steps import DeletePods, MoveNodes, Retarget, Target
from wavegate.telemetry.metrics import Metrics

DONE = ("PATCH", "DELETE", "GET", "PATCH", "DELETE")
"""The record is read before stable gets all nodes."""


@pytest.fixture
def sim():
    """Release b is on the canary, and a person has just deleted it."""
    found = SimCluster(channel=make_channel())
    found.add_nodes("canary", 1)
    found.add_nodes("workers", 2)
    with_stable(found)
    found.publish("b", 2)
    found.run(100, until=lambda: found.running().get("canary-0") == "b")
    del found.releases["b"]
    assert found.work()
    return found


@pytest.fixture
def fence(sim, objects):
    """The observation and the actions of the fence, with both DaemonSets on the server."""
    for found in sim.sets.values():
        body = {"metadata": {"name": found.revision.daemon_set}, "spec": {"template": {"spec": {}}}}
        objects.put(paths.daemon_sets("agents", found.revision.daemon_set), body)
    obs = sim.observe()
    obs = replace(obs, pods=(*obs.pods, replace(obs.pods[0], attempt=obs.record.rollout.attempt)))
    unbound = replace(obs.pods[-1], uid="u", node=None)
    obs = replace(obs, pods=(*obs.pods, unbound))
    return obs, decide(obs, sim.now).actions


@pytest.fixture
def leading():
    return {"held": True}


@pytest.fixture
def metrics():
    return Metrics()


@pytest.fixture
def actor(client, leading, metrics):
    world = World(client, lambda: 0.0, lambda _key: None)
    return Actor(client, world, metrics, lambda: leading["held"])


def affinities(objects):
    """Whether the server's DaemonSets were re-targeted."""
    return {
        path.rpartition("-")[2]: "affinity" in body["spec"]["template"]["spec"]
        for path, body in objects.bodies.items()
    }


async def test_a_fence_is_done_in_its_order(actor, fence, objects):
    obs, actions = fence
    await actor.act(obs, actions)
    assert tuple(verb for verb, _ in objects.requests) == DONE
    candidate, stable = obs.record.rollout.candidate, obs.record.stable
    assert objects.requests[0][1].endswith(candidate.daemon_set)
    assert objects.requests[3][1].endswith(stable.daemon_set)


@pytest.mark.parametrize(
    "now", ["over", "of another attempt", "rolling", "as it was", "gone", "unreadable", "no answer"]
)
async def test_stable_gets_all_nodes_only_by_a_revert_that_is_not_over(
    actor, fence, objects, client, now
):
    """What was stable then may have been fenced since, and a leader of the past repeats itself."""
    obs, actions = fence
    rollout = obs.record.rollout
    of_another = replace(rollout, candidate=replace(rollout.candidate, attempt="x9"))
    stored = {
        "over": replace(obs.record, rollout=None, attempts=9),
        "of another attempt": replace(obs.record, rollout=of_another),
        "rolling": replace(obs.record, rollout=replace(rollout, phase=Phase.Rolling)),
        "as it was": obs.record,
    }
    path = paths.config_maps("agents", "wavegate-record-rules")
    labels = {"wavegate.dev/kind": "record", "wavegate.dev/channel": "rules"}
    if now != "gone":
        data = encode_record(stored.get(now, obs.record))
        data = {"record": "{"} if now == "unreadable" else data
        name = {"name": "wavegate-record-rules", "labels": labels}
        objects.put(path, {"metadata": name, "data": data})
    if now == "no answer":
        objects.refuse = lambda verb, at: 500 if (verb, at) == ("GET", path) else 0
    candidate, stable = rollout.attempt, obs.record.stable.attempt
    if now in ("over", "of another attempt", "rolling"):
        with pytest.raises(ApiError) as caught:
            await actor.act(obs, actions)
        assert caught.value.status == 409
    else:
        await actor.act(obs, actions)
    objects.bodies.pop(path, None)
    goes_on = now in ("as it was", "gone", "unreadable", "no answer")
    assert affinities(objects) == {candidate: True, stable: goes_on}


async def test_deletes_that_fail_do_not_stop_the_fence_but_the_pass_is_taken_up_again(
    actor, fence, objects
):
    obs, actions = fence
    objects.refuse = lambda verb, _path: 500 if verb == "DELETE" else 0
    with pytest.raises(ApiError) as caught:
        await actor.act(obs, actions)
    assert caught.value.status == 500
    assert tuple(verb for verb, _ in objects.requests) == DONE
    assert affinities(objects) == {view.attempt: True for view in obs.revisions.values()}


async def test_the_pods_of_single_nodes_are_deleted_together_and_before_all_others(
    actor, fence, server
):
    obs, _ = fence
    answer, asked = server.handler, []

    async def hold(request):
        asked.append(request.query.get("fieldSelector", ""))
        if asked[-1]:
            await until(lambda: len(asked) == 3)
        return await answer(request)

    server.handler = hold
    single = tuple(DeletePods("x", node=name) for name in ("a", "b", "c"))
    await actor.act(obs, (*single, DeletePods("x")))
    assert sorted(asked[:3]) == [f"spec.nodeName={name}" for name in ("a", "b", "c")]
    assert asked[3:] == [""]


async def test_a_fence_that_fails_ends_the_pass_at_once(actor, fence, objects):
    obs, actions = fence
    objects.refuse = lambda verb, _path: 500 if verb == "PATCH" else 0
    with pytest.raises(ApiError):
        await actor.act(obs, actions)
    assert [verb for verb, _ in objects.requests] == ["PATCH"]


async def test_who_does_not_lead_does_nothing(actor, fence, objects, leading):
    leading["held"] = False
    with pytest.raises(NotLeader):
        await actor.act(*fence)
    assert objects.requests == []


async def test_a_batch_stops_at_the_node_at_which_the_lease_is_lost(
    actor, sim, objects, leading, metrics
):
    for name, node in sim.nodes.items():
        objects.put(paths.node(name), {"metadata": {"name": name, "uid": node.uid}})

    def lose_after_the_second(_verb, _path):
        leading["held"] = len(objects.requests) < 2
        return 0

    objects.refuse = lose_after_the_second
    nodes = tuple((name, node.uid) for name, node in sim.nodes.items())
    with pytest.raises(NotLeader):
        await actor.act(sim.observe(), (MoveNodes(nodes, "x1"),))
    labelled = [body for body in objects.bodies.values() if "labels" in body["metadata"]]
    assert len(labelled) == len(objects.requests) == 2
    assert metrics.moved.labels("agents", "rules")._value.get() == 2


@pytest.fixture
def rolling(objects):
    """The observation of a release that is about to move three nodes, and the action."""
    sim = SimCluster(channel=make_channel())
    sim.add_nodes("canary", 1)
    sim.add_nodes("workers", 2)
    with_stable(sim)
    sim.publish("b", 2)
    sim.step_until(lambda: sim.record.rollout and sim.record.rollout.waves)
    objects.put(RECORD, stored(sim.record, 1))
    for name, node in sim.nodes.items():
        objects.put(paths.node(name), {"metadata": {"name": name, "uid": node.uid}})
    nodes = tuple((name, node.uid) for name, node in sim.nodes.items())
    return sim.observe(), (MoveNodes(nodes, sim.record.rollout.attempt),)


RECORD = paths.config_maps("agents", "wavegate-record-rules")


def stored(record, version):
    metadata = {"name": "wavegate-record-rules", "resourceVersion": str(version)}
    labels = {"wavegate.dev/kind": "record", "wavegate.dev/channel": "rules"}
    return {"metadata": metadata | {"labels": labels}, "data": encode_record(record)}


def patched(objects):
    return [path for verb, path in objects.requests if verb == "PATCH"]


async def test_a_slow_batch_stops_when_another_process_has_written_the_record(
    actor, rolling, objects, monkeypatch
):
    obs, actions = rolling
    monkeypatch.setattr(act, "CONFIRMED_SECONDS", 0.0)

    def another_writes(verb, _path):
        if verb == "PATCH" and len(patched(objects)) == 2:
            other = replace(obs.record, attempts=obs.record.attempts + 1)
            objects.put(RECORD, stored(other, 2))
        return 0

    objects.refuse = another_writes
    with pytest.raises(ApiError) as caught:
        await actor.act(obs, actions)
    assert caught.value.status == 409
    assert len(patched(objects)) == 2


async def test_a_quick_batch_asks_for_the_record_once(actor, rolling, objects):
    await actor.act(*rolling)
    assert [verb for verb, _ in objects.requests] == ["GET", "PATCH", "PATCH", "PATCH"]


async def test_a_daemon_set_that_is_gone_is_an_error_and_no_crash(actor, sim):
    with pytest.raises(ApiError) as caught:
        await actor.act(sim.observe(), (Retarget("gone", Target.ALL),))
    assert caught.value.status == 404


async def test_a_delete_is_a_request_for_the_attempt_only(actor, sim, objects):
    await actor.act(sim.observe(), (DeletePods("x1", node="n"),))
    await until(lambda: objects.requests)
    assert objects.queries[0]["labelSelector"].endswith("wavegate.dev/attempt=x1")
