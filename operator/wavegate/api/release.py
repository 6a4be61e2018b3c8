"""SecurityContentRelease: one version of a channel's content. Immutable but for `suspend`."""

from typing import ClassVar

from wavegate.api.resource import Resource
from wavegate.api.severity import Severity
from wavegate.api.values import ApiModel, ObjectName

MAX_LAYERS = 16
"""Most layers that a release may list, of all platforms: its revision carries them in the record,
and so do an annotation and the block list."""


class ReleaseContent(ApiModel):
    """The content itself. Exactly one of `image` and `config_map` is set."""

    image: str | None = None
    config_map: ObjectName | None = None
    loaded_digest: str | None = None
    """What an agent reports that has loaded it; absent = the content's own digest."""
    layers: tuple[str, ...] = ()
    """Digests of the layers of `image`, as who publishes it says; empty = nothing is said."""

    @property
    def reference(self) -> str:
        """The image reference (with digest), or the name of the ConfigMap."""
        return self.image or (self.config_map.name if self.config_map else "")

    @property
    def digest(self) -> str | None:
        """`sha256:…` of an image; None for a ConfigMap, whose digest its data gives."""
        return self.image.partition("@")[2] or None if self.image else None


class AgentVersion(ApiModel):
    """Versions of the agent, compared number by number."""

    min: str | None = None
    below: str | None = None


class ReleaseSpec(ApiModel):
    """What the vendor feed or the security team publishes."""

    channel: str
    version: str
    sequence: int
    content: ReleaseContent
    severity: Severity = Severity.Routine
    agent_version: AgentVersion | None = None
    suspend: bool = False


class Release(Resource):
    """A SecurityContentRelease (wgr)."""

    kind: ClassVar[str] = "SecurityContentRelease"
    plural: ClassVar[str] = "securitycontentreleases"

    spec: ReleaseSpec

    @property
    def digest(self) -> str | None:
        """`sha256:…` of an image; None for a ConfigMap, whose digest its data gives."""
        return self.spec.content.digest
