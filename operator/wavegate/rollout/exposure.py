"""The exposure rule: how many nodes may be between two agents at once.

A moved node keeps its slot until it is settled: agent Ready for `settle`, and the node heard from
after that. Nodes in flight never exceed min(maxUnavailable, max(1, nodes settled)): 1, 1, 2, 4, 8…
A node that just died still looks Ready for 50 s, so being heard from is what counts. A suspect that
goes back to stable keeps its slot too, for a while.
"""

from dataclasses import dataclass

from wavegate.evidence import LEASE_STALE_SECONDS, LedgerNode, NodeView, PodView
from wavegate.rollout import suspects
from wavegate.rollout.movable import fleet, not_movable
from wavegate.rollout.observation import Observation
from wavegate.rollout.record import Rollout
from wavegate.rollout.waves import baseline_of

MAX_NOT_RUNNING = 20
"""Nodes whose candidate pod does not run yet: for these a fence may come too late, because a sync
of the DaemonSet controller that is already running does not see it."""


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
    nodes, all_nodes, key = baseline_of(obs), fleet(obs, rollout), obs.key
    movable = all_nodes.keys() - not_movable(obs, rollout).keys()
    current = obs.ledgers.get(rollout.waves[-1].ledger) if rollout.waves else None
    labelled = rollout.waves[-1].labelled if rollout.waves else 0
    own = {entry.name for entry in current.nodes[labelled:]} if current else set()
    settled, not_running, unmoved = [], [], []
    running = {pod.node: pod for pod in obs.pods_of(rollout.attempt) if not pod.terminating}
    aside = suspects.aside(obs, rollout)
    in_flight = list(suspects.returning(obs, rollout, now))
    for name, entry in nodes.items():
        node = obs.nodes.get(name)
        if name in aside:
            continue
        if node is None or node.attempt(key) != rollout.attempt:
            if node and name in own and name in movable and _unchanged(node, entry):
                unmoved.append(node)
            continue
        pod = running.get(name)
        if entry.healthy and (pod is None or pod.phase != "Running"):
            not_running.append(name)
        if _well_for(entry, node, pod, obs.leases.get(name), now) >= rollout.plan.settle:
            settled.append(name)
        elif entry.healthy:
            in_flight.append(name)
    total = max(1, len(all_nodes))
    limit = min(rollout.plan.max_unavailable.resolve(total), max(1, len(settled)))
    return Exposure(tuple(settled), tuple(in_flight), tuple(not_running), tuple(unmoved), limit)


def _unchanged(node: NodeView, entry: LedgerNode) -> bool:
    """A node that changed between ledger and move is left for a sweep: it would be misjudged."""
    if node.uid != entry.uid or node.boot_id != entry.boot_id:
        return False
    return node.ready or not entry.healthy


def _well_for(
    entry: LedgerNode, node: NodeView, pod: PodView | None, lease_seen: float | None, now: float
) -> float:
    """For how many seconds the node was heard from since its agent is Ready; -1 when it is not
    well now.
    """
    if not node.ready or node.boot_id != entry.boot_id or node.uid != entry.uid:
        return -1.0
    if pod is None or pod.ready_since is None or lease_seen is None:
        return -1.0
    return lease_seen - pod.ready_since if now - lease_seen <= LEASE_STALE_SECONDS else -1.0
