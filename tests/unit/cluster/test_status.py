"""Status and Events say what is new, once: a quiet cluster gets no writes."""

import pytest

from support.builders import make_channel, make_release
from wavegate.api import Reason
from wavegate.cluster import paths
from wavegate.cluster.client import ApiError
from wavegate.cluster.events import EventRecorder
from wavegate.cluster.status import StatusWriter

RELEASE = make_release("b", 2)
PATH = paths.ours("securitycontentreleases", "agents", "b")
EVENTS = paths.events("agents")


def status(phase="Pending", ready="True", message="m", generation=1):
    condition = {"type": "Ready", "status": ready, "reason": "Accepted", "message": message}
    return {"observedGeneration": generation, "phase": phase, "conditions": [condition]}


@pytest.fixture
def stored(objects):
    """The release exists; its status is a resource of its own."""
    body = {"metadata": {"name": "b"}}
    objects.put(f"{PATH}/status", body)
    return lambda: objects.bodies[f"{PATH}/status"].get("status")


async def test_a_status_is_written_once(client, objects, stored):
    writer = StatusWriter(client)
    assert await writer.write(RELEASE, status(), "t1")
    for now in ("t2", "t3"):
        assert not await writer.write(RELEASE, status(), now)
    assert objects.requests == [("PATCH", f"{PATH}/status")]
    assert objects.queries[0]["fieldManager"] == "wavegate"


async def test_what_another_leader_wrote_is_not_written_again(client, objects, stored):
    first = StatusWriter(client)
    await first.write(RELEASE, status(), "t1")
    seen = RELEASE.model_copy(update={"status": stored()})
    assert not await StatusWriter(client).write(seen, status(), "t2")
    assert len(objects.requests) == 1


async def test_a_change_is_written_and_only_a_changed_condition_gets_a_new_time(client, stored):
    writer = StatusWriter(client)
    await writer.write(RELEASE, status(), "t1")
    assert await writer.write(RELEASE, status("Rolling", message="other"), "t2")
    (condition,) = stored()["conditions"]
    assert (condition["lastTransitionTime"], condition["message"]) == ("t1", "other")
    await writer.write(RELEASE, status("Rolling", ready="False"), "t3")
    (condition,) = stored()["conditions"]
    assert condition["lastTransitionTime"] == "t3"


async def test_conditions_carry_the_generation_they_are_about(client, stored):
    writer = StatusWriter(client)
    await writer.write(RELEASE, status(), "t1")
    assert await writer.write(RELEASE, status(generation=2), "t2")
    assert stored()["conditions"][0]["observedGeneration"] == 2


async def test_what_was_given_is_not_changed(client, stored):
    given = status()
    await StatusWriter(client).write(RELEASE, given, "t1")
    assert given == status()


@pytest.mark.parametrize("refusal", [404, 409])
async def test_an_object_that_is_gone_is_no_error_and_is_tried_again(client, objects, refusal):
    writer = StatusWriter(client)
    objects.refuse = lambda _verb, _path: refusal
    assert not await writer.write(RELEASE, status(), "t1")
    assert not await writer.write(RELEASE, status(), "t2")
    assert len(objects.requests) == 2


async def test_a_write_that_failed_is_not_remembered(client, objects, stored):
    writer = StatusWriter(client)
    objects.refuse = lambda _verb, _path: 500
    with pytest.raises(ApiError):
        await writer.write(RELEASE, status(), "t1")
    objects.refuse = lambda _verb, _path: 0
    assert await writer.write(RELEASE, status(), "t2")


def events(objects):
    return [body for path, body in objects.bodies.items() if path.startswith(EVENTS)]


async def test_an_event_says_what_happened_to_whom(client, objects):
    await EventRecorder(client, "me").emit(RELEASE, Reason.Reverted, "it was bad", warn=True)
    (event,) = events(objects)
    assert (event["reason"], event["type"], event["note"]) == ("Reverted", "Warning", "it was bad")
    assert event["regarding"]["kind"] == "SecurityContentRelease"
    assert (event["regarding"]["name"], event["regarding"]["uid"]) == ("b", RELEASE.uid)
    assert event["reportingInstance"] == "me"


async def test_an_event_is_not_repeated_also_not_by_the_next_leader(client, objects):
    recorder = EventRecorder(client, "one")
    for _ in range(3):
        await recorder.emit(RELEASE, Reason.WaveHeld, "no evidence", warn=True)
    assert len(objects.requests) == 1
    other = EventRecorder(client, "other")
    await other.emit(RELEASE, Reason.WaveHeld, "no evidence", warn=True)
    assert len(events(objects)) == 1


async def test_what_comes_and_goes_is_an_event_once(client, objects):
    recorder = EventRecorder(client, "me")
    for turn in range(100):
        await recorder.emit(RELEASE, Reason.WaveHeld, f"held by check {turn % 2}", warn=True)
    assert len(events(objects)) == 2


async def test_what_is_new_is_an_event_of_its_own(client, objects):
    recorder = EventRecorder(client, "me")
    said = [
        (RELEASE, Reason.WaveOpened, "1"),
        (RELEASE, Reason.WaveOpened, "2"),
        (RELEASE, Reason.WavePassed, "1"),
        (make_channel(), Reason.WaveOpened, "1"),
    ]
    for subject, reason, message in said:
        await recorder.emit(subject, reason, message, warn=False)
    assert len(events(objects)) == 4
    assert {event["type"] for event in events(objects)} == {"Normal"}


async def test_an_event_that_can_t_be_written_is_no_error_and_is_tried_again(client, objects):
    recorder = EventRecorder(client, "me")
    objects.refuse = lambda _verb, _path: 403
    await recorder.emit(RELEASE, Reason.WaveHeld, "m", warn=True)
    objects.refuse = lambda _verb, _path: 0
    await recorder.emit(RELEASE, Reason.WaveHeld, "m", warn=True)
    assert len(events(objects)) == 1


async def test_a_long_message_is_cut_to_what_an_event_may_hold(client, objects):
    await EventRecorder(client, "i" * 300).emit(RELEASE, Reason.WaveHeld, "ü" * 2000, warn=True)
    (event,) = events(objects)
    assert len(event["note"].encode()) <= 1024
    assert len(event["reportingInstance"]) == 128


# Was: a name cut after `-` or `.` is no legal one, so each Event of such a release was refused.
@pytest.mark.parametrize("mark", ["-", "."])
async def test_the_event_of_a_long_name_has_a_legal_name(client, objects, mark):
    release = make_release("r" * 199 + mark + "r" * 20, 2)
    await EventRecorder(client, "me").emit(release, Reason.WaveHeld, "m", warn=True)
    (event,) = events(objects)
    assert all(part.strip("-") == part != "" for part in event["metadata"]["name"].split("."))
