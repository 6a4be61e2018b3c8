"""Manifests and views that the sandbox's tests share."""

import contextlib
from collections.abc import Iterator
from typing import Any

from wavegate_sandbox.cluster import Sandbox
from wavegate_sandbox.errors import TimedOut
from wavegate_sandbox.nodes import LEASES, NodeSpec

SIDE = "side"


@contextlib.contextmanager
def fleet(sandbox: Sandbox, prefix: str, count: int) -> Iterator[list[str]]:
    """That many nodes, labelled `pool=<prefix>`; removed at the end."""
    names = [f"{prefix}-{number}" for number in range(count)]
    sandbox.add_nodes([NodeSpec(name, {"pool": prefix}) for name in names])
    yield names
    for name in names:
        sandbox.remove_node(name)


def daemon_set(name: str, pool: str, content: str, operator: str) -> dict[str, Any]:
    """A DaemonSet on one side of a node label, its content an image volume."""
    terms = [
        {"key": "pool", "operator": "In", "values": [pool]},
        {"key": SIDE, "operator": operator, "values": ["candidate"]},
    ]
    affinity = {"nodeSelectorTerms": [{"matchExpressions": terms}]}
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    return {
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "updateStrategy": {"type": "OnDelete"},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {
                    "affinity": {"nodeAffinity": {required: affinity}},
                    "containers": [{"name": "agent", "image": "registry.test/agent:1"}],
                    "volumes": [{"name": "content", "image": {"reference": content}}],
                },
            },
        },
    }


def create(sandbox: Sandbox, namespace: str, manifest: dict[str, Any]) -> None:
    sandbox.request("POST", f"/apis/apps/v1/namespaces/{namespace}/daemonsets", manifest)


def label(sandbox: Sandbox, node: str, value: str | None) -> None:
    sandbox.request("PATCH", f"/api/v1/nodes/{node}", {"metadata": {"labels": {SIDE: value}}})


def running(sandbox: Sandbox, namespace: str) -> dict[str, list[str]]:
    """Names of the DaemonSets with a Ready pod that is not being deleted, by node."""
    found: dict[str, list[str]] = {}
    for pod in sandbox.request("GET", f"/api/v1/namespaces/{namespace}/pods")["items"]:
        if is_ready(pod) and "deletionTimestamp" not in pod["metadata"]:
            node = pod["spec"]["nodeName"]
            found.setdefault(node, []).append(pod["metadata"]["labels"]["app"])
    return found


def is_ready(thing: dict[str, Any]) -> bool:
    """Whether a node's or pod's Ready condition is True."""
    conditions = thing["status"].get("conditions", [])
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)


def until_lost(sandbox: Sandbox, node: str, timeout: float = 60) -> None:
    """Wait until a node that stopped is not Ready; what its lease and its labels are is said if it
    stays Ready.
    """
    try:
        sandbox.wait_for(
            f"{node} to be lost", lambda: not is_ready(node_of(sandbox, node)), timeout
        )
    except TimedOut as error:
        lease = sandbox.request("GET", f"{LEASES}/{node}", check=False)
        there = node_of(sandbox, node)
        seen = {key: there["metadata"].get(key) for key in ("labels", "annotations", "uid")}
        raise TimedOut(f"{error}\nlease: {lease}\nnode: {seen} {there['status']}") from error


def node_of(sandbox: Sandbox, name: str) -> dict[str, Any]:
    return sandbox.request("GET", f"/api/v1/nodes/{name}")


def restart_container(sandbox: Sandbox, pod: dict[str, Any]) -> None:
    """The first container of a pod ended with an error and was started once more; it stays Ready.

    `pod` is as it was read before: its count of restarts goes up by one from there.
    """
    container = pod["status"]["containerStatuses"][0]
    last = {"terminated": {"exitCode": 1, "reason": "Error"}}
    again = {**container, "restartCount": container["restartCount"] + 1, "lastState": last}
    there = pod["metadata"]
    sandbox.request(
        "PATCH",
        f"/api/v1/namespaces/{there['namespace']}/pods/{there['name']}/status",
        {"status": {"containerStatuses": [again]}},
        content_type="application/merge-patch+json",
    )
