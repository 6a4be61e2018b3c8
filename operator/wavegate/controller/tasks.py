"""What is asked in the background: one task at a time for each place."""

import asyncio
from collections.abc import Coroutine, Hashable
from typing import Any, Generic, TypeVar

Place = TypeVar("Place", bound=Hashable)


class Tasks(Generic[Place]):
    """A place is what an answer is kept for: a channel, a namespace, a check of an attempt."""

    def __init__(self) -> None:
        self._running: dict[Place, asyncio.Task[Any]] = {}

    def is_running(self, place: Place) -> bool:
        """Whether the answer for this place is awaited."""
        task = self._running.get(place)
        return task is not None and not task.done()

    def start(self, place: Place, work: Coroutine[Any, Any, Any]) -> None:
        """Begin; whoever calls has seen that none is running for this place."""
        self._running = {p: task for p, task in self._running.items() if not task.done()}
        self._running[place] = asyncio.create_task(work)

    def forget(self, place: Place) -> None:
        """Let the next one begin without waiting for the one that runs."""
        self._running.pop(place, None)

    def close(self) -> None:
        """Stop asking."""
        for task in self._running.values():
            task.cancel()
