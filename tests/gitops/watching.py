"""Keeps what an Application and its releases were, one after the other, while a story goes on."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import requests

from gitops.argo_cd import ArgoCd
from wavegate_sandbox.errors import ApiError

LOOKS_SECONDS = 0.3


@dataclass(slots=True)
class Seen:
    """Sequences without repetition: by release its health; of the Application sync and health."""

    releases: dict[str, list[str]] = field(default_factory=dict)
    application: list[str] = field(default_factory=list)

    def lasting(self, release: str) -> list[str]:
        """What a release was, but for Progressing: it is that for seconds only, which a busy Argo
        CD may pass over.
        """
        return [health for health in self.releases[release] if health != "Progressing"]

    def note(self, argo: ArgoCd, name: str) -> None:
        """Look once."""
        for node in argo.tree(name):
            if node["kind"] == "SecurityContentRelease" and node.get("health"):
                health = node["health"]["status"]
                if health != "Missing":  # it is in Git, and not applied yet
                    _add(self.releases.setdefault(node["name"], []), health)
        status = argo.application(name).get("status") or {}
        sync, health = (status.get(key, {}).get("status", "-") for key in ("sync", "health"))
        _add(self.application, f"{sync} {health}")


def _add(states: list[str], now: str) -> None:
    if states[-1:] != [now]:
        states.append(now)


@contextmanager
def watching(argo: ArgoCd, name: str) -> Iterator[Seen]:
    """Looks until the block ends."""
    seen, done = Seen(), threading.Event()

    def look() -> None:
        while not done.wait(LOOKS_SECONDS):
            try:
                seen.note(argo, name)
            except (requests.RequestException, ApiError):
                continue  # not there yet, or busy

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join(10)
