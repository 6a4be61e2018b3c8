"""Mirrors against a real server: what they miss is found again, and they never flood it."""

import asyncio
import time

import pytest
from aiohttp import web

from support.fake_apiserver import node, until
from wavegate.cluster.mirror import Mirror


@pytest.fixture
async def mirror(client, watched, background):
    """A mirror of versions, following; the server lists nodes a and b at first."""
    watched.put("a", 1)
    watched.put("b", 2)
    found = Mirror(
        client, "/things", lambda body, _old, _now: body["metadata"]["resourceVersion"], time.time
    )
    background(found.run())
    await found.synced.wait()
    await until(lambda: watched.watches == 1)
    return found


def names(mirror):
    """Names and versions that the mirror holds."""
    return {key[1]: value for key, value in mirror.items.items()}


async def test_a_list_and_its_events_are_mirrored(mirror, watched):
    assert names(mirror) == {"a": "1", "b": "2"}
    watched.send("MODIFIED", node("a", 103))
    watched.send("ADDED", node("c", 104))
    watched.send("DELETED", node("b", 105))
    await until(lambda: names(mirror) == {"a": "103", "c": "104"})
    assert mirror.gone == {("", "b"): "2"}


async def test_after_410_a_relist_sees_a_deletion_that_was_missed(mirror, watched):
    seen = []
    mirror.on_change = lambda key, old, new: seen.append((key[1], old, new))
    del watched.items["b"]
    watched.version = 110
    watched.send("ERROR", {"code": 410, "message": "too old resource version"})
    await until(lambda: names(mirror) == {"a": "1"})
    assert seen == [("b", "2", None)]
    assert ("", "b") in mirror.gone


async def test_a_bookmark_moves_the_version_and_nothing_else(mirror, watched, server):
    watched.send("BOOKMARK", {"metadata": {"resourceVersion": "150"}})
    watched.end()
    await until(lambda: watched.watches == 2)
    assert server.requests[-1].query["resourceVersion"] == "150"
    assert (names(mirror), watched.lists) == ({"a": "1", "b": "2"}, 1)


async def test_an_older_event_does_not_undo_a_newer_write_of_ours(mirror, watched):
    mirror.apply(node("a", 120))
    watched.send("MODIFIED", node("a", 119))
    watched.send("ADDED", node("z", 121))
    await until(lambda: "z" in names(mirror))
    assert names(mirror)["a"] == "120"


async def test_an_older_answer_to_a_write_of_ours_does_not_undo_a_newer_event(mirror, watched):
    watched.send("MODIFIED", node("a", 130))
    await until(lambda: names(mirror)["a"] == "130")
    mirror.apply(node("a", 129))
    assert names(mirror)["a"] == "130"


async def test_what_it_shows_stays_the_same_until_something_changes(mirror, watched):
    shown, gone = mirror.shown()
    watched.send("MODIFIED", node("a", 1))  # the answer to a write of ours came before
    watched.send("BOOKMARK", {"metadata": {"resourceVersion": "150"}})
    watched.send("MODIFIED", node("b", 151))
    await until(lambda: names(mirror)["b"] == "151")
    assert (shown, gone) == ({("", "a"): "1", ("", "b"): "2"}, {})
    assert mirror.shown()[0] == {("", "a"): "1", ("", "b"): "151"}
    assert mirror.shown()[0] is mirror.shown()[0]
    watched.send("DELETED", node("b", 152))
    await until(lambda: "b" not in names(mirror))
    assert mirror.shown() == ({("", "a"): "1"}, {("", "b"): "151"})


async def test_an_event_that_says_nothing_new_changes_nothing(client, watched, background):
    watched.put("a", 1)
    found = Mirror(
        client, "/things", lambda body, _old, _now: [body["metadata"]["name"]], time.time
    )
    background(found.run())
    await found.synced.wait()
    await until(lambda: watched.watches == 1)
    shown = found.shown()
    watched.send("MODIFIED", node("a", 101))
    watched.send("ADDED", node("z", 102))
    await until(lambda: ("", "z") in found.items)
    assert found.items["", "a"] is shown[0]["", "a"]


# Was: `_drop` forgets the version. The answer to a PATCH that the deletion overtook brings the node
# back, and nothing takes it away again until the next relist, which may be days away.
async def test_an_answer_to_our_own_write_does_not_bring_back_what_was_deleted_since(
    mirror, watched
):
    watched.send("DELETED", node("b", 131))
    await until(lambda: "b" not in names(mirror))
    mirror.apply(node("b", 130))
    assert "b" not in names(mirror)


# Was: `_follow` asks again at once. (A proxy or an apiserver that is shutting down ends watches
# with 200 and nothing in them.)
async def test_a_server_that_ends_each_watch_at_once_is_not_flooded(mirror, watched):
    watched.close_at_once = True
    watched.end()
    before = watched.watches
    await asyncio.sleep(0.5)
    assert watched.watches - before < 10


# Was: a list that works resets the back-off, so a watch that is refused each time costs a full list
# of 5,000 nodes each 0.3 s.
async def test_a_server_that_refuses_each_watch_is_asked_less_and_less_often(mirror, watched):
    watched.refuse_watch = 500
    watched.end()
    before = watched.lists
    await asyncio.sleep(2.5)
    assert watched.lists - before < 5


# Was: JSONDecodeError is no ApiError: it ends the mirror's task, and with it the process.
async def test_a_broken_line_is_survived(mirror, watched):
    watched.raw(b'{"type": "ADDED", "obj\n')
    watched.put("c", 140)
    await until(lambda: "c" in names(mirror))


async def test_a_list_comes_in_pages(client, server, background):
    pages = {"": (["a"], "next"), "next": (["b"], "")}

    async def answer(request):
        if "watch" in request.query:
            await asyncio.sleep(60)
        items, token = pages[request.query.get("continue", "")]
        meta = {"resourceVersion": "7", "continue": token}
        return web.json_response({"metadata": meta, "items": [node(n, 1) for n in items]})

    server.handler = answer
    found = Mirror(client, "/things", lambda body, _old, _now: body, time.time, "app=x")
    background(found.run())
    await found.synced.wait()
    assert [key[1] for key in found.items] == ["a", "b"]
    assert {request.query["labelSelector"] for request in server.requests} == {"app=x"}
