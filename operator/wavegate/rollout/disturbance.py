"""Is it the cluster? Harm that nodes without the content show as well holds a wave, and fails none.

Compared are lost nodes (NotReady, rebooted, gone) and agents that are not Ready, ours and those
that agentSelector selects: what an agent talks to may be gone for all of them. Whatever the control
shows, these are the content's: a crash of the agent, and nodes that are lost soon after they got
it, more than chance explains.
"""

from collections.abc import Collection

from wavegate.api import GateKind, Reason
from wavegate.evidence import (
    SOON_SECONDS,
    Finding,
    NodeView,
    Verdict,
    is_cluster_wide,
    most_soon,
)
from wavegate.rollout.attempt import Rollout, Suspect
from wavegate.rollout.control import control_group
from wavegate.rollout.judge import judged_nodes
from wavegate.rollout.observation import FIRST_LOOK_SECONDS, Observation

LOST = frozenset(
    {Reason.NodeNotReady, Reason.NodeRebooted, Reason.NodeVanished, Reason.NodeReplaced}
)
UNREADY = frozenset({Reason.AgentNotReady})
TOGETHER_SECONDS = 5.0
"""The node controller looks at the nodes so often (source), so an order within it is luck."""


def find(obs: Observation, rollout: Rollout, harmed: Collection[Suspect]) -> Finding | None:
    """The Hold, if the `harmed` nodes came to it with the cluster; None if they did not."""
    kind = next((kind for kind in (LOST, UNREADY) if {s.reason for s in harmed} <= kind), None)
    if kind is None or not harmed or obs.blind:
        return None
    loaded = sum(wave.moved for wave in rollout.waves)
    if kind is LOST and sum(suspect.soon for suspect in harmed) > most_soon(loaded):
        return None
    names = {suspect.node for suspect in harmed}
    began = min(_began(obs, suspect, kind) for suspect in harmed)
    control = control_group(obs, rollout)
    opened = max((wave.opened_at for wave in rollout.waves), default=0.0)
    since = max(opened, began - SOON_SECONDS)
    hit = [n for n in control if since <= _hit_at(obs, n, kind) <= began + TOGETHER_SECONDS]
    compared = sum(1 for node in control if node.ready or node in hit)
    wave = judged_nodes(obs, rollout) | names
    if not is_cluster_wide(len(names), len(wave), len(hit), compared):
        return None
    message = (
        f"{len(names)} of {len(wave)} nodes that have it and {len(hit)} of {compared} that do not "
        f"came to the same harm ({', '.join(sorted(names)[:3])}; {', '.join(_first(hit))})"
    )
    gate = GateKind.Nodes if kind is LOST else GateKind.Agents
    return Finding(Verdict.HOLD, Reason.ClusterWideDisturbance, message, gate=gate)


def is_over(obs: Observation, rollout: Rollout, harmed: Collection[Suspect]) -> bool:
    """Whether nodes and agents of both groups are well again, as far as they are there."""
    control, names = control_group(obs, rollout), {suspect.node for suspect in harmed}
    nodes = [*control, *(obs.nodes[name] for name in names if name in obs.nodes)]
    if any(suspect.reason in UNREADY for suspect in harmed):
        ready = {pod.node for pod in obs.pods if pod.ready and not pod.terminating}
        ready -= obs.once(_unready).keys()
        return all(node.name in ready for node in nodes if node.ready)
    return all(node.ready for node in nodes if node.lost_at is not None)


def _hit_at(obs: Observation, node: NodeView, kind: frozenset[Reason]) -> float:
    """Since when a control node has this kind of harm; before all time if it has not."""
    if kind is LOST:
        return node.lost_at if node.lost_at is not None else float("-inf")
    at = obs.once(_unready).get(node.name, float("-inf"))
    # What is not Ready at an operator's first look may be so for days.
    return at if at - obs.watching_since >= FIRST_LOOK_SECONDS else float("-inf")


def _began(obs: Observation, suspect: Suspect, kind: frozenset[Reason]) -> float:
    """When the harm of a node that has the candidate was first seen."""
    if kind is UNREADY:
        return min(suspect.at, obs.once(_unready).get(suspect.node, suspect.at))
    node = obs.nodes.get(suspect.node) or obs.gone.get(suspect.node)
    return min(suspect.at, node.lost_at if node and node.lost_at is not None else suspect.at)


def _unready(obs: Observation) -> dict[str, float]:
    """Since when an agent on a node is not Ready, by node."""
    pods = (*obs.pods, *(p for p in obs.agents.pods if p.phase != "Succeeded"))  # no done Jobs
    lacking = (p for p in pods if p.node and not p.terminating and p.unready_since is not None)
    return {pod.node: pod.unready_since for pod in lacking if pod.node and pod.unready_since}


def _first(nodes: list[NodeView]) -> list[str]:
    return sorted(node.name for node in nodes)[:3]
