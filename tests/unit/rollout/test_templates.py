"""Templates of revisions: the node rule is merged into the user's terms, content is bound."""

import copy

import pytest

from support.builders import agent_template, digest, make_channel
from wavegate.evidence import NodeView
from wavegate.rollout.placement import runs_on
from wavegate.rollout.steps import Target
from wavegate.rollout.templates import (
    REQUIRED,
    bind,
    find_problem,
    revision_template,
    targeted,
    untargeted,
)

KEY = "wavegate.node-restriction.kubernetes.io/agents.rules"
ZONE = {"key": "zone", "operator": "In", "values": ["a"]}
NAME = {"key": "metadata.name", "operator": "In", "values": ["n"]}
PREFERRED = {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": {}}]}


def required(*terms):
    """An affinity with these required terms."""
    return {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": list(terms)}}}


AFFINITIES = [
    {},
    {"nodeAffinity": PREFERRED},
    required({"matchExpressions": [ZONE]}),
    required({"matchFields": [NAME]}),
    required({"matchExpressions": [ZONE]}, {"matchExpressions": [ZONE], "matchFields": [NAME]}),
    required({"matchExpressions": [ZONE]}, {}),
    {**required({"matchExpressions": [ZONE]}), "podAntiAffinity": {REQUIRED: []}},
]


def node(side=None, zone="a", name="n"):
    labels = {"zone": zone} | ({KEY: side} if side else {})
    return NodeView(name, "u", "b", ready=True, labels=labels)


def runs(affinity, target, where):
    """Whether a DaemonSet with this own affinity and target runs on a node."""
    merged = targeted(affinity, KEY, target, "x1")
    return runs_on({"spec": {"affinity": merged}}, where)


@pytest.mark.parametrize("affinity", AFFINITIES)
@pytest.mark.parametrize("side", [None, "x1", "y2"])
def test_a_target_restricts_the_user_s_own_choice_and_nothing_else(affinity, side):
    where = node(side)
    own = runs_on({"spec": {"affinity": affinity}}, where)
    assert own
    assert runs(affinity, Target.ALL, where)
    assert not runs(affinity, Target.NOTHING, where)
    assert runs(affinity, Target.IN, where) is (side == "x1")
    assert runs(affinity, Target.NOT_IN, where) is (side != "x1")


@pytest.mark.parametrize("target", list(Target))
def test_no_target_brings_an_agent_where_the_user_wants_none(target):
    affinity = required({"matchExpressions": [ZONE]}, {})
    assert not runs(affinity, target, node("x1", zone="b"))
    assert not runs(affinity, target, node(None, zone="b"))
    assert not runs(required({}), target, node("x1"))


@pytest.mark.parametrize("affinity", AFFINITIES)
@pytest.mark.parametrize("target", list(Target))
def test_what_was_targeted_is_known_again_without_the_rule(affinity, target):
    before = copy.deepcopy(affinity)
    assert untargeted(targeted(affinity, KEY, target, "x1")) == affinity
    assert affinity == before


def test_all_is_exactly_the_user_s_affinity():
    for affinity in AFFINITIES:
        assert targeted(affinity, KEY, Target.ALL, "x1") == affinity


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("imageVolume", {"image": {"reference": "ref", "pullPolicy": "IfNotPresent"}}),
        ("configMap", {"configMap": {"name": "ref"}}),
    ],
)
def test_content_takes_the_place_of_its_volume_whatever_stood_there(kind, expected):
    template = agent_template()
    volumes = [{"name": "content", "emptyDir": {}}, {"name": "other", "emptyDir": {}}]
    template["spec"]["volumes"] = volumes
    before = copy.deepcopy(template)
    spec = make_channel(content={kind: {"volumeName": "content"}}).spec
    bound = bind(template, spec, "ref")
    assert bound["spec"]["volumes"] == [{"name": "content", **expected}, volumes[1]]
    assert template == before


def test_options_of_a_config_map_volume_are_kept():
    template = agent_template()
    volume = {"name": "content", "configMap": {"name": "old", "defaultMode": 256}}
    template["spec"]["volumes"] = [volume]
    spec = make_channel(content={"configMap": {"volumeName": "content"}}).spec
    (bound,) = bind(template, spec, "new")["spec"]["volumes"]
    assert bound["configMap"] == {"name": "new", "defaultMode": 256}


@pytest.mark.parametrize("where", ["containers", "initContainers"])
def test_content_can_be_the_image_of_a_container(where):
    template = agent_template()
    found = {"name": "rules", "image": "any", "imagePullPolicy": "Always"}
    template["spec"][where] = [*template["spec"].get(where, []), found]
    spec = make_channel(content={"containerImage": {"containerName": "rules"}}).spec
    assert bind(template, spec, "ref")["spec"][where][-1] == {
        "name": "rules",
        "image": "ref",
        "imagePullPolicy": "IfNotPresent",
    }


def test_a_revision_keeps_labels_but_those_of_controllers_and_refuses_a_second_agent():
    template = agent_template()
    template["metadata"] = {"labels": {"app": "x", "pod-template-hash": "1"}}
    own = {"labelSelector": {"matchLabels": {"app": "x"}}, "topologyKey": "zone"}
    template["spec"]["affinity"] = {"podAntiAffinity": {REQUIRED: [own]}}
    made = revision_template(template, "rules", "x1")
    assert made["metadata"]["labels"] == {
        "app": "x",
        "wavegate.dev/channel": "rules",
        "wavegate.dev/attempt": "x1",
    }
    first, second = made["spec"]["affinity"]["podAntiAffinity"][REQUIRED]
    assert first == own
    assert second == {
        "labelSelector": {"matchLabels": {"wavegate.dev/channel": "rules"}},
        "topologyKey": "kubernetes.io/hostname",
    }


@pytest.mark.parametrize(
    "pod",
    [
        {"affinity": None},
        {"affinity": {"nodeAffinity": None, "podAntiAffinity": None}},
        {"nodeSelector": None, "tolerations": None, "initContainers": None},
    ],
)
def test_an_empty_field_as_helm_writes_it_is_no_problem(pod):
    """A CRD that keeps unknown fields keeps `null` too."""
    template = agent_template()
    template["spec"] |= pod
    spec = make_channel().spec
    assert find_problem(template, spec) is None
    made = revision_template(bind(template, spec, "ref"), "rules", "x1")
    targeted(made["spec"]["affinity"], KEY, Target.IN, "x1")
    assert runs_on(made, node())


@pytest.mark.parametrize(
    ("pod", "reason"),
    [
        ({}, None),
        ({"schedulerName": "default-scheduler"}, None),
        ({"nodeName": "n"}, "InvalidTemplate"),
        ({"schedulerName": "mine"}, "InvalidTemplate"),
        ({"volumes": None}, "MissingVolume"),
        ({"volumes": [{"name": "other", "emptyDir": {}}]}, "MissingVolume"),
        ({"containers": [{"name": "agent"}]}, "ImageNotPinned"),
        ({"containers": [{"name": "agent", "image": None}]}, "InvalidTemplate"),
        ({"initContainers": [{"name": "i", "image": "i:latest"}]}, "ImageNotPinned"),
        ({"containers": "agent"}, "InvalidTemplate"),
        ({"affinity": []}, None),
        ({"affinity": ["x"]}, "InvalidTemplate"),
    ],
)
def test_what_keeps_a_template_from_running_is_found(pod, reason):
    template = agent_template()
    template["spec"] |= pod
    problem = find_problem(template, make_channel().spec)
    assert (problem.reason if problem else None) == reason


def test_a_second_image_volume_must_be_pinned_but_the_content_s_own_need_not():
    template = agent_template()
    volume = {"name": "other", "image": {"reference": "registry.example/other:1"}}
    template["spec"]["volumes"].append(volume)
    assert find_problem(template, make_channel().spec).reason == "ImageNotPinned"
    volume["image"]["reference"] = f"registry.example/other@{digest('other')}"
    assert find_problem(template, make_channel().spec) is None


def test_a_container_named_like_the_content_s_volume_must_be_pinned_all_the_same():
    template = agent_template()
    template["spec"]["containers"].append({"name": "content", "image": "content:1"})
    assert find_problem(template, make_channel().spec).reason == "ImageNotPinned"
