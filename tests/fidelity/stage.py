"""What a story is played on: the simulation (simulated.py) or the sandbox (sandboxed.py).

A scenario acts through these verbs and waits for what can be seen, in the same words in both
worlds; everything that is waited for is computed here, from the objects as they are now.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fidelity.trace import Body, Trace, pod_state, ready_of
from support.story import digest
from wavegate.cluster.projections import stored_config_map
from wavegate.rollout.names import CHANNEL_LABEL
from wavegate.rollout.record import Record

CHANNEL = "rules"
QUICK = "2s"
STANDS = "1h"
"""A soak that ends by what the story does, however slow its machine is."""
HARMS = {"bad": "kills", "loop": "crash-loops", "loop-again": "crash-loops"}
"""Contents that do harm some seconds after they run: they kill the machine, or the agent ends again
and again.
"""


@dataclass(frozen=True, slots=True)
class Looks:
    """What a machine is: its labels, and `kernel`, `arch` or `os_image` where they are not as on
    most.
    """

    labels: Mapping[str, str]
    facts: Mapping[str, str] = field(default_factory=dict)


class Stage(ABC):
    """One channel, `rules`, in a namespace with nodes of its own. The canary comes first."""

    def __init__(self, space: str, workers: int = 3) -> None:
        self.space = space
        self.canary = f"{space}-canary"
        self.workers = [f"{space}-worker-{number}" for number in range(1, workers + 1)]
        self.sequence = 0

    @property
    def nodes(self) -> Sequence[str]:
        """All nodes that a story begins with."""
        return [self.canary, *self.workers]

    def looks(self, node: str) -> Looks:
        """What the machine of this name is."""
        return Looks(node_labels(self.space, node))

    # What is done

    @abstractmethod
    def create(self, kind: str, name: str, spec: Mapping[str, Any]) -> None:
        """Create one of our objects: `Channel`, `Release` or `Decision`."""

    @abstractmethod
    def change(self, kind: str, name: str, spec: Mapping[str, Any]) -> None:
        """Replace these fields of its spec."""

    @abstractmethod
    def delete(self, kind: str, name: str) -> None:
        """Delete one of our objects."""

    @abstractmethod
    def join(self, *nodes: str) -> None:
        """Machines join, of the canary pool or of the workers by their name."""

    @abstractmethod
    def crash(self, node: str) -> None:
        """The machine stops, without a word."""

    @abstractmethod
    def boot(self, node: str) -> None:
        """The machine starts (again)."""

    @abstractmethod
    def remove(self, node: str) -> None:
        """Machine and Node are gone."""

    @abstractmethod
    def crash_agent(self, node: str) -> None:
        """The agent on a node ends with an error, and its kubelet backs off before the next try."""

    @abstractmethod
    def taint(self, node: str, key: str) -> None:
        """Someone taints the node, NoSchedule."""

    @abstractmethod
    def cordon(self, node: str) -> None:
        """Someone marks the node unschedulable."""

    @abstractmethod
    def delete_pod(self, pod: Body) -> None:
        """Someone deletes a pod, as an eviction would."""

    @abstractmethod
    def fence(self, daemon_set: Body) -> None:
        """Someone points a DaemonSet at no node, as the runbook says; marked `by-hand`."""

    @abstractmethod
    def kill_leader(self) -> None:
        """The leading operator process dies at once and stays dead."""

    # What is seen

    @abstractmethod
    def bodies(self, plural: str) -> Iterable[Body]:
        """All objects of a kind in the story, as they are now."""

    @abstractmethod
    def until(self, what: str, test: Callable[[], object]) -> None:
        """Let time go by until it holds."""

    @abstractmethod
    def trace(self) -> Trace:
        """All that was seen so far."""

    def begin(self) -> None:
        """Nodes, channel and a first release `a`, that everything runs."""
        self.join(*self.nodes)
        self.create("Channel", CHANNEL, channel_spec(self.space, QUICK, QUICK))
        self.until_channel_ready()
        self.publish("a")
        self.until_phase("a", "Completed")

    def soak(self, canary: str, everywhere: str = QUICK, **rollout: str) -> None:
        """Change the waves' soaks for the releases to come; the rollout's other fields too."""
        spec = channel_spec(self.space, canary, everywhere)
        self.edit_channel({**spec, "rollout": {**spec["rollout"], **rollout}})

    def edit_channel(self, spec: Mapping[str, Any]) -> None:
        """Replace these fields of the channel, and wait until the operator has seen it."""
        self.change("Channel", CHANNEL, spec)
        self.until_channel_ready()

    def until_channel_ready(self) -> None:
        """Wait until the operator has seen the channel as it is now, and that it is ready, before a
        release is published: both are watched apart, and one that is seen first waits, Pending.
        """

        def ready() -> bool:
            channel = next(iter(self.bodies("securitycontentchannels")), {})
            now = {"type": "Ready", "status": "True"}
            return any(
                now.items() <= condition.items()
                and condition["observedGeneration"] == channel["metadata"]["generation"]
                for condition in (channel.get("status") or {}).get("conditions") or []
            )

        self.until("the operator has seen the channel, and that it is ready", ready)

    def publish(self, name: str, content: str = "", **more: Any) -> None:
        """Create the next release; its content is named like it. more = other fields."""
        self.sequence += 1
        spec = {"channel": CHANNEL, "version": name, "sequence": self.sequence, **more}
        image = f"registry.example/content@{digest(content or name)}"
        self.create("Release", name, {**spec, "content": {"image": image}})

    def publish_to_canary(self, name: str = "b", soak: str = "15s") -> None:
        """Create the next release and wait until its canary soaks."""
        self.soak(soak)
        self.publish(name)
        self.until_wave("canary", "Soaking")

    def decide(self, release: str, action: str) -> None:
        """Record a person's decision."""
        spec = {"release": release, "digest": digest(release), "action": action}
        self.create("Decision", f"{action.lower()}-{release}", {**spec, "reason": "a test"})

    def suspend(self, release: str, *, suspend: bool) -> None:
        """Someone suspends or resumes a release."""
        self.change("Release", release, {"suspend": suspend})

    def record(self) -> Record:
        """What the channel remembers; an empty record before anything was stored."""
        for body in self.bodies("configmaps"):
            record = stored_config_map(body, None, 0.0).record
            if record is not None:
                return record
        return Record(self.space, CHANNEL)

    def phase(self, release: str) -> str:
        """The phase that the release's status shows."""
        found = (b for b in self.bodies("securitycontentreleases") if _name(b) == release)
        return str((next(found, {}).get("status") or {}).get("phase", ""))

    def until_phase(self, release: str, phase: str) -> None:
        """Wait for a phase of a release's status."""
        self.until(f"{release} is {phase}", lambda: self.phase(release) == phase)

    def until_wave(self, name: str, state: str = "") -> None:
        """Wait for a state of the current wave (by default: any), in the record."""

        def reached() -> bool:
            rollout = self.record().rollout
            waves = rollout.waves if rollout else ()
            return bool(waves) and waves[-1].name == name and state in ("", waves[-1].state)

        self.until(f"wave {name} is {state or 'there'}", reached)

    def until_ended(self, release: str, phase: str) -> None:
        """Wait until the record says that the release ended so (a deleted one has no status)."""

        def ended() -> bool:
            outcomes = self.record().outcomes
            return bool(outcomes) and (outcomes[0].release, outcomes[0].phase) == (release, phase)

        self.until(f"{release} ended {phase}", ended)

    def until_ready(self, node: str, status: str) -> None:
        """Wait for a node's Ready condition."""

        def reached() -> bool:
            return [ready_of(b) for b in self.bodies("nodes") if _name(b) == node] == [status]

        self.until(f"{node} Ready={status}", reached)

    def until_lost(self, node: str) -> None:
        """Wait until the node controller is done with a machine that is silent."""

        def lost() -> bool:
            found = next((b for b in self.bodies("nodes") if _name(b) == node), None)
            taints = (found["spec"].get("taints") or []) if found else []
            effects = {t["effect"] for t in taints if t["key"].endswith("/unreachable")}
            return effects == {"NoSchedule", "NoExecute"}

        self.until(f"{node} is tainted as unreachable", lost)

    def agents(self) -> dict[str, Body]:
        """The agent's pod that runs on each node: Ready, and not about to end."""
        return {
            pod["spec"]["nodeName"]: pod
            for pod in self.bodies("pods")
            if pod["spec"].get("nodeName")
            and CHANNEL_LABEL in pod["metadata"]["labels"]
            and ready_of(pod) == "True"
            and "deletionTimestamp" not in pod["metadata"]
        }

    def pod_on(self, node: str) -> Body | None:
        """The agent's pod that runs on a node, or None."""
        return self.agents().get(node)

    def until_state(self, node: str, state: str) -> None:
        """Wait until an agent's pod on the node is in this state (as in a trace)."""

        def reached() -> bool:
            here = (p for p in self.bodies("pods") if p["spec"].get("nodeName") == node)
            return any(pod_state(pod) == state for pod in here)

        self.until(f"a pod on {node} is {state}", reached)

    def until_runs(self, content: str, nodes: Iterable[str]) -> None:
        """Wait until these nodes run this content."""
        wanted = list(nodes)

        def run() -> bool:
            running = self.agents()
            return all(node in running and carries(running[node], content) for node in wanted)

        self.until(f"{len(wanted)} nodes run {content}", run)

    def daemon_set(self, release: str) -> Body:
        """The candidate's DaemonSet."""
        rollout = self.record().rollout
        assert rollout is not None
        assert rollout.candidate.release == release
        return next(
            b for b in self.bodies("daemonsets") if _name(b) == rollout.candidate.daemon_set
        )


def channel_spec(space: str, canary_soak: str, soak: str) -> dict[str, Any]:
    """A channel in two waves. Only nodes of the story run the agent."""
    pools = [
        {"name": name, "selector": {"matchLabels": {"story": space, "pool": name}}}
        for name in ("canary", "workers")
    ]
    return {
        "agent": {
            "template": {
                "spec": {
                    "nodeSelector": {"story": space},
                    "containers": [
                        {"name": "agent", "image": f"registry.example/agent@{digest('agent')}"}
                    ],
                    "volumes": [{"name": "content", "image": {"reference": "set-by-wavegate"}}],
                }
            }
        },
        "content": {"imageVolume": {"volumeName": "content"}},
        "pools": pools,
        "waves": [
            {"name": "canary", "pools": ["canary"], "upTo": "100%", "soak": canary_soak},
            {"name": "all", "upTo": "100%", "soak": soak},
        ],
        "rollout": {"maxUnavailable": "100%", "settle": "1s", "coolDown": "0s"},
    }


def node_labels(space: str, node: str) -> dict[str, str]:
    """The labels that a node of a story is found by."""
    return {"story": space, "pool": "canary" if node.endswith("-canary") else "workers"}


def carries(pod: Body, content: str) -> bool:
    """Whether a pod has this content."""
    return any(digest(content) in str(volume.get("image")) for volume in pod["spec"]["volumes"])


def _name(body: Body) -> str:
    return str(body["metadata"]["name"])
