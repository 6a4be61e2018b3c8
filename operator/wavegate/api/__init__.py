"""The API `wavegate.dev/v1alpha1`: three kinds, their values, and the one list of reasons.

`crds/` is the contract that the apiserver enforces; these models mirror it, and a test compares
the two. Nothing here does I/O, and nothing here imports the rest of Wavegate.
"""

from wavegate.api.channel import (
    DEFAULT_WAVES,
    Agent,
    Breaker,
    Channel,
    ChannelSpec,
    Check,
    CheckScope,
    Content,
    ContentKind,
    CriticalWorkload,
    DrillMode,
    HostState,
    OnFailure,
    Pool,
    PrefetchMode,
    PresetName,
    Prometheus,
    Rollout,
    Wave,
)
from wavegate.api.decision import DEFAULT_PAUSE, Decision, DecisionAction, DecisionSpec
from wavegate.api.reasons import Reason
from wavegate.api.release import MAX_LAYERS, Release, ReleaseContent, ReleaseSpec
from wavegate.api.resource import API_VERSION, GROUP, VERSION, ObjectMeta, Resource
from wavegate.api.severity import Severity
from wavegate.api.states import DecisionPhase, GateKind, Phase, WaitingFor, WaveState
from wavegate.api.values import (
    Condition,
    ConditionStatus,
    Duration,
    IntOrPercent,
    LabelSelector,
    ObjectName,
    Operator,
    Requirement,
)

PLURALS = {kind.kind: kind.plural for kind in (Channel, Release, Decision)}
"""Plural (as in URLs) by kind."""

__all__ = [
    "API_VERSION",
    "DEFAULT_PAUSE",
    "DEFAULT_WAVES",
    "GROUP",
    "MAX_LAYERS",
    "PLURALS",
    "VERSION",
    "Agent",
    "Breaker",
    "Channel",
    "ChannelSpec",
    "Check",
    "CheckScope",
    "Condition",
    "ConditionStatus",
    "Content",
    "ContentKind",
    "CriticalWorkload",
    "Decision",
    "DecisionAction",
    "DecisionPhase",
    "DecisionSpec",
    "DrillMode",
    "Duration",
    "GateKind",
    "HostState",
    "IntOrPercent",
    "LabelSelector",
    "ObjectMeta",
    "ObjectName",
    "OnFailure",
    "Operator",
    "Phase",
    "Pool",
    "PrefetchMode",
    "PresetName",
    "Prometheus",
    "Reason",
    "Release",
    "ReleaseContent",
    "ReleaseSpec",
    "Requirement",
    "Resource",
    "Rollout",
    "Severity",
    "WaitingFor",
    "Wave",
    "WaveState",
]
