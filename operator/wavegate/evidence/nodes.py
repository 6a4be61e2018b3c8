"""The node itself: is it there, the same machine, not rebooted, Ready, and heard from?"""

from collections.abc import Iterable, Iterator

from wavegate.api import GateKind, Reason
from wavegate.evidence.findings import Finding, Verdict
from wavegate.evidence.observation import LedgerNode, NodeView, Taint

LEASE_STALE_SECONDS = 25.0
"""A kubelet renews its lease every 10 s (a quarter of its 40 s). Two renewals missed is a brake,
long before the node controller says NotReady (50 s by default)."""

LEAVING_TAINTS = frozenset({"ToBeDeletedByClusterAutoscaler", "karpenter.sh/disrupted"})
"""What the two autoscalers put on a node that they are about to drain and remove."""


def is_leaving(taints: Iterable[Taint], *, unschedulable: bool) -> bool:
    """Whether a node's drain or removal is announced: it is cordoned, or an autoscaler said so."""
    return unschedulable or any(taint.key in LEAVING_TAINTS for taint in taints)


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
