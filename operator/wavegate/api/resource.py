"""What all objects have in common: group, version, metadata."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar, Self

from pydantic import Field

from wavegate.api.values import ApiModel

GROUP = "wavegate.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"


class ObjectMeta(ApiModel):
    """The part of the metadata that we read. Timestamps are text as the apiserver writes it."""

    name: str
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    finalizers: tuple[str, ...] = ()
    labels: Mapping[str, str] = Field(default_factory=dict)
    annotations: Mapping[str, str] = Field(default_factory=dict)


class Resource(ApiModel):
    """Base of our three kinds. `status` stays raw: we write it, and never decide by types there."""

    kind: ClassVar[str]
    plural: ClassVar[str]

    metadata: ObjectMeta
    status: Mapping[str, Any] = Field(default_factory=dict)

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> Self:
        """Read an object as the apiserver gives it.

        Raise pydantic.ValidationError (a ValueError) when it does not fit, which means that the
        CRD in the cluster is not the one of this version.
        """
        return cls.model_validate(dict(body))

    @property
    def name(self) -> str:
        """Name of the object."""
        return self.metadata.name

    @property
    def namespace(self) -> str:
        """Namespace of the object."""
        return self.metadata.namespace

    @property
    def uid(self) -> str:
        """UID: a re-created object of the same name has another."""
        return self.metadata.uid

    @property
    def generation(self) -> int:
        """Counts changes of the spec."""
        return self.metadata.generation

    @property
    def created(self) -> float:
        """When it was created, by the apiserver's clock in whole seconds since 1970."""
        stamp = self.metadata.creation_timestamp
        return datetime.fromisoformat(stamp).timestamp() if stamp else 0.0

    @property
    def deletion_timestamp(self) -> str | None:
        """When deletion was asked for; None = it was not."""
        return self.metadata.deletion_timestamp
