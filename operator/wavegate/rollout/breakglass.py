"""The kubectl lines that revert a rollout without the operator: exactly the writes of our fence.

They are for a person to paste, in their order, from a status that still stands when the operator
does not. The first line keeps an operator that comes back from writing between them.
"""

import json
import shlex

from wavegate.rollout.names import (
    ATTEMPT_LABEL,
    CHANNEL_LABEL,
    HANDS_OFF_ANNOTATION,
    node_label,
)
from wavegate.rollout.observation import Observation, RevisionView
from wavegate.rollout.steps import Target
from wavegate.rollout.templates import targeted

MAX_LINE = 2048
"""Longest line in a status. An affinity that does not fit is found in the runbook's way."""


def lines(
    obs: Observation,
    candidate: RevisionView | None,
    stable: RevisionView | None,
    *,
    hands_off: bool = True,
) -> list[str]:
    """The lines for these two revisions; empty when there is no candidate to take back. Without
    `hands_off`, the line that keeps the operator away is left out.
    """
    if candidate is None:
        return []
    away = hands_off and obs.channel is not None
    head = [_annotate(obs)] if away else []
    return [*head, *obs.kept.of(_fence, obs.namespace, obs.name, candidate, stable)]


def _fence(
    namespace: str, name: str, candidate: RevisionView, stable: RevisionView | None
) -> list[str]:
    """In the order of `revert`: no new pods, pods that are not bound, stable, all the rest."""
    labels = f"{CHANNEL_LABEL}={name},{ATTEMPT_LABEL}={candidate.attempt}"
    pods, key = ("delete", "pods", "-l", labels, "--wait=false"), node_label(namespace, name)
    return [
        _retarget(namespace, key, candidate, Target.NOTHING),
        _line(namespace, *pods, "--field-selector", "spec.nodeName="),
        *([_retarget(namespace, key, stable, Target.ALL)] if stable is not None else []),
        _line(namespace, *pods),
    ]


def _annotate(obs: Observation) -> str:
    away = f"{HANDS_OFF_ANNOTATION}=true"
    return _line(obs.namespace, "annotate", "wgc", obs.name, away, "--overwrite")


def _retarget(namespace: str, key: str, view: RevisionView, target: Target) -> str:
    affinity = targeted(view.own_affinity, key, target)
    patch = [{"op": "replace", "path": "/spec/template/spec/affinity", "value": affinity}]
    text = json.dumps(patch, separators=(",", ":"), ensure_ascii=False)
    line = _line(namespace, "patch", "daemonset", view.name, "--type=json", "-p", text)
    if len(line) <= MAX_LINE:
        return line
    return (
        f"# the affinity of DaemonSet {view.name} is too long to be shown: point it at "
        f"{target.value} as the runbook says under 'Revert by hand'"
    )


def _line(namespace: str, *words: str) -> str:
    return shlex.join(["kubectl", "-n", namespace, *words])
