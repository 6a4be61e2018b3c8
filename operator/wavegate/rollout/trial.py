"""The writes of a revert as requests, and what of their answers must be as we asked.

The same patch is sent by the fence and, as a dry run, before each wave. Of an answer only our
fields are compared: where the pods run, what keeps two agents apart, which images and content they
carry, by which labels we find and delete them. A sidecar, an annotation or a mirror of the registry
that a cluster adds to every pod is none of our business.
"""

import copy
import json
from collections.abc import Iterator, Mapping
from typing import Any

from wavegate.rollout.names import ATTEMPT_LABEL, CHANNEL_LABEL
from wavegate.rollout.observation import RevisionView
from wavegate.rollout.steps import Target
from wavegate.rollout.templates import REQUIRED, targeted

Body = dict[str, Any]

_DAEMON_TOLERATIONS = (
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
)


def retarget_patch(view: RevisionView, key: str, target: Target, attempt: str = "") -> list[Body]:
    """The JSON patch that points a revision's DaemonSet at other nodes."""
    affinity = targeted(view.own_affinity, key, target, attempt)
    return [{"op": "replace", "path": "/spec/template/spec/affinity", "value": affinity}]


def agent_pod(view: RevisionView, namespace: str, node: str) -> Body:
    """A pod of a revision for `node`, as the DaemonSet controller would make it. Only its name is
    fixed, so that a refusal reads the same each time. Source: Kubernetes, pkg/controller/daemon.
    """
    metadata = view.template.get("metadata") or {}
    spec = copy.deepcopy(dict(view.template["spec"]))
    affinity = spec["affinity"] = copy.deepcopy(dict(view.own_affinity))
    field = {"key": "metadata.name", "operator": "In", "values": [node]}
    own = affinity.get("nodeAffinity") or {}
    affinity["nodeAffinity"] = {**own, REQUIRED: {"nodeSelectorTerms": [{"matchFields": [field]}]}}
    spec["tolerations"] = tolerations(spec)
    hashes = {"controller-revision-hash": "dry-run", "pod-template-generation": "1"}
    owner = {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": view.name, "uid": view.uid}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{view.name}-dry-run",
            "generateName": f"{view.name}-",
            "namespace": namespace,
            "labels": {**(metadata.get("labels") or {}), **hashes},
            "annotations": metadata.get("annotations") or {},
            "ownerReferences": [{**owner, "controller": True}],
        },
        "spec": spec,
    }


def tolerations(spec: Mapping[str, Any]) -> list[Body]:
    """Those of an agent's pod: its template's, and what every daemon's pod tolerates."""
    daemons = ({"key": k, "operator": "Exists", "effect": e} for k, e in _DAEMON_TOLERATIONS)
    return [*(spec.get("tolerations") or []), *daemons]


def changed_revision(
    view: RevisionView, sent: list[Body], answer: Mapping[str, Any]
) -> tuple[str, ...]:
    """Which of our fields a PATCH of a DaemonSet gave back otherwise than we have them."""
    spec = answer["spec"]
    wanted = dict(_facts(view.template.get("metadata") or {}, view.template["spec"]))
    found = dict(_facts(spec["template"].get("metadata") or {}, spec["template"]["spec"]))
    wanted["affinity"] = sent[0]["value"]
    found["affinity"] = spec["template"]["spec"].get("affinity") or {}
    wanted["updateStrategy"] = "OnDelete"
    found["updateStrategy"] = (spec.get("updateStrategy") or {}).get("type")
    wanted["label of the DaemonSet"] = view.attempt
    found["label of the DaemonSet"] = (answer["metadata"].get("labels") or {}).get(ATTEMPT_LABEL)
    return _differences(wanted, found)


def changed_pod(sent: Mapping[str, Any], answer: Mapping[str, Any]) -> tuple[str, ...]:
    """Which of our fields a new pod would have otherwise than its revision says."""
    wanted, found = (
        dict([*_facts(body["metadata"], body["spec"]), *_placement(body["spec"])])
        for body in (sent, answer)
    )
    return _differences(wanted, found)


def lost_content(sent: Mapping[str, Any], answer: Mapping[str, Any]) -> str:
    """What a new DaemonSet would have otherwise than was sent, for a person; empty if nothing.

    An apiserver without image volumes drops them without a word, and the mounts with them: agents
    would be Ready, and have no content. Source: Kubernetes 1.34, pkg/api/pod/util.go.
    """
    wanted, found = (dict(_contents(body["spec"]["template"]["spec"])) for body in (sent, answer))
    fields = _differences(wanted, found)
    if not fields:
        return ""
    said = f"the apiserver would store a DaemonSet with this template without: {', '.join(fields)}"
    if not any(field.startswith("image of volume") for field in fields):
        return f"{said}. Correct the webhook or policy that changes it."
    return (
        f"{said}. Image volumes are kept by default since Kubernetes 1.35, unless a webhook or "
        "policy takes them away: on this cluster bind the content by containerImage or configMap."
    )


def _differences(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(name for name, value in wanted.items() if found.get(name) != value)


def _facts(metadata: Mapping[str, Any], pod: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What makes a pod an agent of its revision. Images are compared by digest: a mirror of the
    registry may stand before it.
    """
    labels = metadata.get("labels") or {}
    for label in (CHANNEL_LABEL, ATTEMPT_LABEL):
        yield f"label {label}", labels.get(label)
    yield from _contents(pod)
    for label, value in (pod.get("nodeSelector") or {}).items():
        yield f"nodeSelector {label}", value
    for toleration in pod.get("tolerations") or []:
        yield f"toleration {json.dumps(toleration, sort_keys=True)}", True
    if pod.get("priorityClassName"):
        yield "priorityClassName", pod["priorityClassName"]
    yield "schedulerName", pod.get("schedulerName", "default-scheduler")


def _contents(pod: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What agents run and read."""
    for container in [*(pod.get("initContainers") or []), *(pod.get("containers") or [])]:
        yield f"image of container {container['name']}", _digest(container.get("image", ""))
    for volume in pod.get("volumes") or []:
        if "image" in volume:
            reference = (volume["image"] or {}).get("reference", "")
            yield f"image of volume {volume['name']}", _digest(reference)
        if "configMap" in volume:
            yield f"ConfigMap of volume {volume['name']}", volume["configMap"].get("name")


def _placement(pod: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What the scheduler must obey: preferences don't keep an agent away from its node."""
    affinity = pod.get("affinity") or {}
    yield "nodeName", pod.get("nodeName") or ""
    yield "node affinity", (affinity.get("nodeAffinity") or {}).get(REQUIRED)
    for kind in ("podAffinity", "podAntiAffinity"):
        terms = (affinity.get(kind) or {}).get(REQUIRED) or []
        yield f"number of {kind} terms", len(terms)
        # The apiserver itself completes terms with matchLabelKeys, which ours has not.
        ours = [t for t in terms if CHANNEL_LABEL in str(t.get("labelSelector"))]
        yield f"our {kind}", ours


def _digest(image: str) -> str:
    return image.partition("@")[2] or image
