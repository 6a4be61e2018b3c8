"""The keyed queue: each key once, backing off after errors, with a clock of our own."""

import asyncio

import pytest

from support.fake_apiserver import PATIENCE
from wavegate.controller.work import WorkQueue

A, B = ("ns", "a"), ("ns", "b")


class Clock:
    """Stands still until it is told."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def queue(clock):
    return WorkQueue(clock)


async def taken(queue):
    """Keys that are due now, in their order. Nobody works on them any more."""
    keys = []
    while True:
        try:
            async with asyncio.timeout(0.01):
                keys.append(await queue.next())
        except TimeoutError:
            for key in keys:
                queue._taken.pop(key)
            return keys


async def test_many_events_for_one_key_are_one_pass(queue):
    for _ in range(1000):
        queue.add(A)
    queue.add(B)
    assert await taken(queue) == [A, B]


async def test_a_key_that_was_added_while_it_was_worked_on_is_worked_on_again(queue, clock):
    queue.add(A)
    assert await queue.next() == A
    queue.add(A)
    assert await taken(queue) == [], "never by two at a time"
    queue.done(A)
    clock.now += 0.26
    assert await taken(queue) == [A]


async def test_a_key_whose_pass_failed_is_another_s_to_take(queue, clock):
    queue.add(A)
    assert await queue.next() == A
    queue.failed(A, None)
    clock.now += 10
    assert await taken(queue) == [A]


async def test_it_is_busy_since_the_oldest_pass_under_way_began(queue, clock):
    assert queue.busy_since() is None
    queue.add(A)
    await queue.next()
    clock.now += 5
    queue.add(B)
    await queue.next()
    assert queue.busy_since() == 100.0
    queue.done(A)
    assert queue.busy_since() == 105.0
    queue.failed(B, None)
    assert queue.busy_since() is None


async def test_who_waits_for_a_key_gets_it_as_soon_as_nobody_works_on_it(queue, clock):
    queue.add(A)
    await queue.next()
    queue.later(A, 0.0)
    waiting = asyncio.create_task(queue.next())
    await asyncio.sleep(0.01)
    assert not waiting.done()
    queue.done(A)
    assert await asyncio.wait_for(waiting, PATIENCE) == A


async def test_an_earlier_time_wins_over_a_later_one(queue, clock):
    queue.later(A, 5.0)
    queue.later(A, 60.0)
    queue.later(B, 60.0)
    queue.later(B, 10.0)
    clock.now += 4.9
    assert await taken(queue) == []
    clock.now += 0.2
    assert await taken(queue) == [A]
    clock.now += 5.0
    assert await taken(queue) == [B]


async def test_who_waits_is_woken_by_a_new_key(queue):
    queue.later(A, 1000.0)
    waiting = asyncio.create_task(queue.next())
    await asyncio.sleep(0)
    queue.add(B)
    assert await asyncio.wait_for(waiting, PATIENCE) == B


@pytest.mark.parametrize(("failures", "longest"), [(1, 0.5), (2, 1.0), (5, 8.0), (50, 10.0)])
async def test_failures_back_off_with_jitter_up_to_ten_seconds(queue, clock, failures, longest):
    for _ in range(failures):
        queue.failed(A, None)
    assert await taken(queue) == []
    clock.now += longest * 0.49
    assert await taken(queue) == []
    clock.now += longest * 0.52
    assert await taken(queue) == [A]


async def test_the_server_s_wish_is_respected(queue, clock):
    queue.failed(A, 30.0)
    clock.now += 29.9
    assert await taken(queue) == []
    clock.now += 0.2
    assert await taken(queue) == [A]


# Was: `add` draws a new back-off and forgets Retry-After; during a rollout there is an event each
# few seconds, so 429 with Retry-After is never respected.
async def test_an_event_does_not_cut_the_server_s_wish_short(queue, clock):
    queue.failed(A, 30.0)
    queue.add(A)
    clock.now += 29.0
    assert await taken(queue) == []


# Was: the same; each event draws anew and the shortest draw wins.
async def test_a_flood_of_events_does_not_shorten_the_back_off(queue, clock):
    for _ in range(5):
        queue.failed(A, None)
    due = queue._due[A]
    for _ in range(1000):
        queue.add(A)
    assert queue._due[A] == due


async def test_a_success_starts_the_back_off_anew(queue, clock):
    for _ in range(8):
        queue.failed(A, None)
    clock.now += 60.0
    assert await taken(queue) == [A]
    queue.done(A)
    queue.failed(A, None)
    clock.now += 0.51
    assert await taken(queue) == [A]


async def passes(queue, clock, *, seconds, events_each_second, length=0.02):
    """Passes in a flood of events; one takes `length`. Also the longest that an event waited."""
    count, worst, busy_until, waiting = 0, 0.0, None, []
    for number in range(seconds * events_each_second):
        event = 100.0 + number / events_each_second
        if busy_until is not None and busy_until <= event:
            clock.now, busy_until = busy_until, None
            queue.done(A)
        clock.now = event
        queue.add(A)
        waiting.append(event)
        if busy_until is None and await due_now(queue):
            count, worst = count + 1, max(worst, event - waiting[0])
            busy_until, waiting = event + length, []
    return count, worst


async def due_now(queue):
    try:
        async with asyncio.timeout(0):
            return await queue.next()
    except TimeoutError:
        return None


# Was: 500 passes in ten seconds, one after the other without a pause.
async def test_a_flood_of_events_shares_passes_and_none_waits_long(queue, clock):
    count, worst = await passes(queue, clock, seconds=10, events_each_second=200)
    assert 30 < count < 45
    assert worst < 0.3


async def test_events_that_come_one_by_one_are_taken_up_at_once(queue, clock):
    count, worst = await passes(queue, clock, seconds=10, events_each_second=3)
    assert (count, worst) == (30, 0.0)


async def test_what_a_pass_has_begun_goes_on_without_a_rest(queue, clock):
    queue.add(A)
    assert await queue.next() == A
    queue.later(A, 0.0)
    queue.done(A)
    queue.add(A)
    assert await taken(queue) == [A]
    queue.done(A)
    queue.add(A)
    assert await taken(queue) == []
    clock.now += 0.26
    assert await taken(queue) == [A]


async def test_the_rest_of_one_key_delays_no_other(queue, clock):
    queue.done(A)
    queue.add(A)
    queue.add(B)
    assert await taken(queue) == [B]
