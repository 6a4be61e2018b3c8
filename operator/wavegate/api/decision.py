"""SecurityContentDecision: a person's recorded act on a release. Immutable."""

from enum import StrEnum
from typing import ClassVar

from wavegate.api.resource import Resource
from wavegate.api.values import ApiModel, Duration

DEFAULT_PAUSE = Duration.parse("24h")


class DecisionAction(StrEnum):
    """What a person may decide. `Pause`, `Revert` and `Block` tighten, the others loosen."""

    Approve = "Approve"
    Pause = "Pause"
    Resume = "Resume"
    Revert = "Revert"
    Unblock = "Unblock"
    Block = "Block"


class DecisionSpec(ApiModel):
    """What was decided, on what, and why."""

    release: str
    digest: str
    action: DecisionAction
    reason: str
    decided_by: str | None = None
    wave: str | None = None
    incident: str | None = None
    expires_after: Duration | None = None

    @property
    def pause_length(self) -> Duration:
        """How long a Pause holds: `expires_after`, 24 h when absent."""
        return self.expires_after or DEFAULT_PAUSE


class Decision(Resource):
    """A SecurityContentDecision (wgd)."""

    kind: ClassVar[str] = "SecurityContentDecision"
    plural: ClassVar[str] = "securitycontentdecisions"

    spec: DecisionSpec
