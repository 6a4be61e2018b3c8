"""Leader election by a Lease, in a small loop of our own.

A leader counts its lease as lost by its own monotonic clock, well before others may take it. So
two processes never both believe to lead for longer than clocks drift within one lease duration;
what a stale leader could still write is fenced by versions (see DESIGN §4).
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from wavegate.cluster import paths
from wavegate.cluster.client import ApiError, Client

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LeaseSettings:
    """Where the lease is and who we are. `duration` in seconds: how long it holds unrenewed."""

    namespace: str
    name: str
    identity: str
    duration: float


class Leadership:
    """Holds or waits for the lease. It is renewed every third of its duration. `clock`: seconds,
    by default those that go on while the machine sleeps.
    """

    def __init__(
        self, client: Client, settings: LeaseSettings, clock: Callable[[], float] | None = None
    ) -> None:
        self._client, self._settings = client, settings
        self._clock = clock or _clock
        self._renewed = float("-inf")
        self._observed: tuple[str, float] = ("", 0.0)
        """The other holder's last renewal as text, and when we first saw it."""

    @property
    def held(self) -> bool:
        """Whether we may act now: two thirds of the duration since the last renewal's start."""
        return self._clock() - self._renewed < self._settings.duration * 2 / 3

    async def acquire(self) -> None:
        """Wait until we lead."""
        while not await self._try():
            await asyncio.sleep(self._settings.duration / 6 * random.uniform(0.8, 1.2))  # noqa: S311
        log.info("This process leads (lease %s/%s)", self._settings.namespace, self._settings.name)

    async def keep(self) -> None:
        """Renew until the lease is lost, then return."""
        while True:
            await asyncio.sleep(self._settings.duration / 3 * random.uniform(0.8, 1.0))  # noqa: S311
            if not await self._try() and not self.held:
                log.error("This process lost its lease and stops acting")
                return

    async def release(self) -> None:
        """Give the lease up, so that another process need not wait for it to run out."""
        if not self.held:
            return
        self._renewed = float("-inf")
        try:
            lease = await self._client.find(self._path)
            if lease and lease["spec"].get("holderIdentity") == self._settings.identity:
                lease["spec"]["holderIdentity"] = ""
                await self._client.replace(self._path, lease)
        except ApiError as error:
            log.warning("The lease could not be released: %s", error)

    @property
    def _path(self) -> str:
        return paths.leases(self._settings.namespace, self._settings.name)

    async def _try(self) -> bool:
        """Take or renew the lease; False when another holds it or the apiserver does not answer."""
        started = self._clock()
        try:
            lease = await self._client.find(self._path)
            if lease is None:
                await self._client.create(paths.leases(self._settings.namespace), self._new())
            elif self._may_take(lease):
                lease["spec"] = self._spec(lease["spec"])
                await self._client.replace(self._path, lease)
            else:
                self._renewed = float("-inf")
                return False
        except ApiError as error:
            if error.status != 409:
                log.warning("The lease could not be renewed: %s", error)
            return False
        self._renewed = started
        return True

    def _may_take(self, lease: dict[str, Any]) -> bool:
        spec = lease.get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        if holder in ("", self._settings.identity):
            return True
        seen = f"{holder} {spec.get('renewTime')}"
        if seen != self._observed[0]:
            self._observed = (seen, self._clock())
        held_for = float(spec.get("leaseDurationSeconds") or self._settings.duration)
        return self._clock() - self._observed[1] > held_for

    def _new(self) -> dict[str, Any]:
        metadata = {"name": self._settings.name, "namespace": self._settings.namespace}
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": self._spec({}),
        }

    def _spec(self, old: dict[str, Any]) -> dict[str, Any]:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        mine = old.get("holderIdentity") == self._settings.identity
        return {
            "holderIdentity": self._settings.identity,
            "leaseDurationSeconds": max(1, round(self._settings.duration)),
            "acquireTime": old.get("acquireTime", now) if mine else now,
            "renewTime": now,
            "leaseTransitions": int(old.get("leaseTransitions") or 0) + (0 if mine else 1),
        }


def _clock() -> float:
    """Seconds that go on while the machine sleeps: who wakes up must not think it leads."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
