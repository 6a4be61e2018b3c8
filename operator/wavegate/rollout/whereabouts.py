"""Where the nodes of the ledgers stand: with the attempt's label, without it, or gone."""

from collections.abc import Mapping
from dataclasses import dataclass

from wavegate.evidence import LedgerNode, NodeView
from wavegate.rollout.observation import Observation
from wavegate.rollout.record import Rollout
from wavegate.rollout.waves import baseline_of

Pair = tuple[LedgerNode, NodeView]
"""A node as it was when its wave opened, and as it is."""


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Each list is in the order of the ledgers."""

    carrying: tuple[Pair, ...]
    """They have the label, whatever machine they are by now."""
    lacking: tuple[Pair, ...]
    """They are the machines that they were, without the label."""
    missing: tuple[LedgerNode, ...]
    """No such machine is there, though another one may be, under its name."""


def whereabouts(obs: Observation, rollout: Rollout) -> Whereabouts:
    """Sort the nodes of all ledgers of the running attempt."""
    return obs.kept.of(_sorted, baseline_of(obs), obs.nodes, rollout.attempt, obs.key)


def _sorted(
    baseline: Mapping[str, LedgerNode], nodes: Mapping[str, NodeView], attempt: str, key: str
) -> Whereabouts:
    carrying, lacking, missing = [], [], []
    for name, entry in baseline.items():
        node = nodes.get(name)
        if node is None or node.uid != entry.uid:
            missing.append(entry)
        side = node.sides.get(key) if node is not None else None
        if node is not None and side is not None and side.attempt == attempt:
            carrying.append((entry, node))
        elif node is not None and node.uid == entry.uid:
            lacking.append((entry, node))
    return Whereabouts(tuple(carrying), tuple(lacking), tuple(missing))
