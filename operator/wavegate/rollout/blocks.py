"""The block list: what is put on it when content is blocked.

Content may come again in another image, so its entry also keeps what its release says of it: what
agents report that have loaded it, and its layers. No registry is read. A layer that content which
runs well has too (a base image) is not at fault, and would keep every later release out: it is left
out of the entry. Where nothing tells them apart, only all layers together are at fault.
"""

from collections.abc import Iterator
from dataclasses import replace

from wavegate.rollout.attempt import Revision
from wavegate.rollout.record import MAX_BLOCKED, MAX_BLOCKED_LAYERS, Blocked, Record

EMPTY_LAYERS = frozenset(
    {
        "sha256:a3ed95caeb02ffe68cdd9fd84406680ae93d633cb16422d00e8a7c22955b46d4",
        "sha256:4f4fb700ef54461cfa02571ae0db9a0dc1e0cdb5577484a6d75e68dc38e8acc1",
    }
)
"""Digests of a layer without files, as Docker and BuildKit pack it for an instruction that changes
none: any image may have it, and it can't do harm."""


def add(record: Record, entry: Blocked) -> Record:
    """The record with this entry on its block list, at fault for the layers that it alone has."""
    well = {layer for revision in _running_well(record, entry) for layer in revision.layers}
    layers = tuple(x for x in entry.layers if x not in well and x not in EMPTY_LAYERS)
    entry = replace(entry, layers=layers, together=not well)
    blocked = (entry, *record.blocked)[:MAX_BLOCKED]
    return replace(record, blocked=tuple(_bounded(blocked)))


def _running_well(record: Record, failed: Blocked) -> list[Revision]:
    """Stable and the last baked revision. Where neither is other content that is not blocked, what
    was stable before: nodes go back to that (see `bake.refuge`).
    """

    def is_good(revision: Revision) -> bool:
        itself = failed.is_of(revision.digest, revision.loaded)
        return not itself and record.block_of(revision.digest) is None

    kept = [r for r in (record.stable, record.last_baked) if r is not None and is_good(r)]
    return kept or [r for r in record.history if is_good(r)][:1]


def _bounded(blocked: tuple[Blocked, ...]) -> Iterator[Blocked]:
    """The list, newest first, with no more layers than a record has room for."""
    room = MAX_BLOCKED_LAYERS
    for entry in blocked:
        fits = len(entry.layers) <= room
        room -= len(entry.layers) if fits else 0
        yield entry if fits else replace(entry, layers=())
