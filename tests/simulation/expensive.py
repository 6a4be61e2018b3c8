"""The expensive nodes come last (3): by the default plan no node waits for one that is dearer.

The guard keeps since when each node could have been taken without a break. Whoever could not for a
moment, joined, or was put into another pool since the rollout began is swept at its end, and says
nothing here.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from simulation.apiserver import Change
from simulation.bodies import ledger_in
from simulation.clock import START
from simulation.cluster import Simulation
from simulation.kinds import view
from wavegate.api import Phase
from wavegate.evidence import NodeView
from wavegate.rollout.attempt import Plan, Rollout
from wavegate.rollout.waves import MAX_AGAIN

if TYPE_CHECKING:
    from simulation.invariants import Guard

WARNINGS = ("PreferNoSchedule", "")
"""Effects of taints that keep no agent away."""


@dataclass(slots=True)
class Takeable:
    """By UID: since when a node is what it is, and could be taken."""

    since: dict[str, tuple[object, float]] = field(default_factory=dict)

    def note(self, sim: Simulation, change: Change) -> None:
        """A node changed."""
        if change.plural != "nodes" or change.after is None:
            return
        node = view(change.after)
        looks = _looks(node)
        if self.since.get(node.uid, (None, 0.0))[0] != looks:
            self.since[node.uid] = looks, sim.now

    def was(self, node: NodeView, when: float) -> bool:
        """Whether it could be taken then, and at any time since."""
        looks, since = self.since.get(node.uid, (None, 0.0))
        return looks is not None and since <= when


def _looks(node: NodeView) -> object:
    """What it is; None for one that can't be taken, or not everywhere."""
    tainted = any(taint.effect not in WARNINGS for taint in node.taints)
    if not node.ready or node.unschedulable or node.announced or tainted:
        return None
    return node.labels.get("pool", ""), node.control_plane


def nobody_waits_for_expensive_nodes(
    guard: "Guard", sim: Simulation, change: Change
) -> Iterator[str]:
    """3: in the default plan no ledger has a node of a critical pool, or of the control plane, as
    long as a cheaper one is left that was there, and could be moved, since the rollout began.
    """
    ledger, rollout = ledger_in(change), guard.rollout
    if ledger is None or rollout is None or rollout.phase is not Phase.Rolling:
        return
    if ledger.attempt != rollout.attempt or guard.books.hands.travelled:
        return
    if not rollout.plan.waves[0].staged or not change.actor.startswith("operator"):
        return
    if any(rollout.plan.times_again(n) >= MAX_AGAIN for n in range(len(rollout.plan.waves))):
        return
    names = {entry.name for entry in ledger.nodes}
    nodes = guard.nodes(sim)
    stages = [_stage(rollout.plan, node) for node in nodes if node.name in names]
    highest = max(stages, default=0)
    if not highest:
        return
    guard.counted[3] += 1
    cheaper = (node for node in nodes if _stage(rollout.plan, node) < highest)
    for node in cheaper:
        if node.name not in names and _is_left(guard, rollout, node):
            yield f"{node.name} waits for a ledger of more expensive nodes ({sorted(names)})"


def _is_left(guard: Any, rollout: Rollout, node: NodeView) -> bool:
    """Whether nothing was done with a node that was there from the beginning. A person's label
    makes it a node of a sweep, and so does harm.
    """
    attempt, books = rollout.attempt, guard.books
    known = books.on_side[attempt] | books.healthy[attempt] | rollout.excused.keys()
    known |= {suspect.node for suspect in rollout.suspects} | books.hands.labelled.keys()
    began = rollout.started_at - START
    return node.name not in known and books.takeable.was(node, began)


def _stage(plan: Plan, node: NodeView) -> int:
    """0 ordinary, 1 critical, 2 control plane. Pools are named as their nodes' label says."""
    critical = {pool.name for pool in plan.pools if pool.critical}
    return 2 if node.control_plane else int(node.labels.get("pool", "") in critical)
