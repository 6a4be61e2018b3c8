"""A stage on the sandbox: real watches, and the verbs as requests of an administrator."""

import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from fidelity.fleet import Fleet
from fidelity.stage import CHANNEL, HARMS, Stage
from fidelity.trace import KINDS, Body, Change, Trace
from support.served import as_served, own_name
from support.story import GROUP, digest
from wavegate.rollout.names import KIND_LABEL, node_label
from wavegate.rollout.steps import Target
from wavegate.rollout.templates import targeted
from wavegate_sandbox.client import STRATEGIC
from wavegate_sandbox.cluster import Sandbox
from wavegate_sandbox.faults import AgentCrashLoop, Fault, NodeCrash, broken
from wavegate_sandbox.nodes import NodeSpec

PATHS = {
    "configmaps": f"/api/v1/configmaps?{KIND_LABEL}",
    "daemonsets": f"/apis/apps/v1/daemonsets?{KIND_LABEL}",
    "nodes": "/api/v1/nodes?story",
    "pods": "/api/v1/pods?wavegate.dev/channel",
    "securitycontentchannels": f"{GROUP}/securitycontentchannels?",
    "securitycontentreleases": f"{GROUP}/securitycontentreleases?",
}
"""What is watched: path and label selector."""
WATCH_SECONDS = 600
PATIENCE = 150.0
"""Seconds that a story may take until its next turn."""
MERGE = "application/merge-patch+json"
DEEDS: Mapping[str, Fault] = {"kills": NodeCrash(8.0), "crash-loops": AgentCrashLoop(1.0)}
FAULTS = {digest(content): DEEDS[how] for content, how in HARMS.items()}
"""What a `Faults` beside the stories is made of."""


@dataclass(frozen=True, slots=True)
class _Event:
    version: int
    """etcd's revision: one order for all kinds."""
    plural: str
    gone: bool
    body: Body


class Recorder:
    """Watches everything that stories are made of, from its start on. One for all stories."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._events: list[_Event] = []
        self._now: dict[str, dict[tuple[str, str], Body]] = defaultdict(dict)
        self._lock = threading.Lock()
        self._counts: dict[str, int] = defaultdict(int)
        self.errors: list[str] = []

    def __enter__(self) -> Self:
        for plural, where in PATHS.items():
            path, _, selector = where.partition("?")
            listed = self._list(path, selector)
            for body in listed["items"]:
                self._take(plural, "ADDED", body)
            version = listed["metadata"]["resourceVersion"]
            threading.Thread(
                target=self._watch, args=(plural, path, selector, version), daemon=True
            ).start()
        return self

    def __exit__(self, *_: object) -> None:
        """The threads end with the apiserver."""

    def bodies(self, plural: str, space: str) -> list[Body]:
        """The objects of a story, as they are now."""
        with self._lock:
            return [body for body in self._now[plural].values() if _space(plural, body) == space]

    def count(self, space: str) -> int:
        """How many changes of a story's objects were seen."""
        return self._counts[space]

    def changes(self, space: str) -> list[Change]:
        """All changes of a story's objects, in the order in which they were stored."""
        with self._lock:
            events = sorted(self._events, key=lambda event: event.version)
        assert not self.errors, self.errors
        found, last = [], {}
        for event in events:
            if event.plural not in KINDS or _space(event.plural, event.body) != space:
                continue
            key = (event.plural, event.body["metadata"]["uid"])
            before = last.get(key) or (event.body if event.gone else None)
            found.append(Change(event.plural, before, None if event.gone else event.body))
            last[key] = event.body
        return found

    def _list(self, path: str, selector: str) -> dict[str, Any]:
        found: dict[str, Any] = {}

        def listed() -> bool:
            params = {"labelSelector": selector}
            found.update(self._sandbox.request("GET", path, params=params, check=False))
            return "items" in found  # a CRD that was just made is not served at once (429)

        self._sandbox.wait_for(f"a list of {path}", listed)
        return found

    def _watch(self, plural: str, path: str, selector: str, version: str) -> None:
        params = {"labelSelector": selector}
        try:
            while True:  # the apiserver ends the watch of who reads too slowly, without a word
                stream = self._sandbox.api.watch(
                    path, WATCH_SECONDS, **params, resourceVersion=version
                )
                for event in stream:
                    self._take(plural, event["type"], event["object"])
                    if event["type"] == "ERROR":
                        return
                    version = event["object"].get("metadata", {}).get("resourceVersion", version)
        except Exception as error:  # noqa: BLE001 - told by `changes`; a trace with a hole is none
            self.errors.append(f"the watch of {plural} broke: {error!r}")

    def _take(self, plural: str, kind: str, body: Body) -> None:
        if kind in ("BOOKMARK", "ERROR"):
            self.errors.append(str(body))
            return
        metadata = body["metadata"]
        key = (metadata.get("namespace", ""), metadata["name"])
        gone = kind == "DELETED"
        with self._lock:
            self._counts[_space(plural, body)] += 1
            self._events.append(_Event(int(metadata["resourceVersion"]), plural, gone, body))
            if gone:
                self._now[plural].pop(key, None)
            else:
                self._now[plural][key] = body


class SandboxedStage(Stage):
    """See the module. `kill_leader` kills the operator that leads."""

    patience = PATIENCE

    def __init__(
        self,
        recorder: Recorder,
        sandbox: Sandbox,
        space: str,
        kill_leader: Callable[[], None] = lambda: None,
        workers: int = 3,
    ) -> None:
        super().__init__(space, workers)
        self._recorder, self._sandbox = recorder, sandbox
        self._kill_leader = kill_leader
        self.key = node_label(space, CHANNEL)

    def create(self, kind: str, name: str, spec: Mapping[str, Any]) -> None:
        if kind == "Channel":
            spec = as_served(self._sandbox, spec)
        if kind == "Decision":
            spec = {**spec, **own_name(self._sandbox)}
        body = {
            "apiVersion": "wavegate.dev/v1alpha1",
            "kind": f"SecurityContent{kind}",
            "metadata": {"name": name},
            "spec": spec,
        }
        self._sandbox.request("POST", self._path(kind), body)

    def change(self, kind: str, name: str, spec: Mapping[str, Any]) -> None:
        if kind == "Channel":
            spec = as_served(self._sandbox, spec)
        path = f"{self._path(kind)}/{name}"
        self._sandbox.request("PATCH", path, {"spec": spec}, content_type=MERGE)

    def delete(self, kind: str, name: str) -> None:
        self._sandbox.request("DELETE", f"{self._path(kind)}/{name}")

    def join(self, *nodes: str) -> None:
        left = [pod for pod in self.bodies("pods") if pod["spec"].get("nodeName") in nodes]
        looks = {node: self.looks(node) for node in nodes}
        self._sandbox.add_nodes([NodeSpec(n, k.labels, **k.facts) for n, k in looks.items()], 120)
        for pod in left:
            # Bound to the machine that had this name before: a kubelet starts it anew.
            self._sandbox._machines._restart(pod)

    def crash(self, node: str) -> None:
        self._sandbox.crash(node)

    def boot(self, node: str) -> None:
        self._sandbox.boot(node)

    def remove(self, node: str) -> None:
        self._sandbox.remove_node(node)

    def crash_agent(self, node: str) -> None:
        pod = self.pod_on(node)
        assert pod is not None
        path = f"/api/v1/namespaces/{self.space}/pods/{pod['metadata']['name']}/status"
        body = {"metadata": {"uid": pod["metadata"]["uid"]}, "status": broken(pod)}
        self._sandbox.request("PATCH", path, body, content_type=STRATEGIC)

    def taint(self, node: str, key: str) -> None:
        path = f"/api/v1/nodes/{node}"
        taints = self._sandbox.request("GET", path)["spec"].get("taints") or []
        body = {"spec": {"taints": [*taints, {"key": key, "effect": "NoSchedule"}]}}
        self._sandbox.request("PATCH", path, body, content_type=MERGE)

    def cordon(self, node: str) -> None:
        self._sandbox.cordon(node)

    def delete_pod(self, pod: Body) -> None:
        path = f"/api/v1/namespaces/{self.space}/pods/{pod['metadata']['name']}"
        self._sandbox.request("DELETE", path)

    def fence(self, daemon_set: Body) -> None:
        path = f"/apis/apps/v1/namespaces/{self.space}/daemonsets/{daemon_set['metadata']['name']}"
        affinity = targeted({}, self.key, Target.NOTHING)
        body = {
            "metadata": {"annotations": {"by-hand": "true"}},
            "spec": {"template": {"spec": {"affinity": affinity}}},
        }
        self._sandbox.request("PATCH", path, body, content_type=MERGE)

    def kill_leader(self) -> None:
        self._kill_leader()

    def bodies(self, plural: str) -> Iterable[Body]:
        return self._recorder.bodies(plural, self.space)

    def until(self, what: str, test: Callable[[], object]) -> None:
        ends, count = time.monotonic() + self.patience, -1
        while True:
            if count != self._recorder.count(self.space):  # else nothing can have changed
                count = self._recorder.count(self.space)
                if test():
                    return
            if time.monotonic() > ends:
                seen = json.dumps(self.trace().observable(), indent=1, ensure_ascii=False)
                raise AssertionError(f"{self.space}: never: {what}\n{seen}")
            time.sleep(0.1)

    def trace(self) -> Trace:
        trace = Trace(self.key)
        for change in self._recorder.changes(self.space):
            trace.feed(change)
        return trace

    def _path(self, kind: str) -> str:
        return f"{GROUP}/namespaces/{self.space}/securitycontent{kind.lower()}s"


class SandboxedFleet(Fleet, SandboxedStage):
    """Two hundred nodes on the sandbox."""

    patience = 300.0
    _cut_at = 0
    """etcd's revision."""

    def cut(self) -> None:
        self._cut_at = max(map(_version, self._recorder.changes(self.space)))

    def trace(self) -> Trace:
        trace, is_cut = Trace(self.key), False
        for change in self._recorder.changes(self.space):
            if not is_cut and _version(change) > self._cut_at > 0:
                is_cut = True
                trace.cut()
            trace.feed(change)
        return trace


def _version(change: Change) -> int:
    return int(change.body["metadata"]["resourceVersion"])


def _space(plural: str, body: Body) -> str:
    metadata = body["metadata"]
    if plural == "nodes":
        return str((metadata.get("labels") or {}).get("story", ""))
    return str(metadata.get("namespace", ""))
