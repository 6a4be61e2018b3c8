"""Events for people: one per object and reason, counted up when it repeats, never a flood."""

import hashlib
import logging
from datetime import UTC, datetime
from typing import Any

from wavegate.api import API_VERSION, Reason, Resource
from wavegate.cluster import paths
from wavegate.cluster.client import ApiError, Client
from wavegate.cluster.memory import remember

log = logging.getLogger(__name__)

_REMEMBERED = 5_000


class EventRecorder:
    """Writes Events. A failed write is logged and forgotten: Events decide nothing."""

    def __init__(self, client: Client, identity: str) -> None:
        self._client, self._identity = client, identity
        self._last: dict[str, str] = {}

    async def emit(self, subject: Resource, reason: Reason, message: str, *, warn: bool) -> None:
        """Record that `reason` happened to `subject`. The same message twice is written once."""
        key = f"{subject.uid}/{reason}"
        if self._last.get(key) == message:
            return
        try:
            await self._client.create(
                paths.events(subject.namespace), self._event(subject, reason, message, warn=warn)
            )
        except ApiError as error:
            if error.status != 409:
                log.warning("Event %s of %s was not written: %s", reason, subject.name, error)
                return
        remember(self._last, key, message, _REMEMBERED)

    def _event(
        self, subject: Resource, reason: Reason, message: str, *, warn: bool
    ) -> dict[str, Any]:
        """The name is a hash of what is said, so that a restarted operator does not repeat it."""
        said = f"{subject.uid}/{subject.generation}/{reason}/{message}"
        digest = hashlib.sha256(said.encode()).hexdigest()[:16]
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {
                "name": f"{subject.name[:200].rstrip('-.')}.{digest}",
                "namespace": subject.namespace,
            },
            "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": "wavegate.dev/operator",
            "reportingInstance": self._identity[:128],
            "action": str(reason),
            "reason": str(reason),
            "type": "Warning" if warn else "Normal",
            "note": message.encode()[:1024].decode(errors="ignore"),
            "regarding": {
                "apiVersion": API_VERSION,
                "kind": subject.kind,
                "name": subject.name,
                "namespace": subject.namespace,
                "uid": subject.uid,
            },
        }
