"""While a wave soaks, the images of the next one are pulled on its nodes, where a channel asks so.

A moved node is then without an agent for a shorter time, and a node without a way to the registry
is known before it loses its agent. It is a help and no evidence: no wave waits for it, passes by it
or fails by it, and what is pulled may be gone again by then.

An image is pulled by a pod whose containers name a program that no image has: the kubelet pulls,
makes the containers, and can't start them. As long as the pod is there, its images are in use, so
the kubelet does not collect them (source: Kubernetes 1.37.2, `pkg/kubelet/images`, `detectImages`).
What is pulled where is read off these pods, so there is nothing to remember.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from wavegate.api import GROUP, VERSION, Channel, ContentKind, Phase, PrefetchMode, WaveState
from wavegate.evidence import NodeView
from wavegate.rollout import proven, waves
from wavegate.rollout.attempt import Rollout
from wavegate.rollout.decide import pause_reason
from wavegate.rollout.exposure import MAX_NOT_RUNNING
from wavegate.rollout.names import (
    ATTEMPT_LABEL,
    KIND_LABEL,
    PREFETCH_LABEL,
    SOAKING_LABEL,
    prefetch_name,
)
from wavegate.rollout.observation import Observation, Soak
from wavegate.rollout.templates import images
from wavegate.rollout.trial import tolerations
from wavegate.rollout.wording import some

AT_ONCE = MAX_NOT_RUNNING
"""So many nodes of a channel pull at a time: as many as may start a candidate's pod at a time."""
DEADLINE_SECONDS = 3600
"""The kubelet pulls for no longer, whatever became of the operator."""
_KEPT = (WaveState.Moving, WaveState.Soaking, WaveState.Judging)
_OF_CONTAINERS = ContentKind.ContainerImage
_OURS = "prefetch-"
_NOBODY = 65534
Body = dict[str, Any]
Template = Mapping[str, Any]


def soak(obs: Observation, now: float) -> Soak | None:
    """The soak in which images are pulled; None when none is wanted. While its wave is `Moving` or
    judged, what was pulled stays: it may soak on.
    """
    rollout, channel = obs.record.rollout, obs.channel
    if rollout is None or rollout.phase is not Phase.Rolling or not rollout.waves:
        return None
    if channel is None or channel.spec.rollout.prefetch is not PrefetchMode.NextWave:
        return None
    wave = rollout.waves[-1]
    if wave.state not in _KEPT or pause_reason(obs, now) is not None:
        return None
    return rollout.attempt, str(wave.ledger)


def over(obs: Observation, now: float) -> list[Soak]:
    """The soaks that are over, and of which pods are left."""
    return sorted({p.soak for p in obs.prefetched.pods if not p.terminating} - {soak(obs, now)})


def due(obs: Observation, now: float) -> dict[str, Body]:
    """The pods that pull, by name: all that this soak needs, also those that there are."""
    rollout = obs.record.rollout
    view = obs.revision(rollout.candidate) if rollout is not None else None
    if rollout is None or obs.channel is None or view is None or soak(obs, now) is None:
        return {}
    if rollout.waves[-1].state is not WaveState.Soaking or obs.blind:
        return {}
    stable = obs.revision(obs.record.stable)
    pull = pulled_by(view.template, stable.template if stable else {})
    if pull is None:
        return {}
    pods = [_pod(obs.channel, rollout, pull, node) for node in _next(obs, rollout)]
    return {pod["metadata"]["name"]: pod for pod in pods}


def room(obs: Observation, now: float) -> int:
    """How many nodes more may pull now."""
    this = soak(obs, now)
    pods = (p for p in obs.prefetched.pods if p.soak == this and not p.terminating)
    return AT_ONCE - sum(1 for pod in pods if not pod.ended)


def clause(obs: Observation, now: float) -> str:
    """What is said of it in a release's message; empty when there is nothing to say."""
    this = soak(obs, now)
    failed = obs.prefetched.failed.get(this, "") if this else ""
    if failed:
        return f"images can't be pulled ahead: {failed}"
    pods = [pod for pod in obs.prefetched.pods if pod.soak == this]
    if not pods:
        return ""
    pulled = sum(1 for pod in pods if pod.pulled)
    said = f"images pulled ahead on {pulled} node{'s'[: pulled != 1]} of the next wave"
    stuck = {pod.node: pod.problem for pod in pods if pod.problem}
    why = ", ".join(sorted(set(stuck.values())))
    return f"{said}, not on {some(sorted(stuck))} ({why})" if stuck else said


def is_ours(container: str) -> bool:
    """Whether a container of such a pod is one of those that pull, and not added by others."""
    return container.startswith(_OURS)


def _next(obs: Observation, rollout: Rollout) -> Iterator[NodeView]:
    """The nodes that the next wave would take if this one passed now, as far as they are there to
    stay, and no other channel has them in a wave.
    """
    passed = rollout.with_wave(state=WaveState.Passed)
    passed = replace(passed, proven=proven.by_now(obs, rollout))
    following = waves.next_wave(obs, passed)
    if following is None:
        return
    seen = replace(obs, record=replace(obs.record, rollout=following))
    planned = following.planned
    if planned is None:
        chosen = waves.sweep(seen, following)
    else:
        chosen = waves.choose(seen, following, planned)[0]
    for node in chosen:
        free = node.attempt(obs.key) != rollout.attempt and node.name not in obs.busy
        if free and waves.is_fit(node):
            yield node


def pulled_by(template: Template, stable: Template) -> Body | None:
    """The spec of a pod that pulls what a template needs and stable's does not have; without its
    node and its program, and None when that is nothing. It has the agent's way to the registry, and
    none of its rights.
    """
    spec = template["spec"]
    known = {image for *_, image in images(stable.get("spec") or {})}
    needed = dict.fromkeys((kind, image) for kind, _, image in images(spec) if image not in known)
    if not needed:
        return None
    volumes = [image for kind, image in needed if kind is ContentKind.ImageVolume]
    others = [image for kind, image in needed if kind is _OF_CONTAINERS]
    pod: Body = {
        field: spec[field]
        for field in ("serviceAccountName", "imagePullSecrets", "hostNetwork", "runtimeClassName")
        if field in spec
    }
    if not others:  # one that stable has too, so that it is there
        others = [next(image for kind, _, image in images(spec) if kind is _OF_CONTAINERS)]
    containers = [_container(n, image) for n, image in enumerate(others)]
    containers[0]["volumeMounts"] = [
        {"name": f"image-{n}", "mountPath": f"/image-{n}", "readOnly": True}
        for n, _ in enumerate(volumes)
    ]
    return pod | {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": DEADLINE_SECONDS,
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _NOBODY,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "tolerations": tolerations(spec),
        "containers": containers,
        "volumes": [
            {"name": f"image-{n}", "image": {"reference": image, "pullPolicy": "IfNotPresent"}}
            for n, image in enumerate(volumes)
        ],
    }


def _container(number: int, image: str) -> Body:
    return {
        "name": f"{_OURS}{number}",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def _pod(channel: Channel, rollout: Rollout, pull: Body, node: NodeView) -> Body:
    """The pod for one node. It belongs to the channel, with which it goes; a pod without a
    controller would keep people from draining its node, or an autoscaler from removing it.
    """
    # Nobody knows the attempt before it begins, so no image can have a program of this name.
    command = [f"/wavegate-runs-nothing-{rollout.attempt}"]
    owner = {"apiVersion": f"{GROUP}/{VERSION}", "kind": Channel.kind, "name": channel.name}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": prefetch_name(rollout.attempt, rollout.waves[-1].ledger, node.uid),
            "namespace": channel.namespace,
            "labels": {
                KIND_LABEL: "prefetch",
                PREFETCH_LABEL: channel.name,
                ATTEMPT_LABEL: rollout.attempt,
                SOAKING_LABEL: str(rollout.waves[-1].ledger),
            },
            "annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "true"},
            "ownerReferences": [{**owner, "uid": channel.uid, "controller": True}],
        },
        "spec": {
            **pull,
            "nodeName": node.name,
            "containers": [{**c, "command": command} for c in pull["containers"]],
        },
    }
