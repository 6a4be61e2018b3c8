"""A simulated cluster whose every pass is held against the invariants of the design."""

from collections.abc import Callable
from typing import Any

import pytest

from support.builders import make_channel
from support.fake_apiserver import client, objects, server
from support.invariants import Invariants, with_stable
from support.world import SimCluster

__all__ = ["client", "objects", "server"]


@pytest.fixture
def make_sim() -> Callable[..., SimCluster]:
    """Build a cluster of one canary and some workers; keywords replace fields of the channel."""

    def make(canaries: int = 1, workers: int = 4, **spec: Any) -> SimCluster:
        sim = SimCluster(channel=make_channel(**spec))
        sim.add_nodes("canary", canaries)
        sim.add_nodes("workers", workers)
        sim.watchers.append(Invariants())
        return sim

    return make


@pytest.fixture
def sim(make_sim: Callable[..., SimCluster]) -> SimCluster:
    """One canary and four workers on stable content `a`."""
    return with_stable(make_sim())
