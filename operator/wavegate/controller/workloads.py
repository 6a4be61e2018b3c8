"""Keeps what was read of critical workloads: only while nodes are chosen, at most once a minute."""

import logging
from collections.abc import Callable

from wavegate.cluster.client import ApiError, Client
from wavegate.cluster.workloads import carriers
from wavegate.controller.work import Key
from wavegate.rollout import workloads
from wavegate.rollout.observation import CriticalWorkloads
from wavegate.rollout.record import Rollout

log = logging.getLogger(__name__)

FRESH_SECONDS = 60.0
"""What is older is read again before nodes are chosen."""
RETRY_SECONDS = 5.0
"""After an error it is read again so soon."""


class WorkloadReader:
    """Reads for one channel at a time what its plan needs."""

    def __init__(self, client: Client, clock: Callable[[], float]) -> None:
        self._client, self._clock = client, clock
        self._read: dict[Key, tuple[frozenset[str], CriticalWorkloads]] = {}
        """By channel: the Services that were asked for, and what was found."""

    async def read(self, key: Key, rollout: Rollout | None) -> CriticalWorkloads:
        """Where critical workloads run; nothing is asked while no nodes are chosen. An answer that
        did not come is no answer: it says so.
        """
        if rollout is None:
            self._read.pop(key, None)
        if rollout is None or not workloads.are_asked(rollout):
            return CriticalWorkloads()
        wanted = workloads.services(rollout.plan)
        asked, known = self._read.get(key, (frozenset(), None))
        if known is not None and asked == wanted:
            fresh = RETRY_SECONDS if known.error else FRESH_SECONDS
            if 0.0 <= self._clock() - known.read_at < fresh:
                return known
        found = await self._ask(key, wanted)
        self._read[key] = (wanted, found)
        return found

    async def _ask(self, key: Key, wanted: frozenset[str]) -> CriticalWorkloads:
        at = self._clock()
        try:
            return CriticalWorkloads(await carriers(self._client, wanted), at)
        except (ApiError, AttributeError, KeyError, TypeError, ValueError) as error:
            log.warning("%s/%s: critical workloads can't be read: %s", *key, error)
            message = (
                "it can't be read on which nodes critical workloads run (EndpointSlices and "
                f"webhook configurations): {error}; no wave chooses its nodes until then"
            )
            return CriticalWorkloads(read_at=self._clock(), error=message)
