"""Virtual time: an event loop whose clock jumps to the next timer whenever nobody has work.

Hours of a rollout take milliseconds, and the same seed gives the same order of everything. Nothing
in a simulation may wait for the real world (threads, sockets): such a wait would never end, so it
is an error.
"""

import asyncio
import selectors
from collections.abc import Mapping
from typing import Any

START = 1_000_000.0
"""What the clock says when a simulation begins, in seconds."""


class NothingToDo(RuntimeError):  # noqa: N818 (what happened)
    """No timer is set and no callback is ready: the simulation would wait for ever."""


class _Jump(selectors.BaseSelector):
    """Instead of waiting for sockets, moves the loop's clock on."""

    def __init__(self) -> None:
        self.now = START
        self._real = selectors.DefaultSelector()

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise NothingToDo
        self.now += max(0.0, timeout)
        return []

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()


class VirtualLoop(asyncio.SelectorEventLoop):
    """See the module. `time()` is virtual seconds and starts at START."""

    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)
        self._clock_resolution = 1e-6  # a jump may fall short of its timer by rounding

    def time(self) -> float:
        """Return the virtual time."""
        return self._jump.now
