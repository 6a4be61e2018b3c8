"""All that the operator knows of the cluster: mirrors, leases, and the objects of our own kinds."""

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from wavegate.api import Channel, Decision, Release, Resource
from wavegate.cluster import paths
from wavegate.cluster.client import ApiError, Client
from wavegate.cluster.memory import remember
from wavegate.cluster.mirror import Mirror
from wavegate.cluster.projections import (
    StoredConfigMap,
    node_view,
    pod_view,
    revision_view,
    stored_config_map,
)
from wavegate.cluster.served import KINDS, awaited
from wavegate.controller.selected import SelectedAgents
from wavegate.controller.work import Key
from wavegate.evidence import NodeView, PodView
from wavegate.rollout.names import CHANNEL_LABEL, KIND_LABEL
from wavegate.rollout.observation import RevisionView

log = logging.getLogger(__name__)

LEASE_POLL_SECONDS = 3.0
RESYNC_SECONDS = 300.0
BLIND_SECONDS = 100.0
"""Bookmarks come every minute: a watch that is silent for longer shows the past."""
SELECTED_SECONDS = 5.0
"""A new leader waits so long for the pods that agentSelectors select."""
IDLE_SECONDS = 15.0
"""Where nothing rolls out and nothing bakes, nodes matter to the plan that is shown: it follows
them by so much, however many change."""
MAX_REMEMBERED = 50_000

Wake = Callable[[Key], None]


class World:
    """Mirrors of nodes, pods, revisions and our ConfigMaps, plus our kinds as kopf reports them.

    `wake` is called with the channel that a change concerns.
    """

    def __init__(self, client: Client, clock: Callable[[], float], wake: Wake) -> None:
        self._client, self._clock, self._wake = client, clock, wake
        self.nodes: Mirror[NodeView] = Mirror(client, paths.NODES, node_view, clock)
        self.pods: Mirror[PodView] = Mirror(client, paths.PODS, pod_view, clock, CHANNEL_LABEL)
        self.revisions: Mirror[RevisionView] = Mirror(
            client, paths.DAEMON_SETS, revision_view, clock, f"{KIND_LABEL}=revision"
        )
        self.stored: Mirror[StoredConfigMap] = Mirror(
            client, paths.CONFIG_MAPS, stored_config_map, clock, KIND_LABEL
        )
        self._mirrors: dict[str, Mirror[Any]] = {
            "ConfigMaps": self.stored,
            "DaemonSets": self.revisions,
            "nodes": self.nodes,
            "pods": self.pods,
        }
        """In the order in which they are synced."""
        self.selected = SelectedAgents(client, clock, wake)
        self._tasks: asyncio.TaskGroup | None = None
        self.ours: dict[str, dict[Key, Resource]] = defaultdict(dict)
        self.leases: dict[str, float] = {}
        """By our own clock: until when each node was surely alive, as its lease tells. It is never
        changed, but replaced: an observation shows the very same.
        """
        self.pods_lost: dict[tuple[str, str, str], float] = {}
        """By namespace, channel and node: when we last saw an agent pod vanish."""
        self.unreadable: set[tuple[str, str, str]] = set()
        """Objects of our kinds that this version can't read: plural, namespace, name."""
        self.missing: frozenset[str] = frozenset()
        """Plurals of our kinds whose CRDs are gone: that nothing is listed then says nothing."""
        self.hindrance: Callable[[], str] = lambda: ""
        """What else keeps us from working as we should, in words: see `blind`."""
        self._deleted: dict[str, None] = {}
        self._renewals: dict[str, str] = {}
        self._looking: asyncio.Task[None] | None = None
        self._idle: asyncio.TimerHandle | None = None
        """When all channels are woken, as nodes have changed."""
        self._looked_at = clock()
        """When the last poll of the leases that was answered began."""
        self.pods.on_change = self._pod_changed
        self.revisions.on_change = self._revision_changed
        self.stored.on_change = self._stored_changed
        self.nodes.on_change = lambda _key, _old, _new: self._node_changed()

    async def start(self, tasks: asyncio.TaskGroup) -> None:
        """Sync everything, then keep it so in `tasks`.

        Records come first: what a record speaks of was written before it, so it must not look
        missing because it was listed earlier.
        """
        self._tasks = tasks
        for mirror in self._mirrors.values():
            tasks.create_task(mirror.run())
            await mirror.synced.wait()
        await self.selected.synced(SELECTED_SECONDS)
        await self._first_sync()
        tasks.create_task(self._poll_leases())
        tasks.create_task(self._keep_resyncing())

    def take(self, kind: type[Resource], event: str | None, body: Mapping[str, Any]) -> None:
        """Take in an event of one of our kinds, as kopf or a list reports it; older ones than what
        is known are left out.
        """
        metadata = body["metadata"]
        key = (metadata["namespace"], metadata["name"])
        known = self.ours[kind.plural].get(key)
        if event == "DELETED":
            remember(self._deleted, metadata["uid"], None, MAX_REMEMBERED)
            if known is not None and known.uid == metadata["uid"]:
                self._drop(kind, key)
            return
        if metadata["uid"] in self._deleted or _version(known) > int(metadata["resourceVersion"]):
            return
        try:
            resource = kind.parse(body)
        except ValidationError as error:
            log.warning("%s %s can't be read by this version: %s", kind.kind, "/".join(key), error)
            self.unreadable.add((kind.plural, *key))
            return
        self.unreadable.discard((kind.plural, *key))
        self.ours[kind.plural][key] = resource
        if known is None or _told(known) != _told(resource):
            self._wake(self.channel_of(resource))

    def blind(self) -> str:
        """What of the cluster we may not see as it is, or may not change as we should, in words;
        empty when nothing is so. No node moves then; a revert goes on.
        """
        now = self._clock()
        for name, mirror in self._mirrors.items():
            if not mirror.live or now - mirror.contact > BLIND_SECONDS:
                return f"the watch of {name} is interrupted"
        return awaited(self.missing) if self.missing else self.hindrance()

    def _drop(self, kind: type[Resource], key: Key) -> None:
        gone = self.ours[kind.plural].pop(key)
        self._wake(self.channel_of(gone))

    def channel_of(self, resource: Resource) -> Key:
        """The channel that an object of ours belongs to."""
        if isinstance(resource, Release):
            return (resource.namespace, resource.spec.channel)
        if isinstance(resource, Decision):
            release = self.ours[Release.plural].get((resource.namespace, resource.spec.release))
            name = (
                release.spec.channel if isinstance(release, Release) else self._who_named(resource)
            )
            return (resource.namespace, name)
        return (resource.namespace, resource.name)

    def _who_named(self, decision: Decision) -> str:
        """The channel that remembers the release of a decision, which is gone; empty: none does."""
        for (namespace, _), stored in self.stored.items.items():
            record = stored.record if namespace == decision.namespace else None
            if record is not None and decision.spec.release in record.named:
                return stored.channel
        return ""

    def fresh(self, kind: str, body: Mapping[str, Any]) -> None:
        """Take in what one of our own writes gave back."""
        mirrors: dict[str, Mirror[Any]] = {
            "nodes": self.nodes,
            "daemonsets": self.revisions,
            "configmaps": self.stored,
        }
        mirrors[kind].apply(body)

    def seen_at(self, key: Key) -> float:
        """All that happened to nodes and to a channel's pods before this time is known."""
        return min(mirror.seen_at for mirror in self._evidence(key))

    def look(self, key: Key, since: float) -> None:
        """Read nodes and pods anew, in the background, unless all before `since` is known."""
        late = [mirror for mirror in self._evidence(key) if mirror.seen_at < since]
        if late and (self._looking is None or self._looking.done()):
            self._looking = asyncio.create_task(self._look(late))

    def _evidence(self, key: Key) -> list[Mirror[Any]]:
        return [self.nodes, self.pods, *self.selected.mirrors_of(key)]

    async def _look(self, mirrors: list[Mirror[Any]]) -> None:
        try:
            for mirror in mirrors:
                await mirror.look()
        except ApiError as error:
            log.warning("Nodes and pods can't be read anew, so a wave waits: %s", error)
        self._wake_running()

    def oldest_contact(self) -> float:
        """When the quietest of the watches last said anything, by the engine's clock."""
        return min(mirror.contact for mirror in self._mirrors.values())

    async def resync(self) -> frozenset[str]:
        """Read our kinds anew: kopf does not report deletions that it missed. The list says
        nothing about objects that are newer than it. A kind whose CRD is gone is left as it was;
        returns the plurals of these.
        """
        missing = set()
        for kind in KINDS:
            try:
                listed = await self._client.list(paths.ours(kind.plural))
            except ApiError as error:
                if error.status != 404:
                    raise
                missing.add(kind.plural)
                continue
            listed_at = int(listed["metadata"]["resourceVersion"])
            present = set()
            for item in listed.get("items", []):
                present.add((item["metadata"]["namespace"], item["metadata"]["name"]))
                self.take(kind, None, item)
            for key in set(self.ours[kind.plural]) - present:
                if _version(self.ours[kind.plural][key]) <= listed_at:
                    self._drop(kind, key)
        self.missing = frozenset(missing)
        for stored in list(self.stored.items.values()):
            if stored.record is not None:
                self._wake((stored.record.namespace, stored.record.channel))
        return self.missing

    async def _first_sync(self) -> None:
        """A CRD that was just created answers 429 for a moment."""
        while True:
            try:
                await self.resync()
            except ApiError as error:
                log.warning("Our kinds can't be read yet: %s", error)
                await asyncio.sleep(error.retry_after or 1.0)
            else:
                return

    def records(self) -> list[Key]:
        """Channels with a rollout under way."""
        return [
            (s.record.namespace, s.record.channel)
            for s in self.stored.items.values()
            if s.record is not None and s.record.rollout is not None
        ]

    def baking(self) -> list[Key]:
        """Channels whose stable bakes: its nodes are watched, but no lease is polled for it."""
        return [
            (s.record.namespace, s.record.channel)
            for s in self.stored.items.values()
            if s.record is not None and s.record.bake is not None and not s.record.bake.incident
        ]

    async def _keep_resyncing(self) -> None:
        while True:
            await asyncio.sleep(RESYNC_SECONDS)
            with contextlib.suppress(ApiError):
                await self.resync()

    async def _poll_leases(self) -> None:
        """While a rollout is under way, see which nodes have renewed their lease: at once, since a
        renewal counts from the look before the one that saw it.
        """
        while True:
            if self.records():
                await self._look_at_leases()
            else:
                self._renewals.clear()
                self.leases = {}
            await asyncio.sleep(LEASE_POLL_SECONDS)

    async def _look_at_leases(self) -> None:
        began = self._clock()
        try:
            # Never with resourceVersion=0: a cache that lags shows a dead machine's last
            # renewal late, as if it were fresh.
            listed = await self._client.list(paths.NODE_LEASES)
        except ApiError as error:
            log.warning("Node leases can't be read, so no wave can pass: %s", error)
            return
        self._note_renewals(listed)
        self._looked_at = began
        self._wake_running()

    def _note_renewals(self, listed: Mapping[str, Any]) -> None:
        """A lease that is newer than at our last look was renewed at some time since that look
        began, maybe right after it: who died while we could not look must not seem alive now. One
        that is older comes from an apiserver that lags behind another.
        """
        known, renewed = self._renewals, dict[str, float]()
        for item in listed.get("items", []):
            metadata = item["metadata"]
            name, version = metadata["name"], metadata["resourceVersion"]
            before = known.get(name)
            if version == before or (before is not None and int(version) <= int(before)):
                continue
            # The first sight of a lease says nothing about when it was renewed.
            if before is not None:
                renewed[name] = self._looked_at
            known[name] = version
        if renewed:
            self.leases = {**self.leases, **renewed}

    def _wake_running(self) -> None:
        for key in self.records():
            self._wake(key)

    def _node_changed(self) -> None:
        for key in {*self.records(), *self.baking()}:
            self._wake(key)
        if self._idle is None:
            loop = asyncio.get_running_loop()
            self._idle = loop.call_later(IDLE_SECONDS, self._wake_idle)

    def _wake_idle(self) -> None:
        self._idle = None
        for key in self.ours[Channel.plural]:
            self._wake(key)

    def _pod_changed(self, _key: Key, old: PodView | None, new: PodView | None) -> None:
        pod = new or old
        if pod is None:
            return
        if new is None and pod.node:
            place = (pod.namespace, pod.channel, pod.node)
            remember(self.pods_lost, place, self._clock(), MAX_REMEMBERED)
        self._wake((pod.namespace, pod.channel))

    def _revision_changed(
        self, key: Key, old: RevisionView | None, new: RevisionView | None
    ) -> None:
        view = new or old
        if view is not None:
            self._wake((key[0], view.channel))

    def _stored_changed(
        self, key: Key, old: StoredConfigMap | None, new: StoredConfigMap | None
    ) -> None:
        stored = new or old
        if stored is None:
            return
        if stored.kind == "record" and self._tasks is not None:
            known = (s.record for s in self.stored.items.values())
            self.selected.follow((record for record in known if record), self._tasks)
        self._wake((key[0], stored.channel))


def _told(resource: Resource) -> Resource:
    """The object without what we write ourselves, its status, which decides nothing."""
    bare = resource.metadata.model_copy(update={"resource_version": ""})
    return resource.model_copy(update={"metadata": bare, "status": {}})


def _version(resource: Resource | None) -> int:
    return int(resource.metadata.resource_version or 0) if resource else -1
