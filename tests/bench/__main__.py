"""How long one pass takes, by state and number of nodes: `make bench` prints a table.

One process, one core, each row measured alone on a world of its own. Times are milliseconds of
processor time: the quickest, the middle and the slowest of the repetitions; beside them the middle
by the clock on the wall, in which other programs count too. `decide` gets an observation of which
nobody has seen any part yet, as after a change of all nodes and pods. A pass is gather, decide and
all statuses, without the writes; the next pass is one in which no node and no pod has changed.
"""

import asyncio
import gc
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from support import fleet
from support.builders import CHANNEL, SPACE
from wavegate.controller.gather import Gatherer
from wavegate.controller.world import World
from wavegate.rollout import channel_report, forecast, report
from wavegate.rollout.decide import decide
from wavegate.rollout.kept import Kept
from wavegate.rollout.observation import Observation
from wavegate.rollout.steps import Step

SIZES = (100, 1_000, 5_000, 10_000)
REPEAT = 15
KEY = (SPACE, CHANNEL)

Times = list[tuple[float, float]]
"""Processor and wall milliseconds of each repetition."""


class NoServer:
    """Accepts every dry run; nothing else may be asked while nodes move."""

    async def try_create(self, _path: str, _body: object) -> None:
        """Accept."""


def main() -> None:
    """Measure all and print."""
    sizes = [int(argument) for argument in sys.argv[1:]] or SIZES
    heads = "".join(f"{head:>9}" for head in ("nodes", "min", "median", "max", "wall"))
    print(f"{'ms':26}{heads}   growth of the median")
    for what, measure in _rows():
        before: tuple[int, float] | None = None
        for size in sizes:
            times, walls = zip(*measure(size), strict=True)
            middle = statistics.median(times)
            cells = (min(times), middle, max(times), statistics.median(walls))
            row = "".join(f"{ms:9.2f}" for ms in cells)
            growth = before and f"nodes x{size / before[0]:g}, time x{middle / before[1]:.1f}"
            print(f"{what:26}{size:9}{row}   {growth or ''}", flush=True)
            before = size, middle


def _rows() -> Iterator[tuple[str, Callable[[int], Times]]]:
    for state in fleet.STATES:
        yield f"decide, {state}", lambda size, state=state: _decide(size, state)
    for state in fleet.STATES:
        yield f"status alone, {state}", lambda size, state=state: _status(size, state)
    yield "plan, one look", lambda size: [look for looks in _plans(size) for look in looks]
    yield "plan, all its looks", lambda size: [_sum(looks) for looks in _plans(size)]
    yield "gather, judging", lambda size: _gather(size, "judging")
    for state in fleet.STATES:
        yield f"whole pass, {state}", lambda size, state=state: _pass(size, state)
    for state in fleet.STATES:
        yield f"next pass, {state}", lambda size, state=state: _pass(size, state, again=True)


def _decide(size: int, state: str) -> Times:
    obs = fleet.observe(size, state)
    return _measured(lambda: decide(anew(obs), fleet.NOW))


def _status(size: int, state: str) -> Times:
    obs = fleet.observe(size, state)
    step = decide(obs, fleet.NOW)
    return _measured(lambda: _statuses(anew(obs), step))


def _gather(size: int, state: str) -> Times:
    obs = fleet.observe(size, state)
    world = fleet.world_of(obs)

    async def gather() -> None:  # asyncio writes out what a whole run returns
        await _gatherer(world).gather(KEY, obs.checks, "")

    with asyncio.Runner() as runner:
        return _measured(lambda: runner.run(gather()))


def _pass(size: int, state: str, *, again: bool = False) -> Times:
    obs = fleet.observe(size, state)
    world = fleet.world_of(obs)
    gatherer = _gatherer(world)

    async def whole() -> None:
        eyes = gatherer if again else _gatherer(world)
        seen = (await eyes.gather(KEY, obs.checks, "")).observation
        _statuses(seen, decide(seen, fleet.NOW))

    with asyncio.Runner() as runner:
        return _measured(lambda: runner.run(whole()))


def _plans(size: int) -> Iterator[Times]:
    """The looks in which a plan is worked out before its start, as often as all else is done."""
    obs = fleet.observe(size, "idle")
    for _ in range(REPEAT):
        seen, looks, more = anew(obs), [], True
        while more:
            wall, began = time.perf_counter(), time.process_time()
            more = forecast.is_under_way(seen)
            used, passed = time.process_time() - began, time.perf_counter() - wall
            looks.append((used * 1000, passed * 1000))
            seen = replace(seen)
        yield looks


def _sum(looks: Times) -> tuple[float, float]:
    return sum(used for used, _ in looks), sum(passed for _, passed in looks)


def anew(obs: Observation) -> Observation:
    """The same, of which nothing was worked out yet."""
    return replace(obs, kept=Kept(), shown=Kept())


def _gatherer(world: World) -> Gatherer:
    client: Any = NoServer()
    return Gatherer(client, world, 10.0, lambda: fleet.NOW)


def _statuses(obs: Observation, step: Step) -> None:
    channel_report.channel_status(obs)
    for release in obs.releases:
        report.release_status(obs, release, step, fleet.NOW)


def _measured(work: Callable[[], object]) -> Times:
    """Milliseconds of each repetition. The first call, which warms up, is left out."""
    work()
    gc.collect()
    times = []
    for _ in range(REPEAT):
        wall, began = time.perf_counter(), time.process_time()
        work()
        used, passed = time.process_time() - began, time.perf_counter() - wall
        times.append((used * 1000, passed * 1000))
    return times


if __name__ == "__main__":
    main()
