"""Gathers one channel's Observation from the mirrors, plus what no mirror holds (sources.py)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from wavegate.api import Channel, Decision, Phase, Release, Resource
from wavegate.cluster import paths
from wavegate.cluster.client import ApiError, Client
from wavegate.cluster.forged import FORGED
from wavegate.cluster.projections import StoredConfigMap
from wavegate.controller import claims
from wavegate.controller.sources import Sources
from wavegate.controller.work import Key
from wavegate.controller.world import BLIND_SECONDS, World
from wavegate.evidence import CheckResult, NodeView, PodView
from wavegate.rollout.kept import Kept
from wavegate.rollout.names import record_name
from wavegate.rollout.observation import AgentSource, Observation, RevisionView
from wavegate.rollout.record import Record

CheckResults = Mapping[str, Mapping[str, CheckResult]]
"""By attempt, by name of the check."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """An observation, and the version of the record that it was made from (empty: none stored)."""

    observation: Observation
    record_version: str


class Gatherer:
    """Reads the world for one channel."""

    def __init__(
        self,
        client: Client,
        world: World,
        soak_floor: float,
        clock: Callable[[], float],
        own_node: str = "",
    ) -> None:
        self._client, self._world, self._clock = client, world, clock
        self._soak_floor, self._own_node = soak_floor, own_node
        self._since = clock()
        self._sources = Sources(client, world, clock)
        self._labelled_at: dict[Key, tuple[str, dict[tuple[int, int], float]]] = {}
        """By channel: the attempt, and `Observation.labelled_at` of it."""
        self.stops = claims.Stops(clock)
        self._kept: dict[Key, Kept] = {}
        """Of channels that roll out or bake: the others are looked at too seldom."""
        self._shown: dict[Key, Kept] = {}

    async def gather(
        self, key: Key, checks: CheckResults, refused: str, forbidden: str = ""
    ) -> Gathered:
        """Gather what is known of channel `key`. Raises ApiError when something can't be read.
        `forbidden` as in the observation: then nothing is asked for but what all may see.
        """
        namespace, name = key
        world = self._world
        stored = world.stored.items.get((namespace, record_name(name)))
        record = stored.record if stored else None
        if record is not None:
            await self._look_for_missing(key, record)
        channel = world.ours[Channel.plural].get(key)
        releases = self._releases(key)
        revisions = {
            view.attempt: view
            for (space, _), view in world.revisions.items.items()
            if space == namespace and view.channel == name
        }
        known = record or Record(namespace, name)
        kept, shown = self._kept_of(key, known), self._shown.pop(key, Kept())
        shown.next_pass()
        if channel is not None:
            self._shown[key] = shown
        nodes, gone = world.nodes.shown()
        plan = known.rollout.plan if known.rollout else None
        agents = world.selected.pods(namespace, plan, BLIND_SECONDS, kept)
        plan = known.bake.rollout.plan if known.bake else None
        bake_agents = world.selected.pods(namespace, plan, BLIND_SECONDS, kept)
        rolling = known.rollout is not None and known.rollout.phase is Phase.Rolling
        observation = Observation(
            namespace=namespace,
            name=name,
            channel=channel if isinstance(channel, Channel) else None,
            record=known,
            nodes=kept.of(_by_name, nodes),
            gone=kept.of(_by_name, gone),
            agent=AgentSource()
            if forbidden
            else await self._sources.agent(channel, known, revisions, kept),
            releases=releases,
            decisions=self._decisions(key, known),
            revisions=revisions,
            pods=kept.of(_pods_of, world.pods.shown()[0], namespace, name),
            leases=world.leases,
            checks=checks.get(known.rollout.attempt, {}) if known.rollout else {},
            bake_checks=checks.get(known.bake.attempt, {}) if known.bake else {},
            contents=await self._sources.contents(namespace, () if forbidden else releases, known),
            agents=agents,
            bake_agents=bake_agents,
            # A revert asks nothing of them, and does not wait for them.
            blind=world.blind() or forbidden or (agents.blind if rolling else ""),
            forbidden=forbidden,
            unreadable=bool(world.missing)
            or any(space == namespace for _, space, _ in world.unreadable),
            own_node=self._own_node,
            soak_floor=self._soak_floor,
            watching_since=self._since,
            seen_at=world.seen_at(key),
            labelled_at=self._labelled_since(key, known),
            refused=refused,
            pods_lost={
                node: at
                for (space, channel_name, node), at in world.pods_lost.items()
                if (space, channel_name) == key
            },
            record_lost=self._is_lost(stored, revisions),
            record_unreadable=bool(revisions) and stored is not None and stored.record is None,
            at=self._clock(),
            kept=kept,
            shown=shown,
            busy=claims.busy(world.stored.items, key, self._clock()),
            others=tuple(
                other
                for place, other in world.ours[Channel.plural].items()
                if place != key and isinstance(other, Channel)
            ),
            **self._ledgers(key, known),
        )
        observation = self.stops.told(key, observation)
        return Gathered(observation, stored.version if stored else "")

    def confirm_free(self, key: Key, names: set[str]) -> None:
        """Raise ApiError 409 if another channel keeps one of these nodes by now. Whoever asks does
        so before he stores that he moves them, and nobody else does between the two.
        """
        busy = claims.busy(self._world.stored.items, key, self._clock())
        theirs = sorted(names & busy.keys())
        if theirs:
            what = f"node {theirs[0]} was taken by channel {busy[theirs[0]]} in this moment"
            raise ApiError(409, f"{what}; it is waited for")

    def _labelled_since(self, key: Key, record: Record) -> dict[tuple[int, int], float]:
        """`Observation.labelled_at`, with what this record says for the first time."""
        rollout = record.rollout
        if rollout is None:
            self._labelled_at.pop(key, None)
            return {}
        attempt, marks = self._labelled_at.get(key, ("", {}))
        marks = marks if attempt == rollout.attempt else {}
        for wave in rollout.waves:
            marks.setdefault((wave.ledger, wave.labelled), self._clock())
        self._labelled_at[key] = (rollout.attempt, marks)
        return dict(marks)

    def _kept_of(self, key: Key, record: Record) -> Kept:
        """What was worked out in the last pass on this channel, if its next one may come soon."""
        kept = self._kept.get(key, Kept())
        kept.next_pass()
        if record.rollout is None and record.bake is None:
            self._kept.pop(key, None)
        else:
            self._kept[key] = kept
        return kept

    async def confirm_channel(self, obs: Observation) -> None:
        """Raise ApiError 409 if the channel is not what was decided on any more. Channels and
        releases are watched apart, so a release may be seen before an edit that was made earlier;
        a plan is frozen by what is stored.
        """
        key = (obs.namespace, obs.name)
        there = await self._look_for(Channel, *key)
        now = self._world.ours[Channel.plural].get(key) if there else None
        unreadable = (Channel.plural, *key) in self._world.unreadable
        if unreadable or now is None or obs.channel is None or _terms(now) != _terms(obs.channel):
            raise ApiError(
                409, "the channel is not as it was seen; a release starts by its new spec"
            )

    async def _look_for_missing(self, key: Key, record: Record) -> None:
        """A deletion reverts. So what the record speaks of and our watches do not show is asked
        for by name: they may lag behind the record, which another leader may have written.
        """
        rollout, (namespace, name) = record.rollout, key
        if rollout is None or rollout.phase is Phase.Reverting:
            return
        if key not in self._world.ours[Channel.plural]:
            await self._look_for(Channel, namespace, name)
        candidate = rollout.candidate
        if candidate.is_agent:
            return
        if all(release.uid != candidate.release_uid for release in self._releases(key)):
            await self._look_for(Release, namespace, candidate.release)

    async def _look_for(self, kind: type[Resource], namespace: str, name: str) -> bool:
        """Take in what is stored; returns whether it is there."""
        body = await self._client.find(paths.ours(kind.plural, namespace, name))
        if body is not None:
            self._world.take(kind, None, body)
        return body is not None

    def _releases(self, key: Key) -> tuple[Release, ...]:
        namespace, name = key
        return tuple(
            release
            for release in self._world.ours[Release.plural].values()
            if isinstance(release, Release)
            and release.namespace == namespace
            and release.spec.channel == name
        )

    def _decisions(self, key: Key, record: Record) -> tuple[Decision, ...]:
        """Also those that name a release which is gone: who takes a bad one out of Git deletes it,
        and its block and the breaker are opened by its name all the same.
        """
        (namespace, name), remembered = key, record.named
        releases = self._world.ours[Release.plural]

        def is_mine(wanted: str) -> bool:
            release = releases.get((namespace, wanted))
            if isinstance(release, Release):
                return release.spec.channel == name
            return wanted in remembered

        return tuple(
            decision
            for decision in self._world.ours[Decision.plural].values()
            if isinstance(decision, Decision)
            and decision.namespace == namespace
            and decision.name != FORGED
            and is_mine(decision.spec.release)
        )

    def _ledgers(self, key: Key, record: Record) -> dict[str, Any]:
        attempt = record.rollout.attempt if record.rollout else ""
        baking = record.bake.attempt if record.bake else ""
        mine = [
            stored.ledger
            for (space, _), stored in self._world.stored.items.items()
            if space == key[0] and stored.channel == key[1] and stored.ledger is not None
        ]
        return {
            "ledgers": {ledger.number: ledger for ledger in mine if ledger.attempt == attempt},
            "bake_ledgers": {ledger.number: ledger for ledger in mine if ledger.attempt == baking},
            "old_ledgers": frozenset(led.attempt for led in mine if led.attempt != attempt),
            "old_sequence": max(
                (led.sequence for led in mine if led.attempt != attempt), default=-1
            ),
        }

    @staticmethod
    def _is_lost(stored: StoredConfigMap | None, revisions: Mapping[str, RevisionView]) -> bool:
        """A record that can't be read is as lost as one that is gone."""
        return bool(revisions) and (stored is None or stored.record is None)


def _terms(channel: Resource) -> tuple[object, ...]:
    """What of a channel decides anything: all but its status."""
    return channel.uid, channel.generation, channel.metadata.annotations


def _by_name(nodes: Mapping[Key, NodeView]) -> dict[str, NodeView]:
    return {node.name: node for node in nodes.values()}


def _pods_of(pods: Mapping[Key, PodView], namespace: str, channel: str) -> tuple[PodView, ...]:
    return tuple([p for p in pods.values() if p.channel == channel and p.namespace == namespace])
