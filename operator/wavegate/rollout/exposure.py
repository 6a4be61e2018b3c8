"""The exposure rule: how many nodes may be between two agents at once.

A moved node keeps its slot until it is settled: agent Ready for `settle`, the node heard from after
that, its content reported as loaded where the channel asks for it, and selected agents as good as
they were. Nodes in flight never exceed min(maxUnavailable, max(1, nodes settled)): 1, 1, 2, 4, 8… A
node that just died still looks Ready for 50 s, so being heard from is what counts. A suspect that
goes back to stable keeps its slot too, for a while.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from wavegate.evidence import (
    LEASE_STALE_SECONDS,
    Ledger,
    LedgerNode,
    NodeView,
    PodView,
    standing,
)
from wavegate.rollout import busy, loaded, suspects
from wavegate.rollout.attempt import Rollout
from wavegate.rollout.movable import fleet, not_movable
from wavegate.rollout.observation import Observation
from wavegate.rollout.waves import baseline_of, changed_agents
from wavegate.rollout.whereabouts import Pair, Whereabouts, strangers, whereabouts

MAX_NOT_RUNNING = 20
"""Nodes whose candidate pod does not run yet: for these a fence may come too late, because a sync
of the DaemonSet controller that is already running does not see it."""

NEVER = -math.inf
Moved = tuple[str, bool, float]
"""Name, whether it was healthy before, since when its agent is Ready (endless: not all is well)."""

SHARES = 4
"""The nodes that may be moved together are moved in so many batches, not one by one."""


@dataclass(frozen=True, slots=True)
class Exposure:
    """Where the moved nodes stand. Lists are in the order of the ledgers."""

    settled: tuple[str, ...]
    in_flight: tuple[str, ...]
    not_running: tuple[str, ...]
    unmoved: tuple[NodeView, ...]
    """Nodes of the current ledger that may still be moved, in its order. One that had the label
    already, and lacks it, is not moved again."""
    limit: int
    awaited: tuple[NodeView, ...] = ()
    """Those that may be moved when another channel has done with them, and those behind them."""

    @property
    def worthwhile(self) -> int:
        """As many nodes as a batch should have, as each costs a write of the record; fewer when
        fewer are left.
        """
        share = min(self.limit, MAX_NOT_RUNNING) // SHARES
        return min(len(self.unmoved), max(1, share))

    @property
    def room(self) -> int:
        """How many more nodes may be moved now."""
        return max(
            0,
            min(self.limit - len(self.in_flight), MAX_NOT_RUNNING - len(self.not_running)),
        )


def measure(obs: Observation, rollout: Rollout, now: float) -> Exposure:
    """Measure the exposure of the running attempt over all its ledgers."""
    return obs.once(_measure, rollout, now)


def _measure(obs: Observation, rollout: Rollout, now: float) -> Exposure:
    known, total = whereabouts(obs, rollout), max(1, len(fleet(obs, rollout)))
    carrying, foreign = known.carrying, strangers(obs, rollout)
    if foreign:  # as any label that someone set: a wave takes them, and then they count
        carrying = tuple((e, node) for e, node in carrying if e.name not in foreign)
    moved, not_running = obs.kept.of(_moved, carrying, obs.pods_on(rollout.attempt))
    changed = changed_agents(obs, baseline_of(obs))
    unproven = loaded.unproven(obs, rollout, (name for name, _, _ in moved)) | changed
    # Whoever announced an excused node keeps it for as long as he likes.
    aside = suspects.aside(obs, rollout) | rollout.excused.keys()
    settled = _settled(obs, rollout, moved, now)
    if unproven or aside:
        settled = [name for name in settled if name not in unproven and name not in aside]
    in_flight = list(suspects.returning(obs, rollout, now))
    if len(settled) < len(moved):
        done = aside.union(settled)
        in_flight += [name for name, healthy, _ in moved if healthy and name not in done]
    limit = min(rollout.plan.max_unavailable.resolve(total), max(1, len(settled)))
    unmoved = _unmoved(obs, rollout, known)
    if changed:  # what happened before the move is not the content's: a sweep takes them
        unmoved = tuple(node for node in unmoved if node.name not in changed)
    if aside:
        not_running = tuple(name for name in not_running if name not in aside)
        unmoved = tuple(node for node in unmoved if node.name not in aside)
    free = busy.movable_now(obs, rollout, unmoved) if unmoved else ()
    awaited = unmoved[len(free) :]
    return Exposure(tuple(settled), tuple(in_flight), not_running, free, limit, awaited)


def _settled(obs: Observation, rollout: Rollout, moved: list[Moved], now: float) -> list[str]:
    """Those that were heard from lately, and for `settle` since their agent is Ready."""
    heard, settle, fresh = obs.leases.get, rollout.plan.settle, now - LEASE_STALE_SECONDS
    return [name for name, _, since in moved if fresh <= heard(name, NEVER) >= since + settle]


def _moved(
    carrying: tuple[Pair, ...], on_node: Mapping[str | None, tuple[PodView, ...]]
) -> tuple[list[Moved], tuple[str, ...]]:
    """The nodes that carry the label, and those whose pod does not run."""
    moved, not_running, of = [], [], on_node.get
    for entry, node in carrying:
        name, healthy, well = entry.name, entry.healthy, None
        pod = standing(of(name, ()))
        if pod is not None and node.ready and node.boot_id == entry.boot_id:
            well = pod.ready_since if node.uid == entry.uid else None
        moved.append((name, healthy, math.inf if well is None else well))
        if healthy and (pod is None or pod.phase != "Running"):
            not_running.append(name)
    return moved, tuple(not_running)


def _unmoved(obs: Observation, rollout: Rollout, known: Whereabouts) -> tuple[NodeView, ...]:
    current = obs.ledgers.get(rollout.waves[-1].ledger) if rollout.waves else None
    if current is None:
        return ()
    all_nodes, stuck = fleet(obs, rollout), not_movable(obs, rollout)
    left = obs.kept.of(_left, known.lacking, current, rollout.waves[-1].labelled, all_nodes)
    return tuple(node for node in left if node.name not in stuck) if stuck else left


def _left(
    lacking: tuple[Pair, ...], current: Ledger, labelled: int, all_nodes: Mapping[str, NodeView]
) -> tuple[NodeView, ...]:
    own = all_nodes.keys() & {entry.name for entry in current.nodes[labelled:]}
    return tuple(node for entry, node in lacking if entry.name in own and _unchanged(node, entry))


def _unchanged(node: NodeView, entry: LedgerNode) -> bool:
    """A node that changed between ledger and move is left for a sweep: it would be misjudged."""
    if node.uid != entry.uid or node.boot_id != entry.boot_id:
        return False
    return node.ready or not entry.healthy
