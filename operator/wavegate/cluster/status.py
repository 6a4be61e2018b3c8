"""Status by server-side apply, and only when it says something new."""

from collections.abc import Mapping
from typing import Any

from wavegate.api import API_VERSION, Resource
from wavegate.cluster import paths
from wavegate.cluster.client import ApiError, Client
from wavegate.cluster.memory import remember
from wavegate.rollout.wording import brief

_REMEMBERED = 20_000


class StatusWriter:
    """Remembers what it wrote, so that a quiet cluster gets no writes."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._written: dict[str, Mapping[str, Any]] = {}

    async def write(self, subject: Resource, status: Mapping[str, Any], now: str) -> bool:
        """Apply `status` if it differs; `now` stamps conditions that changed. Returns whether it
        was written. An object that is gone is no error.
        """
        before = self._written.get(subject.uid, subject.status)
        stamped = _stamp(status, before, now)
        if _same(stamped, before):
            remember(self._written, subject.uid, stamped, _REMEMBERED)
            return False
        body = {
            "apiVersion": API_VERSION,
            "kind": subject.kind,
            "metadata": {"name": subject.name, "namespace": subject.namespace},
            "status": stamped,
        }
        path = paths.ours(subject.plural, subject.namespace, subject.name)
        try:
            await self._client.apply(f"{path}/status", body)
        except ApiError as error:
            if error.status not in (404, 409):
                raise
            return False
        remember(self._written, subject.uid, stamped, _REMEMBERED)
        return True


def _stamp(status: Mapping[str, Any], before: Mapping[str, Any], now: str) -> dict[str, Any]:
    """Give each condition the generation it is about, and when its status last changed."""
    stamped: dict[str, Any] = _bounded(status)
    old = {c["type"]: c for c in before.get("conditions") or []}
    for condition in stamped.get("conditions") or []:
        was = old.get(condition["type"], {})
        same = was.get("status") == condition["status"]
        condition["lastTransitionTime"] = was.get("lastTransitionTime", now) if same else now
        condition["observedGeneration"] = stamped["observedGeneration"]
    return stamped


def _bounded(value: Any) -> Any:
    """Copy a status and cut each text in it that is too long: some quote others' words. Lines to be
    pasted have a bound of their own: half a command must not be run.
    """
    if isinstance(value, Mapping):
        lines = "breakGlass"
        return {k: list(v) if k == lines else _bounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_bounded(inner) for inner in value]
    return brief(value) if isinstance(value, str) else value


def _same(new: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    return bool(new == old)
