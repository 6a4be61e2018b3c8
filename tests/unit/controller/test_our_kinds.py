"""Our own kinds: a list says what is gone, a CRD that is gone says nothing."""

import pytest
from aiohttp import web

from wavegate.api import Channel
from wavegate.controller.world import World

KEY = ("agents", "rules")


class Lists:
    """Answers lists of our kinds; those of `gone` are not served, `failing` get this status."""

    def __init__(self):
        self.gone = set()
        self.failing = 0
        self.channels = [channel()]

    async def __call__(self, request):
        plural = request.path.rsplit("/", 1)[-1]
        if self.failing:
            return web.json_response({"message": "wait"}, status=self.failing)
        if plural in self.gone:
            return web.Response(text="404 page not found", status=404)
        items = self.channels if plural == Channel.plural else []
        return web.json_response({"metadata": {"resourceVersion": "9"}, "items": items})


def channel():
    """A channel as the apiserver lists it."""
    names = {"name": KEY[1], "namespace": KEY[0], "uid": "u", "resourceVersion": "5"}
    spec = {
        "agent": {"template": {"spec": {"containers": [{"name": "agent"}]}}},
        "content": {"containerImage": {"containerName": "agent"}},
        "pools": [{"name": "all", "selector": {"matchLabels": {"a": "b"}}}],
    }
    return {"metadata": {**names, "generation": 1}, "spec": spec}


@pytest.fixture
def lists(server):
    server.handler = Lists()
    return server.handler


@pytest.fixture
def woken():
    return []


@pytest.fixture
def world(client, lists, woken):
    world = World(client, lambda: 100.0, woken.append)
    for mirror in world._mirrors.values():
        mirror.live, mirror.contact = True, 100.0
    return world


async def test_what_a_list_does_not_name_is_gone(world, lists, woken):
    assert await world.resync() == frozenset()
    assert KEY in world.ours[Channel.plural]
    lists.channels, woken[:] = [], []
    await world.resync()
    assert KEY not in world.ours[Channel.plural]
    assert woken == [KEY]


async def test_without_its_crd_a_kind_is_left_as_it_was_and_nothing_may_move(world, lists):
    await world.resync()
    lists.gone = {Channel.plural}
    assert await world.resync() == {Channel.plural}
    assert KEY in world.ours[Channel.plural]
    assert "securitycontentchannels.wavegate.dev" in world.blind()
    assert "apply the files in crds/" in world.blind()


async def test_once_the_crd_is_back_its_list_counts_again(world, lists):
    await world.resync()
    lists.gone = {Channel.plural}
    await world.resync()
    lists.gone, lists.channels = set(), []
    assert await world.resync() == frozenset()
    assert world.blind() == ""
    assert KEY not in world.ours[Channel.plural]


async def test_an_apiserver_that_fails_says_nothing_about_crds(world, lists):
    await world.resync()
    lists.failing = 500
    with pytest.raises(Exception, match="wait"):
        await world.resync()
    assert world.blind() == ""
    assert KEY in world.ours[Channel.plural]


# Was: each status that we wrote came back as an event and began another pass.
async def test_our_own_status_wakes_nobody_and_each_other_change_does(world, woken):
    said = channel()
    world.take(Channel, "ADDED", said)
    assert woken == [KEY]
    status = {**said, "status": {"stable": {}}}
    status["metadata"] = {**said["metadata"], "resourceVersion": "6"}
    world.take(Channel, "MODIFIED", status)
    assert woken == [KEY]
    assert world.ours[Channel.plural][KEY].status == {"stable": {}}
    annotated = {**status["metadata"], "annotations": {"a": "b"}, "resourceVersion": "7"}
    world.take(Channel, "MODIFIED", {**status, "metadata": annotated})
    leaving = {**annotated, "deletionTimestamp": "2026-01-01T00:00:00Z", "resourceVersion": "8"}
    world.take(Channel, "MODIFIED", {**status, "metadata": leaving})
    world.take(Channel, "MODIFIED", {**status, "metadata": {**leaving, "resourceVersion": "9"}})
    changed = {**status["spec"], "suspend": True}
    last = {**leaving, "generation": 2, "resourceVersion": "10"}
    world.take(Channel, "MODIFIED", {**status, "metadata": last, "spec": changed})
    assert woken == [KEY] * 4
