"""The line between one operator and the apiserver: our own client, with the network played.

Requests take time. They may fail before they take effect, or after it (a time-out: the answer is
lost). Watches deliver late. A process that was killed gets nothing through any more.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from simulation.apiserver import Apiserver, Stream, selector
from wavegate.cluster import paths
from wavegate.cluster.client import ApiError, Client, Params
from wavegate.cluster.reviews import RULES

BOOKMARK_SECONDS = 60.0

LOST_BEFORE, LOST_AFTER = -1, 0
"""A request without an answer: it never arrived, or it took effect and the answer was lost."""

UNTIMED = (paths.ENDPOINT_SLICES, paths.VALIDATING_WEBHOOKS, paths.MUTATING_WEBHOOKS)
"""Lists that take no time, so that stories of other things stay as they are."""

DECIDES_NOTHING = ("/leases", "/status", "/events")
"""Writes to these change neither nodes nor what is remembered."""


@dataclass(slots=True)
class Weather:
    """How the network is. Delays are seconds, drawn evenly between the two; `fails` maps a request
    to the status that it fails with, None = it does not.
    """

    request: tuple[float, float] = (0.002, 0.01)
    watch: tuple[float, float] = (0.01, 0.2)
    lag: Callable[[str], float] = lambda _path: 0.0
    """By how many seconds more a watch of this path is late."""
    fails: Callable[[str, str], int | None] = lambda _verb, _path: None
    stale_list: Callable[[str], int | None] = lambda _path: None
    """The version that a list is answered from; None = the newest."""


class Line(Client):
    """See the module. `killed` is called when the process dies after its write `dies_after`."""

    def __init__(self, server: Apiserver, actor: str, rng: random.Random, weather: Weather) -> None:
        self.actor = actor
        self.dead = False
        self.writes = 0
        """Writes that changed what is remembered or what nodes do."""
        self.requests = 0
        self.dies_after: int | None = None
        self.killed: Callable[[], None] = lambda: None
        self._server, self._rng, self._weather = server, rng, weather

    async def close(self) -> None:
        """Nothing to close."""

    async def watch(
        self, path: str, params: Params, silence: float
    ) -> AsyncIterator[dict[str, Any]]:
        """Yield watch events, late; ends after `timeoutSeconds`."""
        del silence  # bookmarks always come
        self._alive()
        stirred = asyncio.Event()
        stream = self._server.watch(path, params, stirred.set)
        loop = asyncio.get_running_loop()
        ends = loop.time() + float(params.get("timeoutSeconds", "290"))
        try:
            while loop.time() < ends:
                try:
                    async with asyncio.timeout(min(BOOKMARK_SECONDS, ends - loop.time())):
                        await stirred.wait()
                except TimeoutError:
                    yield self._bookmark()
                    continue
                late = self._rng.uniform(*self._weather.watch)
                await asyncio.sleep(late + self._weather.lag(path))
                stirred.clear()
                for kind, body in _read(stream):
                    yield {"type": kind, "object": body}
                if stream.broken is not None:
                    raise stream.broken
        finally:
            self._server.unwatch(path, stream)

    def _bookmark(self) -> dict[str, Any]:
        metadata = {"resourceVersion": str(self._server.version)}
        return {"type": "BOOKMARK", "object": {"metadata": metadata}}

    async def _request(
        self,
        verb: str,
        path: str,
        params: Params | None = None,
        body: Any = None,
        kind: str = "application/json",
        *,
        timeout: float = 0.0,
    ) -> dict[str, Any]:
        self._alive()
        if path == RULES:  # takes no time, so that stories of other things stay as they are
            return self._server.rules()
        self.requests += 1
        if path in UNTIMED:
            return await self._listed(verb, path, params or {}, timeout)
        await asyncio.sleep(self._rng.uniform(*self._weather.request))
        self._alive()
        fault = self._weather.fails(verb, path)
        if fault is not None and fault > 0:
            raise ApiError(fault, f"{verb} {path}: a played fault", 1.0 if fault == 429 else None)
        if fault == LOST_BEFORE:
            await asyncio.sleep(timeout or 5.0)
            raise ApiError(0, f"{verb} {path}: no answer")
        answer = self._effect(verb, path, params or {}, body, kind)
        if fault == LOST_AFTER:
            await asyncio.sleep(timeout or 5.0)
            raise ApiError(0, f"{verb} {path}: no answer")
        return answer

    async def _listed(self, verb: str, path: str, params: Params, timeout: float) -> dict[str, Any]:
        """Answer at once, or not at all."""
        fault = self._weather.fails(verb, path)
        if fault in (LOST_BEFORE, LOST_AFTER):
            await asyncio.sleep(timeout or 5.0)
            raise ApiError(0, f"{verb} {path}: no answer")
        if fault is not None:
            raise ApiError(fault, f"{verb} {path}: a played fault")
        self._alive()
        answer: dict[str, Any] = self._effect(verb, path, params, None, "")
        return answer

    def _effect(self, verb: str, path: str, params: Params, body: Any, kind: str) -> Any:
        version = self._weather.stale_list(path) if verb == "GET" else None
        if version is not None:
            matches = selector(params)
            plural = path.rsplit("/", 1)[-1]
            items = [item for item in self._server.past(plural, version) if matches(item)]
            return {"metadata": {"resourceVersion": str(version)}, "items": items}
        answer = self._server.handle(self.actor, verb, path, params, body=body, kind=kind)
        if verb != "GET" and "dryRun" not in params and not _decides_nothing(path):
            self.writes += 1
            if self.writes == self.dies_after:
                self.dead = True
                self.killed()
                self._alive()
        return answer

    def _alive(self) -> None:
        if self.dead:
            raise ApiError(0, "this process was killed")


@dataclass(slots=True)
class Faulty:
    """Fails a share of the writes, by a seeded generator, with one of these outcomes."""

    rng: random.Random
    share: float
    outcomes: tuple[int, ...] = (409, 429, 500, LOST_BEFORE, LOST_AFTER)
    only: str = ""
    """Only requests whose path holds this."""
    counted: dict[int, int] = field(default_factory=dict)

    def __call__(self, verb: str, path: str) -> int | None:
        """The outcome of this request; None = it goes through."""
        if verb == "GET" or self.only not in path or self.rng.random() >= self.share:
            return None
        outcome = self.rng.choice(self.outcomes)
        self.counted[outcome] = self.counted.get(outcome, 0) + 1
        return outcome


def _read(stream: Stream) -> list[tuple[str, dict[str, Any]]]:
    """All that is waiting now. What comes while the reader works waits for the next round."""
    events = list(stream.waiting)
    stream.waiting.clear()
    return events


def _decides_nothing(path: str) -> bool:
    return any(part in path for part in DECIDES_NOTHING)
