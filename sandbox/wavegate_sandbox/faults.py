"""Faults as a function of content: wherever bad content runs, the machine or the agent breaks.

The operator cannot tell this from reality: it sees leases stop, bootIDs change, containers
restart. Pods are watched from a thread of the test or demo; what was done is kept in a timeline.
"""

import heapq
import itertools
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, Self

import requests

from wavegate_sandbox.client import STRATEGIC, Api
from wavegate_sandbox.components import CRASHED
from wavegate_sandbox.errors import ApiError
from wavegate_sandbox.nodes import timestamp

WATCH_SECONDS = 10
RETRY_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class NodeCrash:
    """The machine stops `after_seconds` after a pod with the content became Ready on it.

    So again after each boot with that content. With `boot_after_seconds` it boots by itself that
    long after each crash; else somebody calls `sandbox.boot`.
    """

    after_seconds: float = 2.0
    boot_after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class AgentCrashLoop:
    """The containers of pods with the content end with exit code 1, every `every_seconds`."""

    every_seconds: float = 2.0


Fault = NodeCrash | AgentCrashLoop


@dataclass(frozen=True, slots=True)
class Event:
    """Something that was done to a node, at a Unix time."""

    kind: Literal["loaded", "crash", "boot", "agent-restart"]
    node: str
    pod: str
    at: float


class Target(Protocol):
    """What is needed of a sandbox."""

    @property
    def api(self) -> Api:
        """A client with all rights."""

    def crash(self, node: str) -> None:
        """Stop the machine."""

    def boot(self, node: str) -> str:
        """Start the machine."""


class Faults:
    """Faults by content: the key is a part of a content reference in the pod's spec.

    Compared with every image volume's reference, every volume's ConfigMap name and every
    container's image. Use as a context manager, or `start` and `stop`.
    """

    def __init__(self, sandbox: Target, faults: Mapping[str, Fault]) -> None:
        self._sandbox = sandbox
        self._faults = dict(faults)
        self._seen: set[tuple[str, int]] = set()
        self._events: list[Event] = []
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._stopped = False

    def start(self) -> Self:
        """Watch pods from now on; those that run already count as just loaded."""
        for work in (self._watch, self._act):
            threading.Thread(target=work, daemon=True, name=f"faults{work.__name__}").start()
        return self

    def stop(self) -> None:
        """Nothing more is done to anything once this has returned. Broken things stay broken."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    @property
    def timeline(self) -> tuple[Event, ...]:
        """What happened so far, oldest first."""
        return tuple(self._events)

    def first(self, kind: str) -> Event | None:
        """The first event of a kind."""
        return next((event for event in self.timeline if event.kind == kind), None)

    def __enter__(self) -> Self:
        """See `start`."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """See `stop`."""
        self.stop()

    def _watch(self) -> None:
        path = "/api/v1/pods"
        while not self._stopped:
            try:
                found = self._sandbox.api.request("GET", path)
                for pod in found["items"]:
                    self._look(pod)
                version = found["metadata"]["resourceVersion"]
                for event in self._sandbox.api.watch(path, WATCH_SECONDS, resourceVersion=version):
                    if self._stopped or event["type"] == "ERROR":
                        break
                    self._look(event["object"])
            except (requests.RequestException, ApiError):  # an apiserver that is away is a test
                time.sleep(RETRY_SECONDS)

    def _look(self, pod: Mapping[str, Any]) -> None:
        status, metadata = pod.get("status", {}), pod["metadata"]
        if metadata.get("deletionTimestamp") or status.get("phase") != "Running":
            return
        fault = self._fault_of(pod)
        if fault is None:
            return
        if isinstance(fault, AgentCrashLoop):
            self._once((metadata["uid"], 0), pod, 0.0, lambda: self._break_agent(pod, fault))
        elif _ready(status):
            restarts = sum(entry["restartCount"] for entry in status.get("containerStatuses", []))
            key = (metadata["uid"], restarts)
            self._once(key, pod, fault.after_seconds, lambda: self._crash(pod, fault))

    def _fault_of(self, pod: Mapping[str, Any]) -> Fault | None:
        references = content_of(pod["spec"])
        for part, fault in self._faults.items():
            if any(part in reference for reference in references):
                return fault
        return None

    def _once(
        self, key: tuple[str, int], pod: Mapping[str, Any], delay: float, act: Callable[[], None]
    ) -> None:
        if key not in self._seen:
            self._seen.add(key)
            self._note("loaded", pod)
            self._later(delay, act)

    def _later(self, delay: float, act: Callable[[], None]) -> None:
        with self._changed:
            heapq.heappush(self._due, (time.monotonic() + delay, next(self._order), act))
            self._changed.notify_all()

    def _act(self) -> None:
        while True:
            with self._changed:  # held while acting, so that `stop` means stopped
                if self._stopped:
                    return
                wait = self._due[0][0] - time.monotonic() if self._due else None
                if wait is None or wait > 0:
                    self._changed.wait(wait)
                    continue
                _, _, act = heapq.heappop(self._due)
                try:
                    act()
                except requests.RequestException:
                    self._later(RETRY_SECONDS, act)
                except ApiError as error:
                    if error.status >= 500 or error.status == 429:
                        self._later(RETRY_SECONDS, act)
                    # else the pod or node is gone: nothing left to break

    def _crash(self, pod: Mapping[str, Any], fault: NodeCrash) -> None:
        if self._now(pod) is None:
            return  # taken back in time
        node = pod["spec"]["nodeName"]
        self._sandbox.crash(node)
        self._note("crash", pod)
        if fault.boot_after_seconds is not None:
            self._later(fault.boot_after_seconds, lambda: self._boot(pod))

    def _boot(self, pod: Mapping[str, Any]) -> None:
        self._sandbox.boot(pod["spec"]["nodeName"])
        self._note("boot", pod)

    def _break_agent(self, pod: Mapping[str, Any], fault: AgentCrashLoop) -> None:
        now = self._now(pod)
        if now is None:
            return
        node = self._sandbox.api.request("GET", f"/api/v1/nodes/{pod['spec']['nodeName']}")
        if CRASHED not in node["metadata"]["labels"]:  # nothing restarts on a machine that is down
            self._sandbox.api.request(
                "PATCH",
                f"{_path(pod)}/status",
                {"metadata": {"uid": pod["metadata"]["uid"]}, "status": broken(now)},
                content_type=STRATEGIC,
            )
            self._note("agent-restart", pod)
        self._later(fault.every_seconds, lambda: self._break_agent(pod, fault))

    def _now(self, pod: Mapping[str, Any]) -> dict[str, Any] | None:
        """The pod as it is; None if it is gone, being deleted or another one."""
        found = self._sandbox.api.request("GET", _path(pod), check=False)
        metadata = found.get("metadata", {})
        if found["kind"] == "Status" and found.get("code") != 404:
            raise ApiError(found.get("code", 500), found.get("reason", ""), "")
        same = metadata.get("uid") == pod["metadata"]["uid"]
        return found if same and not metadata.get("deletionTimestamp") else None

    def _note(
        self, kind: Literal["loaded", "crash", "boot", "agent-restart"], pod: Mapping[str, Any]
    ) -> None:
        name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        self._events.append(Event(kind, pod["spec"]["nodeName"], name, time.time()))


def content_of(spec: Mapping[str, Any]) -> list[str]:
    """All references of a pod spec by which content may be bound."""
    found = []
    for volume in spec.get("volumes", []):
        found += [volume.get("image", {}).get("reference"), volume.get("configMap", {}).get("name")]
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        found.append(container.get("image"))
    return [reference for reference in found if reference]


def _path(pod: Mapping[str, Any]) -> str:
    metadata = pod["metadata"]
    return f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"


def _ready(status: Mapping[str, Any]) -> bool:
    return any(
        entry["type"] == "Ready" and entry["status"] == "True"
        for entry in status.get("conditions", [])
    )


def broken(pod: Mapping[str, Any]) -> dict[str, Any]:
    """The status of a pod whose containers ended once more, as a kubelet reports it."""
    now = timestamp()
    ended = {"exitCode": 1, "reason": "Error", "startedAt": now, "finishedAt": now}
    waiting = {
        "reason": "CrashLoopBackOff",
        "message": "back-off restarting failed container",
    }
    containers = [
        {
            **entry,
            "ready": False,
            "started": False,
            "restartCount": entry["restartCount"] + 1,
            "state": {"waiting": waiting},
            "lastState": {"terminated": ended},
        }
        for entry in pod["status"].get("containerStatuses", [])
    ]
    conditions = [
        {"type": kind, "status": "False", "reason": "ContainersNotReady"}
        for kind in ("Ready", "ContainersReady")
    ]
    return {"containerStatuses": containers, "conditions": conditions}
