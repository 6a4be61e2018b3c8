"""Bounded memory: what is remembered of the past must not grow with the age of the process."""

from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


def remember(memory: dict[K, V], key: K, value: V, most: int) -> None:
    """Put `value` in as the newest; forget the oldest when there are more than `most`."""
    memory.pop(key, None)
    memory[key] = value
    if len(memory) > most:
        memory.pop(next(iter(memory)))
