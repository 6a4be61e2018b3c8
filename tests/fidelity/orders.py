"""Orders between objects that causality fixes: what must have been stored before what.

Each is a question to the changes of a story in their order. It answers how often the order was
put to the test: 0 = the story does not say; it raises when the order was broken.
"""

from collections.abc import Callable

from fidelity.trace import Change, Trace, pod_state, ready_of
from simulation.daemonsets import target_of
from wavegate.cluster.projections import stored_config_map
from wavegate.rollout.names import ATTEMPT_LABEL, CHANNEL_LABEL


class WrongOrderError(AssertionError):
    """Something came before what it follows from."""


class _Past:
    """What was so up to a change."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.ledgers: set[tuple[str, str]] = set()
        """Attempt and node UID."""
        self.labelled: set[tuple[str, str]] = set()
        """Attempt and node name, as labelled now."""
        self.bound: dict[str, set[str]] = {}
        """By node: UIDs of pods that are bound."""
        self.phases: dict[str, str] = {}
        """Attempt → phase of its rollout."""
        self.targets: dict[str, str] = {}
        self.observed: dict[str, bool] = {}
        self.ready: set[tuple[str, str]] = set()
        """Attempt and node on which its pod is Ready."""
        self.gone: set[str] = set()
        """Names of nodes that were deleted."""


def check(trace: Trace) -> dict[str, int]:
    """How often each order was put to the test. Raises WrongOrderError."""
    counted = dict.fromkeys((name for name, _ in ORDERS), 0)
    past = _Past(trace.key)
    for change in trace.changes:
        for name, question in ORDERS:
            answer = question(trace, past, change)
            if answer is False:
                raise WrongOrderError(f"{name}: {_gist(trace, change)}")
            counted[name] += answer is True
        _remember(trace, past, change)
    return counted


def _ledger_before_label(trace: Trace, past: _Past, change: Change) -> bool | None:
    if change.plural != "nodes" or change.after is None:
        return None
    attempt = _label(change.after, trace.key)
    if attempt is None or attempt == _label(change.before, trace.key):
        return None
    return (attempt, change.after["metadata"]["uid"]) in past.ledgers


def _label_before_pod(trace: Trace, past: _Past, change: Change) -> bool | None:
    if not _is_new_pod(change) or change.after is None:
        return None
    attempt = change.after["metadata"]["labels"][ATTEMPT_LABEL]
    if past.targets.get(attempt, "").partition(" ")[0] != "In":
        return None
    return (attempt, target_of(dict(change.after))) in past.labelled


def _target_before_pod(trace: Trace, past: _Past, change: Change) -> bool | None:
    """No pod of a revision whose fence its controller has seen."""
    if not _is_new_pod(change) or change.after is None:
        return None
    attempt = change.after["metadata"]["labels"][ATTEMPT_LABEL]
    return not (past.targets.get(attempt) == "nothing" and past.observed.get(attempt))


def _old_gone_before_new_bound(trace: Trace, past: _Past, change: Change) -> bool | None:
    node = _bound_to(change.after) if change.plural == "pods" else None
    if node is None or _bound_to(change.before) or not _is_agent(change):
        return None
    return not past.bound.get(node)


def _intent_before_fence(trace: Trace, past: _Past, change: Change) -> bool | None:
    """The engine stores that it reverts, then fences (a fence by hand comes before)."""
    if change.plural != "daemonsets" or change.after is None or change.before is None:
        return None
    attempt = change.after["metadata"]["labels"][ATTEMPT_LABEL]
    new, old = (trace.target(body) for body in (change.after, change.before))
    if new == old or new != "nothing" or not old.startswith("In "):
        return None
    return past.phases.get(attempt) == "Reverting" or _by_hand(change)


def _fence_before_deletion(trace: Trace, past: _Past, change: Change) -> bool | None:
    """Pods of a release that reverts or is fenced go only after its DaemonSet matches nothing."""
    if change.plural != "pods" or change.after is None or not _is_agent(change):
        return None
    attempt = change.after["metadata"]["labels"].get(ATTEMPT_LABEL, "")
    begins = "deletionTimestamp" in change.after["metadata"] and (
        change.before is None or "deletionTimestamp" not in change.before["metadata"]
    )
    fenced = past.targets.get(attempt) == "nothing"
    if not begins or not (fenced or past.phases.get(attempt) == "Reverting"):
        return None
    return fenced


def _stable_before_reverted(trace: Trace, past: _Past, change: Change) -> bool | None:
    """A release is Reverted when each node of its ledgers that is Ready runs stable again."""
    if change.plural != "configmaps" or change.after is None:
        return None
    record = stored_config_map(change.after, None, 0.0).record
    if record is None or record.rollout or not record.outcomes or record.stable is None:
        return None
    last = record.outcomes[0]
    if past.phases.get(last.attempt) != "Reverting" or last.reason != "Reverted":
        return None
    names = {node for attempt, node in past.labelled if attempt == last.attempt}
    return all((record.stable.attempt, name) in past.ready for name in names - past.gone)


def _both_before_neither(trace: Trace, past: _Past, change: Change) -> bool | None:
    """Old stable matches nothing only after some revision that matches all was observed."""
    if change.plural != "daemonsets" or change.after is None or change.before is None:
        return None
    new, old = (trace.target(body) for body in (change.after, change.before))
    if new != "nothing" or not old.startswith("NotIn "):
        return None
    return any(t == "all" and past.observed.get(a) for a, t in past.targets.items())


Question = Callable[[Trace, _Past, Change], bool | None]

ORDERS: tuple[tuple[str, Question], ...] = (
    ("a node stands in a stored ledger before it is labelled", _ledger_before_label),
    ("a node is labelled before a candidate pod is made for it", _label_before_pod),
    ("no pod is made of a revision whose fence was observed", _target_before_pod),
    ("the old pod is gone before the new one is bound", _old_gone_before_new_bound),
    ("a revert is stored before the fence", _intent_before_fence),
    ("the fence comes before pods are deleted", _fence_before_deletion),
    ("stable is back before a release is Reverted", _stable_before_reverted),
    ("the new revision matches all before the old one matches nothing", _both_before_neither),
)


def _remember(trace: Trace, past: _Past, change: Change) -> None:
    remember = {"configmaps": _stored, "daemonsets": _set, "nodes": _node, "pods": _pod}
    if change.plural in remember:
        remember[change.plural](trace, past, change)


def _stored(trace: Trace, past: _Past, change: Change) -> None:
    if change.after is None:
        return
    stored = stored_config_map(change.after, None, 0.0)
    if stored.ledger is not None:
        attempt = stored.ledger.attempt
        past.ledgers |= {(attempt, node.uid) for node in stored.ledger.nodes}
    if stored.record is not None and stored.record.rollout is not None:
        past.phases[stored.record.rollout.attempt] = str(stored.record.rollout.phase)


def _set(trace: Trace, past: _Past, change: Change) -> None:
    attempt = change.body["metadata"]["labels"][ATTEMPT_LABEL]
    if change.after is None:
        past.targets.pop(attempt, None)
        return
    past.targets[attempt] = trace.target(change.after)
    past.observed[attempt] = trace.set_state(change.after).endswith("observed")


def _node(trace: Trace, past: _Past, change: Change) -> None:
    name = change.body["metadata"]["name"]
    past.labelled = {(a, n) for a, n in past.labelled if n != name}
    if change.after is None:
        past.gone.add(name)
        return
    past.gone.discard(name)
    attempt = _label(change.after, past.key)
    if attempt is not None:
        past.labelled.add((attempt, name))


def _pod(trace: Trace, past: _Past, change: Change) -> None:
    if not _is_agent(change):
        return
    uid = change.body["metadata"]["uid"]
    attempt = change.body["metadata"]["labels"].get(ATTEMPT_LABEL, "")
    node = _bound_to(change.body)
    if node is None:
        return
    past.ready.discard((attempt, node))
    if change.after is None:
        past.bound.setdefault(node, set()).discard(uid)
        return
    past.bound.setdefault(node, set()).add(uid)
    if ready_of(change.after) == "True" and pod_state(change.after) != "ending":
        past.ready.add((attempt, node))


def _is_agent(change: Change) -> bool:
    return CHANNEL_LABEL in (change.body["metadata"].get("labels") or {})


def _is_new_pod(change: Change) -> bool:
    return change.plural == "pods" and change.before is None and _is_agent(change)


def _bound_to(pod: object) -> str | None:
    return pod["spec"].get("nodeName") or None if isinstance(pod, dict) else None


def _label(node: object, key: str) -> str | None:
    if not isinstance(node, dict):
        return None
    return (node["metadata"].get("labels") or {}).get(key)


def _by_hand(change: Change) -> bool:
    return bool((change.body["metadata"].get("annotations") or {}).get("by-hand"))


def _gist(trace: Trace, change: Change) -> str:
    name = change.body["metadata"]["name"]
    return f"{change.plural} {name} ({trace.release_of(change.body)})"
