"""Evidence: from what was observed to findings and a verdict. Pure; silence is never success."""

from wavegate.evidence.agents import judge_agent, standing
from wavegate.evidence.background import is_beyond_chance, most_by_chance
from wavegate.evidence.control import is_cluster_wide, smallest_effect
from wavegate.evidence.corroboration import SOON_SECONDS, is_corroborated, most_soon
from wavegate.evidence.findings import Finding, Verdict, worst
from wavegate.evidence.gates import Gate
from wavegate.evidence.loaded import (
    LoadedProof,
    is_loaded,
    judge_answer,
    judge_loaded,
    said_by_metric,
    said_by_pods,
)
from wavegate.evidence.nodes import (
    LEASE_STALE_SECONDS,
    announcement,
    bad_conditions,
    is_leaving,
    judge_node,
    left_as_announced,
)
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
    NEW_INTERVALS,
    NEW_SECONDS,
    assess_check,
    judge_check,
    lost_nodes,
    median_of,
    outside_limits,
    reported_node,
    silent_nodes,
)
from wavegate.evidence.selected import (
    agents_since,
    agents_then,
    is_well,
    is_well_again,
    judge_selected,
)

__all__ = [
    "EVERY_NODE",
    "LEASE_STALE_SECONDS",
    "LEAST_CONTROL",
    "NEW_INTERVALS",
    "NEW_SECONDS",
    "SOON_SECONDS",
    "CheckResult",
    "CheckSpec",
    "Finding",
    "Gate",
    "Ledger",
    "LedgerNode",
    "LoadedProof",
    "NodeView",
    "PodView",
    "Sample",
    "Side",
    "Taint",
    "Verdict",
    "agents_since",
    "agents_then",
    "announcement",
    "assess_check",
    "bad_conditions",
    "is_beyond_chance",
    "is_cluster_wide",
    "is_corroborated",
    "is_leaving",
    "is_loaded",
    "is_well",
    "is_well_again",
    "judge_agent",
    "judge_answer",
    "judge_check",
    "judge_loaded",
    "judge_node",
    "judge_selected",
    "left_as_announced",
    "lost_nodes",
    "median_of",
    "most_by_chance",
    "most_soon",
    "outside_limits",
    "reported_node",
    "said_by_metric",
    "said_by_pods",
    "silent_nodes",
    "smallest_effect",
    "standing",
    "worst",
]
