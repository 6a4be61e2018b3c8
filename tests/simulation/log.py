"""The log of a simulation: one line for each change that says something to a reader."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from simulation.apiserver import Body, Change
from simulation.stored import stored_in


def rules_of(daemon_set: Body, key: str) -> list[str]:
    """How a DaemonSet is targeted: the operators of our expressions, `In abc`."""
    affinity = daemon_set["spec"]["template"]["spec"].get("affinity") or {}
    required = (affinity.get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    ) or {"nodeSelectorTerms": []}
    found: Iterable[Mapping[str, Any]] = (
        expression
        for term in required["nodeSelectorTerms"]
        for expression in term.get("matchExpressions") or []
        if expression["key"] == key
    )
    return [" ".join([e["operator"], *(e.get("values") or [])]) for e in found]


def describe(change: Change, key: str) -> str:
    """One line about a change, for the log; empty when it says nothing to a reader."""
    kind, (_, name) = change.plural, change.key
    if kind == "events" or (kind == "leases" and change.before is not None):
        return ""
    if change.before is None:
        return f"{kind[:-1]} {name} is created"
    if change.after is None:
        return f"{kind[:-1]} {name} is gone"
    if kind == "daemonsets":
        rules = rules_of(change.after, key)
        if rules != rules_of(change.before, key):
            return f"{name} targets {' and '.join(rules) or 'all'}"
        return ""
    if kind == "nodes":
        return _node_change(change.before, change.after, name, key)
    if kind == "configmaps":
        return f"{name} is written: {_gist(change.after)}"
    if kind == "pods" and change.before["metadata"] != change.after["metadata"]:
        deleting = "deletionTimestamp" in change.after["metadata"]
        was = "deletionTimestamp" in change.before["metadata"]
        return f"pod {name} is ending" if deleting and not was else ""
    return ""


def _node_change(before: Body, after: Body, name: str, key: str) -> str:
    old, new = (b["metadata"].get("labels", {}).get(key) for b in (before, after))
    if old != new:
        return f"node {name}: side {old} → {new}"
    if before["status"] != after["status"]:
        return f"node {name}: Ready {after['status']['conditions'][0]['status']}"
    return f"node {name} is changed"


def _gist(body: Body) -> str:
    record = stored_in(body).record
    if record is None:
        return "not a record"
    rollout = record.rollout
    if rollout is None:
        last = record.outcomes[0] if record.outcomes else None
        return re.sub(r"\s+", " ", f"{last.release} {last.phase} ({last.reason})") if last else "-"
    wave = rollout.waves[-1] if rollout.waves else None
    state = f", wave {wave.name} {wave.state}" if wave else ""
    why = f", {rollout.incident.reason}" if rollout.incident else ""
    return f"{rollout.candidate.release} {rollout.phase}{state}{why}"
