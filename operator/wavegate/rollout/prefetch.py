"""While a wave soaks, the images of the next one are pulled on its nodes, where a channel asks so.

A moved node is then without an agent for a shorter time, and a node without a way to the registry
is known before it loses its agent. It is a help and no evidence: no wave waits for it, passes by it
or fails by it, and what is pulled may be gone again by then.

An image is pulled by a pod whose containers name a program that no image has: the kubelet pulls,
makes the containers, and can't start them. As long as the pod is there, its images are in use, so
the kubelet does not collect them (source: Kubernetes 1.37.2, `pkg/kubelet/images`, `detectImages`).
What is pulled where is read off these pods, so there is nothing to remember.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from wavegate.api import GROUP, VERSION, Channel, Phase, PrefetchMode, WaveState
from wavegate.evidence import NodeView
from wavegate.rollout import proven, waves
from wavegate.rollout.attempt import Rollout
from wavegate.rollout.names import (
    ATTEMPT_LABEL,
    KIND_LABEL,
    PREFETCH_LABEL,
    SOAKING_LABEL,
    prefetch_name,
)
from wavegate.rollout.observation import Observation, PrefetchFailure
from wavegate.rollout.steps import Action, EndPrefetch, Prefetch, Step
from wavegate.rollout.trial import tolerations
from wavegate.rollout.wording import some

AT_ONCE = 20
"""So many nodes of a channel pull at a time: as many as may start a candidate's pod at a time."""
RETRY_SECONDS = 60.0
"""When such pods can't be created or deleted, it is tried again after so long."""
DEADLINE_SECONDS = 3600
"""The kubelet ends what the operator left behind."""
_KEPT = (WaveState.Moving, WaveState.Soaking, WaveState.Judging)
_OURS = "prefetch-"
_NOBODY = 65534
Body = dict[str, Any]
Template = Mapping[str, Any]


def added(obs: Observation, step: Step, now: float, *, paused: bool) -> Step:
    """The step; where it does nothing, with what there is to do about images. Not in a revert: no
    request comes before those of a fence.
    """
    rollout, failure = obs.record.rollout, obs.prefetch_failure
    reverting = rollout is not None and rollout.phase is Phase.Reverting
    failed_now = failure is not None and 0 <= now - failure.at < RETRY_SECONDS
    if step.record is not None or step.actions or reverting or failed_now or obs.forbidden:
        return step
    soaking = None if paused else _soaking(obs)
    stale = {p.soaking for p in obs.prefetches if not p.terminating} - {soaking}
    actions: tuple[Action, ...] = tuple(EndPrefetch(*of) for of in sorted(stale))
    if soaking is not None and not actions:
        pods = tuple(_due(obs))
        actions = (Prefetch(pods),) if pods else ()
    return replace(step, actions=actions) if actions else step


def clause(obs: Observation) -> str:
    """What is said of it in a release's message; empty when there is nothing to say."""
    soaking, failure = _soaking(obs), obs.prefetch_failure
    if soaking is None:
        return ""
    if failure is not None and (failure.attempt, failure.ledger) == soaking:
        return f"images can't be pulled ahead: {failure.message}"
    pods = [pod for pod in obs.prefetches if pod.soaking == soaking]
    if not pods:
        return ""
    pulled = sum(1 for pod in pods if pod.pulled)
    said = f"images of the next wave: pulled on {pulled} of {len(pods)} nodes"
    stuck = {pod.node: pod.problem for pod in pods if pod.problem}
    why = ", ".join(sorted(set(stuck.values())))
    return f"{said}, not on {some(sorted(stuck))} ({why})" if stuck else said


def failed(obs: Observation, message: str) -> PrefetchFailure:
    """That what was decided on from this could not be done."""
    attempt, ledger = _soaking(obs) or ("", 0)
    return PrefetchFailure(attempt, ledger, obs.at, message)


def is_ours(container: str) -> bool:
    """Whether a container of such a pod is one of those that pull, and not added by others."""
    return container.startswith(_OURS)


def _soaking(obs: Observation) -> tuple[str, int] | None:
    """Attempt and ledger of the wave that soaks, or may soak on; None when no image is wanted."""
    rollout, channel = obs.record.rollout, obs.channel
    if rollout is None or rollout.phase is not Phase.Rolling or not rollout.waves:
        return None
    if channel is None or channel.spec.rollout.prefetch is not PrefetchMode.NextWave:
        return None
    wave = rollout.waves[-1]
    return (rollout.attempt, wave.ledger) if wave.state in _KEPT else None


def _due(obs: Observation) -> Iterator[Body]:
    """The pods to be made now. They are chosen anew as long as there is room for half as many as
    may pull at a time: that is not for nothing in a large fleet.
    """
    rollout = obs.record.rollout
    view = obs.revision(rollout.candidate) if rollout else None
    if rollout is None or obs.channel is None or view is None or obs.blind:
        return
    if rollout.waves[-1].state is not WaveState.Soaking:
        return
    stable = obs.revision(obs.record.stable)
    pull = pulled_by(view.template, stable.template if stable else {})
    pulling = sum(1 for pod in obs.prefetches if not pod.ended)
    if pull is None or AT_ONCE - pulling < AT_ONCE // 2:
        return
    there, left = {pod.name for pod in obs.prefetches}, AT_ONCE - pulling
    for node in _next(obs, rollout):
        name = prefetch_name(rollout.attempt, rollout.waves[-1].ledger, node.uid)
        if left and name not in there:
            left -= 1
            yield _pod(obs.channel, rollout, pull, name, node.name)


def _next(obs: Observation, rollout: Rollout) -> Iterator[NodeView]:
    """The nodes that the next wave would take if this one passed now."""
    passed = rollout.with_wave(state=WaveState.Passed)
    passed = replace(passed, proven=proven.by_now(obs, rollout))
    if rollout.wave + 1 >= len(rollout.plan.waves) and not waves.rest(obs, passed):
        return
    following = waves.next_wave(obs, passed)
    seen = replace(obs, record=replace(obs.record, rollout=following))
    planned = following.planned
    if planned is None:
        chosen = waves.sweep(seen, following)
    else:
        chosen = waves.choose(seen, following, planned)[0]
    yield from (n for n in chosen if n.ready and n.attempt(obs.key) != rollout.attempt)


def pulled_by(template: Template, stable: Template) -> Body | None:
    """The spec of a pod that pulls what a template needs and stable's does not have; without its
    node, and None when that is nothing. It has no rights, and what it names is not there to be run.
    """
    spec = template["spec"]
    known = {*_images(stable.get("spec") or {}), *_volumes(stable.get("spec") or {})}
    images = [image for image in dict.fromkeys(_images(spec)) if image not in known]
    volumes = [image for image in dict.fromkeys(_volumes(spec)) if image not in known]
    if not images and not volumes:
        return None
    pod: Body = {
        field: spec[field]
        for field in ("serviceAccountName", "imagePullSecrets", "hostNetwork", "runtimeClassName")
        if field in spec
    }
    containers = [_container(n, image) for n, image in enumerate(images or [next(_images(spec))])]
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


def _pod(channel: Channel, rollout: Rollout, pull: Body, name: str, node: str) -> Body:
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
            "name": name,
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
            "nodeName": node,
            "containers": [{**c, "command": command} for c in pull["containers"]],
        },
    }


def _images(spec: Mapping[str, Any]) -> Iterator[str]:
    containers: Iterable[Mapping[str, Any]] = (
        *(spec.get("initContainers") or []),
        *(spec.get("containers") or []),
    )
    return (str(container["image"]) for container in containers if container.get("image"))


def _volumes(spec: Mapping[str, Any]) -> Iterator[str]:
    volumes = (v.get("image") or {} for v in spec.get("volumes") or [])
    return (str(volume["reference"]) for volume in volumes if volume.get("reference"))
