"""One leader at a time: two processes and one Lease on a small apiserver."""

import asyncio
import time

import pytest

from support.fake_apiserver import until
from wavegate.cluster import paths
from wavegate.cluster.election import Leadership, LeaseSettings

PATH = paths.leases("space", "wavegate")


@pytest.fixture
def contender(client, objects):
    """Build a process that wants to lead; `duration` in seconds (a Lease holds at least 1 s)."""

    def make(identity, duration=0.6):
        return Leadership(client, LeaseSettings("space", "wavegate", identity, duration))

    return make


def spec(objects):
    return objects.bodies[PATH]["spec"]


async def test_of_two_one_leads(contender, objects, background):
    one, other = contender("one", duration=1.2), contender("other", duration=1.2)
    await one.acquire()
    waiting = background(other.acquire())
    background(one.keep())
    await asyncio.sleep(1.5)  # longer than the lease holds unrenewed
    assert (one.held, other.held, waiting.done()) == (True, False, False)
    assert spec(objects)["holderIdentity"] == "one"
    assert spec(objects)["leaseTransitions"] == 1


async def test_who_is_silent_is_replaced_after_its_lease_and_not_before(contender, objects):
    one, other = contender("one"), contender("other")
    await one.acquire()
    began = time.monotonic()
    await asyncio.wait_for(other.acquire(), 3.0)
    assert time.monotonic() - began > 1.0
    assert (one.held, other.held) == (False, True)
    assert spec(objects)["holderIdentity"] == "other"
    assert spec(objects)["leaseTransitions"] == 2


async def test_without_renewal_nobody_acts_long_before_another_may_take_over(contender):
    one = contender("one", duration=0.3)
    await one.acquire()
    assert one.held
    await asyncio.sleep(0.21)
    assert not one.held


async def test_a_conflict_loses(contender, objects):
    """Both read the same Lease; who writes second gets 409 and does not lead."""
    objects.put(PATH, {"metadata": {"name": "wavegate"}, "spec": {}})
    one, other = contender("one"), contender("other")
    results = await asyncio.gather(one._try(), other._try())
    assert sorted(results) == [False, True]
    assert (one.held, other.held) == (results[0], results[1])
    leader = "one" if one.held else "other"
    assert spec(objects)["holderIdentity"] == leader


async def test_a_lease_that_another_created_first_loses(contender, objects):
    one = contender("one")
    objects.refuse = lambda verb, _path: 409 if verb == "POST" else 0
    assert not await one._try()
    assert not one.held


async def test_a_leader_that_can_t_renew_stops_by_itself(contender, objects):
    one = contender("one", duration=0.3)
    await one.acquire()
    objects.refuse = lambda verb, _path: 503
    began = time.monotonic()
    await asyncio.wait_for(one.keep(), 2.0)
    assert not one.held
    assert time.monotonic() - began > 0.15


async def test_a_leader_survives_one_renewal_that_fails(contender, objects, background):
    one = contender("one", duration=0.6)
    await one.acquire()
    keeping = background(one.keep())
    failed = []

    def refuse_once(verb, path):
        failed.append(verb)
        return 500 if len(failed) == 1 else 0

    objects.refuse = refuse_once
    await until(lambda: failed.count("PUT") >= 2)
    assert one.held
    assert not keeping.done()


async def test_a_leader_that_sees_another_holder_stops_at_once(contender, objects):
    one = contender("one")
    await one.acquire()
    stolen = {**spec(objects), "holderIdentity": "other"}
    objects.put(PATH, {"metadata": {"name": "wavegate"}, "spec": stolen})
    assert one.held
    await asyncio.wait_for(one.keep(), 1.0)
    assert not one.held


async def test_a_released_lease_is_taken_at_once(contender, objects):
    one, other = contender("one"), contender("other")
    await one.acquire()
    await one.release()
    assert not one.held
    assert spec(objects)["holderIdentity"] == ""
    assert await other._try()


async def test_who_does_not_lead_releases_nothing(contender, objects):
    one, other = contender("one"), contender("other")
    await one.acquire()
    await other.release()
    assert spec(objects)["holderIdentity"] == "one"
    assert one.held


async def test_a_release_that_fails_is_no_error(contender, objects):
    one = contender("one")
    await one.acquire()
    objects.refuse = lambda _verb, _path: 500
    await one.release()
    assert not one.held


async def test_an_expired_holder_whose_clock_is_wrong_does_not_matter(contender, objects):
    """Only our own clock counts: what renewTime says is never compared with it."""
    old = {"holderIdentity": "other", "renewTime": "1970-01-01T00:00:00Z"}
    body = {"metadata": {"name": "wavegate"}, "spec": {**old, "leaseDurationSeconds": 60}}
    objects.put(PATH, body)
    one = contender("one")
    assert not await one._try()
    assert not await one._try()
