"""Pulls images ahead, in the background: no pass waits for it, and no decision rests on it.

It goes on as long as the newest pass wants it: the pods are made one after the other, and none once
a pass has seen a pause, a fence, or another wave.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
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


@dataclass(slots=True)
class _Pulling:
    """What is known of a soak in which images are pulled."""

    soak: Soak
    wanted: bool = True
    """The newest pass wants it to go on."""
    asked: set[str] = field(default_factory=set)
    """Names of the pods that were made: each is made once, whoever deletes it."""
    about: tuple[object, ...] = ()
    chosen: dict[str, Body] = field(default_factory=dict)
    """What `due` said, when it was asked about these."""
    failed: str = ""

    def rest(self) -> None:
        """Keep what must not be done again, while it is not wanted."""
        self.wanted, self.about, self.chosen, self.failed = False, (), {}, ""


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
        self._pulling: dict[Key, _Pulling] = {}
        self._make_after: dict[Key, float] = {}
        self._end_after: dict[Key, float] = {}
        """When the next try is due. Apart: a quota that lets no more be made is no reason to leave
        those there that fill it.
        """

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
        pulling = self._pulling.get(key)
        failed = {pulling.soak: pulling.failed} if pulling is not None and pulling.failed else {}
        return Prefetched(mine, failed)

    def ensure(self, key: Key, obs: Observation, *, idle: bool) -> None:
        """Take in what is wanted by now; and begin what is due, if the pass has nothing else to do:
        no request comes before those of a fence.
        """
        now = self._clock()
        pulling = self._heed(key, obs, prefetch.soak(obs, now))
        if obs.hands_off or obs.forbidden or not idle or self._tasks.is_running(key):
            return
        over = prefetch.over(obs, now)
        if over:
            if now >= self._end_after.get(key, now):
                self._tasks.start(key, self._end(key, over))
        elif pulling is not None and self._sees() and now >= self._make_after.get(key, now):
            pods = _missing(pulling, obs, now)
            if pods:
                self._tasks.start(key, self._begin(key, pulling, pods))

    def _heed(self, key: Key, obs: Observation, soak: Soak | None) -> _Pulling | None:
        """What is known of the soak that is wanted; None when none is."""
        known = self._pulling.get(key)
        if known is not None and known.soak != soak:
            known.rest()
        if soak is None:
            if obs.record.rollout is None:
                self._pulling.pop(key, None)
            return None
        if known is None or known.soak != soak:
            known = self._pulling[key] = _Pulling(soak)
        known.wanted = True
        return known

    def _sees(self) -> bool:
        """Whether what is known of pods is how they are: else the same ones were made anew."""
        return self._pods.live and self._clock() - self._pods.contact <= BLIND_SECONDS

    async def _begin(self, key: Key, pulling: _Pulling, pods: Iterable[Body]) -> None:
        for pod in pods:
            if not pulling.wanted or not self._may_act():
                return
            try:
                self._pods.apply(await self._client.create(paths.pods(key[0]), pod))
            except ApiError as error:
                if error.status != 409:  # it is there already, and soon seen
                    self._make_after[key] = self._retry(key, "Images can't be pulled ahead", error)
                    pulling.failed = str(error)
                    return
            pulling.asked.add(pod["metadata"]["name"])
            pulling.failed = ""

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
                what = "Pods that pulled images ahead can't be deleted"
                self._end_after[key] = self._retry(key, what, error)
                return
        self._end_after[key] = self._clock() + 1.0  # until the watch has shown it

    def _retry(self, key: Key, what: str, error: ApiError) -> float:
        wait = max(RETRY_SECONDS, error.retry_after or 0.0)
        log.warning("%s/%s: %s (again in %.0f s): %s", *key, what, wait, error)
        return self._clock() + wait


def _missing(pulling: _Pulling, obs: Observation, now: float) -> list[Body]:
    """The pods to be made now. Nodes are chosen anew only when they, or agents, changed: in a large
    fleet that takes a while.
    """
    about = (obs.nodes, obs.pods, obs.record.rollout, obs.blind, obs.channel)
    known = pulling.about
    if not known or any(a is not b for a, b in zip(known, about, strict=True)):
        pulling.about, pulling.chosen = about, prefetch.due(obs, now)
    there = pulling.asked | {pod.name for pod in obs.prefetched.pods}
    room = max(0, prefetch.room(obs, now))
    return [pod for name, pod in pulling.chosen.items() if name not in there][:room]


def _changed(
    wake: Callable[[Key], None], key: Key, old: PrefetchPod | None, new: PrefetchPod | None
) -> None:
    pod = new or old
    if pod is not None:
        wake((key[0], pod.channel))
