"""Pulls images ahead, in the background: no pass waits for it, and no decision rests on it.

It goes on as long as the newest pass wants it: the pods are made one after the other, and none once
a pass has seen a pause, a fence, or another wave.
"""

import logging
from collections.abc import Callable, Iterable
from typing import Any

from wavegate.cluster import paths
from wavegate.cluster.client import ApiError, Client
from wavegate.cluster.mirror import Mirror
from wavegate.cluster.projections import prefetch_pod
from wavegate.controller.tasks import Tasks
from wavegate.controller.work import Key
from wavegate.controller.world import BLIND_SECONDS
from wavegate.rollout import prefetch
from wavegate.rollout.names import (
    ATTEMPT_LABEL,
    CHANNEL_LABEL,
    KIND_LABEL,
    PREFETCH_LABEL,
    SOAKING_LABEL,
)
from wavegate.rollout.observation import Observation, Prefetched, PrefetchPod, Soak

log = logging.getLogger(__name__)

Body = dict[str, Any]
OURS = f"{KIND_LABEL}=prefetch,!{CHANNEL_LABEL}"
RETRY_SECONDS = 60.0
"""What can't be made or deleted is tried again after so long."""


class PrefetchRunner:
    """`may_act` is asked before each pod; `wake` is called with the channel of one that changed."""

    def __init__(
        self,
        client: Client,
        clock: Callable[[], float],
        wake: Callable[[Key], None],
        may_act: Callable[[], bool],
    ) -> None:
        self._client, self._clock, self._may_act = client, clock, may_act
        self._pods: Mirror[PrefetchPod] = Mirror(client, paths.PODS, prefetch_pod, clock, OURS)
        self._pods.on_change = lambda key, old, new: _changed(wake, key, old, new)
        self._tasks = Tasks[Key]()
        self._wanted: dict[Key, Soak | None] = {}
        """What the newest pass wants."""
        self._chosen: dict[Key, tuple[tuple[object, ...], dict[str, Body]]] = {}
        """What `due` said, and what it was asked about."""
        self._asked: dict[Key, tuple[Soak, set[str]]] = {}
        """Names of the pods of a soak that were made: each is made once, whoever deletes it."""
        self._failed: dict[Key, dict[Soak, str]] = {}
        self._not_before: dict[Key, float] = {}

    async def watch(self) -> None:
        """Keep its pods in sight until cancelled."""
        await self._pods.run()

    def close(self) -> None:
        """Stop pulling."""
        self._tasks.close()

    def seen(self, key: Key) -> Prefetched:
        """What is known of a channel's pods."""
        pods = self._pods.shown()[0].values()
        mine = tuple(pod for pod in pods if (pod.namespace, pod.channel) == key)
        return Prefetched(mine, self._failed.get(key, {}))

    def ensure(self, key: Key, obs: Observation, *, idle: bool) -> None:
        """Take in what is wanted by now; and begin what is due, if the pass has nothing else to do:
        no request comes before those of a fence.
        """
        now = self._clock()
        wanted = self._wanted[key] = prefetch.soak(obs, now)
        if wanted is None:
            for known in (self._wanted, self._chosen, self._failed):
                known.pop(key, None)
        if obs.record.rollout is None:
            self._asked.pop(key, None)
        stops = obs.hands_off or obs.forbidden or now < self._not_before.get(key, now)
        if stops or not idle or self._tasks.is_running(key):
            return
        over = prefetch.over(obs, now)
        if over:
            self._tasks.start(key, self._end(key, over))
        elif wanted is not None and self._sees():
            pods = self._missing(key, obs, wanted, now)
            if pods:
                self._tasks.start(key, self._begin(key, wanted, pods))

    def _sees(self) -> bool:
        """Whether what is known of pods is how they are: else the same ones were made anew."""
        return self._pods.live and self._clock() - self._pods.contact <= BLIND_SECONDS

    def _missing(self, key: Key, obs: Observation, soak: Soak, now: float) -> list[Body]:
        """The pods to be made now. Nodes are chosen anew only when they, or agents, changed: in a
        large fleet that takes a while.
        """
        asked = self._asked_in(key, soak)
        about = (obs.nodes, obs.pods, obs.record.rollout, obs.blind, obs.channel)
        known = self._chosen.get(key)
        if known is None or any(a is not b for a, b in zip(known[0], about, strict=True)):
            known = self._chosen[key] = (about, prefetch.due(obs, now))
        there = asked | {pod.name for pod in obs.prefetched.pods}
        room = max(0, prefetch.room(obs, now))
        return [pod for name, pod in known[1].items() if name not in there][:room]

    def _asked_in(self, key: Key, soak: Soak) -> set[str]:
        known = self._asked.get(key)
        if known is None or known[0] != soak:
            known = self._asked[key] = (soak, set())
        return known[1]

    async def _begin(self, key: Key, soak: Soak, pods: Iterable[Body]) -> None:
        asked = self._asked_in(key, soak)
        for pod in pods:
            if self._wanted.get(key) != soak or not self._may_act():
                return
            try:
                self._pods.apply(await self._client.create(paths.pods(key[0]), pod))
            except ApiError as error:
                if error.status != 409:  # it is there already, and soon seen
                    self._pause(key, "Images can't be pulled ahead", error)
                    self._failed.setdefault(key, {})[soak] = str(error)
                    return
            asked.add(pod["metadata"]["name"])
            self._failed.pop(key, None)

    async def _end(self, key: Key, over: Iterable[Soak]) -> None:
        """Delete the pods of soaks that are over, of each by one request."""
        for attempt, ledger in over:
            if not self._may_act():
                return
            of = f"{PREFETCH_LABEL}={key[1]},{ATTEMPT_LABEL}={attempt},{SOAKING_LABEL}={ledger}"
            log.info("%s/%s: the pods that pulled images of %s ahead are deleted", *key, attempt)
            try:
                await self._client.delete(paths.pods(key[0]), {"labelSelector": f"{OURS},{of}"})
            except ApiError as error:
                self._pause(key, "Pods that pulled images ahead can't be deleted", error)
                return
        self._not_before[key] = self._clock() + 1.0  # until the watch has shown it

    def _pause(self, key: Key, what: str, error: ApiError) -> None:
        wait = max(RETRY_SECONDS, error.retry_after or 0.0)
        log.warning("%s/%s: %s (again in %.0f s): %s", *key, what, wait, error)
        self._not_before[key] = self._clock() + wait


def _changed(
    wake: Callable[[Key], None], key: Key, old: PrefetchPod | None, new: PrefetchPod | None
) -> None:
    pod = new or old
    if pod is not None:
        wake((key[0], pod.channel))
