"""A keyed work queue: a key waits at most once, is one worker's at a time, and backs off.

The first event after a quiet moment is taken up at once. In a flood, as when thousands of pods
start, a pass sees everything that came in the meantime, and the passes keep a short distance.
"""

import asyncio
import random
from collections.abc import Callable

from wavegate.cluster.memory import remember

Key = tuple[str, str]
"""Namespace and name of a channel."""

_MAX_BACKOFF = 10.0

REST_SECONDS = 0.25
"""Events wait so long after a pass has ended: far less than a node takes to show any harm, and
short of the second in which harm that is seen must be acted upon."""
_REMEMBERED = 10_000


class WorkQueue:
    """Keys become due by `add` (an event) or `later`. Many events for one key become one pass."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._due: dict[Key, float] = {}
        self._woken: dict[Key, float] = {}
        """Since when an event waits for a pass."""
        self._rests_until: dict[Key, float] = {}
        self._failures: dict[Key, int] = {}
        self._not_before: dict[Key, float] = {}
        self._taken: dict[Key, float] = {}
        """Which are worked on, and since when."""
        self._changed = asyncio.Event()

    def add(self, key: Key) -> None:
        """Something happened: make a key due now, or as soon as it has rested or backed off."""
        if key not in self._woken:
            self._woken[key] = self._clock()
            self._changed.set()

    def later(self, key: Key, seconds: float) -> None:
        """Make a key due in `seconds`, or earlier if it already is; never before its back-off.
        It does not wait for a rest: what a pass has begun goes on.
        """
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
        self._taken.pop(key, None)
        self.later(key, pause)

    def done(self, key: Key) -> None:
        """A pass succeeded: the next failure starts from the shortest back-off."""
        self._failures.pop(key, None)
        self._not_before.pop(key, None)
        remember(self._rests_until, key, self._clock() + REST_SECONDS, _REMEMBERED)
        self._taken.pop(key, None)
        self._changed.set()

    def busy_since(self) -> float | None:
        """When the oldest pass that is under way began; None between passes."""
        return min(self._taken.values(), default=None)

    async def next(self) -> Key:
        """Wait for the key that is due first, of those that nobody works on. It is the caller's
        until he says `done` or `failed`.
        """
        while True:
            self._changed.clear()
            waiting = (key for key in (*self._due, *self._woken) if key not in self._taken)
            key = min(waiting, key=self._due_at, default=None)
            wait = self._due_at(key) - self._clock() if key else None
            if key is not None and wait is not None and wait <= 0:
                self._due.pop(key, None)
                self._woken.pop(key, None)
                self._taken[key] = self._clock()
                return key
            try:
                async with asyncio.timeout(wait):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def _due_at(self, key: Key) -> float:
        due = self._due.get(key, float("inf"))
        if key not in self._woken:
            return due
        held = max(self._rests_until.get(key, 0.0), self._not_before.get(key, 0.0))
        return min(due, max(self._woken[key], held))

    def _backoff(self, key: Key) -> float:
        exponent = min(self._failures.get(key, 1), 8)
        return float(min(_MAX_BACKOFF, 0.25 * 2**exponent) * random.uniform(0.5, 1.0))  # noqa: S311
