"""Strata: nodes that are alike in what content may break on.

Content that loads into a kernel, or a new agent that a runtime starts, harms nodes of one kind and
spares the others: the outage of July 2024 hit one operating system only. So each kind is tried on
one node before many of it get the content.
"""

import functools
import hashlib
from collections.abc import Iterable
from typing import NamedTuple

from wavegate.evidence import LedgerNode, NodeView


class Stratum(NamedTuple):
    """What nodes alike have in common, in the words of `status.nodeInfo`. Versions are whole: a
    patch of a kernel is another kernel.
    """

    os: str
    arch: str
    kernel: str
    os_image: str
    runtime: str

    def __str__(self) -> str:
        """For people: what it says of itself, without what it does not say."""
        return ", ".join(part for part in self if part) or "unknown"


def stratum_of(node: NodeView) -> Stratum:
    """The stratum of a node. Those that report nothing are one of their own."""
    return Stratum(node.os, node.arch, node.kernel, node.os_image, node.runtime)


def strata(nodes: Iterable[NodeView]) -> frozenset[Stratum]:
    """All strata of these nodes."""
    return frozenset(map(stratum_of, nodes))


@functools.lru_cache(maxsize=4096)
def _code(stratum: Stratum) -> str:
    return hashlib.sha256("/".join(stratum).encode()).hexdigest()[:8]


def code_of(node: NodeView) -> str:
    """The node's stratum as a short hash, as ledgers keep it."""
    return _code(stratum_of(node))


def code_then(entry: LedgerNode, node: NodeView | None) -> str:
    """The same, of a node when its wave opened. A ledger of an older version does not say it."""
    return entry.stratum or (code_of(node) if node is not None else "")
