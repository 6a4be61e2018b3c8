"""Marks of excused nodes: what each was when its drain, removal or reboot was excused.

A node is excused when somebody announced it (a cordon, or the mark of an autoscaler or of a
maintenance tool) while it was Ready, on the machine and boot that its baseline knows. What it is
then is its new baseline: another reboot, loss or crash loop counts again. A rollout and a bake
share these rules.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import replace

from wavegate.api import GateKind, Reason
from wavegate.evidence import (
    LEASE_STALE_SECONDS,
    Finding,
    LedgerNode,
    NodeView,
    PodView,
    Verdict,
)
from wavegate.rollout.observation import Observation

Marks = Mapping[str, str]
"""By name: a short hash of machine and boot, or NOT_WATCHED."""
NOT_WATCHED = ""
"""The mark of a node that is gone."""
REBOOT_SECONDS = 30.0
"""A kubelet that boots tells of its pods and of its node by requests of their own, and of the node
every 10 s: by then the new bootID is there, or the machine did not reboot."""
EXCUSABLE = frozenset(
    {
        Reason.NodeNotReady,
        Reason.NodeRebooted,
        Reason.NodeVanished,
        Reason.NodeReplaced,
        Reason.Unschedulable,
    }
)
"""What a drain, a removal or a reboot looks like. An agent that crashes on a cordoned node is none
of these: daemon pods run on there."""


def excuse(obs: Observation, marks: Marks, entry: LedgerNode, finding: Finding) -> str | None:
    """What the node is to be known by from now on, if the announcement explains this harm; None
    when it does not. `entry` is the node's baseline by now.
    """
    mark = left_as_announced(obs, marks, entry)
    if mark is None or finding.reason in EXCUSABLE:
        return mark
    node = obs.nodes.get(entry.name)
    went = node is None or not node.ready or (node.uid, node.boot_id) != (entry.uid, entry.boot_id)
    return mark if went else None  # its agent was restarted with it


def left_as_announced(obs: Observation, marks: Marks, entry: LedgerNode) -> str | None:
    """The node's mark, if its drain or removal was announced in time."""
    node, before = obs.nodes.get(entry.name), obs.gone.get(entry.name)
    known = entry.name in marks
    same = node if node is not None and node.uid == entry.uid else None
    if same and (_announced(obs, same, entry, known=known) or _is_back(obs, marks, same, entry)):
        return machine(same)
    if before is None or (node is not None and node.uid == before.uid):
        return NOT_WATCHED if node is None and known else None
    was_it = before.uid == entry.uid or known
    return NOT_WATCHED if was_it and _announced(obs, before, entry, known=known) else None


def _announced(obs: Observation, node: NodeView, entry: LedgerNode, *, known: bool) -> bool:
    """Whether it was announced on the boot of the baseline, while its lease was renewed and without
    a bad condition that is new: a cordon that came with or after harm explains nothing. Of a node
    that is excused already, any announcement will do. Leases are not watched during a bake.
    """
    if known or not node.announced:
        return bool(node.announced)
    return node.announced == entry.boot_id and _was_well(obs, node, entry)


def _is_back(obs: Observation, marks: Marks, node: NodeView, entry: LedgerNode) -> bool:
    """Whether this boot is the announced one: out of the boot of the baseline, or of that which the
    node is marked with. Whoever announced it may have let the node back since.
    """
    if not node.left:
        return False
    mark = marks.get(entry.name)
    if mark is not None:
        return machine(replace(node, boot_id=node.left)) == mark
    return node.left == entry.boot_id and _was_well(obs, node, entry)


def _was_well(obs: Observation, node: NodeView, entry: LedgerNode) -> bool:
    heard = obs.leases.get(node.name, node.announced_at)
    return node.announced_at - heard <= LEASE_STALE_SECONDS and node.bad <= {*entry.bad}


def or_reboot(
    obs: Observation, entry: LedgerNode, pod: PodView | None, finding: Finding, now: float
) -> Finding:
    """The finding. Of an agent that restarted where a reboot is announced: for REBOOT_SECONDS, that
    the bootID is awaited. That stops moves and passes nothing, and if the machine did not boot, it
    is harm then. A crash loop, or running out of memory, is so at once.
    """
    node, at = obs.nodes.get(entry.name), pod.restarted_at if pod else None
    if finding.reason is not Reason.AgentRestarted or node is None or pod is None or at is None:
        return finding
    same = (node.uid, node.boot_id) == (entry.uid, entry.boot_id)
    over = pod.waiting or now - at > REBOOT_SECONDS
    if over or not same or not _announced(obs, node, entry, known=False):
        return finding
    message = (
        f"the agent on node {entry.name} restarted, whose drain or reboot was announced; for "
        f"{REBOOT_SECONDS:.0f} s its bootID is awaited, which tells if it was the machine"
    )
    return Finding(Verdict.WAIT, Reason.RebootAwaited, message, entry.name, gate=GateKind.Agents)


def anew(name: str, node: NodeView | None, mark: str) -> LedgerNode:
    """The baseline of an excused node: what it was when it was excused."""
    if node is None:
        return LedgerNode(name, "", "", healthy=True)
    same = machine(node) == mark
    boot_id = node.boot_id if same else ""
    return LedgerNode(name, node.uid, boot_id, healthy=True, bad=tuple(node.bad))


def machine(node: NodeView) -> str:
    """A mark: this machine, on this boot."""
    return hashlib.sha256(f"{node.uid}/{node.boot_id}".encode()).hexdigest()[:8]


def softened(pods: tuple[PodView, ...], marks: Marks) -> tuple[PodView, ...]:
    """The agent of an excused node was restarted with its node, and took its time: only a crash
    loop still counts.
    """
    if not marks:
        return pods
    return tuple(
        replace(pod, restarts=0, unready_since=None) if pod.node in marks else pod for pod in pods
    )


def is_away(obs: Observation, marks: Marks, name: str, *, has_agent: bool) -> bool:
    """Whether an excused node is not there to be judged: gone, down, or drained of its agent."""
    node = obs.nodes.get(name)
    if marks[name] == NOT_WATCHED or node is None or not node.ready:
        return True
    return bool(node.announced) and not has_agent
