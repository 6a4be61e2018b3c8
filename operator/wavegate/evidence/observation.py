"""What was seen of nodes, agent pods and checks, as plain frozen values.

Times are seconds of the engine's own clock (`now`), never timestamps that another machine
wrote: a node with a wrong clock must not look healthy for longer than it was.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from wavegate.api import IntOrPercent

EVERY_NODE = IntOrPercent(100, is_percent=True)
"""The coverage of a check that names none."""


@dataclass(frozen=True, slots=True)
class Taint:
    """One taint of a node."""

    key: str
    value: str
    effect: str


@dataclass(frozen=True, slots=True)
class Side:
    """The attempt that a node is labelled with on one channel, and since when we see it."""

    attempt: str
    since: float


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node. `sides` maps a channel's key to the side that the node is on."""

    name: str
    uid: str
    boot_id: str
    ready: bool
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    unschedulable: bool = False
    sides: Mapping[str, Side] = field(default_factory=dict)
    announced: str = ""
    """Somebody announced to drain, remove or reboot it: on which boot it was then, seen Ready."""
    announced_at: float = 0.0
    """When we first saw that."""
    bad: frozenset[str] = frozenset()
    """Types of its conditions that say that something is wrong, other than Kubernetes' own."""
    lost_at: float | None = None
    """When we last saw it stop being Ready, or with another bootID; None: never yet."""
    left: str = ""
    """The boot before this one, if it was rebooted out of that as announced."""
    os: str = ""
    """What its kubelet reports: operating system, and below architecture, kernel version, name of
    the OS image, container runtime and its version. Empty: it does not say."""
    arch: str = ""
    kernel: str = ""
    os_image: str = ""
    runtime: str = ""
    zone: str = ""
    """Its failure domain, by label; empty: it names none."""
    control_plane: bool = False
    """It is labelled as a node of the control plane."""
    created: float = 0.0
    """When it joined, by the apiserver's clock in whole seconds since 1970."""

    def attempt(self, key: str) -> str | None:
        """The attempt that this node is labelled with on the channel `key`."""
        side = self.sides.get(key)
        return side.attempt if side else None


@dataclass(frozen=True, slots=True)
class PodView:
    """An agent pod of a channel. `ready_since` is when we first saw it Ready without a break."""

    name: str
    namespace: str
    uid: str
    channel: str
    attempt: str
    node: str | None
    phase: str
    ready: bool
    ready_since: float | None
    terminating: bool
    restarts: int
    waiting: str = ""
    """Why a container can't run, in the kubelet's word (`ImagePullBackOff`), or empty."""
    last_exit: str = ""
    """How a container ended last, for a person (`OOMKilled, exit code 137`), or empty."""
    unready_since: float | None = None
    """When we first saw it not Ready without a break; None while it is Ready."""
    annotations: Mapping[str, str] = field(default_factory=dict)
    """Those that are short enough to be a digest."""
    restarted_at: float | None = None
    """When we first saw that its containers restarted as often as they have; None: they did not."""


@dataclass(frozen=True, slots=True)
class LedgerNode:
    """A node as it was when its wave opened: the baseline for its evidence."""

    name: str
    uid: str
    boot_id: str
    healthy: bool
    bad: tuple[str, ...] = ()
    """Its bad conditions then: nobody is blamed for these."""
    agents: tuple[tuple[str, int], ...] = ()
    """The selected agents' pods then, see `selected`; empty: it is not judged by any."""
    stratum: str = ""
    """A short hash of what kind of machine it was; empty in a ledger of an older version."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """The frozen record of one wave's nodes. Numbers count from 0 within an attempt."""

    attempt: str
    number: int
    nodes: tuple[LedgerNode, ...]
    sequence: int = -1
    """Of the attempt's release: kept here too, for the day on which the record is lost."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One series of a query's answer: its labels and its value (may be NaN or infinite)."""

    labels: Mapping[str, str]
    value: float
    at: float | None = None
    """When Prometheus worked it out, in seconds since 1970 by its own clock; None = not known."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The newest answer to one check. `asked_at` is when the query was sent."""

    asked_at: float
    nodes: frozenset[str]
    samples: tuple[Sample, ...] = ()
    error: str = ""
    """What went wrong, for a person; empty when Prometheus answered."""
    refused: bool = False
    """The error is the query's own: Prometheus answered that it can't run it."""
    ages: tuple[Sample, ...] = ()
    """Seconds since each series of `CheckSpec.age_of` was sampled, by Prometheus' own clock."""
    warnings: tuple[str, ...] = ()
    """Prometheus says that its answer may be incomplete."""
    infos: tuple[str, ...] = ()
    """Prometheus doubts that the query means what its author meant."""
    passes: int = 1
    """This answer is so many-th in a row that was good about all these nodes."""
    silent: Mapping[str, float] = field(default_factory=dict)
    """Nodes of which it has no fresh number, and since which answer in a row, by `asked_at`."""
    new: frozenset[str] = frozenset()
    """Nodes that were moved so lately that their new pods may not have been scraped yet."""
    control: tuple[int, int] = (0, 0)
    """So many of so many nodes without the content have a fresh number when they are asked for;
    (0, 0) when they were not."""
    control_median: float | None = None
    """The median of the highest value of each of these that has one."""
    query: str = ""
    """What was asked, for a person: substituted, and long lists of nodes shortened."""


@dataclass(frozen=True, slots=True)
class CheckSpec:
    """A check of the frozen plan."""

    name: str
    query: str
    per_node: bool
    node_label: str
    max: float | None
    """The highest good value; None = any."""
    interval: float
    timeout: float
    min: float | None = None
    """The lowest good value; None = any."""
    max_ratio: float | None = None
    """A value above `max` is good up to so many times the control's median; None = it is not."""
    max_age: float = 0.0
    """A sample that is older, in seconds, is no evidence; 0 = the age is not asked."""
    age_of: str = ""
    """The selector of the series whose age counts; empty = the age is not asked."""
    coverage: IntOrPercent = EVERY_NODE
    """So many of the nodes must report."""
    consecutive: int = 1
    """So many answers in a row must be good."""
    hold_timeout: float | None = None
    """Seconds that a wave may be held while this check holds it; None = as the rollout's."""
    dry_run: bool = False
    """It is asked and told of, but decides nothing."""
