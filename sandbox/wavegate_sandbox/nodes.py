"""Simulated machines: kwok plays their kubelets, everything that judges them is real.

A crash is the label `sandbox.wavegate.dev/crashed`: kwok lets go of the machine, its lease stops
and its pods freeze; the real node controller finds out. A boot gives the machine a new bootID and
takes the label away.
"""

import datetime as dt
import ipaddress
import uuid
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wavegate_sandbox.client import STRATEGIC, Api, wait_for
from wavegate_sandbox.components import CRASHED
from wavegate_sandbox.errors import ApiError, NotOurs

# The customary annotation of kwok's nodes. We crash and remove only what carries it.
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
FAKE = "kwok.x-k8s.io/node"


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """A machine to add.

    Attributes:
        name: of the node; also its hostname label.
        labels: added to those that a kubelet sets (hostname, os, arch).
        taints: as kubectl writes them: `key=value:NoSchedule`.
        kernel, os_image, runtime, arch: what `status.nodeInfo` reports.
        cpu, memory, pods: capacity, all of it allocatable.
    """

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[str, ...] = ()
    kernel: str = "6.12.48+deb13-amd64"
    os_image: str = "Debian GNU/Linux 13 (trixie)"
    runtime: str = "containerd://2.4.2"
    arch: str = "amd64"
    cpu: str = "32"
    memory: str = "256Gi"
    pods: int = 110


class Machines:
    """The simulated machines of one cluster."""

    def __init__(self, api: Api, kubelet_version: str) -> None:
        self._api = api
        self._version = kubelet_version

    def add(self, specs: Iterable[NodeSpec], timeout: float) -> None:
        """Create the nodes and wait until all are Ready and may be scheduled to."""
        names = set()
        for spec in specs:
            self._api.request("POST", "/api/v1/nodes", _manifest(spec, self._version))
            names.add(spec.name)
        wait_for(
            f"{len(names)} new nodes to be Ready and to have a lease",
            lambda: _Negated(self._unready(names)),
            timeout,
        )

    def crash(self, name: str) -> None:
        """The machine stops, without a word. Its pods stay as they are."""
        self._owned(name)
        body = {"metadata": {"labels": {CRASHED: "true"}}}
        self._api.request("PATCH", f"/api/v1/nodes/{name}", body)

    def boot(self, name: str) -> str:
        """The machine starts (again): new bootID, its pods' containers restart. Returns the id."""
        self._owned(name)
        for pod in self._pods(name):
            self._restart(pod)
        boot_id = str(uuid.uuid4())
        path = f"/api/v1/nodes/{name}"
        self._api.request("PATCH", f"{path}/status", {"status": {"nodeInfo": {"bootID": boot_id}}})
        self._api.request("PATCH", path, {"metadata": {"labels": {CRASHED: None}}})
        return boot_id

    def remove(self, name: str) -> None:
        """Delete the node object, as a cloud does when the machine is gone."""
        self._owned(name)
        self._api.request("DELETE", f"/api/v1/nodes/{name}")

    def cordon(self, name: str, *, unschedulable: bool = True) -> None:
        """Mark unschedulable (or schedulable again)."""
        self._api.request(
            "PATCH", f"/api/v1/nodes/{name}", {"spec": {"unschedulable": unschedulable or None}}
        )

    def free_leases(self) -> None:
        """Let a new kwok process take the leases at its next try, about 10 s after its start.

        It holds them under a name of its own and would wait 40 s for the old ones to run out.
        Deleting them would be faster, and nothing like what kubelets do.
        """
        for lease in self._api.request("GET", LEASES)["items"]:
            body = {"spec": {"holderIdentity": None}}
            self._api.request("PATCH", f"{LEASES}/{lease['metadata']['name']}", body, check=False)

    def _owned(self, name: str) -> None:
        node = self._api.request("GET", f"/api/v1/nodes/{name}")
        if node["metadata"].get("annotations", {}).get(FAKE) != "fake":
            raise NotOurs(
                f"Node {name} has no annotation {FAKE}=fake: it may be a real machine, which the "
                "sandbox does not crash, boot or remove. Nothing was changed."
            )

    def _unready(self, names: set[str]) -> dict[str, str]:
        left = {
            node["metadata"]["name"]: _condition(node)
            for node in self._api.request("GET", "/api/v1/nodes")["items"]
            if node["metadata"]["name"] in names and _condition(node) != "Ready"
        }
        leases = {lease["metadata"]["name"] for lease in self._api.request("GET", LEASES)["items"]}
        return dict.fromkeys(names - leases, "no lease") | left

    def _pods(self, node: str) -> Sequence[Mapping[str, Any]]:
        query = {"fieldSelector": f"spec.nodeName={node}"}
        found: Sequence[Mapping[str, Any]] = self._api.request("GET", "/api/v1/pods", params=query)[
            "items"
        ]
        return found

    def _restart(self, pod: Mapping[str, Any]) -> None:
        """What a kubelet reports of a pod's containers after a reboot of its machine."""
        metadata, status = pod["metadata"], pod["status"]
        if metadata.get("deletionTimestamp") or status.get("phase") != "Running":
            return
        now = timestamp()
        containers = [_restarted(entry, now) for entry in status.get("containerStatuses", [])]
        conditions = [
            {"type": kind, "status": "False", "reason": "ContainersNotReady"}
            for kind in ("Ready", "ContainersReady")
        ]
        body = {
            "metadata": {"uid": metadata["uid"]},  # not its successor of the same name
            "status": {"containerStatuses": containers, "conditions": conditions},
        }
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/status"
        try:
            self._api.request("PATCH", path, body, content_type=STRATEGIC)
        except ApiError as error:
            if error.status not in (404, 409):  # gone meanwhile
                raise


class _Negated:
    """True when nothing is left; shows what is left in the message of a time-out."""

    def __init__(self, left: Mapping[str, str]) -> None:
        self._left = left

    def __bool__(self) -> bool:
        return not self._left

    def __repr__(self) -> str:
        some = dict(list(self._left.items())[:10])
        return f"{len(self._left)} left, among them {some}"


def _condition(node: Mapping[str, Any]) -> str:
    """`Ready`, or why it is not ready to be scheduled to."""
    conditions = node["status"].get("conditions", [])
    ready = next((entry for entry in conditions if entry["type"] == "Ready"), None)
    if ready is None or ready["status"] != "True":
        return f"Ready={ready['status'] if ready else 'unset'}"
    taints = [taint["key"] for taint in node["spec"].get("taints", [])]
    held = [key for key in taints if key.startswith("node.kubernetes.io/")]
    held = [key for key in held if key != "node.kubernetes.io/unschedulable"]
    return f"tainted {held}" if held else "Ready"


def _restarted(container: Mapping[str, Any], now: str) -> dict[str, Any]:
    started = container.get("state", {}).get("running", {}).get("startedAt", now)
    ended = {"exitCode": 255, "reason": "Unknown", "startedAt": started, "finishedAt": now}
    return {
        **container,
        "ready": False,
        "restartCount": container.get("restartCount", 0) + 1,
        "state": {"running": {"startedAt": now}},
        "lastState": {"terminated": ended},
    }


def _ready_condition() -> dict[str, str]:
    now = timestamp()
    return {
        "type": "Ready",
        "status": "True",
        "reason": "KubeletReady",
        "message": "kubelet is posting ready status",
        "lastHeartbeatTime": now,
        "lastTransitionTime": now,
    }


def timestamp() -> str:
    """The current time as Kubernetes writes it."""
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _taint(text: str) -> dict[str, str]:
    key_value, _, effect = text.rpartition(":")
    key, _, value = key_value.partition("=")
    return {"key": key, "value": value, "effect": effect}


def _manifest(spec: NodeSpec, version: str) -> dict[str, Any]:
    base = int(ipaddress.ip_address("10.32.0.0"))
    address = ipaddress.ip_address(base + zlib.crc32(spec.name.encode()) % 2**21)
    resources = {"cpu": spec.cpu, "memory": spec.memory, "pods": str(spec.pods)}
    labels = {
        "kubernetes.io/hostname": spec.name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": spec.arch,
        # Else the node controller adds these two and the annotation, again at its slow rate.
        "beta.kubernetes.io/os": "linux",
        "beta.kubernetes.io/arch": spec.arch,
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": spec.name,
            "labels": labels | dict(spec.labels),
            "annotations": {FAKE: "fake", "node.alpha.kubernetes.io/ttl": "0"},
        },
        "spec": {"taints": [_taint(text) for text in spec.taints]},
        "status": {
            # Ready from the start: else the node controller, at its 20 requests per second, would
            # taint and untaint each, and 40 nodes would take 7 s. kwok keeps them so.
            "conditions": [_ready_condition()],
            "addresses": [
                {"type": "InternalIP", "address": str(address)},
                {"type": "Hostname", "address": spec.name},
            ],
            "allocatable": resources,
            "capacity": resources,
            "nodeInfo": _node_info(spec, version),
        },
    }


def _node_info(spec: NodeSpec, version: str) -> dict[str, str]:
    return {
        "architecture": spec.arch,
        "bootID": str(uuid.uuid4()),
        "containerRuntimeVersion": spec.runtime,
        "kernelVersion": spec.kernel,
        "kubeProxyVersion": "",
        "kubeletVersion": version,
        "machineID": uuid.uuid4().hex,
        "operatingSystem": "linux",
        "osImage": spec.os_image,
        "systemUUID": str(uuid.uuid4()),
    }
