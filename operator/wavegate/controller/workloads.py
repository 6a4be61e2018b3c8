"""Keeps what is known of where critical workloads run, as often as the pure core wants it."""

import logging
from collections.abc import Callable

from wavegate.cluster.client import ApiError, Client
from wavegate.cluster.workloads import carriers
from wavegate.controller.tasks import Tasks
from wavegate.controller.work import Key
from wavegate.rollout import workloads
from wavegate.rollout.observation import CriticalWorkloads, Observation

log = logging.getLogger(__name__)

_UNREAD = CriticalWorkloads()


class WorkloadRunner:
    """Reads in the background, so that no fence waits for a slow list; `wake` is called when an
    answer is in. `own_service` (`namespace/name`, or empty) is the operator's own.
    """

    def __init__(
        self,
        client: Client,
        clock: Callable[[], float],
        wake: Callable[[Key], None],
        own_service: str = "",
    ) -> None:
        self._client, self._clock, self._wake = client, clock, wake
        self._own = frozenset([own_service] if own_service else [])
        self._known: dict[Key, CriticalWorkloads] = {}
        self._tasks = Tasks[Key]()

    def seen(self, key: Key) -> CriticalWorkloads:
        """What was read last for a channel. An answer that did not come says so: what was
        known before it does not stand for it.
        """
        return self._known.get(key, _UNREAD)

    def close(self) -> None:
        """Stop reading."""
        self._tasks.close()

    def ensure(self, key: Key, obs: Observation) -> float | None:
        """Read if it is due; returns in how many seconds it is due next, None when nothing is to be
        waited for: no pass is made for a plan that is only shown. Of a channel that is gone nothing
        is remembered.
        """
        wanted = workloads.asked(obs)
        if obs.channel is None and obs.record.rollout is None:
            self._known.pop(key, None)
        if wanted is None or self._tasks.is_running(key):
            return None
        left = workloads.due_in(obs, self.seen(key), self._clock())
        if left > 0.0:
            return left if obs.record.rollout else None
        attempt = obs.record.rollout.attempt if obs.record.rollout else ""
        self._tasks.start(key, self._read(key, wanted, attempt))
        return None

    async def _read(self, key: Key, wanted: frozenset[str], attempt: str) -> None:
        at = self._clock()
        try:
            nodes = await carriers(self._client, wanted | self._own)
            self._known[key] = CriticalWorkloads(nodes, at, wanted, attempt)
        except (ApiError, AttributeError, KeyError, TypeError, ValueError) as error:
            if not self.seen(key).error:
                log.warning("%s/%s: critical workloads can't be read: %s", *key, error)
            message = (
                "it can't be read on which nodes critical workloads run (EndpointSlices and "
                f"webhook configurations): {error}; no wave chooses its nodes until then"
            )
            self._known[key] = CriticalWorkloads({}, self._clock(), wanted, attempt, message)
        self._wake(key)
