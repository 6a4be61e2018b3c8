"""Everything that one decision sees of a channel, gathered at one moment."""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from wavegate.api import Channel, Decision, Release
from wavegate.evidence import CheckResult, Ledger, NodeView, PodView
from wavegate.rollout.attempt import Revision
from wavegate.rollout.kept import Kept
from wavegate.rollout.names import HANDS_OFF_ANNOTATION, node_label
from wavegate.rollout.placement import placement
from wavegate.rollout.record import Record
from wavegate.rollout.steps import Target
from wavegate.rollout.templates import targeted

T = TypeVar("T")
FIRST_LOOK_SECONDS = 60.0
"""What is seen so soon after the operator's start may have happened at any time before."""


@dataclass(frozen=True, slots=True)
class RevisionView:
    """A revision's DaemonSet as it is in the cluster."""

    attempt: str
    name: str
    observed: bool
    """The controller has seen the newest generation."""
    own_affinity: Mapping[str, Any]
    """The affinity that it was created with, before any targeting."""
    affinity: Mapping[str, Any]
    template: Mapping[str, Any]
    """The pod template with `own_affinity`: where the agent itself wants to run."""
    channel: str = ""
    version: str = ""
    """resourceVersion, which a change that is no fence is tested against."""
    release: str = ""
    release_uid: str = ""
    release_version: str = ""
    sequence: int | None = None
    digest: str = ""
    """What its annotations say that it carries; read only when the record was lost. The sequence
    is None on a DaemonSet of an older version, or when someone garbled it."""
    uid: str = ""
    loaded: str = ""
    agent: str = ""
    """Digest of the channel's template that it was made from, as its annotation says."""
    layers: tuple[str, ...] = ()

    def targets(self, key: str, target: Target, attempt: str = "") -> bool:
        """Tell whether its DaemonSet points where `target` says."""
        return bool(self.affinity == targeted(self.own_affinity, key, target, attempt))


@dataclass(frozen=True, slots=True)
class ContentView:
    """A ConfigMap with content: ours and the user's look alike. `digest` is over its data."""

    name: str
    digest: str
    immutable: bool


@dataclass(frozen=True, slots=True)
class AgentSource:
    """The channel's agent: its template, or why there is none."""

    template: Mapping[str, Any] | None = None
    source: str = ""
    """Of a parked DaemonSet: UID and generation, which each edit of its spec changes."""
    missing: str = ""
    """Name of the parked DaemonSet that does not exist."""
    running_pods: int = 0
    """Nodes on which a parked DaemonSet runs its own pods."""
    refused: str = ""
    """What the apiserver would refuse of a DaemonSet with this template, or take away from it, for
    a person; empty if nothing."""
    completed: Mapping[str, Any] | None = None
    """The pod template of a revision made of it, with other content, as the apiserver would show
    it: with its defaults, and what admission adds. None while it is not known."""
    ungated: tuple[str, ...] | None = None
    """Kind and name of what it reads that can change without a wave; None when not known."""


@dataclass(frozen=True, slots=True)
class RevertProof:
    """What a dry run of the revert said, asked for the wave with this ledger number."""

    attempt: str
    ledger: int
    asked_at: float
    problem: str = ""
    """Which write is refused or changed, by what, and what to do; empty when none is."""
    tried: frozenset[str] = frozenset()
    """UIDs of the DaemonSets that it was about. One that is gone, or made anew, is another."""


@dataclass(frozen=True, slots=True)
class PolicyProof:
    """What became of a forged decision, tried by dry run in the channel's namespace."""

    asked_at: float
    since: float
    """When it was refused first, if it was each time since; else the newest try."""
    problem: str = ""
    """What is missing, in words; empty when the policies are in force."""


@dataclass(frozen=True, slots=True)
class CriticalWorkloads:
    """On which nodes critical workloads run. It is read only while a wave chooses its nodes."""

    nodes: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """By Service (`namespace/name`): names of the nodes with its ready endpoints, at least one."""
    read_at: float = -math.inf
    """When it was asked for; endlessly long ago if this process has not asked."""
    services: frozenset[str] = frozenset()
    """The Services that the plan asked for; those of webhooks come from the cluster."""
    attempt: str = ""
    """For which attempt it was asked; empty: for the plan that is shown."""
    error: str = ""
    """Why it is not known, in words; empty when it is."""


Soak = tuple[str, str]
"""The soak that images are pulled in: attempt, and number of the wave's ledger."""


@dataclass(frozen=True, slots=True)
class PrefetchPod:
    """A pod that pulls images ahead, and runs nothing."""

    name: str
    namespace: str
    channel: str
    soak: Soak
    node: str
    pulled: bool = False
    """All of its images are on the node."""
    problem: str = ""
    """Why not, in the kubelet's word; empty while it pulls."""
    ended: bool = False
    """Nothing more comes of it."""
    terminating: bool = False


@dataclass(frozen=True, slots=True)
class Prefetched:
    """The pods that pull images ahead for a channel, and why some could not be made in a soak."""

    pods: tuple[PrefetchPod, ...] = ()
    failed: Mapping[Soak, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AgentPods:
    """The pods that a plan's `agents` selects."""

    pods: tuple[PodView, ...] = ()
    lost: Mapping[str, float] = field(default_factory=dict)
    """By node: when we last saw one vanish from it."""
    blind: str = ""
    """Why they may not be as they are, in words; empty when they are."""


@dataclass(frozen=True, slots=True)
class Observation:
    """The input of `decide`. `channel` is None when it was deleted while we remember it."""

    namespace: str
    name: str
    channel: Channel | None
    record: Record
    nodes: Mapping[str, NodeView]
    gone: Mapping[str, NodeView] = field(default_factory=dict)
    """Nodes that vanished since the operator started, as they were last seen."""
    agent: AgentSource = AgentSource()
    releases: tuple[Release, ...] = ()
    decisions: tuple[Decision, ...] = ()
    revisions: Mapping[str, RevisionView] = field(default_factory=dict)
    """DaemonSets of this channel, by attempt."""
    ledgers: Mapping[int, Ledger] = field(default_factory=dict)
    """Ledgers of the running attempt, by number."""
    bake_ledgers: Mapping[int, Ledger] = field(default_factory=dict)
    """Ledgers of the attempt that bakes, by number."""
    bake_checks: Mapping[str, CheckResult] = field(default_factory=dict)
    old_ledgers: frozenset[str] = frozenset()
    """Attempts other than the running one of which ledgers are left."""
    old_sequence: int = -1
    """The highest sequence that one of those names; -1 = none."""
    pods: tuple[PodView, ...] = ()
    leases: Mapping[str, float] = field(default_factory=dict)
    """When we last saw each node's lease renewed."""
    checks: Mapping[str, CheckResult] = field(default_factory=dict)
    contents: Mapping[str, ContentView] = field(default_factory=dict)
    """ConfigMaps with content that releases name, and our own copies, by name."""
    soak_floor: float = 180.0
    watching_since: float = 0.0
    """Since when this operator sees everything, and may write: what was before it is not soak."""
    seen_at: float = 0.0
    """All that happened to nodes and pods before this time is in here."""
    labelled_at: Mapping[tuple[int, int], float] = field(default_factory=dict)
    """By number of a ledger, and how many of its first nodes were seen labelled (`labelled`): when
    this process first read so in the record of the running attempt; the earliest first."""
    refused: str = ""
    """Why the apiserver refused the candidate's DaemonSet, its content or its next ledger; empty if
    it did not."""
    pods_lost: Mapping[str, float] = field(default_factory=dict)
    """By node: when we last saw an agent pod of this channel vanish from it."""
    agents: AgentPods = field(default_factory=AgentPods)
    """Those of the running rollout."""
    bake_agents: AgentPods = field(default_factory=AgentPods)
    prefetched: Prefetched = field(default_factory=Prefetched)
    """Nothing is decided by it: it is told."""
    blind: str = ""
    """What of the cluster we may not see as it is, in words; empty when we see everything."""
    forbidden: str = ""
    """What RBAC does not let us do in this namespace, in words; empty when it lets us do all."""
    allowed_since: float = 0.0
    """Since when it lets us do all again, after it did not; 0 = it always did."""
    unreadable: bool = False
    """Objects of our kinds in this namespace can't be read by this version: none of them counts as
    deleted."""
    way_back: RevertProof | None = None
    """The newest dry run of the revert; None when none was asked by this process."""
    critical: CriticalWorkloads = field(default_factory=CriticalWorkloads)
    own_node: str = ""
    """The node on which this process runs; empty when that is not known."""
    policies: PolicyProof | None = None
    """Whether decisions prove who made them; None while it was not tried by this process."""
    record_lost: bool = False
    """Revisions of this channel run, but no record of it can be read."""
    record_unreadable: bool = False
    """There is a record, and this version can't read it."""
    at: float = 0.0
    """When it was gathered."""
    busy: Mapping[str, str] = field(default_factory=dict)
    """Nodes that another channel keeps from this one, and which (`namespace/name`): see `busy`."""
    others: tuple[Channel, ...] = ()
    """All other channels of the cluster."""
    paused_since: float | None = None
    """Since when this process has seen it paused without a break; None when it is not."""
    busy_since: float | None = None
    """The same of a wait for another channel."""
    kept: Kept = field(default_factory=Kept, repr=False, compare=False)
    """What follows from parts of it, which the next observation may share."""
    shown: Kept = field(default_factory=Kept, repr=False, compare=False)
    """The same for what is small; it is kept where nothing is under way, too."""

    _facts: dict[tuple[object, ...], tuple[tuple[object, ...], Any]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """What `once` has worked out already. A copy that differs begins anew."""

    @property
    def hands_off(self) -> bool:
        """A person asked that we write nothing for this channel but status."""
        annotations = self.channel.metadata.annotations if self.channel else {}
        return annotations.get(HANDS_OFF_ANNOTATION) == "true"

    @property
    def key(self) -> str:
        """The channel's node label."""
        return node_label(self.namespace, self.name)

    def revision(self, revision: Revision | None) -> RevisionView | None:
        """The DaemonSet of a recorded revision, if it exists."""
        return self.revisions.get(revision.attempt) if revision else None

    def release(self, uid: str) -> Release | None:
        """The release with this UID, unless it is gone or being deleted."""
        found = (r for r in self.releases if r.uid == uid and not r.deletion_timestamp)
        return next(found, None)

    def once(self, compute: Callable[..., T], *of: object) -> T:
        """Return `compute(self, *of)`, worked out when it is first asked for with these very
        objects: what is seen never changes, so whoever looks in this pass gets the same.
        """
        key = (compute, *map(id, of))  # ids stay theirs, as the objects are kept with the value
        if key not in self._facts:
            self._facts[key] = (of, compute(self, *of))
        value: T = self._facts[key][1]
        return value

    def pods_of(self, attempt: str) -> tuple[PodView, ...]:
        """The pods of one attempt."""
        return self.kept.of(_pods_by_attempt, self.pods).get(attempt, ())

    def pods_on(self, attempt: str) -> Mapping[str | None, tuple[PodView, ...]]:
        """The pods of one attempt by their node; those that are not bound yet are under None."""
        return self.kept.of(_pods_by_node, self.pods_of(attempt))

    def agents_on(self) -> Mapping[str | None, tuple[PodView, ...]]:
        """The pods that agentSelector selects, by node."""
        return self.kept.of(_pods_by_node, self.agents.pods)

    def moved(self, attempt: str) -> tuple[NodeView, ...]:
        """The nodes that carry the label of this attempt."""
        return self.kept.of(_nodes_by_attempt, self.nodes, self.key).get(attempt, ())

    def carriers(self, template: Mapping[str, Any]) -> Mapping[str, NodeView]:
        """The nodes on which an agent with this template runs, by name."""
        return self.kept.of(_carriers, self.nodes, template)


def _pods_by_attempt(pods: tuple[PodView, ...]) -> dict[str, tuple[PodView, ...]]:
    found: dict[str, list[PodView]] = defaultdict(list)
    for pod in pods:
        found[pod.attempt].append(pod)
    return {attempt: tuple(of_it) for attempt, of_it in found.items()}


def _pods_by_node(pods: tuple[PodView, ...]) -> dict[str | None, tuple[PodView, ...]]:
    found: dict[str | None, tuple[PodView, ...]] = {}
    for pod in pods:
        others = found.get(pod.node)
        found[pod.node] = (*others, pod) if others else (pod,)
    return found


def _nodes_by_attempt(nodes: Mapping[str, NodeView], key: str) -> dict[str, tuple[NodeView, ...]]:
    found: dict[str, list[NodeView]] = defaultdict(list)
    for node in nodes.values():
        side = node.sides.get(key)
        if side is not None:
            found[side.attempt].append(node)
    return {attempt: tuple(of_it) for attempt, of_it in found.items()}


def _carriers(nodes: Mapping[str, NodeView], template: Mapping[str, Any]) -> dict[str, NodeView]:
    runs = placement(template)
    return {name: node for name, node in nodes.items() if runs(node)}
