"""Two hundred nodes: what they are, and the stage on which stories are told of them.

The stories follow each other on the same machines and channel, as it would take as long as a story
to make a fleet for each. What is compared of each story begins where the one before it ended.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fidelity.stage import CHANNEL, Looks, Stage, channel_spec
from wavegate.rollout.names import CANARY_LABEL, CONTROL_PLANE_LABEL, ZONE_LABEL


@dataclass(frozen=True, slots=True)
class Kind:
    """Machines that are alike; each kind is a stratum, but that some are in another pool."""

    name: str
    count: int
    facts: Mapping[str, str]
    pool: str = "workers"


KINDS = (
    Kind("common", 121, {}),
    Kind("old", 24, {"kernel": "6.1.155"}),
    Kind("new", 16, {"kernel": "6.18.1"}),
    Kind("arm", 12, {"arch": "arm64"}),
    Kind("newarm", 8, {"arch": "arm64", "kernel": "6.18.1"}),
    Kind("flat", 7, {"os_image": "Flatcar Container Linux 4593"}),
    Kind("payments", 10, {}, pool="payments"),
    Kind("master", 2, {}, pool="control-plane"),
)
ORDINARY = tuple(kind.name for kind in KINDS if kind.pool == "workers")
NEW_KERNEL = ("new", "newarm")
ZONES = ("east", "south", "west")
RENEWAL, GRACE = 3, 25
"""Seconds between two renewals of a node's lease, and until a silent node is NotReady."""
ROLLOUT = {
    "maxUnavailable": "50%",
    "settle": "1s",
    "soak": "3s",
    "progressDeadline": "30s",
    "bake": "0s",
    "coolDown": "0s",
    "breaker": {"reverts": 0},
}
"""The documented settings that are not the defaults: it goes in minutes, not in hours."""


class Fleet(Stage):
    """A stage with these machines; mixed into either world. Begins with content `a` everywhere."""

    @property
    def nodes(self) -> Sequence[str]:
        return [
            f"{self.space}-{kind.name}-{place}" for kind in KINDS for place in range(kind.count)
        ]

    def looks(self, node: str) -> Looks:
        kind, place = kind_of(node), int(node.rpartition("-")[2])
        labels = {"story": self.space, "pool": kind.pool, ZONE_LABEL: ZONES[place % len(ZONES)]}
        if kind.pool == "control-plane":
            labels[CONTROL_PLANE_LABEL] = ""
        if node.endswith("-common-0"):  # else which kind is the first is left to a hash
            labels[CANARY_LABEL] = "preferred"
        return Looks(labels, kind.facts)

    def begin(self) -> None:
        """Nodes, and channel with the default plan. `a` is rolled out to the first node of each
        pool, and others that join get it as what is stable: that takes seconds.
        """
        firsts = [f"{self.space}-{kind}-0" for kind in ("common", "payments")]
        spec = self.channel()
        one = {"name": "all", "pools": ["workers", "payments"], "upTo": "100%"}
        self.join(*firsts)
        self.create("Channel", CHANNEL, spec | {"waves": [one]})
        self.until_channel_ready()
        self.publish("a")
        self.until_phase("a", "Completed")
        self.edit_channel(spec)
        self.join(*(node for node in self.nodes if node not in firsts))
        self.until_rest("a")

    def channel(self) -> dict[str, Any]:
        """The channel's spec."""
        pools = [
            {"name": name, "selector": {"matchLabels": {"story": self.space, "pool": name}}}
            for name in ("workers", "payments")
        ]
        pools[1]["critical"] = True
        return {**channel_spec(self.space, "", ""), "pools": pools, "waves": [], "rollout": ROLLOUT}

    @abstractmethod
    def cut(self) -> None:
        """What is compared begins here."""

    def plan(self) -> Mapping[str, Any]:
        """The plan of the next release, as the channel's status shows it."""
        channel = next(iter(self.bodies("securitycontentchannels")))
        plan: Mapping[str, Any] = (channel.get("status") or {}).get("plan") or {}
        return plan

    def until_planned(self, release: str) -> Mapping[str, Any]:
        """Wait until the plan of a release is shown, and return it."""
        self.until(f"the plan of {release}", lambda: self.plan().get("release") == release)
        return self.plan()

    def until_rest(self, content: str) -> None:
        """Wait until all nodes run it, none is tainted any more, one revision matches them all, and
        none is under way.
        """
        self.until_runs(content, self.nodes)

        def settled() -> bool:
            if any(node["spec"].get("taints") for node in self.bodies("nodes")):
                return False
            trace = self.trace()
            states = sorted(map(trace.set_state, self.bodies("daemonsets")))
            return states == ["all, observed", *["nothing, observed"] * (len(states) - 1)]

        self.until("no revision is under way", settled)

    def until_deleted(self, release: str) -> None:
        """Wait until the revision of a release that failed has no DaemonSet any more."""

        def deleted() -> bool:
            trace = self.trace()
            return release not in map(trace.release_of, self.bodies("daemonsets"))

        self.until(f"the DaemonSet of {release} is gone", deleted)


def kind_of(node: str) -> Kind:
    """The kind of a node, by its name."""
    name = node.split("-")[-2]
    return next(kind for kind in KINDS if kind.name == name)
