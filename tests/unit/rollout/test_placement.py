"""On which nodes would the DaemonSet controller run a template? Its own predicate, case by case."""

import pytest

from wavegate.evidence import NodeView, Taint
from wavegate.rollout.placement import runs_on

LABELS = {"zone": "a", "cores": "8", "empty": ""}


def node(*taints):
    return NodeView("n1", "u", "b", ready=True, labels=LABELS, taints=taints)


def term(key, operator, *values, kind="matchExpressions"):
    return {kind: [{"key": key, "operator": operator, "values": list(values)}]}


def affinity(*terms):
    name = "requiredDuringSchedulingIgnoredDuringExecution"
    return {"affinity": {"nodeAffinity": {name: {"nodeSelectorTerms": list(terms)}}}}


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        ([], False),
        ([{}], False),
        ([term("zone", "In", "a", "b")], True),
        ([term("zone", "In", "b")], False),
        ([term("absent", "In", "")], False),
        ([term("zone", "NotIn", "a")], False),
        ([term("absent", "NotIn", "a")], True),
        ([term("empty", "Exists")], True),
        ([term("absent", "Exists")], False),
        ([term("absent", "DoesNotExist")], True),
        ([term("empty", "DoesNotExist")], False),
        ([term("cores", "Gt", "7")], True),
        ([term("cores", "Gt", "8")], False),
        ([term("cores", "Lt", "9")], True),
        ([term("cores", "Lt", "8")], False),
        ([term("zone", "Gt", "7")], False),
        ([term("cores", "Gt", "many")], False),
        ([term("cores", "Gt")], False),
        ([term("absent", "Lt", "9")], False),
        ([term("zone", "Unknown", "a")], False),
        ([term("metadata.name", "In", "n1", kind="matchFields")], True),
        ([term("metadata.name", "In", "n2", kind="matchFields")], False),
        ([term("metadata.name", "In", "n1")], False),
        ([term("zone", "In", "b"), term("zone", "In", "a")], True),
        ([{}, term("zone", "In", "a")], True),
        ([term("zone", "In", "a") | term("metadata.name", "In", "n2", kind="matchFields")], False),
    ],
)
def test_required_terms_are_ored_and_an_empty_one_matches_nothing(terms, expected):
    assert runs_on({"spec": affinity(*terms)}, node()) is expected


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        (None, True),
        ({}, True),
        ({"zone": "a"}, True),
        ({"zone": "b"}, False),
        ({"zone": "a", "absent": ""}, False),
    ],
)
def test_a_node_selector_wants_each_label(selector, expected):
    assert runs_on({"spec": {"nodeSelector": selector}}, node()) is expected


GPU = Taint("gpu", "yes", "NoSchedule")


@pytest.mark.parametrize(
    ("taint", "tolerations", "expected"),
    [
        (GPU, [], False),
        (GPU, None, False),
        (GPU, [{"operator": "Exists"}], True),
        (GPU, [{"key": "gpu", "operator": "Exists"}], True),
        (GPU, [{"key": "gpu", "value": "yes"}], True),
        (GPU, [{"key": "gpu", "operator": "Equal", "value": "yes", "effect": "NoSchedule"}], True),
        (GPU, [{"key": "gpu", "value": "no"}], False),
        (GPU, [{"key": "gpu"}], False),
        (GPU, [{"key": "gpu", "operator": "Exists", "effect": "NoExecute"}], False),
        (GPU, [{"key": "other", "operator": "Exists"}], False),
        (GPU, [{"value": "yes"}], False),
        (Taint("gpu", "", "NoExecute"), [{"key": "gpu", "effect": ""}], True),
        (Taint("gpu", "", "PreferNoSchedule"), [], True),
        (Taint("node.kubernetes.io/unschedulable", "", "NoSchedule"), [], True),
        (Taint("node.kubernetes.io/not-ready", "", "NoExecute"), [], True),
        (Taint("node.kubernetes.io/out-of-service", "", "NoExecute"), [], False),
    ],
)
def test_a_taint_must_be_tolerated_unless_every_daemon_does(taint, tolerations, expected):
    assert runs_on({"spec": {"tolerations": tolerations}}, node(taint)) is expected


def test_each_of_several_taints_must_be_tolerated():
    tolerations = [{"key": "gpu", "operator": "Exists"}]
    other = Taint("other", "", "NoSchedule")
    assert runs_on({"spec": {"tolerations": tolerations}}, node(GPU))
    assert not runs_on({"spec": {"tolerations": tolerations}}, node(GPU, other))


def test_a_template_without_anything_runs_everywhere():
    assert runs_on({}, node())
