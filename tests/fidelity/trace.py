"""What a watcher can see of a story, in words that are the same for every run of it.

A `Trace` is fed each change of each object in the order in which the apiserver stored them, by the
simulation or by real watches, and gives for each object the sequence of its observable states.
Names, UIDs, attempt ids, versions and times are replaced or left out. What reality itself does not
decide is folded: nodes of one pool are told apart only by what happened to them (the order of a
wave is a hash of random UIDs), and how often something goes round is not counted.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from simulation.cluster import rules_of
from simulation.daemonsets import target_of
from wavegate.api import WaveState
from wavegate.cluster.projections import stored_config_map
from wavegate.rollout.attempt import Rollout
from wavegate.rollout.names import ATTEMPT_LABEL, CHANNEL_LABEL
from wavegate.rollout.record import Record

Body = Mapping[str, Any]
KINDS = ("configmaps", "daemonsets", "nodes", "pods", "securitycontentreleases")
"""The order of one version's changes does not matter: each change has a version of its own."""

ROUND = (WaveState.Moving, WaveState.Soaking, WaveState.Judging)
"""A wave goes back from the later ones to Moving when a pass happens to look while a pod is
replaced (0.3 s), or sees a lost node's pod before the node. Whether it looks then, reality leaves
open: the furthest that a wave came is told instead.
"""


@dataclass(slots=True)
class Life:
    """The states of one object, without repetitions."""

    states: list[str] = field(default_factory=list)

    def add(self, state: str) -> None:
        """Append unless it is the state already."""
        if not self.states or self.states[-1] != state:
            self.states.append(state)

    def last(self) -> "Life":
        """One that begins as this one ended."""
        return Life(self.states[-1:])

    @property
    def is_there(self) -> bool:
        """Whether the object is not gone."""
        return self.states[-1:] != ["gone"]


@dataclass(slots=True)
class NodeLife:
    """One Node object: its machine, its side, and the agent pods that were made for it."""

    pool: str
    ready: Life = field(default_factory=Life)
    taints: Life = field(default_factory=Life)
    side: Life = field(default_factory=Life)
    boots: Life = field(default_factory=Life)
    pods: dict[str, Life] = field(default_factory=dict)
    """By UID, in the order in which they were made."""

    def last(self) -> "NodeLife":
        """One that begins as this one ended. A pod's first state is its release."""
        lives = (life.last() for life in (self.ready, self.taints, self.side, self.boots))
        pods = {
            uid: Life([life.states[0], *life.states[1:][-1:]])
            for uid, life in self.pods.items()
            if life.is_there
        }
        return NodeLife(self.pool, *lives, pods)


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one object: None before = created, None after = gone."""

    plural: str
    before: Body | None
    after: Body | None

    @property
    def body(self) -> Body:
        """The object, as it was last."""
        return self.after or self.before or {}


class Trace:
    """See the module. `key` is the channel's node label."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.changes: list[Change] = []
        self.releases: dict[str, str] = {}
        """Attempt → release."""
        self.record = Life()
        self.statuses: dict[str, Life] = {}
        self.sets: dict[str, Life] = {}
        self.nodes: dict[str, NodeLife] = {}
        """By UID."""
        self._rounds: dict[tuple[str, int], int] = {}
        """By attempt and ledger: how far a wave came (place in ROUND)."""
        self._uids: dict[str, str] = {}
        """The UID of the Node that has a name now, or had it last."""

    def feed(self, change: Change) -> None:
        """Take in one change."""
        self.changes.append(change)
        take = {
            "configmaps": self._config_map,
            "daemonsets": self._daemon_set,
            "nodes": self._node,
            "pods": self._pod,
            "securitycontentreleases": self._release,
        }[change.plural]
        take(change.body, gone=change.after is None)

    def cut(self) -> None:
        """What was seen so far is what the next story begins with."""
        self.record = self.record.last()
        for lives in (self.statuses, self.sets):
            ended = {name: life.last() for name, life in lives.items() if life.is_there}
            lives.clear()
            lives.update(ended)
        self.nodes = {uid: node.last() for uid, node in self.nodes.items() if node.ready.is_there}

    def release_of(self, body: Body) -> str:
        """The release of a revision's DaemonSet or pod."""
        attempt = (body["metadata"].get("labels") or {}).get(ATTEMPT_LABEL, "")
        return self.releases.get(attempt, "?")

    def observable(self) -> dict[str, Any]:
        """Everything that was seen, as JSON."""
        return {
            "record": self.record.states,
            "status": {name: life.states for name, life in sorted(self.statuses.items())},
            "daemonSets": {name: set_life(life.states) for name, life in sorted(self.sets.items())},
            "nodes": _counted(self.nodes.values()),
        }

    def _config_map(self, body: Body, *, gone: bool) -> None:
        record = None if gone else stored_config_map(body, None, 0.0).record
        if record is not None:
            self._learn(record)
            self.record.add(self._told(record))

    def _told(self, record: Record) -> str:
        """What a record says, but for numbers, times and how far a wave's nodes are moved."""
        rollout = record.rollout
        if rollout is None:
            stable = record.stable.release if record.stable else "none"
            last = record.outcomes[0] if record.outcomes else None
            ended = f", {last.release} {last.phase} ({last.reason})" if last else ""
            return f"idle, stable {stable}{ended}"
        parts = [f"{rollout.candidate.release} {rollout.phase}"]
        if rollout.waves:
            parts.append(f"{rollout.waves[-1].name} {self._furthest(rollout)}")
        if rollout.promoting:
            parts.append("promoting")
        if rollout.paused:
            parts.append(f"paused: {rollout.paused}")
        if rollout.incident:
            parts.append(f"because {rollout.incident.reason}")
        return ", ".join(parts)

    def _furthest(self, rollout: Rollout) -> str:
        wave = rollout.waves[-1]
        if wave.state not in ROUND:
            return str(wave.state)
        key = (rollout.attempt, wave.ledger)
        self._rounds[key] = max(self._rounds.get(key, 0), ROUND.index(wave.state))
        return str(ROUND[self._rounds[key]])

    def _learn(self, record: Record) -> None:
        known = [record.stable, record.rollout.candidate if record.rollout else None]
        for revision in [*known, *record.history]:
            if revision is not None:
                self.releases[revision.attempt] = revision.release

    def _release(self, body: Body, *, gone: bool) -> None:
        status = body.get("status") or {}
        if gone or status.get("phase"):
            life = self.statuses.setdefault(body["metadata"]["name"], Life())
            life.add("gone" if gone else f"{status['phase']}")

    def _daemon_set(self, body: Body, *, gone: bool) -> None:
        life = self.sets.setdefault(self.release_of(body), Life())
        life.add("gone" if gone else self.set_state(body))

    def set_state(self, body: Body) -> str:
        """Which nodes a revision's DaemonSet matches, and whether its controller has seen it."""
        observed = (body.get("status") or {}).get("observedGeneration", 0)
        seen = ", observed" if observed >= body["metadata"]["generation"] else ""
        return f"{self.target(body)}{seen}"

    def target(self, body: Body) -> str:
        """Which nodes a revision's DaemonSet matches: all, nothing, In or NotIn a release."""
        rules = rules_of(dict(body), self.key)
        if not rules:
            return "all"
        if set(rules) == {"Exists", "DoesNotExist"}:
            return "nothing"
        operator, _, attempt = rules[0].partition(" ")
        return f"{operator} {self.releases.get(attempt, '?')}"

    def _node(self, body: Body, *, gone: bool) -> None:
        metadata = body["metadata"]
        labels = metadata.get("labels") or {}
        life = self.nodes.setdefault(metadata["uid"], NodeLife(labels.get("pool", "")))
        self._uids[metadata["name"]] = metadata["uid"]
        if gone:
            life.ready.add("gone")
            return
        side = labels.get(self.key)
        life.side.add(self.releases.get(side, "?") if side else "none")
        life.ready.add(ready_of(body))
        life.taints.add(_taints(body))
        life.boots.add(body["status"]["nodeInfo"]["bootID"])

    def _pod(self, body: Body, *, gone: bool) -> None:
        if CHANNEL_LABEL not in (body["metadata"].get("labels") or {}):
            return
        node = self.nodes.get(self._uids.get(target_of(dict(body)), ""))
        if node is not None:
            life = node.pods.setdefault(body["metadata"]["uid"], Life([self.release_of(body)]))
            life.add("gone" if gone else pod_state(body))


def pod_state(pod: Body) -> str:
    """How far a pod is. One that is being deleted is nothing else any more."""
    status = pod.get("status") or {}
    if "deletionTimestamp" in pod["metadata"]:
        return "ending"
    if status.get("phase") == "Failed":
        return "failed"
    if not pod["spec"].get("nodeName"):
        return "unbound"
    restarted = any(c.get("restartCount") for c in status.get("containerStatuses") or [])
    again = " (restarted)" if restarted else ""
    if ready_of(pod) == "True":
        return f"ready{again}"
    return f"not ready{again}" if status.get("phase") == "Running" else "bound"


def ready_of(body: Body) -> str:
    """The Ready condition of a node or a pod."""
    conditions = (body.get("status") or {}).get("conditions") or []
    return next((c["status"] for c in conditions if c["type"] == "Ready"), "unset")


def _taints(node: Body) -> str:
    """The keys of a node's taints. The two effects of a node that is lost come one by one, in an
    order that nobody promises.
    """
    keys = {t["key"].rpartition("/")[2] for t in (node["spec"].get("taints") or [])}
    return ", ".join(sorted(keys)) or "none"


def _counted(nodes: Iterable[NodeLife]) -> list[dict[str, Any]]:
    """Nodes that lived alike, and how many they are, by pool."""
    lives: Counter[tuple[Any, ...]] = Counter()
    for life in nodes:
        booted = len(life.boots.states) > 1
        pods = tuple(pod_life(pod.states, booted=booted) for pod in life.pods.values())
        seen = (life.ready.states, life.taints.states, life.side.states)
        lives[(life.pool, *(" → ".join(s) for s in seen), len(life.boots.states), pods)] += 1
    names = ("pool", "ready", "taints", "side", "boots", "pods")
    return [
        {"count": count, **dict(zip(names, life, strict=True))}
        for life, count in sorted(lives.items())
    ]


def set_life(states: Sequence[str]) -> list[str]:
    """The states of a DaemonSet. The next release may start, and point it elsewhere, before its
    controller has said that it saw it back at all nodes: nobody waits for that.
    """
    pairs = zip(states, [*states[1:], "all, observed"], strict=True)
    unseen = [one == "all" and after != "all, observed" for one, after in pairs]
    told = (
        [one, "all, observed"] if left else [one] for one, left in zip(states, unseen, strict=True)
    )
    return [state for part in told for state in part]


def pod_life(states: Sequence[str], *, booted: bool) -> str:
    """The states of a pod. A pod that starts on a machine that boots, before its Node is Ready, is
    marked as not Ready by the node controller until then: which comes first nobody promises.
    """
    told = " → ".join(states)
    return told.replace("ready → not ready → ready", "ready") if booted else told
