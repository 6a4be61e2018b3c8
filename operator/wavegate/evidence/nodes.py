"""The node itself: is it there, the same machine, not rebooted, Ready, and heard from?"""

from collections.abc import Iterable, Iterator, Mapping

from wavegate.api import GateKind, Reason
from wavegate.evidence.findings import Finding, Verdict
from wavegate.evidence.observation import LedgerNode, NodeView, Taint

LEASE_STALE_SECONDS = 25.0
"""A kubelet renews its lease every 10 s (a quarter of its 40 s). Two renewals missed is a brake,
long before the node controller says NotReady (50 s by default)."""

LEAVING_TAINTS = frozenset(
    {
        "ToBeDeletedByClusterAutoscaler",
        "karpenter.sh/disrupted",
        "medik8s.io/drain",
    }
)
"""What autoscalers and medik8s' node maintenance put on a node that they are about to drain. Others
cordon it. No announcements are DeletionCandidateOfClusterAutoscaler, as most candidates stay, and
kured's annotation `weave.works/kured-reboot-in-progress`: a node has it from when a reboot is due,
which may wait for a lock, a window or an alert for days. kured cordons what it does reboot."""
REPAIR_TAINTS = frozenset(
    {
        "medik8s.io/remediation",
        "medik8s.io/fence-agents-remediation",
        "node.kubernetes.io/out-of-service",
        "karpenter.sh/rebooting",
    }
)
"""Who repairs a node says with these that it is ill: that excuses nothing, though it is cordoned
for it as well. Karpenter's is only proposed so far."""
REPAIR_PREFIX = "remediation.medik8s.io/"
"""Of the taints of medik8s' remediators, by name, since 2026."""


OWN_CONDITIONS = frozenset(
    {"Ready", "MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable"}
)
"""Kubernetes' own. Ready is looked at by itself; the others come and go with what runs there."""


def bad_conditions(conditions: Mapping[str, str]) -> frozenset[str]:
    """Those of a node (status by type) that tell of a problem. Node Problem Detector says True of
    what is wrong, as KernelDeadlock; who calls a condition …Ready means the opposite. Unknown is
    neither.
    """
    return frozenset(
        kind
        for kind, status in conditions.items()
        if kind not in OWN_CONDITIONS and status == ("False" if kind.endswith("Ready") else "True")
    )


def is_leaving(taints: Iterable[Taint], *, unschedulable: bool) -> bool:
    """Whether a node's drain, removal or reboot is announced, other than to repair it."""
    keys = {taint.key for taint in taints}
    if keys & REPAIR_TAINTS or any(key.startswith(REPAIR_PREFIX) for key in keys):
        return False
    return unschedulable or bool(keys & LEAVING_TAINTS)


def announcement(before: str, boot_id: str, *, leaving: bool, ready: bool) -> str:
    """The boot on which a node was when its leaving was announced while it was Ready; empty when it
    was not. It lasts while the node is down, and ends when it is Ready and stays.
    """
    if not ready:
        return before
    return (before or boot_id) if leaving else ""


def left_as_announced(before: NodeView | None, boot_id: str, *, leaving: bool) -> str:
    """`NodeView.left` of a machine that was `before` so, and is on this boot. The cordon must be
    there after the reboot too, or the node was down already when it was seen last: one that was
    taken back meanwhile may have been so before the machine died.
    """
    if before is None:
        return ""
    if boot_id == before.boot_id:
        return before.left
    announced = before.announced == before.boot_id and (leaving or not before.ready)
    return before.boot_id if announced else ""


def judge_node(
    baseline: LedgerNode,
    node: NodeView | None,
    lease_seen: float | None,
    now: float,
    *,
    overdue: bool,
) -> Iterator[Finding]:
    """Compare a moved node with its baseline in the ledger.

    `lease_seen`: our last sight of a renewal, None when we never saw one, as after a restart of
    the operator. `overdue`: the node's progress deadline has passed, so silence is a Hold.
    """
    name = baseline.name
    if node is None:
        yield _harm(Reason.NodeVanished, name, f"node {name} vanished after it got the content")
        return
    if node.uid != baseline.uid:
        yield _harm(Reason.NodeReplaced, name, f"node {name} was replaced by another machine")
        return
    if node.boot_id != baseline.boot_id:
        yield _harm(Reason.NodeRebooted, name, f"node {name} rebooted after it got the content")
    if not node.ready:
        yield _harm(Reason.NodeNotReady, name, f"node {name} is not Ready any more")
    new = sorted(node.bad.difference(baseline.bad)) if node.bad else ()
    if new:
        message = f"node {name} has condition {', '.join(new)[:200]} since it got the content"
        yield _harm(Reason.NodeCondition, name, message)
    # No age in the messages: a status that ticks would be written every second.
    silent = Verdict.HOLD if overdue else Verdict.WAIT
    if lease_seen is None:
        message = f"node {name} was not heard from yet"
        yield Finding(silent, Reason.NotHeardFrom, message, name, gate=GateKind.Nodes)
    elif now - lease_seen > LEASE_STALE_SECONDS:
        message = f"node {name} stopped renewing its lease"
        yield Finding(silent, Reason.LeaseStale, message, name, gate=GateKind.Nodes)


def _harm(reason: Reason, node: str, message: str) -> Finding:
    return Finding(Verdict.FAIL, reason, message, node, blocks=True, gate=GateKind.Nodes)
