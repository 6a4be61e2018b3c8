"""Machines and what lives off them: kubelets, their leases, the scheduler.

A machine that is not alive does nothing: its pods stay as they are, its Node stays Ready for about
50 s. A machine that boots starts the containers that are bound to it anew, and never those of a pod
that is being deleted (source: kubelet; seen on a real one).
"""

import asyncio
import random
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import attrgetter

from simulation.apiserver import Apiserver, Body, Change, Key
from simulation.daemonsets import fits, target_of
from simulation.nodecontroller import NEW, NodeController

NOT_READY_SECONDS = 50.0
"""node-monitor-grace-period: silence until the node controller says NotReady."""
LEASE_SECONDS = 10.0
"""A kubelet renews its lease this often."""
MONITOR_SECONDS = 5.0
"""The node controller looks at all nodes this often (node-monitor-period)."""
BEAT = attrgetter("beat")
LEASES = "leases"
HOST = "kubernetes.io/hostname"
KIND = {
    "operatingSystem": "linux",
    "architecture": "amd64",
    "kernelVersion": "6.12.48",
    "osImage": "Debian GNU/Linux 13 (trixie)",
    "containerRuntimeVersion": "containerd://2.1.4",
}
"""What a kubelet reports of its machine."""

Harm = Callable[["Machines", str, Body], None]
"""What content does: called with the machine and the pod when its container has started."""


@dataclass(slots=True)
class Machine:
    """One machine. `beat` is its place in the ten seconds between renewals."""

    name: str
    beat: float
    alive: bool = True
    boots: int = 1
    died_at: float = 0.0
    silent: bool = False
    """Its kubelet runs but its lease does not get through."""
    renewals: int = 0
    renewed_until: float = 0.0
    heard_at: float = 0.0
    """When its lease was last renewed."""
    kind: Mapping[str, str] = field(default_factory=lambda: KIND)
    """The facts of `status.nodeInfo`, without its bootID."""


@dataclass(frozen=True, slots=True)
class Speeds:
    """How long things take, in seconds; pairs are drawn evenly between the two."""

    start: tuple[float, float] = (0.5, 3.0)
    end: tuple[float, float] = (0.2, 2.0)
    bind: tuple[float, float] = (0.01, 0.3)
    renewal: float = LEASE_SECONDS
    """Of node leases. The next two: until a silent node counts as lost, and between two looks."""
    grace: float = NOT_READY_SECONDS
    monitor: float = MONITOR_SECONDS
    taint: tuple[float, float] = (0.05, 1.0)
    """How far a node's taints lag behind its Ready condition."""


class Machines:
    """All machines; `controller` is the node controller. `harms` maps a content (a part of an
    image reference) to what it does to machines.
    """

    def __init__(self, server: Apiserver, rng: random.Random, speeds: Speeds) -> None:
        self.server, self.rng, self.speeds = server, rng, speeds
        self.machines: dict[str, Machine] = {}
        self.harms: dict[str, Harm] = {}
        self.unpullable: set[str] = set()
        """Contents whose image can't be fetched."""
        self.unreachable: set[str] = set()
        """Machines that can fetch no image that they do not have."""
        self._pulled: dict[str, set[str]] = defaultdict(set)
        self.pods_on: dict[str, dict[Key, Body]] = defaultdict(dict)
        self.controller = NodeController(server, rng, speeds.taint, speeds.monitor)
        self._leases: dict[Key, Body] = {}
        self._ring: list[Machine] = []
        """The machines in the order in which they renew; empty when one joined."""
        self._renewed_at = 0.0
        server.after.append(self._changed)

    # What happens to machines

    def add(self, name: str, labels: dict[str, str] | None = None, **kind: str) -> None:
        """A machine joins: its Node appears, Ready. `kind`: what it has other than KIND."""
        known = self.machines.get(name)
        boots = known.boots + 1 if known else 1
        machine = Machine(name, self.rng.uniform(0.0, self.speeds.renewal), boots=boots)
        machine.kind = {**(known.kind if known else KIND), **kind}
        machine.renewed_until = machine.heard_at = self._now()
        machine.renewals = known.renewals + 1 if known else 1
        self.machines[name] = machine
        self._show_lease(machine)
        self._ring = []
        self.server.add(
            f"kubelet {name}",
            "nodes",
            {
                "metadata": {"name": name, "labels": {HOST: name, **(labels or {})}},
                "spec": {"taints": [NEW]},
                "status": self._status(machine, "True"),
            },
        )
        self._take_over_pods(name)

    def remove(self, name: str) -> None:
        """The machine and its Node are gone."""
        node = self.server.find("nodes", name)
        self.machines[name].alive = False
        if node is not None:
            self.server.remove("cloud", "nodes", node)

    def crash(self, name: str) -> None:
        """The machine stops, without a word."""
        machine = self.machines[name]
        if not machine.alive:
            return
        machine.alive, machine.died_at = False, self._now()
        self._count(machine, machine.died_at)
        renewed = machine.died_at - (machine.died_at - machine.beat) % self.speeds.renewal
        found = self.controller.next_look(renewed + self.speeds.grace)
        asyncio.get_running_loop().call_at(found, self._lost, name, machine.died_at)

    def boot(self, name: str, late: float = 0.0) -> None:
        """The machine starts (again): another bootID, its pods' containers started anew. Its
        kubelet tells of the node so many seconds later than of the pods.
        """
        machine = self.machines[name]
        node = self.server.find("nodes", name)
        if node is None:
            return
        machine.alive, machine.boots = True, machine.boots + 1
        machine.renewed_until = self._now()
        if late:
            asyncio.get_running_loop().call_later(late, self._tell_boot, machine)
        else:
            self._tell_boot(machine)
        self._take_over_pods(name)

    def _tell_boot(self, machine: Machine) -> None:
        node = self.server.find("nodes", machine.name)
        if node is not None and machine.alive:
            status = self._status(machine, "True")
            self.server.update(f"kubelet {machine.name}", "nodes", node, status=status)

    def reappear(self, name: str) -> None:
        """A machine that was only out of reach: the same boot, and its pods ran on."""
        machine, node = self.machines[name], self.server.find("nodes", name)
        if node is None:
            return
        machine.alive, machine.renewed_until = True, self._now()
        status = self._status(machine, "True")
        self.server.update(f"kubelet {name}", "nodes", node, status=status)
        for pod in list(self.pods_on[name].values()):
            if pod["status"].get("phase") == "Running":
                self._report(name, pod, ready=True, restarts=_restarts(pod))

    def restart_container(self, name: str, pod: Body, why: str = "Error", code: int = 1) -> None:
        """The agent's container ends and is started anew, with back-off: CrashLoopBackOff."""
        stored = self._current(pod)
        if stored is None or not self.machines[name].alive:
            return
        self._report(name, stored, ready=False, restarts=_restarts(stored) + 1, ended=(why, code))

    def restart_at_once(self, name: str, pod: Body) -> None:
        """The agent's container ends for the first time: it is started anew without back-off."""
        stored = self._current(pod)
        if stored is not None and self.machines[name].alive:
            self._report(name, stored, ready=True, restarts=_restarts(stored) + 1)

    def recover(self, name: str, pod: Body) -> None:
        """Its back-off is over: the container runs, and goes on running."""
        machine, stored = self.machines.get(name), self._current(pod)
        if stored is not None and machine is not None and machine.alive:
            self._report(name, stored, ready=True, restarts=_restarts(stored))

    def fail_probe(self, name: str, pod: Body) -> None:
        """Its container runs, but is not Ready until it recovers."""
        stored = self._current(pod)
        if stored is not None and self.machines[name].alive:
            self._report(name, stored, ready=False, restarts=_restarts(stored))

    # What kubelets do

    def leases(self) -> Mapping[Key, Body]:
        """All node leases, as they are now. A renewal is one more on its resourceVersion."""
        self.renew()
        return self._leases

    def renew(self) -> None:
        """Bring the renewals of all machines up to now."""
        now = self._now()
        for machine in self._due(self._renewed_at, now):
            if machine.silent:
                machine.renewed_until = now
            elif machine.alive:
                self._count(machine, now)
        self._renewed_at = now

    def _due(self, since: float, now: float) -> Iterable[Machine]:
        """Whose time to renew has come since then. Each has its place in a turn of ten seconds."""
        if not self._ring:
            self._ring = sorted(self.machines.values(), key=BEAT)
        turn = self.speeds.renewal
        if now - since >= turn:
            return self._ring
        first, last = (bisect_right(self._ring, at % turn, key=BEAT) for at in (since, now))
        if since % turn <= now % turn:
            return self._ring[first:last]
        return self._ring[first:] + self._ring[:last]

    def _take_over_pods(self, name: str) -> None:
        """What is bound to a machine that boots is started anew, unless it is being deleted."""
        for pod in list(self.pods_on[name].values()):
            if "deletionTimestamp" in pod["metadata"]:
                self._end_soon(name, pod)
                continue
            if pod["status"].get("phase") == "Running":  # its containers ended with the machine
                self._report(name, pod, ready=False, restarts=_restarts(pod) + 1)
            self._start_soon(name, pod)

    def _lost(self, name: str, died_at: float) -> None:
        machine = self.machines[name]
        if not machine.alive and machine.died_at == died_at:
            self.controller.lose(name, list(self.pods_on[name].values()))

    def _count(self, machine: Machine, now: float) -> None:
        turn, beat = self.speeds.renewal, machine.beat
        beats, before = (now - beat) // turn, (machine.renewed_until - beat) // turn
        if beats > before:
            machine.renewals += int(beats - before)
            self._show_lease(machine)
            machine.heard_at = beat + beats * turn
        machine.renewed_until = now

    def _show_lease(self, machine: Machine) -> None:
        metadata = {"name": machine.name, "resourceVersion": str(machine.renewals)}
        self._leases["kube-node-lease", machine.name] = {"metadata": metadata}

    def _changed(self, change: Change) -> None:
        if change.plural != "pods":
            return
        before, after = change.before, change.after
        node = ((after or before or {}).get("spec") or {}).get("nodeName")
        if not node:
            return
        if after is None:
            self.pods_on[node].pop(change.key, None)
            return
        self.pods_on[node][change.key] = after
        bound = before is None or not before["spec"].get("nodeName")
        if "deletionTimestamp" in after["metadata"]:
            if before is None or "deletionTimestamp" not in before["metadata"]:
                self._end_soon(node, after)
        elif bound:
            self._start_soon(node, after)

    def _start_soon(self, name: str, pod: Body) -> None:
        pause = self.rng.uniform(*self.speeds.start)
        boots = self.machines[name].boots if name in self.machines else 0
        loop = asyncio.get_running_loop()
        loop.call_later(pause, self._start, name, boots, pod)

    def _start(self, name: str, boots: int, pod: Body) -> None:
        machine, stored = self.machines.get(name), self._current(pod)
        if machine is None or not machine.alive or machine.boots != boots or stored is None:
            return
        if "deletionTimestamp" in stored["metadata"]:
            return
        if runs_nothing(stored):
            self._pull(name, stored)
            return
        if self._lacks_an_image(name, stored):
            self._report(name, stored, ready=False, restarts=0, waiting="ImagePullBackOff")
            self._start_soon(name, stored)
            return
        self._report(name, stored, ready=True, restarts=_restarts(stored))
        for content, harm in self.harms.items():
            if any(content in reference for reference in images(stored)):
                harm(self, name, stored)

    def _pull(self, name: str, pod: Body) -> None:
        """A pod whose program is in no image: it is pulled, and its container can't start."""
        container: Body = {"name": pod["spec"]["containers"][0]["name"], "restartCount": 0}
        status: Body = {"phase": "Pending", "containerStatuses": [container]}
        if pod["status"].get("phase") in ("Failed", "Succeeded"):
            return
        if self._lacks_an_image(name, pod):
            container["state"] = {"waiting": {"reason": "ImagePullBackOff"}}
            self._start_soon(name, pod)
        else:
            ended = {"reason": "StartError", "exitCode": 128, "containerID": "containerd://1"}
            container["state"] = {"terminated": ended}
            status["phase"] = "Failed"
        self.server.update(f"kubelet {name}", "pods", pod, status=status)

    def _lacks_an_image(self, name: str, pod: Body) -> bool:
        needed = set(images(pod))
        if name in self.unreachable and not needed <= self._pulled[name]:
            return True
        lost = any(content in image for content in self.unpullable for image in needed)
        if not lost:
            self._pulled[name] |= needed
        return lost

    def _end_soon(self, name: str, pod: Body) -> None:
        pause = self.rng.uniform(*self.speeds.end)
        boots = self.machines[name].boots if name in self.machines else 0
        asyncio.get_running_loop().call_later(pause, self._end, name, boots, pod)

    def _end(self, name: str, boots: int, pod: Body) -> None:
        machine, stored = self.machines.get(name), self._current(pod)
        if stored is not None and machine is not None and machine.alive and machine.boots == boots:
            self.server.remove(f"kubelet {name}", "pods", stored)

    def _report(
        self,
        name: str,
        pod: Body,
        *,
        ready: bool,
        restarts: int,
        waiting: str = "",
        ended: tuple[str, int] | None = None,
    ) -> None:
        container: Body = {"name": "agent", "restartCount": restarts}
        if waiting:
            container["state"] = {"waiting": {"reason": waiting}}
        if ended:
            terminated = {"reason": ended[0], "exitCode": ended[1]}
            container["lastState"] = {"terminated": terminated}
            container["state"] = {"waiting": {"reason": "CrashLoopBackOff"}}
        status = {
            "phase": "Pending" if waiting else "Running",
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            "containerStatuses": [container],
        }
        self.server.update(f"kubelet {name}", "pods", pod, status=status)

    def _current(self, pod: Body) -> Body | None:
        metadata = pod["metadata"]
        stored = self.server.find("pods", metadata["name"], metadata["namespace"])
        return stored if stored and stored["metadata"]["uid"] == metadata["uid"] else None

    def _status(self, machine: Machine, ready: str) -> Body:
        return {
            "conditions": [{"type": "Ready", "status": ready}],
            "nodeInfo": {"bootID": f"{machine.name}-boot-{machine.boots}", **machine.kind},
        }

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


class Scheduler:
    """Binds pods, one agent of a channel to a host name: required anti-affinity counts pods that
    are still ending, too.
    """

    def __init__(self, server: Apiserver, rng: random.Random, speeds: Speeds) -> None:
        self._server, self._rng, self._speeds = server, rng, speeds
        self._bound: dict[str, dict[Key, Body]] = defaultdict(dict)
        """Bound pods by host name."""
        self._waiting: dict[str, set[Key]] = defaultdict(set)
        """Pods that found no room, by the node that they are for."""
        server.after.append(self._changed)

    def _changed(self, change: Change) -> None:
        if change.plural == "nodes":
            self._retry(change.key[1])
        if change.plural != "pods":
            return
        pod = change.after or change.before
        if pod is None:
            return
        node = pod["spec"].get("nodeName")
        if not node:
            if change.after is not None and change.before is None:
                self._soon(change.key)
            return
        host = self._host(node)
        if change.after is not None:
            self._bound[host][change.key] = change.after
            return
        self._bound[host].pop(change.key, None)
        for name in [n for n in self._waiting if self._host(n) == host]:
            self._retry(name)

    def _retry(self, node: str) -> None:
        for key in sorted(self._waiting.pop(node, ())):
            self._soon(key)

    def _soon(self, key: Key) -> None:
        pause = self._rng.uniform(*self._speeds.bind)
        asyncio.get_running_loop().call_later(pause, self._bind, key)

    def _bind(self, key: Key) -> None:
        pod = self._server.find("pods", key[1], key[0])
        if pod is None or pod["spec"].get("nodeName") or "affinity" not in pod["spec"]:
            return  # gone, bound, or no DaemonSet's pod
        name = target_of(pod)
        node = self._server.find("nodes", name)
        if node is None or not self._may_run(pod, node):
            self._waiting[name].add(key)
            return
        spec = {**pod["spec"], "nodeName": name}
        self._server.update("scheduler", "pods", pod, spec=spec)

    def _may_run(self, pod: Body, node: Body) -> bool:
        if not fits(pod["spec"], node)[0]:
            return False
        labels = node["metadata"].get("labels") or {}
        if HOST not in labels:
            return True  # a term whose topology key the node lacks keeps nobody out
        return not any(_repel(pod, other) for other in self._bound[labels[HOST]].values())

    def _host(self, node: str) -> str:
        found = self._server.find("nodes", node)
        labels = (found or {}).get("metadata", {}).get("labels") or {}
        return str(labels.get(HOST, f"node {node}"))


def runs_nothing(pod: Body) -> bool:
    """Whether a pod only pulls images: all of its programs are in none."""
    commands = [(c.get("command") or [""])[0] for c in pod["spec"].get("containers") or []]
    return bool(commands) and all(c.startswith("/wavegate-runs-nothing-") for c in commands)


def images(pod: Body) -> Iterator[str]:
    """Every reference to content or image in a pod."""
    for volume in pod["spec"].get("volumes") or []:
        yield str((volume.get("image") or {}).get("reference", ""))
        yield str((volume.get("configMap") or {}).get("name", ""))
    for container in pod["spec"].get("containers") or []:
        yield str(container.get("image", ""))


def _repel(pod: Body, other: Body) -> bool:
    """Required anti-affinity holds both ways."""
    return _keeps_away(pod, other) or _keeps_away(other, pod)


def _keeps_away(pod: Body, other: Body) -> bool:
    if pod["metadata"]["namespace"] != other["metadata"]["namespace"]:
        return False
    anti = (pod["spec"].get("affinity") or {}).get("podAntiAffinity") or {}
    labels = other["metadata"].get("labels") or {}
    for term in anti.get("requiredDuringSchedulingIgnoredDuringExecution") or []:
        wanted = term["labelSelector"]["matchLabels"]
        if term["topologyKey"] == HOST and all(labels.get(k) == v for k, v in wanted.items()):
            return True
    return False


def _restarts(pod: Body) -> int:
    containers = (pod["status"].get("containerStatuses")) or []
    return sum(int(c["restartCount"]) for c in containers)


# What content may do to machines


def kills(after: float = 2.0) -> Harm:
    """The machine stops some seconds after the content runs, after each boot again."""

    def harm(machines: Machines, name: str, pod: Body) -> None:
        del pod
        asyncio.get_running_loop().call_later(after, machines.crash, name)

    return harm


def crash_loops(after: float = 1.0, why: str = "Error", code: int = 1) -> Harm:
    """The agent's container ends again and again."""

    def harm(machines: Machines, name: str, pod: Body) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(after, machines.restart_container, name, pod, why, code)

    return harm


def only_on(victims: frozenset[str], harm: Harm) -> Harm:
    """The same, only on some machines."""

    def chosen(machines: Machines, name: str, pod: Body) -> None:
        if name in victims:
            harm(machines, name, pod)

    return chosen


@dataclass(slots=True)
class Autoscaler:
    """Adds machines, and removes some as Cluster Autoscaler does: taint, cordon, then delete."""

    machines: Machines
    rng: random.Random
    prefix: str = "scaled"
    labels: dict[str, str] = field(default_factory=dict)
    count: int = 0

    def grow(self) -> str:
        """One more machine; returns its name."""
        self.count += 1
        name = f"{self.prefix}-{self.count}"
        self.machines.add(name, dict(self.labels))
        return name

    def shrink(self, name: str, pause: float = 15.0) -> None:
        """Announce a removal, and remove the machine `pause` seconds later."""
        node = self.machines.server.find("nodes", name)
        if node is None:
            return
        taint = {"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}
        spec = {**node["spec"], "unschedulable": True, "taints": [*_taints(node), taint]}
        self.machines.server.update("autoscaler", "nodes", node, spec=spec)
        asyncio.get_running_loop().call_later(pause, self.machines.remove, name)


def _taints(node: Body) -> list[Body]:
    return list(node["spec"].get("taints") or [])
