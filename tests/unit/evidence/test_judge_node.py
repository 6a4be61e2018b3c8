"""A moved node against its ledger: gone, replaced, rebooted, NotReady, silent."""

from dataclasses import replace

import pytest

from wavegate.evidence import (
    LEASE_STALE_SECONDS,
    LedgerNode,
    NodeView,
    bad_conditions,
    judge_node,
)
from wavegate.evidence.nodes import OWN_CONDITIONS

BASE = LedgerNode("n", "uid", "boot", healthy=True)
NODE = NodeView("n", "uid", "boot", ready=True)
NOW = 1000.0


def found(node, lease_seen=NOW, overdue=False):
    return [
        (finding.verdict.name, finding.reason.value, finding.blocks)
        for finding in judge_node(BASE, node, lease_seen, NOW, overdue=overdue)
    ]


def test_a_node_that_is_as_it_was_and_was_heard_from_is_no_finding():
    assert found(NODE) == []
    assert found(NODE, lease_seen=NOW - LEASE_STALE_SECONDS) == []
    assert found(replace(NODE, unschedulable=True)) == []


@pytest.mark.parametrize(
    ("node", "reasons"),
    [
        (None, ["NodeVanished"]),
        (replace(NODE, uid="other"), ["NodeReplaced"]),
        (replace(NODE, uid="other", boot_id="other", ready=False), ["NodeReplaced"]),
        (replace(NODE, boot_id="other"), ["NodeRebooted"]),
        (replace(NODE, ready=False), ["NodeNotReady"]),
        (replace(NODE, boot_id="other", ready=False), ["NodeRebooted", "NodeNotReady"]),
        (replace(NODE, bad=frozenset({"KernelDeadlock"})), ["NodeCondition"]),
    ],
)
@pytest.mark.parametrize("overdue", [False, True])
def test_what_happened_to_the_machine_fails_at_once_and_blocks(node, reasons, overdue):
    assert found(node, overdue=overdue) == [("FAIL", reason, True) for reason in reasons]


@pytest.mark.parametrize(("overdue", "verdict"), [(False, "WAIT"), (True, "HOLD")])
@pytest.mark.parametrize(
    ("lease_seen", "reason"),
    [(None, "NotHeardFrom"), (NOW - LEASE_STALE_SECONDS - 0.1, "LeaseStale")],
)
def test_silence_waits_then_holds_and_never_fails(lease_seen, reason, overdue, verdict):
    assert found(NODE, lease_seen, overdue) == [(verdict, reason, False)]


def test_a_condition_that_was_there_before_is_nobody_s_fault_and_a_new_one_is_named():
    base = replace(BASE, bad=("ReadonlyFilesystem",))
    old, both = frozenset({"ReadonlyFilesystem"}), frozenset({"ReadonlyFilesystem", "X"})
    assert not list(judge_node(base, replace(NODE, bad=old), NOW, NOW, overdue=False))
    (finding,) = judge_node(base, replace(NODE, bad=both), NOW, NOW, overdue=False)
    assert finding.message == "node n has condition X since it got the content"


@pytest.mark.parametrize(
    ("kind", "status", "bad"),
    [
        *((kind, "True", False) for kind in sorted(OWN_CONDITIONS)),
        ("Ready", "False", False),  # looked at by itself
        ("KernelDeadlock", "True", True),
        ("KernelDeadlock", "False", False),
        ("KernelDeadlock", "Unknown", False),
        ("KernelReady", "False", True),  # as EKS' monitoring agent and Karpenter call them
        ("KernelReady", "True", False),
        ("KernelReady", "Unknown", False),
    ],
)
def test_what_a_condition_says_of_a_node(kind, status, bad):
    assert bad_conditions({kind: status}) == ({kind} if bad else frozenset())


def test_messages_have_no_age_that_would_tick():
    older, old = (
        [f.message for f in judge_node(BASE, NODE, seen, NOW, overdue=False)] for seen in (1.0, 2.0)
    )
    assert older == old
