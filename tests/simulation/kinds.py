"""What must hold of kinds of machines: strata (3), and nodes of the control plane (their turn).

The guard asks the machines themselves, and keeps for each attempt the strata of which a node was
seen to soak.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from simulation.apiserver import Body, Change
from simulation.bodies import ledger_in, record_in, side
from simulation.cluster import Simulation
from wavegate.api import WaveState
from wavegate.cluster.projections import node_view
from wavegate.evidence import NodeView
from wavegate.rollout.attempt import Rollout
from wavegate.rollout.strata import Stratum, stratum_of

if TYPE_CHECKING:
    from simulation.invariants import Guard


@dataclass(slots=True)
class Kinds:
    """By attempt: the strata that are proven."""

    soaked: dict[str, set[Stratum]] = field(default_factory=lambda: defaultdict(set))

    def note(self, guard: "Guard", sim: Simulation, change: Change) -> None:
        """A wave that passes proves the strata of the healthy nodes that have the content."""
        record = record_in(change)
        rollout = record.rollout if record else None
        if rollout is None or not rollout.waves or rollout.waves[-1].state is not WaveState.Passed:
            return
        if not rollout.waves[-1].last:
            for node in speaking(guard, sim, rollout):
                self.soaked[rollout.attempt].add(stratum_of(node))


def speaking(guard: "Guard", sim: Simulation, rollout: Rollout) -> list[NodeView]:
    """Nodes that have the content and can speak for it: not what took the name of one of them."""
    silent = {suspect.node for suspect in rollout.suspects} | rollout.excused.keys()
    names = guard.books.on_side[rollout.attempt] & guard.books.healthy[rollout.attempt]
    known = guard.ledger_nodes(rollout.attempt)
    bodies = (sim.server.find("nodes", name) for name in sorted(names - silent))
    there = (view(body) for body in bodies if body is not None)
    return [node for node in there if node.uid == known.get(node.name, node.uid)]


def view(body: Body) -> NodeView:
    """The node as the operator projects it."""
    return node_view(body, None, 0.0)


def no_second_of_a_stratum(guard: "Guard", sim: Simulation, change: Change) -> Iterator[str]:
    """3: after the first wave a node is moved only if no other of its stratum waits to prove it."""
    rollout, after = guard.rollout, change.after
    if change.plural != "nodes" or after is None or rollout is None or rollout.wave < 1:
        return
    attempt = side(after, sim.key)
    moved = attempt == rollout.attempt and attempt != side(change.before or {}, sim.key)
    if not moved or not change.actor.startswith("operator") or guard.books.hands.travelled:
        return
    node = view(after)
    if not node.ready or stratum_of(node) in guard.books.kinds.soaked[attempt]:
        return
    guard.counted[3] += 1
    others = [n for n in speaking(guard, sim, rollout) if n.name != node.name and n.ready]
    same = [n.name for n in others if stratum_of(n) == stratum_of(node)]
    if same and node.name not in {suspect.node for suspect in rollout.suspects}:
        yield f"{node.name} is moved, and {same[0]}, of the same stratum, has not soaked yet"


def control_plane_comes_alone(guard: "Guard", sim: Simulation, change: Change) -> Iterator[str]:
    """3: a ledger with a node of the control plane has no other node."""
    ledger = ledger_in(change)
    bodies = [sim.server.find("nodes", entry.name) for entry in ledger.nodes] if ledger else []
    masters = [body for body in bodies if body is not None and view(body).control_plane]
    guard.counted[3] += bool(masters)
    if masters and len(bodies) > 1:
        name = masters[0]["metadata"]["name"]
        yield f"{name} of the control plane is in a ledger with {len(bodies) - 1} others"
