"""What follows from things that never change is worked out once, as long as those are seen.

Two passes in a row see almost the same: not one node changed, or not one pod. What follows from
that part alone (on which nodes the agent runs, which pods an attempt has) serves the next pass too.
Things are told apart by identity: whoever builds an observation hands on the very same object only
if nothing in it changed. Nothing is decided by this: without it all comes out the same, but later.
"""

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

_BY_VALUE = (str, int)


class Kept:
    """Remembers what two passes have asked for: this one and the one before."""

    def __init__(self) -> None:
        self._before: dict[tuple[object, ...], tuple[tuple[object, ...], Any]] = {}
        self._now: dict[tuple[object, ...], tuple[tuple[object, ...], Any]] = {}

    def next_pass(self) -> None:
        """Another pass begins: forget what the last one did not ask for."""
        self._before, self._now = self._now, {}

    def of(self, compute: Callable[..., T], *of: object) -> T:
        """Return `compute(*of)`, which may depend on nothing else. Texts and whole numbers are
        told apart by their value, all else by identity.
        """
        # ids stay theirs, as the objects are kept with the value.
        key = (compute, *[o if isinstance(o, _BY_VALUE) else id(o) for o in of])
        found = self._now.get(key)
        if found is None:
            found = self._before.get(key) or (of, compute(*of))
            self._now[key] = found
        value: T = found[1]
        return value
