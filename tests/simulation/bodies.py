"""Reading what is stored in the simulated cluster: small questions about one object."""

from simulation.apiserver import Body, Change
from simulation.stored import stored_in
from wavegate.evidence import Ledger
from wavegate.rollout.names import ATTEMPT_LABEL, CHANNEL_LABEL, KIND_LABEL, LABEL_DOMAIN
from wavegate.rollout.record import Record

NOTHING = ["Exists", "DoesNotExist"]
"""The rules of a DaemonSet that is pointed at no node."""


def record_in(change: Change) -> Record | None:
    """The record that a change stored; None when it stored something else."""
    if change.plural != "configmaps" or change.after is None:
        return None
    return stored_in(change.after).record


def ledger_in(change: Change) -> Ledger | None:
    """The ledger that a change stored for the first time; None when it stored something else."""
    after = change.after
    if change.plural != "configmaps" or change.before is not None or after is None:
        return None
    return stored_in(after).ledger


def side(node: Body | None, key: str) -> str | None:
    """The attempt that a node is labelled with; None without label, or without node."""
    labels = ((node or {}).get("metadata") or {}).get("labels") or {}
    return labels.get(key)


def attempt_of(pod: Body) -> str:
    """The attempt that a pod or DaemonSet belongs to; empty when it is none of ours."""
    return str((pod["metadata"].get("labels") or {}).get(ATTEMPT_LABEL, ""))


def restarts(pod: Body) -> int:
    """How often containers of a pod were restarted."""
    containers = (pod.get("status") or {}).get("containerStatuses") or []
    return sum(int(container["restartCount"]) for container in containers)


def is_ours(body: Body) -> bool:
    """Whether an object is one that the operator makes."""
    return KIND_LABEL in (body["metadata"].get("labels") or {})


def is_agent(pod: Body) -> bool:
    """Whether a pod is an agent of a channel."""
    return CHANNEL_LABEL in (pod["metadata"].get("labels") or {})


def only_our_label(change: Change, key: str) -> bool:
    """Whether nothing but our label was changed on a node."""

    def rest(node: Body | None) -> object:
        if node is None:
            return None
        labels = {k: v for k, v in (node["metadata"].get("labels") or {}).items() if k != key}
        return labels, node.get("spec"), node.get("status")

    return change.before is not None and rest(change.before) == rest(change.after)


def channel_of(change: Change) -> str:
    """The channel that a changed object is of; empty when it is of none, or of all."""
    body = change.after or change.before or {}
    if change.plural == "securitycontentchannels":
        return change.key[1]
    if change.plural == "securitycontentreleases":
        return str(body["spec"]["channel"])
    return str((body["metadata"].get("labels") or {}).get(CHANNEL_LABEL, ""))


def is_foreign(change: Change, channel: str, key: str) -> bool:
    """Whether a change says nothing of this channel (whose node label is `key`), but of another."""
    if channel_of(change) not in ("", channel):
        return True
    if change.plural != "nodes" or change.before is None or change.after is None:
        return False
    old, new = change.before, change.after
    if any(old.get(part) != new.get(part) for part in ("spec", "status")):
        return False
    sides = [dict(body["metadata"].get("labels") or {}) for body in (old, new)]
    changed = {k for k in sides[0].keys() | sides[1].keys() if sides[0].get(k) != sides[1].get(k)}
    return bool(changed) and all(k.startswith(LABEL_DOMAIN) and k != key for k in changed)
