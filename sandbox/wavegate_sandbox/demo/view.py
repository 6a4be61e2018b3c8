"""The live view: one sign per machine, one line of status; without a terminal, what changed."""

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TextIO

from wavegate_sandbox.demo.fleet import BAD, GOOD, POOLS


@dataclass(frozen=True, slots=True)
class Picture:
    """The fleet at one moment: per machine whether it is Ready and which content runs there."""

    ready: Mapping[str, bool]
    content: Mapping[str, str]
    title: str
    phase: str
    message: str


_SIGNS = {
    "down": ("✖", "\033[1;31m"),
    "bad": ("◆", "\033[33m"),
    "good": ("●", "\033[32m"),
    "none": ("·", "\033[2m"),
}
_LEGEND = "· no agent yet   ● good content   ◆ bad content   ✖ down"


class View:
    """Draws pictures over each other on a terminal; elsewhere prints what changed."""

    def __init__(self, stream: TextIO = sys.stdout) -> None:
        self._stream, self._live = stream, stream.isatty()
        self._began = time.monotonic()
        self._drawn = 0
        self._last = ""

    def say(self, text: str) -> None:
        """Print lines that stay; the next picture is drawn below them."""
        self._drawn = 0
        print(text, file=self._stream, flush=True)

    def show(self, picture: Picture) -> None:
        """Draw the picture."""
        if self._live:
            self._draw(picture)
            return
        line = f"{picture.phase}: {picture.message}  [{_counts(picture)}]"
        if line != self._last:
            self._last = line
            elapsed = time.monotonic() - self._began
            print(f"  {elapsed:5.0f} s  {line}", file=self._stream, flush=True)

    def _draw(self, picture: Picture) -> None:
        elapsed = time.monotonic() - self._began
        lines = [f"{picture.title}   ({elapsed:.0f} s)", ""]
        lines += [f"  {pool:<14}{_row(picture, pool)}" for pool in POOLS]
        lines += ["", f"  {_LEGEND}", f"  {picture.phase}: {picture.message}"[:118], ""]
        up = f"\033[{self._drawn}A" if self._drawn else ""
        body = "".join(f"\033[2K{line}\n" for line in lines)
        print(up + body, end="", file=self._stream, flush=True)
        self._drawn = len(lines)


def state(picture: Picture, node: str) -> str:
    """How a machine is shown: down, bad, good or none."""
    if not picture.ready.get(node, False):
        return "down"
    return {BAD: "bad", GOOD: "good"}.get(picture.content.get(node, ""), "none")


def _row(picture: Picture, pool: str) -> str:
    signs = []
    for index in range(1, POOLS[pool] + 1):
        sign, colour = _SIGNS[state(picture, f"{pool}-{index}")]
        signs.append(f"{colour}{sign}\033[0m")
    return " ".join(signs)


def _counts(picture: Picture) -> str:
    states = [state(picture, node) for node in picture.ready]
    return ", ".join(f"{states.count(name)} {name}" for name in _SIGNS if name in states)
