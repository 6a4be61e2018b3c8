"""Decisions that name a release which is deleted: the channel that remembers it sees them."""

from typing import Any

import pytest

from support.builders import digest
from wavegate.api import Decision, Phase, Reason, Release
from wavegate.cluster.projections import StoredConfigMap
from wavegate.controller.gather import Gatherer
from wavegate.controller.world import World
from wavegate.rollout.record import Blocked, Outcome, Record

KEY = ("agents", "rules")
BLOCKED = Blocked(digest("bad"), "bad", Reason.AgentRestarted, 1.0, "x1")
ENDED = Outcome(
    "bad", "u", 2, "x1", digest("bad"), Phase.Reverted, Reason.Reverted, "it did harm", 0.0, 1.0
)


@pytest.fixture
def woken() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def world(client, woken) -> World:
    return World(client, lambda: 100.0, woken.append)


def remembers(world: World, record: Record) -> None:
    name = f"wavegate-record-{record.channel}"
    stored = StoredConfigMap("record", record.channel, "1", record=record)
    world.stored.items[record.namespace, name] = stored


def body(name: str, **spec: Any) -> dict[str, Any]:
    names = {"name": name, "namespace": KEY[0], "uid": name, "resourceVersion": "5"}
    return {"metadata": {**names, "generation": 1}, "spec": spec}


def decision(release: str = "bad") -> dict[str, Any]:
    said = {"release": release, "digest": digest(release), "action": "Unblock", "incident": "x1"}
    return body("trust", **said, reason="it was another program")


def release(channel: str) -> dict[str, Any]:
    content = {"image": f"registry.example/content@{digest('bad')}"}
    return body("bad", channel=channel, version="bad", sequence=2, content=content)


def seen(world: World, client, record: Record) -> list[str]:
    gatherer = Gatherer(client, world, 10.0, lambda: 0.0)
    return [d.name for d in gatherer._decisions((record.namespace, record.channel), record)]


@pytest.mark.parametrize("known", [{"blocked": (BLOCKED,)}, {"outcomes": (ENDED,)}])
def test_a_channel_is_woken_by_the_name_of_a_release_that_it_remembers(
    world, client, woken, known
) -> None:
    record = Record(*KEY, **known)
    remembers(world, record)
    world.take(Decision, "ADDED", decision())
    assert woken == [KEY]
    assert seen(world, client, record) == ["trust"]


def test_a_release_of_that_name_on_another_channel_is_meant_instead(world, client, woken) -> None:
    record = Record(*KEY, blocked=(BLOCKED,))
    remembers(world, record)
    world.take(Release, "ADDED", release("models"))
    woken.clear()
    world.take(Decision, "ADDED", decision())
    assert woken == [("agents", "models")]
    assert seen(world, client, record) == []
    assert seen(world, client, Record("agents", "models")) == ["trust"]


def test_what_nobody_remembers_wakes_no_channel_and_no_other_namespace(
    world, client, woken
) -> None:
    elsewhere = Record("others", "rules", blocked=(BLOCKED,))
    remembers(world, elsewhere)
    remembers(world, Record(*KEY))
    world.take(Decision, "ADDED", decision())
    assert woken == [("agents", "")]
    assert seen(world, client, elsewhere) == []
    assert seen(world, client, Record(*KEY)) == []
