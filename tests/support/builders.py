"""Builders of our three kinds, and the parts that a simulated cluster is made of."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wavegate.api import Channel, Decision, Release
from wavegate.evidence import NodeView, PodView, Side, Taint, is_leaving
from wavegate.rollout.attempt import Revision
from wavegate.rollout.excerpts import timestamp
from wavegate.rollout.names import LOADED_DIGEST_ANNOTATION, node_label
from wavegate.rollout.observation import CriticalWorkloads, RevisionView
from wavegate.rollout.placement import runs_on
from wavegate.rollout.record import Record
from wavegate.rollout.workloads import services

SPACE, CHANNEL = "agents", "rules"
KEY = node_label(SPACE, CHANNEL)


def digest(content: str) -> str:
    """The digest of a content's image."""
    return "sha256:" + hashlib.sha256(content.encode()).hexdigest()


def layers(*names: str) -> tuple[str, ...]:
    """The digests of layers of these names."""
    return tuple(digest(f"layer {name}") for name in names)


def agent_template() -> dict[str, Any]:
    """A pod template with one container and one volume for content."""
    image = f"registry.example/agent@{digest('agent')}"
    volumes = [{"name": "content", "image": {"reference": "set-by-wavegate"}}]
    return {"spec": {"containers": [{"name": "agent", "image": image}], "volumes": volumes}}


def make_channel(**spec: Any) -> Channel:
    """A channel in two waves at a quick pace; `spec` replaces fields of it."""
    pools = [{"name": p, "selector": {"matchLabels": {"pool": p}}} for p in ("canary", "workers")]
    waves = [
        {"name": "canary", "pools": ["canary"], "upTo": "100%"},
        {"name": "all", "upTo": "100%"},
    ]
    rollout: dict[str, Any] = {
        "maxUnavailable": "100%",
        "settle": "5s",
        "soak": "30s",
        "progressDeadline": "2m",
    }
    # Most tests mean the next release to start at once, whatever became of those before.
    rollout |= {"coolDown": "0s", "breaker": {"reverts": 0}}
    base = {
        "agent": {"template": agent_template()},
        "content": {"imageVolume": {"volumeName": "content"}},
        "pools": pools,
        "waves": waves,
    }
    rollout |= spec.pop("rollout", {})
    metadata = {"name": CHANNEL, "namespace": SPACE, "uid": "channel", "generation": 1}
    return Channel.parse({"metadata": metadata, "spec": base | {"rollout": rollout} | spec})


def make_release(name: str, sequence: int, content: str = "", **spec: Any) -> Release:
    """A release whose content is an image, by default named by the release itself. `layers` are
    told by their names, `loaded` as an agent reports it.
    """
    image = f"registry.example/content@{digest(content or name)}"
    body: dict[str, Any] = {"channel": CHANNEL, "version": name, "sequence": sequence}
    body["content"] = {"image": image}
    if "layers" in spec:
        body["content"]["layers"] = layers(*spec.pop("layers"))
    if "loaded" in spec:
        body["content"]["loadedDigest"] = spec.pop("loaded")
    uid = f"uid-{name}-{sequence}"
    metadata: dict[str, Any] = {"name": name, "namespace": SPACE, "uid": uid, "generation": 1}
    metadata["creationTimestamp"] = timestamp(spec.pop("made", 1_000_000))
    return Release.parse({"metadata": metadata, "spec": body | spec})


def make_decision(name: str, release: str, action: str, content: str = "", **spec: Any) -> Decision:
    """A person's decision on the release's content."""
    body = {"release": release, "digest": digest(content or release), "action": action}
    made = spec.pop("made", 1_000_000)
    metadata = {"name": name, "namespace": SPACE, "uid": f"uid-{name}"}
    metadata["creationTimestamp"] = timestamp(made)
    return Decision.parse({"metadata": metadata, "spec": body | {"reason": "a test"} | spec})


@dataclass(slots=True)
class SimNode:
    """A machine. While it is not `alive` nothing on it changes."""

    name: str
    uid: str
    labels: dict[str, str]
    boot: int = 1
    alive: bool = True
    died_at: float = 0.0
    attempt: str | None = None
    label_seen: float = 0.0
    taints: tuple[Taint, ...] = ()
    unschedulable: bool = False
    announced: str = ""
    """What the operator remembers: the boot on which its leaving was announced."""
    announced_at: float = 0.0
    bad: frozenset[str] = frozenset()
    lost_at: float | None = None
    kernel: str = ""
    left: str = ""
    """What the operator remembers: the boot before this one, if it was rebooted as announced."""
    seen: tuple[bool, int] | None = None
    """Ready and number of boots, as the operator saw it last; and when it saw the last loss."""

    @property
    def boot_id(self) -> str:
        """It changes with each boot."""
        return f"{self.uid}-boot-{self.boot}"

    def is_leaving(self) -> bool:
        """Whether it is cordoned, or an autoscaler has announced to remove it."""
        return is_leaving(self.taints, unschedulable=self.unschedulable)

    def view(self, ready: bool) -> NodeView:
        """The node as the operator projects it."""
        return NodeView(
            self.name,
            self.uid,
            self.boot_id,
            ready,
            self.labels,
            self.taints,
            self.unschedulable,
            {KEY: Side(self.attempt, self.label_seen)} if self.attempt else {},
            self.announced,
            self.announced_at,
            self.bad,
            self.lost_at,
            self.left,
            kernel=self.kernel,
        )


@dataclass(slots=True)
class SimPod:
    """A pod of a DaemonSet, made for one node; `bound` once the scheduler agreed."""

    uid: str
    attempt: str
    node: str
    bound_at: float | None = None
    phase: str = "Pending"
    ready: bool = False
    seen_ready: bool = False
    """Its Ready condition when the operator last looked, and since when it sees that."""
    seen_since: float = 0.0
    deleting: bool = False
    restarts: int = 0
    seen_restarts: tuple[int, float] = (0, 0.0)
    """How often it had restarted when the operator looked, and when it saw that first."""
    waiting: str = ""
    said: str = ""
    """What its agent reports as loaded; empty: nothing."""

    def view(self) -> PodView:
        """The pod as the operator projects it."""
        return PodView(
            name=f"agent-{self.uid}",
            namespace=SPACE,
            uid=self.uid,
            channel=CHANNEL,
            attempt=self.attempt,
            node=self.node if self.bound_at is not None else None,
            phase=self.phase,
            ready=self.seen_ready,
            ready_since=self.seen_since if self.seen_ready else None,
            unready_since=None if self.seen_ready else self.seen_since,
            terminating=self.deleting,
            restarts=self.restarts,
            waiting=self.waiting,
            annotations={LOADED_DIGEST_ANNOTATION: self.said} if self.said else {},
            restarted_at=self.seen_restarts[1] if self.restarts else None,
        )


@dataclass(slots=True)
class SimDaemonSet:
    """A revision's DaemonSet; `template` carries the affinity it was created with."""

    revision: Revision
    template: Mapping[str, Any]
    affinity: Mapping[str, Any]
    generation: int = 1
    observed: int = 0

    @property
    def own(self) -> Mapping[str, Any]:
        """The affinity that it was created with."""
        affinity: Mapping[str, Any] = self.template["spec"]["affinity"]
        return affinity

    def view(self) -> RevisionView:
        """The DaemonSet as the operator projects it."""
        return RevisionView(
            attempt=self.revision.attempt,
            name=self.revision.daemon_set,
            observed=self.observed >= self.generation,
            own_affinity=self.own,
            affinity=self.affinity,
            template=self.template,
            channel=CHANNEL,
            version=str(self.generation),
            release=self.revision.release,
            release_uid=self.revision.release_uid,
            release_version=self.revision.version,
            sequence=self.revision.sequence,
            digest=self.revision.digest,
            agent=self.revision.agent,
            layers=self.revision.layers,
        )


def matches(template: Mapping[str, Any], node: NodeView, *, stays: bool = False) -> bool:
    """Whether a targeted template runs on a node, its side label included. A pod that is there
    already `stays` whatever NoSchedule taint comes.
    """
    taints = tuple(t for t in node.taints if not stays or t.effect == "NoExecute")
    labels = {**node.labels, **({KEY: a} if (a := node.attempt(KEY)) else {})}
    whole = NodeView(node.name, node.uid, node.boot_id, node.ready, labels, taints)
    return runs_on(template, whole)


def seen_nowhere(record: Record, now: float) -> CriticalWorkloads:
    """What was read just now, where none of the critical workloads that a plan asks for runs."""
    rollout = record.rollout
    asked = services(rollout.plan) if rollout else frozenset()
    return CriticalWorkloads({}, now, asked, rollout.attempt if rollout else "")


def summary(record: Record) -> str:
    """One line for the story."""
    rollout = record.rollout
    if rollout is None:
        last = record.outcomes[0] if record.outcomes else None
        return f"{last.release} {last.phase} ({last.reason})" if last else "empty"
    wave = f", wave {rollout.waves[-1].name} {rollout.waves[-1].state}" if rollout.waves else ""
    why = f", {rollout.incident.reason}" if rollout.incident else ""
    paused = f", paused {rollout.paused}" if rollout.paused else ""
    promoting = ", promoting" if rollout.promoting else ""
    return f"{rollout.candidate.release} {rollout.phase}{wave}{promoting}{paused}{why}"
