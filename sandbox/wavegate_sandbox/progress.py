"""What a long build tells the person who waits: which tool, how long so far, about how long.

On a terminal one line is rewritten; elsewhere (CI) each tool has a line at start and at end.
"""

import sys
import time
from collections.abc import Sequence
from typing import Protocol, TextIO


class Progress(Protocol):
    """Told about a build by `wavegate_sandbox.build`."""

    def begin(self, tools: Sequence[tuple[str, int]]) -> None:
        """These will be compiled: name and measured seconds on 2 cores."""

    def start(self, name: str) -> None:
        """This one is being compiled now."""

    def tick(self) -> None:
        """It still is. Called about twice a second."""

    def finish(self, name: str, seconds: float) -> None:
        """This one is done."""

    def note(self, text: str) -> None:
        """Something else worth a line."""


class Terminal:
    """Progress on a stream (default: standard error)."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._tools: dict[str, int] = {}
        self._done = 0
        self._name = ""
        self._since = 0.0
        self._begun = 0.0

    def begin(self, tools: Sequence[tuple[str, int]]) -> None:
        """See `Progress`."""
        self._tools = dict(tools)
        self._begun = time.monotonic()
        if tools:
            total = sum(self._tools.values())
            self._line(
                f"First use of these versions: {len(tools)} tools are compiled from source, once. "
                f"About {_span(total)} on 2 cores from an empty cache, less if parts are cached."
            )

    def start(self, name: str) -> None:
        """See `Progress`."""
        self._name, self._since = name, time.monotonic()
        if self._live:
            self.tick()
        else:
            self._line(f"  [{self._position()}] {name}: compiling, {self._about()}")

    def tick(self) -> None:
        """See `Progress`."""
        if self._live:
            now = time.monotonic()
            text = (
                f"  [{self._position()}] {self._name}: {now - self._since:.0f} s, {self._about()}; "
                f"{_span(now - self._begun)} in all"
            )
            self._stream.write(f"\r\x1b[K{text}")
            self._stream.flush()

    def finish(self, name: str, seconds: float) -> None:
        """See `Progress`."""
        position = self._position()
        self._done += 1
        self._line(f"  [{position}] {name}: done in {seconds:.0f} s")

    def note(self, text: str) -> None:
        """See `Progress`."""
        self._line(text)

    def _position(self) -> str:
        return f"{self._done + 1} of {len(self._tools)}"

    def _about(self) -> str:
        return f"about {self._tools.get(self._name, 0)} s on 2 cores"

    def _line(self, text: str) -> None:
        self._stream.write(("\r\x1b[K" if self._live else "") + text + "\n")
        self._stream.flush()


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
