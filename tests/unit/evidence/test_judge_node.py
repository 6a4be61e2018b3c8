"""A moved node against its ledger: gone, replaced, rebooted, NotReady, silent."""

from dataclasses import replace

import pytest

from wavegate.evidence import LEASE_STALE_SECONDS, LedgerNode, NodeView, judge_node

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


def test_messages_have_no_age_that_would_tick():
    older, old = (
        [f.message for f in judge_node(BASE, NODE, seen, NOW, overdue=False)] for seen in (1.0, 2.0)
    )
    assert older == old
