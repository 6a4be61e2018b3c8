"""What a revision is made from, the agent's template and the content: no mirror holds either."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from wavegate.api import Channel, ContentKind, Release
from wavegate.cluster import paths
from wavegate.cluster.client import ApiError, Client
from wavegate.cluster.memory import remember
from wavegate.cluster.projections import content_view
from wavegate.cluster.store import Store
from wavegate.controller.work import Key
from wavegate.controller.world import World
from wavegate.rollout.attempt import Revision
from wavegate.rollout.inputs import inputs
from wavegate.rollout.kept import Kept
from wavegate.rollout.observation import AgentSource, ContentView, RevisionView
from wavegate.rollout.record import Record
from wavegate.rollout.steps import CreateRevision
from wavegate.rollout.templates import bind, find_problem, revision_template, unparked

_ANY_CONTENT = {
    ContentKind.ImageVolume: f"trial.invalid/content@sha256:{'0' * 64}",
    ContentKind.ContainerImage: f"trial.invalid/content@sha256:{'0' * 64}",
    ContentKind.ConfigMap: "trial",
}

LOOK_AGAIN_SECONDS = 2.0
TRY_AGAIN_SECONDS = 60.0
"""A template that was refused is tried again: the policy that refused it may have changed."""

MAX_LOOKED = 2_000


@dataclass(frozen=True, slots=True)
class _Tried:
    """What the apiserver said of a template, and when."""

    said: str = ""
    refused: str = ""
    completed: Mapping[str, Any] | None = None
    at: float = 0.0


class Sources:
    """Reads them for all channels, each no more often than it has to be."""

    def __init__(self, client: Client, world: World, clock: Callable[[], float]) -> None:
        self._client, self._world, self._clock = client, world, clock
        self._tried: dict[str, _Tried] = {}
        """By channel UID: the template that was tried last, and what the apiserver said of it."""
        self._looked: dict[Key, tuple[ContentView | None, float]] = {}
        """By namespace and name of a ConfigMap: what it was when it was read last, and when."""

    async def agent(
        self, channel: object, record: Record, revisions: Mapping[str, RevisionView], kept: Kept
    ) -> AgentSource:
        """The agent, and what it reads that can change without a wave. A template that is frozen
        in the candidate is read from there.
        """
        agent = await self._checked_agent(channel, record, kept)
        frozen = revisions.get(record.rollout.attempt) if record.rollout else None
        template = agent.template or (frozen.template if frozen else None)
        if not isinstance(channel, Channel) or template is None:
            return agent
        if agent.template is not None and _problem(agent, channel, kept) is not None:
            return agent
        ungated = [
            f"{kind} {name}"
            for kind, name in inputs(template, channel.spec)
            if kind != "ConfigMap" or not await self._is_immutable(channel.namespace, name)
        ]
        return replace(agent, ungated=tuple(ungated))

    async def _is_immutable(self, namespace: str, name: str) -> bool:
        """Whether a ConfigMap is there and can't be changed; looked at once a minute."""
        found = await self._content(namespace, name, moving=True)
        return found is not None and found.immutable

    async def _checked_agent(self, channel: object, record: Record, kept: Kept) -> AgentSource:
        """The agent, and what the apiserver says of it before a rollout may start."""
        agent = await self._agent(channel, record)
        if not isinstance(channel, Channel) or record.rollout is not None:
            return agent
        if agent.template is None or _problem(agent, channel, kept) is not None:
            return agent
        tried = await self._try(channel, agent.template)
        return replace(agent, refused=tried.refused, completed=tried.completed)

    async def _try(self, channel: Channel, template: Mapping[str, Any]) -> _Tried:
        """What the apiserver would make of a revision. It is asked once for each template."""
        said = json.dumps([template, channel.spec.content.dump()], sort_keys=True)
        tried = self._tried.get(channel.uid, _Tried())
        again = tried.refused and self._clock() - tried.at >= TRY_AGAIN_SECONDS
        if tried.said == said and not again:
            return tried
        bound = bind(template, channel.spec, _ANY_CONTENT[channel.spec.content.kind])
        trial = Revision("trial", "", "", "", "", 0, "", 0.0)
        action = CreateRevision(trial, revision_template(bound, channel.name, trial.attempt))
        store = Store(self._client, channel.namespace, channel.name, self._world.fresh)
        completed: Mapping[str, Any] | None = None
        try:
            refusal, completed = await store.try_revision(action)
        except ApiError as error:
            if error.status not in (400, 403, 409, 422):
                raise
            said_no = f"the apiserver refuses a DaemonSet with this template: {error}"
            refusal = "" if error.status == 409 else said_no
        tried = _Tried(said, refusal, completed, self._clock())
        self._tried[channel.uid] = tried
        return tried

    async def _agent(self, channel: object, record: Record) -> AgentSource:
        if not isinstance(channel, Channel):
            return AgentSource()
        agent = channel.spec.agent
        if agent.daemon_set_ref is None:
            return AgentSource(template=agent.template)
        rollout = record.rollout
        if rollout is not None and rollout.waves and not rollout.candidate.is_agent:
            return AgentSource()  # frozen in the candidate long ago; else it may be changed back
        name = agent.daemon_set_ref.name
        body = await self._client.find(paths.daemon_sets(channel.namespace, name))
        if body is None:
            return AgentSource(missing=name)
        status = body.get("status") or {}
        counted = status.get("observedGeneration", 0) >= body["metadata"]["generation"]
        running = int(status.get("currentNumberScheduled", 0)) if counted else 1
        source = f"{body['metadata']['uid']}/{body['metadata']['generation']}"
        template = unparked(body["spec"]["template"])
        return AgentSource(template=template, source=source, running_pods=running)

    async def contents(
        self, namespace: str, releases: tuple[Release, ...], record: Record
    ) -> dict[str, ContentView]:
        """Our copies, and the ConfigMaps of releases that may still start."""
        found = {
            stored.content.name: stored.content
            for (space, _), stored in self._world.stored.items.items()
            if space == namespace and stored.content is not None
        }
        moving = record.rollout is not None and bool(record.rollout.waves)
        lowest = record.highest_sequence
        for release in releases:
            if release.spec.content.config_map is not None and release.spec.sequence > lowest:
                name = release.spec.content.reference
                content = await self._content(namespace, name, moving=moving)
                if content is not None:
                    found[name] = content
        return found

    async def _content(self, namespace: str, name: str, *, moving: bool) -> ContentView | None:
        """One ConfigMap with content. While nodes are moved it is looked at rarely, and its loss
        is no reason to fail a pass.
        """
        known, at = self._looked.get((namespace, name), (None, 0.0))
        if self._clock() - at < (60.0 if moving else LOOK_AGAIN_SECONDS):
            return known
        try:
            body = await self._client.find(paths.config_maps(namespace, name))
        except ApiError:
            if not moving:
                raise
            return known
        content = content_view(body) if body is not None else None
        remember(self._looked, (namespace, name), (content, self._clock()), MAX_LOOKED)
        return content


def _problem(agent: AgentSource, channel: Channel, kept: Kept) -> object:
    """What is wrong with the agent's template; worked out when it or the spec changes."""
    return kept.of(find_problem, agent.template, channel.spec)
