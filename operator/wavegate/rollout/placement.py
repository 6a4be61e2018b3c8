"""The DaemonSet controller's own predicate: on which nodes would a revision's template run?

A move must never take an agent away. So a node may change side only when both revisions' templates
select and tolerate it; else it is NotMovable. Source: Kubernetes, pkg/controller/daemon,
NodeShouldRunDaemonPod, and component-helpers/scheduling/corev1/nodeaffinity.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from wavegate.api import Pool
from wavegate.evidence import NodeView, Taint

TOLERATED_BY_EVERY_DAEMON = frozenset(
    {
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
        "node.kubernetes.io/disk-pressure",
        "node.kubernetes.io/memory-pressure",
        "node.kubernetes.io/pid-pressure",
        "node.kubernetes.io/unschedulable",
        "node.kubernetes.io/network-unavailable",
    }
)
"""Taints that the DaemonSet controller tolerates on behalf of its pods (the last one only with
hostNetwork: a node without network has no agent to lose)."""


def runs_on(template: Mapping[str, Any], node: NodeView) -> bool:
    """Tell whether a DaemonSet with the user's pod `template` runs a pod on `node`."""
    spec = template.get("spec", {})
    selector = spec.get("nodeSelector") or {}
    if any(node.labels.get(key) != value for key, value in selector.items()):
        return False
    required = required_terms(template)
    if required is not None and not any(_term_matches(term, node) for term in required):
        return False
    tolerations = spec.get("tolerations") or []
    return all(_tolerated(taint, tolerations) for taint in node.taints)


def placement(template: Mapping[str, Any]) -> Callable[[NodeView], bool]:
    """Return `runs_on` for one template and many nodes: nodes that look alike to it, by their
    taints and by the few labels that it asks for, are worked out once.
    """
    keys, named = _asked(template)
    known: dict[object, bool] = {}

    def runs(node: NodeView) -> bool:
        look = (node.taints, node.name if named else "", *map(node.labels.get, keys))
        found = known.get(look)
        if found is None:
            found = known[look] = runs_on(template, node)
        return found

    return runs


def ask_the_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two templates ask the same of a node, so that they run on the same ones."""
    return _demands(one) == _demands(other)


def _demands(template: Mapping[str, Any]) -> tuple[object, ...]:
    """All of a template that `runs_on` looks at."""
    spec = template.get("spec", {})
    return spec.get("nodeSelector") or {}, required_terms(template), spec.get("tolerations") or []


def membership(pools: Iterable[Pool]) -> Callable[[NodeView], frozenset[str]]:
    """Return a function that names the pools which select a node. As above, nodes that look alike
    are worked out once.
    """
    pools = tuple(pools)
    keys = {key for pool in pools for key in pool.selector.match_labels}
    keys |= {e.key for pool in pools for e in pool.selector.match_expressions}
    known: dict[object, frozenset[str]] = {}

    def names(node: NodeView) -> frozenset[str]:
        look = tuple(map(node.labels.get, keys))
        found = known.get(look)
        if found is None:
            found = frozenset(pool.name for pool in pools if pool.selector.matches(node.labels))
            known[look] = found
        return found

    return names


def _asked(template: Mapping[str, Any]) -> tuple[tuple[str, ...], bool]:
    """The label keys that a template asks for, and whether it asks for a node by name."""
    keys = set(template.get("spec", {}).get("nodeSelector") or {})
    terms = required_terms(template) or ()
    for term in terms:
        keys |= {expression.get("key", "") for expression in term.get("matchExpressions") or []}
    return tuple(sorted(keys)), any(term.get("matchFields") for term in terms)


def required_terms(template: Mapping[str, Any]) -> Sequence[Mapping[str, Any]] | None:
    """Return the template's required node selector terms (ORed); None when there are none."""
    affinity = template.get("spec", {}).get("affinity") or {}
    required = (affinity.get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    )
    return None if required is None else required.get("nodeSelectorTerms") or []


def _term_matches(term: Mapping[str, Any], node: NodeView) -> bool:
    """A term without any expression matches nothing (source)."""
    expressions = term.get("matchExpressions") or []
    fields = term.get("matchFields") or []
    if not expressions and not fields:
        return False
    return all(_holds(e, node.labels) for e in expressions) and all(
        _holds(e, {"metadata.name": node.name}) for e in fields
    )


def _holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, values = expression.get("key", ""), expression.get("values") or []
    actual = labels.get(key)
    match expression.get("operator"):
        case "In":
            return actual is not None and actual in values
        case "NotIn":
            return actual is None or actual not in values
        case "Exists":
            return actual is not None
        case "DoesNotExist":
            return actual is None
        case "Gt" | "Lt" as operator:
            return _compare(actual, values, greater=operator == "Gt")
    return False


def _compare(actual: str | None, values: Sequence[str], *, greater: bool) -> bool:
    try:
        left, right = int(actual or ""), int(values[0])
    except (ValueError, IndexError):
        return False
    return left > right if greater else left < right


def _tolerated(taint: Taint, tolerations: Sequence[Mapping[str, Any]]) -> bool:
    if taint.effect == "PreferNoSchedule" or taint.key in TOLERATED_BY_EVERY_DAEMON:
        return True
    return any(_tolerates(toleration, taint) for toleration in tolerations)


def _tolerates(toleration: Mapping[str, Any], taint: Taint) -> bool:
    if toleration.get("effect") not in (None, "", taint.effect):
        return False
    key = toleration.get("key") or ""
    if key and key != taint.key:
        return False
    if toleration.get("operator") == "Exists":
        return True
    return bool(key) and (toleration.get("value") or "") == taint.value
