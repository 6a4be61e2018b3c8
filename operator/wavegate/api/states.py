"""The states of a release, a wave and a decision, and the words that status says beside them.

As of a reason, a member's name is its value.
"""

from enum import StrEnum


class Phase(StrEnum):
    """Phase of a release."""

    Pending = "Pending"
    Rolling = "Rolling"
    Paused = "Paused"
    Reverting = "Reverting"
    Reverted = "Reverted"
    Completed = "Completed"
    Rejected = "Rejected"
    Superseded = "Superseded"

    @property
    def is_final(self) -> bool:
        """Whether the release will never move a node (again)."""
        return self in {Phase.Reverted, Phase.Completed, Phase.Rejected, Phase.Superseded}


class WaveState(StrEnum):
    """State of a wave."""

    Pending = "Pending"
    AwaitingApproval = "AwaitingApproval"
    Moving = "Moving"
    Soaking = "Soaking"
    Judging = "Judging"
    Passed = "Passed"
    Failed = "Failed"
    Held = "Held"
    Excused = "Excused"


class GateKind(StrEnum):
    """A kind of evidence that a wave must pass."""

    Nodes = "Nodes"
    """What nodes show by themselves, against their ledger."""
    Agents = "Agents"
    """What the agents' pods show by themselves."""
    Check = "Check"
    """One check of Prometheus."""
    Sight = "Sight"
    """Whether the operator sees what it judges, and could take it back."""


class WaitingFor(StrEnum):
    """What has to come before the release goes on."""

    Evidence = "Evidence"
    Person = "Person"
    Node = "Node"
    Nothing = "Nothing"


class DecisionPhase(StrEnum):
    """What became of a decision."""

    Accepted = "Accepted"
    Refused = "Refused"
    Expired = "Expired"
