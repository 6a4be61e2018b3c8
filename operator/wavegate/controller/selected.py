"""Watches of the pods that an agentSelector selects: one for each that a rollout or a bake uses.

They are started and stopped with the records that speak of them, so that a channel at rest costs
nothing.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from wavegate.cluster import paths
from wavegate.cluster.client import Client
from wavegate.cluster.memory import remember
from wavegate.cluster.mirror import Mirror
from wavegate.cluster.projections import selected_view
from wavegate.controller.work import Key
from wavegate.evidence import PodView
from wavegate.rollout.attempt import Plan
from wavegate.rollout.kept import Kept
from wavegate.rollout.names import CHANNEL_LABEL, PREFETCH_LABEL
from wavegate.rollout.observation import AgentPods
from wavegate.rollout.record import Record

MAX_LOST = 50_000
_BLIND = "the watch of the pods that agentSelector selects is interrupted"

Place = tuple[str, str]
"""A namespace, and a selector as in a URL."""


@dataclass(slots=True)
class _Watch:
    mirror: Mirror[PodView]
    task: asyncio.Task[None]
    channels: set[Key] = field(default_factory=set)
    lost: dict[str, float] = field(default_factory=dict)


class SelectedAgents:
    """See the module. `wake` is called with each channel that a change concerns."""

    def __init__(
        self, client: Client, clock: Callable[[], float], wake: Callable[[Key], None]
    ) -> None:
        self._client, self._clock, self._wake = client, clock, wake
        self._watches: dict[Place, _Watch] = {}

    def follow(self, records: Iterable[Record], tasks: asyncio.TaskGroup) -> None:
        """Watch in `tasks` what these records need, and nothing else."""
        wanted = defaultdict[Place, set[Key]](set)
        for record in records:
            for part in (record.rollout, record.bake.rollout if record.bake else None):
                if part is not None and part.plan.agents:
                    place = (record.namespace, part.plan.agents)
                    wanted[place].add((record.namespace, record.channel))
        for place in self._watches.keys() - wanted.keys():
            self._watches.pop(place).task.cancel()
        for place, channels in wanted.items():
            if place not in self._watches:
                self._watches[place] = self._begin(place, tasks)
            self._watches[place].channels = channels

    async def synced(self, seconds: float) -> None:
        """Wait until all that is watched was listed, so that a new leader ends no soak by what it
        does not see yet; but not for long: a selector that is refused must not keep others waiting.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                for watch in list(self._watches.values()):
                    await watch.mirror.synced.wait()

    def pods(self, namespace: str, plan: Plan | None, silence: float, kept: Kept) -> AgentPods:
        """What the plan's selector selects; nothing without one. A watch that is silent for longer
        than `silence` seconds shows the past.
        """
        if plan is None or not plan.agents:
            return AgentPods()
        watch = self._watches.get((namespace, plan.agents))
        if watch is None:
            return AgentPods(blind=_BLIND)
        mirror = watch.mirror
        lives = mirror.live and self._clock() - mirror.contact <= silence
        pods = kept.of(_values, mirror.shown()[0])
        return AgentPods(pods, dict(watch.lost), "" if lives else _BLIND)

    def mirrors_of(self, key: Key) -> list[Mirror[PodView]]:
        """What is watched for a channel."""
        return [watch.mirror for watch in self._watches.values() if key in watch.channels]

    def _begin(self, place: Place, tasks: asyncio.TaskGroup) -> _Watch:
        namespace, query = place
        # Ours are judged as what they are, and what pulls images is no agent.
        selector = f"{query},!{CHANNEL_LABEL},!{PREFETCH_LABEL}"
        path = paths.pods(namespace)
        mirror = Mirror(self._client, path, selected_view, self._clock, selector)
        watch = _Watch(mirror, tasks.create_task(mirror.run()))
        mirror.on_change = lambda _key, old, new: self._changed(watch, old, new)
        return watch

    def _changed(self, watch: _Watch, old: PodView | None, new: PodView | None) -> None:
        if new is None and old is not None and old.node:
            remember(watch.lost, old.node, self._clock(), MAX_LOST)
        for key in watch.channels:
            self._wake(key)


def _values(pods: Mapping[Key, PodView]) -> tuple[PodView, ...]:
    return tuple(pods.values())
