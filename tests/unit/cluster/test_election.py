"""One leader at a time: two processes and one Lease, in virtual time: no machine is too slow."""

import asyncio
import copy
import functools
from types import SimpleNamespace

import pytest

from simulation.clock import VirtualLoop
from support.fake_apiserver import Objects, until
from wavegate.cluster import paths
from wavegate.cluster.client import ApiError
from wavegate.cluster.election import Leadership, LeaseSettings

PATH = paths.leases("space", "wavegate")


def virtually(test):
    """Run an async test in virtual time."""

    @functools.wraps(test)
    def run(**fixtures):
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(test(**fixtures))

    return run


class Wire:
    """What the election asks of a client; each request takes 10 ms."""

    def __init__(self, objects):
        self._objects = objects

    async def find(self, path):
        return None if path not in self._objects.bodies else await self._do("GET", path, {})

    async def create(self, path, body):
        return await self._do("POST", path, body)

    async def replace(self, path, body):
        return await self._do("PUT", path, body)

    async def _do(self, verb, path, body):
        await asyncio.sleep(0.01)
        status = self._objects.refuse(verb, path)
        status, answer = (status, {}) if status else self._objects.do(verb, path, body)
        if status >= 400:
            raise ApiError(status, "a test wants it")
        return copy.deepcopy(answer)


@pytest.fixture
def objects():
    return Objects(SimpleNamespace())


@pytest.fixture
def contender(objects):
    """Build a process that wants to lead; `duration` in seconds (a Lease holds at least 1 s)."""

    def make(identity, duration=6.0):
        settings = LeaseSettings("space", "wavegate", identity, duration)
        return Leadership(Wire(objects), settings, now)

    return make


def now():
    return asyncio.get_running_loop().time()


def spec(objects):
    return objects.bodies[PATH]["spec"]


@virtually
async def test_of_two_one_leads(contender, objects):
    one, other = contender("one"), contender("other")
    await one.acquire()
    waiting, keeping = (asyncio.create_task(work) for work in (other.acquire(), one.keep()))
    await asyncio.sleep(60.0)  # ten times as long as the lease holds unrenewed
    assert (one.held, other.held) == (True, False)
    assert not waiting.done()
    assert not keeping.done()
    assert spec(objects)["holderIdentity"] == "one"
    assert spec(objects)["leaseTransitions"] == 1


@virtually
async def test_who_is_silent_is_replaced_after_its_lease_and_not_before(contender, objects):
    one, other = contender("one"), contender("other")
    await one.acquire()
    began = now()
    await other.acquire()
    assert 6.0 < now() - began < 7.3  # it looks each second, or a fifth later
    assert (one.held, other.held) == (False, True)
    assert spec(objects)["holderIdentity"] == "other"
    assert spec(objects)["leaseTransitions"] == 2


@virtually
async def test_without_renewal_nobody_acts_long_before_another_may_take_over(contender):
    one = contender("one")
    began = now()
    await one.acquire()
    await asyncio.sleep(3.98)
    assert one.held
    await asyncio.sleep(began + 4.001 - now())  # it counts from before its request
    assert not one.held


@virtually
async def test_a_conflict_loses(contender, objects):
    """Both read the same Lease; who writes second gets 409 and does not lead."""
    objects.put(PATH, {"metadata": {"name": "wavegate"}, "spec": {}})
    one, other = contender("one"), contender("other")
    results = await asyncio.gather(one._try(), other._try())
    assert sorted(results) == [False, True]
    assert (one.held, other.held) == (results[0], results[1])
    leader = "one" if one.held else "other"
    assert spec(objects)["holderIdentity"] == leader


@virtually
async def test_a_lease_that_another_created_first_loses(contender, objects):
    one = contender("one")
    objects.refuse = lambda verb, _path: 409 if verb == "POST" else 0
    assert not await one._try()
    assert not one.held


@virtually
async def test_a_leader_that_can_t_renew_stops_by_itself(contender, objects):
    one = contender("one")
    began = now()
    await one.acquire()
    objects.refuse = lambda verb, _path: 503
    await one.keep()
    assert not one.held
    assert 4.0 <= now() - began < 6.0


@virtually
async def test_a_leader_survives_one_renewal_that_fails(contender, objects):
    one = contender("one")
    await one.acquire()
    keeping = asyncio.create_task(one.keep())
    failed = []

    def refuse_once(verb, path):
        failed.append(verb)
        return 500 if len(failed) == 1 else 0

    objects.refuse = refuse_once
    await until(lambda: failed.count("PUT") >= 3, seconds=12.0)
    assert one.held
    assert not keeping.done()


@virtually
async def test_a_leader_that_sees_another_holder_stops_at_once(contender, objects):
    one = contender("one")
    await one.acquire()
    stolen = {**spec(objects), "holderIdentity": "other"}
    objects.put(PATH, {"metadata": {"name": "wavegate"}, "spec": stolen})
    assert one.held
    await one.keep()
    assert not one.held


@virtually
async def test_a_released_lease_is_taken_at_once(contender, objects):
    one, other = contender("one"), contender("other")
    await one.acquire()
    await one.release()
    assert not one.held
    assert spec(objects)["holderIdentity"] == ""
    assert await other._try()


@virtually
async def test_who_does_not_lead_releases_nothing(contender, objects):
    one, other = contender("one"), contender("other")
    await one.acquire()
    await other.release()
    assert spec(objects)["holderIdentity"] == "one"
    assert one.held


@virtually
async def test_a_release_that_fails_is_no_error(contender, objects):
    one = contender("one")
    await one.acquire()
    objects.refuse = lambda _verb, _path: 500
    await one.release()
    assert not one.held


@virtually
async def test_an_expired_holder_whose_clock_is_wrong_does_not_matter(contender, objects):
    """Only our own clock counts: what renewTime says is never compared with it."""
    old = {"holderIdentity": "other", "renewTime": "1970-01-01T00:00:00Z"}
    body = {"metadata": {"name": "wavegate"}, "spec": {**old, "leaseDurationSeconds": 60}}
    objects.put(PATH, body)
    one = contender("one")
    assert not await one._try()
    assert not await one._try()
