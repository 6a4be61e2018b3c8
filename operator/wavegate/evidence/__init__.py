"""Evidence: from what was observed to findings and a verdict. Pure; silence is never success."""

from wavegate.evidence.agents import judge_agent, standing
from wavegate.evidence.background import is_beyond_chance, most_by_chance
from wavegate.evidence.findings import Finding, Verdict, worst
from wavegate.evidence.gates import Gate
from wavegate.evidence.nodes import LEASE_STALE_SECONDS, is_leaving, judge_node
from wavegate.evidence.observation import (
    EVERY_NODE,
    CheckResult,
    CheckSpec,
    Ledger,
    LedgerNode,
    NodeView,
    PodView,
    Sample,
    Side,
    Taint,
)
from wavegate.evidence.promql import (
    LEAST_CONTROL,
    assess_check,
    judge_check,
    lost_nodes,
    outside_limits,
    reported_node,
    silent_nodes,
)

__all__ = [
    "EVERY_NODE",
    "LEASE_STALE_SECONDS",
    "LEAST_CONTROL",
    "CheckResult",
    "CheckSpec",
    "Finding",
    "Gate",
    "Ledger",
    "LedgerNode",
    "NodeView",
    "PodView",
    "Sample",
    "Side",
    "Taint",
    "Verdict",
    "assess_check",
    "is_beyond_chance",
    "is_leaving",
    "judge_agent",
    "judge_check",
    "judge_node",
    "lost_nodes",
    "most_by_chance",
    "outside_limits",
    "reported_node",
    "silent_nodes",
    "standing",
    "worst",
]
