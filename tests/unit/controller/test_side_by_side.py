"""Channels side by side: none waits for another's slow write, and each has one pass at a time."""

import asyncio
import contextlib

import pytest

from support.fake_apiserver import PATIENCE
from wavegate.cluster.client import ApiError
from wavegate.controller.act import NotLeader
from wavegate.controller.engine import SIDE_BY_SIDE, Engine
from wavegate.controller.work import WorkQueue
from wavegate.telemetry.metrics import Metrics

SLOW, QUICK = ("ns", "slow"), ("ns", "quick")
KEYS = [("ns", f"c{number:02}") for number in range(25)]


class Passes(Engine):
    """The engine, whose passes are the test's."""

    def __init__(self, work):
        self._queue, self._metrics = WorkQueue(asyncio.get_running_loop().time), Metrics()
        self._work = work


@contextlib.asynccontextmanager
async def running(engine, keys):
    for key in keys:
        engine._queue.add(key)
    task = asyncio.create_task(engine.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_channel_is_not_held_up_by_another_s_hanging_write():
    begun, quick = [], asyncio.Event()

    async def work(key):
        begun.append(key)
        if key == SLOW:
            await asyncio.Event().wait()
        quick.set()

    engine = Passes(work)
    async with running(engine, [SLOW, QUICK]):
        await asyncio.wait_for(quick.wait(), PATIENCE)
        engine._queue.add(SLOW)
        await asyncio.sleep(0.3)
        assert begun == [SLOW, QUICK], "a channel that is worked on gets no second pass"


async def test_ten_at_a_time_and_each_has_its_turn():
    now, most, seen = 0, 0, []

    async def work(key):
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.01)
        seen.append(key)
        now -= 1

    async with running(Passes(work), KEYS):
        async with asyncio.timeout(PATIENCE):
            while len(seen) < len(KEYS):
                await asyncio.sleep(0.01)
    assert most == SIDE_BY_SIDE
    assert sorted(seen) == KEYS


@pytest.mark.parametrize("error", [ApiError(503, "busy"), ValueError("ours")])
async def test_a_pass_that_fails_stops_no_other_and_is_tried_again(error):
    tries, done = [], asyncio.Event()

    async def work(key):
        if key == SLOW:
            tries.append(key)
            if len(tries) == 1:
                raise error
            done.set()

    async with running(Passes(work), [SLOW, QUICK]) as task:
        await asyncio.wait_for(done.wait(), PATIENCE)
        assert not task.done()
    assert len(tries) == 2


async def test_who_does_not_lead_any_more_stops_all_passes():
    stopped = []

    async def work(key):
        if key == QUICK:
            await asyncio.sleep(0.01)
            raise NotLeader
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append(key)

    async with running(Passes(work), [SLOW, QUICK]) as task:
        with pytest.raises(ExceptionGroup) as raised:
            await asyncio.wait_for(task, PATIENCE)
    assert raised.group_contains(NotLeader)
    assert stopped == [SLOW]
