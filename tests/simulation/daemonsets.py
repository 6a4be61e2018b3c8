"""The DaemonSet controller and the pod garbage collector, as in Kubernetes 1.37 (source).

What matters to Wavegate is kept: a sync works on what it saw when it began, so that a fence that
comes meanwhile is ignored for a while; at most 250 pods are created and deleted in one sync; all
writes share 20 requests a second; `observedGeneration` is written at a sync's end; the pod's
required node affinity is *replaced* by its node's name, so that a pod that is not bound yet carries
no node rule; under OnDelete a template's change restarts nothing.

Written apart from `rollout.placement`, which computes the same predicate: they check each other.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from simulation.apiserver import Apiserver, Body, Change, Key
from wavegate.cluster.client import ApiError

ACTOR = "daemonset-controller"
BURST = 250
QUERIES_PER_SECOND = 20.0
QUERY_BURST = 30
MADE_FROM = "pod-template-generation"
"""Label of a pod: the generation of the DaemonSet that it was made from."""
ORPHAN_SECONDS = 40.0
"""Pods of a node that is gone are deleted after this (pod GC's quarantine)."""

TOLERATED = {
    "node.kubernetes.io/not-ready": ("NoExecute",),
    "node.kubernetes.io/unreachable": ("NoExecute",),
    "node.kubernetes.io/disk-pressure": ("NoSchedule",),
    "node.kubernetes.io/memory-pressure": ("NoSchedule",),
    "node.kubernetes.io/pid-pressure": ("NoSchedule",),
    "node.kubernetes.io/unschedulable": ("NoSchedule",),
}


@dataclass(slots=True)
class Rate:
    """A token bucket on the loop's clock, shared by all of the controller-manager's writes."""

    per_second: float = QUERIES_PER_SECOND
    burst: float = QUERY_BURST
    _tokens: float = QUERY_BURST
    _at: float = 0.0

    async def take(self) -> None:
        """Wait for one token."""
        now = asyncio.get_running_loop().time()
        self._tokens = min(self.burst, self._tokens + (now - self._at) * self.per_second)
        self._at = now
        self._tokens -= 1.0
        if self._tokens < 0:
            await asyncio.sleep(-self._tokens / self.per_second)


@dataclass(slots=True)
class _Set:
    """What the controller has to do for one DaemonSet."""

    dirty: set[str] = field(default_factory=set)
    stirred: asyncio.Event = field(default_factory=asyncio.Event)


class DaemonSetController:
    """See the module. `delay` is how long its informers lag, in seconds."""

    def __init__(
        self, server: Apiserver, rng: random.Random, delay: tuple[float, float] = (0.01, 0.3)
    ) -> None:
        self._server, self._rng, self.delay = server, rng, delay
        self.rate = Rate()
        self._sets: dict[Key, _Set] = {}
        self._pods: dict[Key, dict[str, dict[str, Body]]] = defaultdict(lambda: defaultdict(dict))
        """By DaemonSet and node: pods by name."""
        self._names = 0
        self._tasks: set[asyncio.Task[None]] = set()
        server.after.append(self._changed)

    def close(self) -> None:
        """Stop."""
        for task in self._tasks:
            task.cancel()

    def _changed(self, change: Change) -> None:
        if change.plural == "daemonsets":
            self._set_changed(change)
        elif change.plural == "nodes":
            if change.after is None:
                for key, work in self._sets.items():
                    if change.key[1] in self._pods[key]:
                        work.dirty.add(change.key[1])  # a Node's end wakes no DaemonSet (source)
            elif change.before is None or _moved(change):
                for key in self._sets:
                    self._stir(key, {change.key[1]})
        elif change.plural == "pods":
            self._pod_changed(change)

    def _set_changed(self, change: Change) -> None:
        key = change.key
        if change.after is None:
            self._sets.pop(key, None)
            for pods in list(self._pods.pop(key, {}).values()):  # garbage collection
                for pod in list(pods.values()):
                    self._server.delete("garbage-collector", "pods", pod)
            return
        before, after = change.before, change.after
        if (
            before is not None
            and before["metadata"]["generation"] == after["metadata"]["generation"]
        ):
            return
        if key not in self._sets:
            self._sets[key] = _Set()
            task = asyncio.get_running_loop().create_task(self._run(key, self._sets[key]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._stir(key, {name for _, name in self._server.objects["nodes"]})

    def _pod_changed(self, change: Change) -> None:
        pod = change.after or change.before
        owner = _owner(pod) if pod else None
        if pod is None or owner is None:
            return
        key, node = (change.key[0], owner), target_of(pod)
        if change.after is None:
            self._pods[key][node].pop(change.key[1], None)
            if not self._pods[key][node]:
                del self._pods[key][node]
        else:
            self._pods[key][node][change.key[1]] = change.after
        if key in self._sets and (change.before is None or change.after is None or _ended(change)):
            self._stir(key, {node})

    def _stir(self, key: Key, nodes: set[str]) -> None:
        self._sets[key].dirty |= nodes
        self._sets[key].stirred.set()

    async def _run(self, key: Key, work: _Set) -> None:
        while True:
            await work.stirred.wait()
            await asyncio.sleep(self._rng.uniform(*self.delay))
            work.stirred.clear()
            daemon_set = self._server.find("daemonsets", key[1], key[0])
            if daemon_set is None:
                return
            await self._sync(key, work, daemon_set)

    async def _sync(self, key: Key, work: _Set, daemon_set: Body) -> None:
        """One sync, on what is seen now; it does not look again until it is done."""
        create, delete, later = [], [], set()
        nodes, work.dirty = sorted(work.dirty), set()
        self._rng.shuffle(nodes)
        for name in nodes:
            wants, pods = self._judge(key, daemon_set, name)
            if wants and len(create) < BURST:
                create.append(name)
            elif pods and len(delete) < BURST:
                delete.extend(pods)
            elif wants or pods:
                later.add(name)
        if later:
            self._stir(key, later)
        for name in create:
            await self.rate.take()
            self._create(daemon_set, name)
        for pod in delete:
            await self.rate.take()
            stored = self._server.find("pods", pod["metadata"]["name"], key[0])
            if stored is not None and stored["metadata"]["uid"] == pod["metadata"]["uid"]:
                self._server.delete(ACTOR, "pods", stored)
        self._observe(key, daemon_set)

    def _judge(self, key: Key, daemon_set: Body, name: str) -> tuple[bool, list[Body]]:
        """Whether the node needs a pod, and which of its pods must go."""
        pods = list(self._pods[key].get(name, {}).values())
        node = self._server.find("nodes", name)
        if node is None:  # those that are bound are pod GC's work
            return False, [pod for pod in pods if not pod["spec"].get("nodeName")]
        template = daemon_set["spec"]["template"]
        should_run, should_stay = fits(template["spec"], node)
        staying = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
        if should_run and not pods:
            return True, []
        if not should_stay:
            return False, staying
        if _rolling(daemon_set):
            old = [
                p for p in staying if p["metadata"]["labels"][MADE_FROM] != _made_from(daemon_set)
            ]
            if old:
                return False, old[:1]
        failed = [p for p in staying if p["status"].get("phase") in ("Failed", "Succeeded")]
        running = [p for p in staying if p not in failed]
        extra = sorted(running, key=_age)[1:]
        return False, [*failed, *extra]

    def _create(self, daemon_set: Body, node: str) -> None:
        self._names += 1
        template = daemon_set["spec"]["template"]
        metadata = daemon_set["metadata"]
        affinity = dict(template["spec"].get("affinity") or {})
        affinity["nodeAffinity"] = {
            **(affinity.get("nodeAffinity") or {}),
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [
                    {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
                ]
            },
        }
        body = {
            "metadata": {
                "name": f"{metadata['name']}-{self._names:05d}",
                "namespace": metadata["namespace"],
                "labels": {
                    **((template.get("metadata") or {}).get("labels") or {}),
                    MADE_FROM: _made_from(daemon_set),
                },
                "ownerReferences": [{"kind": "DaemonSet", "name": metadata["name"]}],
            },
            "spec": {**template["spec"], "affinity": affinity},
            "status": {"phase": "Pending"},
        }
        try:
            path = f"/api/v1/namespaces/{metadata['namespace']}/pods"
            self._server.handle(ACTOR, "POST", path, {}, body=body)
        except ApiError:  # refused by admission: the controller backs off and tries again
            loop = asyncio.get_running_loop()
            key = (metadata["namespace"], metadata["name"])
            loop.call_later(5.0, lambda: key in self._sets and self._stir(key, {node}))

    def _observe(self, key: Key, seen: Body) -> None:
        stored = self._server.find("daemonsets", key[1], key[0])
        if stored is not None:
            generation = seen["metadata"]["generation"]
            status = {**(stored.get("status") or {}), "observedGeneration": generation}
            self._server.update(ACTOR, "daemonsets", stored, status=status)


class PodCollector:
    """Deletes pods of nodes that are gone, some time later, by force; Failed first."""

    def __init__(self, server: Apiserver, rng: random.Random) -> None:
        self._server, self._rng = server, rng
        server.after.append(self._changed)

    def _changed(self, change: Change) -> None:
        if change.plural == "nodes" and change.after is None:
            pause = ORPHAN_SECONDS + self._rng.uniform(0.0, 20.0)
            asyncio.get_running_loop().call_later(pause, self._collect, change.key[1])

    def _collect(self, node: str) -> None:
        if self._server.find("nodes", node) is not None:
            return
        for pod in self._server.all("pods"):
            if pod["spec"].get("nodeName") == node:
                failed = {**(pod.get("status") or {}), "phase": "Failed"}
                last = self._server.update("pod-garbage-collector", "pods", pod, status=failed)
                self._server.remove("pod-garbage-collector", "pods", last)


def fits(spec: Mapping[str, Any], node: Body) -> tuple[bool, bool]:
    """Whether a daemon pod should run on the node, and whether one that runs should stay."""
    labels = node["metadata"].get("labels") or {}
    wanted = spec.get("nodeSelector") or {}
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False, False
    required = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    )
    if required is not None:
        fields = {"metadata.name": node["metadata"]["name"]}
        if not any(_term(term, labels, fields) for term in required["nodeSelectorTerms"]):
            return False, False
    effects = list(_untolerated(spec.get("tolerations") or [], node))
    return not effects, "NoExecute" not in effects


def target_of(pod: Body) -> str:
    """The node that a daemon pod is for, bound or not."""
    if pod["spec"].get("nodeName"):
        return str(pod["spec"]["nodeName"])
    required = pod["spec"]["affinity"]["nodeAffinity"][
        "requiredDuringSchedulingIgnoredDuringExecution"
    ]
    return str(required["nodeSelectorTerms"][0]["matchFields"][0]["values"][0])


def _untolerated(tolerations: Sequence[Mapping[str, Any]], node: Body) -> Iterator[str]:
    for taint in (node.get("spec") or {}).get("taints") or []:
        effect = taint["effect"]
        own = effect in TOLERATED.get(taint["key"], ())
        if effect == "PreferNoSchedule" or own:
            continue
        if not any(_tolerates(toleration, taint) for toleration in tolerations):
            yield effect


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint["effect"]:
        return False
    if toleration.get("operator") == "Exists":
        return not toleration.get("key") or toleration["key"] == taint["key"]
    same = toleration.get("key") == taint["key"]
    return same and toleration.get("value", "") == taint.get("value", "")


def _term(term: Mapping[str, Any], labels: Mapping[str, str], fields: Mapping[str, str]) -> bool:
    expressions, on_fields = term.get("matchExpressions") or [], term.get("matchFields") or []
    if not expressions and not on_fields:
        return False
    return all(_expression(e, labels) for e in expressions) and all(
        _expression(e, fields) for e in on_fields
    )


def _expression(expression: Mapping[str, Any], values: Mapping[str, str]) -> bool:
    has = expression["key"] in values
    value = values.get(expression["key"], "")
    wanted = expression.get("values") or []
    return {
        "In": lambda: has and value in wanted,
        "NotIn": lambda: not has or value not in wanted,
        "Exists": lambda: has,
        "DoesNotExist": lambda: not has,
        "Gt": lambda: has and int(value) > int(wanted[0]),
        "Lt": lambda: has and int(value) < int(wanted[0]),
    }[expression["operator"]]()


def _rolling(daemon_set: Body) -> bool:
    """Whether a change of the template restarts pods. Wavegate never asks for it; a bug might."""
    strategy = daemon_set["spec"].get("updateStrategy") or {}
    return bool(strategy.get("type") != "OnDelete")


def _made_from(daemon_set: Body) -> str:
    return str(daemon_set["metadata"]["generation"])


def _owner(pod: Body) -> str | None:
    owners = pod["metadata"].get("ownerReferences") or []
    return next((str(o["name"]) for o in owners if o["kind"] == "DaemonSet"), None)


def _age(pod: Body) -> tuple[str, int]:
    return pod["metadata"]["creationTimestamp"], int(pod["metadata"]["uid"].partition("-")[2])


def _moved(change: Change) -> bool:
    """Whether a node changed in what the controller looks at: labels and taints."""
    before, after = change.before or {}, change.after or {}
    if before["metadata"].get("labels") != after["metadata"].get("labels"):
        return True
    return bool(before["spec"].get("taints") != after["spec"].get("taints"))


def _ended(change: Change) -> bool:
    phase = ((change.after or {}).get("status") or {}).get("phase")
    return phase in ("Failed", "Succeeded")
