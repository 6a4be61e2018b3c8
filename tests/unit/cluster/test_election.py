"""One leader at a time: two processes and one Lease, in virtual time: no machine is too slow."""

import asyncio
import functools
import random

import pytest

from simulation.apiserver import Apiserver
from simulation.clock import VirtualLoop
from simulation.line import Line, Weather
from support.fake_apiserver import until
from wavegate.cluster.election import Leadership, LeaseSettings

LEASE = {"name": "wavegate", "namespace": "space"}


def virtually(test):
    """Run an async test in virtual time."""

    @functools.wraps(test)
    def run(**fixtures):
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(test(**fixtures))

    return run


@pytest.fixture
def server():
    return Apiserver(now)


@pytest.fixture
def weather():
    """Each request takes 5 ms."""
    return Weather(request=(0.005, 0.005))


@pytest.fixture
def contender(server, weather):
    """Build a process that wants to lead; `duration` in seconds (a Lease holds at least 1 s)."""

    def make(identity, duration=6.0):
        settings = LeaseSettings("space", "wavegate", identity, duration)
        line = Line(server, identity, random.Random(0), weather)  # noqa: S311
        return Leadership(line, settings, now)

    return make


def now():
    return asyncio.get_running_loop().time()


def spec(server):
    return server.find("leases", "wavegate", "space")["spec"]


@virtually
async def test_of_two_one_leads(contender, server):
    one, other = contender("one"), contender("other")
    await one.acquire()
    waiting, keeping = (asyncio.create_task(work) for work in (other.acquire(), one.keep()))
    await asyncio.sleep(60.0)  # ten times as long as the lease holds unrenewed
    assert (one.held, other.held) == (True, False)
    assert not waiting.done()
    assert not keeping.done()
    assert spec(server)["holderIdentity"] == "one"
    assert spec(server)["leaseTransitions"] == 1


@virtually
async def test_who_is_silent_is_replaced_after_its_lease_and_not_before(contender, server):
    one, other = contender("one"), contender("other")
    await one.acquire()
    began = now()
    await other.acquire()
    assert 6.0 < now() - began < 7.3  # it looks each second, or a fifth later
    assert (one.held, other.held) == (False, True)
    assert spec(server)["holderIdentity"] == "other"
    assert spec(server)["leaseTransitions"] == 2


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
async def test_a_conflict_loses(contender, server):
    """Both read the same Lease; who writes second gets 409 and does not lead."""
    server.add("people", "leases", {"metadata": LEASE, "spec": {}})
    one, other = contender("one"), contender("other")
    results = await asyncio.gather(one._try(), other._try())
    assert sorted(results) == [False, True]
    assert (one.held, other.held) == (results[0], results[1])
    leader = "one" if one.held else "other"
    assert spec(server)["holderIdentity"] == leader


@virtually
async def test_a_lease_that_another_created_first_loses(contender, weather):
    one = contender("one")
    weather.fails = lambda verb, _path: 409 if verb == "POST" else None
    assert not await one._try()
    assert not one.held


@virtually
async def test_a_leader_that_can_t_renew_stops_by_itself(contender, weather):
    one = contender("one")
    began = now()
    await one.acquire()
    weather.fails = lambda _verb, _path: 503
    await one.keep()
    assert not one.held
    assert 4.0 <= now() - began < 6.0


@virtually
async def test_a_leader_survives_one_renewal_that_fails(contender, weather):
    one = contender("one")
    await one.acquire()
    keeping = asyncio.create_task(one.keep())
    failed = []

    def refuse_once(verb, path):
        failed.append(verb)
        return 500 if len(failed) == 1 else None

    weather.fails = refuse_once
    await until(lambda: failed.count("PUT") >= 3, seconds=12.0)
    assert one.held
    assert not keeping.done()


@virtually
async def test_a_leader_that_sees_another_holder_stops_at_once(contender, server):
    one = contender("one")
    await one.acquire()
    lease = server.find("leases", "wavegate", "space")
    server.update("other", "leases", lease, spec={**lease["spec"], "holderIdentity": "other"})
    assert one.held
    await one.keep()
    assert not one.held


@virtually
async def test_a_released_lease_is_taken_at_once(contender, server):
    one, other = contender("one"), contender("other")
    await one.acquire()
    await one.release()
    assert not one.held
    assert spec(server)["holderIdentity"] == ""
    assert await other._try()


@virtually
async def test_who_does_not_lead_releases_nothing(contender, server):
    one, other = contender("one"), contender("other")
    await one.acquire()
    await other.release()
    assert spec(server)["holderIdentity"] == "one"
    assert one.held


@virtually
async def test_a_release_that_fails_is_no_error(contender, weather):
    one = contender("one")
    await one.acquire()
    weather.fails = lambda _verb, _path: 500
    await one.release()
    assert not one.held


@virtually
async def test_an_expired_holder_whose_clock_is_wrong_does_not_matter(contender, server):
    """Only our own clock counts: what renewTime says is never compared with it."""
    old = {"holderIdentity": "other", "renewTime": "1970-01-01T00:00:00Z"}
    body = {"metadata": LEASE, "spec": {**old, "leaseDurationSeconds": 60}}
    server.add("other", "leases", body)
    one = contender("one")
    assert not await one._try()
    assert not await one._try()
