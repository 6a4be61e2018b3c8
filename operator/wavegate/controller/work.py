"""A keyed work queue: a key waits at most once, is worked on by one worker, and backs off."""

import asyncio
import random
from collections.abc import Callable

Key = tuple[str, str]
"""Namespace and name of a channel."""

_MAX_BACKOFF = 10.0


class WorkQueue:
    """Keys become due by `add` (soon) or `later`. Many events for one key become one pass."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._due: dict[Key, float] = {}
        self._failures: dict[Key, int] = {}
        self._not_before: dict[Key, float] = {}
        self._changed = asyncio.Event()

    def add(self, key: Key) -> None:
        """Make a key due now, unless it is backing off after an error."""
        self.later(key, 0.0)

    def later(self, key: Key, seconds: float) -> None:
        """Make a key due in `seconds`, or earlier if it already is; never before its back-off."""
        due = max(self._clock() + seconds, self._not_before.get(key, 0.0))
        if due < self._due.get(key, float("inf")):
            self._due[key] = due
            self._changed.set()

    def failed(self, key: Key, retry_after: float | None) -> None:
        """A pass failed: back off with jitter, for at least what the server asked for."""
        self._failures[key] = self._failures.get(key, 0) + 1
        pause = max(retry_after or 0.0, self._backoff(key))
        self._not_before[key] = self._clock() + pause
        self._due.pop(key, None)
        self.later(key, pause)

    def done(self, key: Key) -> None:
        """A pass succeeded: the next failure starts from the shortest back-off."""
        self._failures.pop(key, None)
        self._not_before.pop(key, None)

    async def next(self) -> Key:
        """Wait for the key that is due first."""
        while True:
            self._changed.clear()
            key = min(self._due, key=self._due.__getitem__, default=None)
            if key is not None and self._due[key] <= self._clock():
                del self._due[key]
                return key
            wait = self._due[key] - self._clock() if key else None
            try:
                async with asyncio.timeout(wait):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def _backoff(self, key: Key) -> float:
        exponent = min(self._failures.get(key, 1), 8)
        return float(min(_MAX_BACKOFF, 0.25 * 2**exponent) * random.uniform(0.5, 1.0))  # noqa: S311
