"""Where the nodes of the ledgers stand: with the attempt's label, without it, or gone."""

from collections.abc import Mapping
from dataclasses import dataclass

from wavegate.evidence import LedgerNode, NodeView
from wavegate.rollout.attempt import Rollout
from wavegate.rollout.observation import Observation
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


def had_it(obs: Observation, rollout: Rollout, entry: LedgerNode) -> bool:
    """Whether this node of a ledger, a machine that is gone, got the content. Of one that we never
    saw, the record says how far its wave was moved.
    """
    node = obs.gone.get(entry.name)
    if node is None or node.uid != entry.uid:
        return entry in obs.once(may_have_moved, rollout)
    return node.attempt(obs.key) == rollout.attempt or entry.name in obs.pods_on(rollout.attempt)


def may_have_moved(obs: Observation, rollout: Rollout) -> frozenset[LedgerNode]:
    """The first nodes of each ledger, as far as the record says that they may carry the label."""
    opened = ((obs.ledgers.get(wave.ledger), wave.moved) for wave in rollout.waves)
    return frozenset(entry for led, moved in opened if led for entry in led.nodes[:moved])


def strangers(obs: Observation, rollout: Rollout) -> frozenset[str]:
    """Names of ledger nodes that another machine has taken before they were moved, and that carry
    the label all the same: someone set it. Nothing is asked of such a machine, so nothing may wait
    for it either, till a wave takes it as what it is.
    """
    missing = whereabouts(obs, rollout).missing
    there = ((entry, obs.nodes.get(entry.name)) for entry in missing)
    return frozenset(
        entry.name
        for entry, node in there
        if node is not None
        and node.attempt(obs.key) == rollout.attempt
        and not had_it(obs, rollout, entry)
    )


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
