"""One operator process in the simulation: the real election, mirrors, engine and writes.

Left out is only what kopf does (it watches our three kinds; here a few lines do the same, with its
weakness: a deletion that was missed is not told) and the HTTP below our client.
"""

import asyncio
import random
import re
from collections.abc import Callable
from typing import Any

from simulation.apiserver import Apiserver
from simulation.clock import START
from simulation.line import Line, Weather
from wavegate.api import Channel, Decision, Release, Resource
from wavegate.cluster import paths
from wavegate.cluster.client import ApiError
from wavegate.cluster.election import Leadership, LeaseSettings
from wavegate.controller.act import NotLeader
from wavegate.controller.leader import Leader
from wavegate.evidence import CheckResult, CheckSpec, Sample
from wavegate.telemetry.metrics import Metrics

KINDS: tuple[type[Resource], ...] = (Channel, Release, Decision)


_SINCE = re.compile(r"@ (\d+)")


class SimPrometheus:
    """Answers every check from `values` (by node); `error` in words instead when it is set. A query
    that names a time (`@ $t0`) gets what the node's counter grew by since then, instead.
    """

    def __init__(self) -> None:
        self.values: dict[str, float | None] = {}
        self.default: float | None = 0.0
        """The value of a node that is not named. Here and there None = it has no series."""
        self.error = ""
        self.rises: dict[str, list[float]] = {}
        """By node: when its counter rose by 1, in seconds of the operators' clocks."""

    async def ask(
        self, url: str, check: CheckSpec, query: str, nodes: frozenset[str], now: float
    ) -> CheckResult:
        """As the real reader: a result or an error, never an exception."""
        del url
        await asyncio.sleep(0.05)
        if self.error:
            return CheckResult(now, nodes, error=self.error)
        values = {node: self.values.get(node, self.default) for node in sorted(nodes)}
        since = _SINCE.search(query)
        if since is not None:
            values = {n: float(self._rose(n, float(since[1]))) for n in values}
        if not check.per_node:
            known = [value for value in values.values() if value is not None]
            return CheckResult(now, nodes, (Sample({}, max(known)),) if known else ())
        samples = (Sample({check.node_label: n}, v) for n, v in values.items() if v is not None)
        return CheckResult(now, nodes, tuple(samples))

    def _rose(self, node: str, since: float) -> int:
        return sum(at > since for at in self.rises.get(node, ()))

    def close(self) -> None:
        """Nothing to close."""


class SimOperator:
    """Starts, leads, is killed, starts again. `believes`: it acts whoever holds the lease."""

    def __init__(
        self,
        server: Apiserver,
        name: str,
        *,
        rng: random.Random,
        weather: Weather,
        prometheus: SimPrometheus,
        soak_floor: float = 10.0,
        lease_duration: float = 15.0,
    ) -> None:
        self.name, self.believes = name, False
        self.lives = 0
        self.writes = 0
        """Writes of all lives that changed what is remembered or what nodes do."""
        self.dies_after: int | None = None
        """The next life ends right after so many such writes."""
        self.errors: list[BaseException] = []
        self.line: Line | None = None
        self.leader: Leader | None = None
        self.weather = weather
        """Of this process alone, if it is replaced; counts from its next start."""
        self._server, self._rng = server, rng
        self._prometheus, self._soak_floor = prometheus, soak_floor
        self._lease_duration = lease_duration
        self._task: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._task is not None and not self._task.done()

    def start(self) -> None:
        """Start the process, with nothing in its memory."""
        self.lives += 1
        self.line = Line(self._server, self.name, self._rng, self.weather)
        self.line.dies_after, self.line.killed = self.dies_after, self.kill
        self._task = asyncio.get_running_loop().create_task(self._run(self.line))

    def kill(self) -> None:
        """As SIGKILL: nothing that it does from now on has an effect."""
        if self.line is not None:
            self.line.dead = True
            self.writes += self.line.writes
            self.line.writes = 0
        if self._task is not None:
            self._task.cancel()

    async def _run(self, line: Line) -> None:
        clock = asyncio.get_running_loop().time
        identity = f"{self.name}-{self.lives}"
        settings = LeaseSettings("wavegate", "wavegate", identity, self._lease_duration)
        leadership = Leadership(line, settings, clock)
        leader = Leader(
            client=line,
            reader=self._prometheus,  # type: ignore[arg-type]  # it has the same two methods
            metrics=Metrics(),
            clock=clock,
            may_act=lambda: self.believes or leadership.held,
            identity=identity,
            soak_floor=self._soak_floor,
            binding="agents",
        )
        try:
            if not self.believes:
                await leadership.acquire()
            self.leader = leader
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._keep(leadership))
                await leader.start(tasks)
                for kind in KINDS:
                    tasks.create_task(_feed(line, kind, leader))
        except* (NotLeader, _LeaseLost):
            pass  # the process exits, and is started anew as a standby
        except* Exception as group:  # noqa: BLE001 (the test fails with it, see _complain)
            self.errors.extend(group.exceptions)
        finally:
            self.leader = None
            leader.close()
            await leadership.release()

    async def _keep(self, leadership: Leadership) -> None:
        while True:
            await leadership.keep()
            if not self.believes:
                raise _LeaseLost


class _LeaseLost(Exception):  # noqa: N818 (a state, not an error)
    pass


async def _feed(line: Line, kind: type[Resource], leader: Leader) -> None:
    """What kopf does for us: list once, then watch; after an interruption, list again."""
    path = paths.ours(kind.plural)
    while True:
        try:
            listed: dict[str, Any] = await line.list(path)
            for item in listed["items"]:
                leader.world.take(kind, None, item)
            params = {"resourceVersion": listed["metadata"]["resourceVersion"]}
            while True:
                async for event in line.watch(path, params, 60.0):
                    params["resourceVersion"] = event["object"]["metadata"]["resourceVersion"]
                    if event["type"] != "BOOKMARK":
                        leader.world.take(kind, event["type"], event["object"])
        except ApiError:
            await asyncio.sleep(1.0)


def elapsed(clock: Callable[[], float]) -> float:
    """Virtual seconds since the simulation began."""
    return clock() - START
