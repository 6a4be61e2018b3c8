"""How much a line that people read may hold."""

from collections.abc import Sequence

MAX_MESSAGE = 1_024
"""Bytes of one message, as UTF-8: a record must always fit, and people read the beginning."""
MAX_NAMED = 5
"""Most things that one line names."""


def brief(text: str, most: int = MAX_MESSAGE) -> str:
    """Return the text, or as much of its beginning as a message may hold, in bytes."""
    raw = text.encode(errors="replace")
    if len(raw) <= most:
        return text
    return raw[: most - 3].decode(errors="ignore") + "…"


def some(names: Sequence[str]) -> str:
    """The first MAX_NAMED of them in one line, and how many more there are."""
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more
