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
    unparked,
    untargeted,
)

KEY = "wavegate.node-restriction.kubernetes.io/agents.rules"
ZONE = {"key": "zone", "operator": "In", "values": ["a"]}
NAME = {"key": "metadata.name", "operator": "In", "values": ["n"]}
PREFERENCE = "preferredDuringSchedulingIgnoredDuringExecution"
PREFERRED = {PREFERENCE: [{"weight": 1, "preference": {"matchExpressions": [ZONE]}}]}
NOT_B = {"key": "zone", "operator": "NotIn", "values": ["b"]}
OTHERS = {"labelSelector": {"matchLabels": {"app": "x"}}, "topologyKey": "zone"}
LIKED = [{"weight": 1, "podAffinityTerm": OTHERS}]


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
    required({"matchFields": [NAME]}, {"matchExpressions": [ZONE]}),
    required({"matchExpressions": [ZONE, NOT_B]}),
    {"nodeAffinity": {**PREFERRED, **required({"matchExpressions": [ZONE]})["nodeAffinity"]}},
    {**required({"matchExpressions": [ZONE]}), "podAntiAffinity": {REQUIRED: []}},
    {"podAffinity": {REQUIRED: [OTHERS], PREFERENCE: LIKED}},
    {"podAntiAffinity": {REQUIRED: [OTHERS], PREFERENCE: LIKED}},
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


RULE = {"key": KEY, "operator": "In", "values": ["x1"]}


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        (None, [{"matchExpressions": [RULE]}]),
        ([{}], [{}]),
        ([{"matchExpressions": []}], [{"matchExpressions": []}]),
        ([{"matchExpressions": [ZONE]}], [{"matchExpressions": [ZONE, RULE]}]),
        ([{"matchFields": [NAME]}], [{"matchFields": [NAME], "matchExpressions": [RULE]}]),
        (
            [{"matchExpressions": [], "matchFields": [NAME]}],
            [{"matchFields": [NAME], "matchExpressions": [RULE]}],
        ),
        (
            [{"matchExpressions": [ZONE, NOT_B]}, {"matchFields": [NAME]}, {}],
            [
                {"matchExpressions": [ZONE, NOT_B, RULE]},
                {"matchFields": [NAME], "matchExpressions": [RULE]},
                {},
            ],
        ),
    ],
)
def test_the_rule_goes_into_each_term_that_is_not_empty(terms, expected):
    """Terms are ORed: one without the rule would let the agent past it."""
    affinity = {} if terms is None else required(*terms)
    merged = targeted(affinity, KEY, Target.IN, "x1")
    assert merged["nodeAffinity"][REQUIRED]["nodeSelectorTerms"] == expected


def test_nothing_is_a_rule_that_no_node_meets():
    (term,) = targeted({}, KEY, Target.NOTHING)["nodeAffinity"][REQUIRED]["nodeSelectorTerms"]
    assert term["matchExpressions"] == [
        {"key": KEY, "operator": "Exists"},
        {"key": KEY, "operator": "DoesNotExist"},
    ]


@pytest.mark.parametrize("affinity", AFFINITIES)
def test_no_two_targets_look_alike(affinity):
    made = [targeted(affinity, KEY, target, "x1") for target in Target]
    assert all(a != b for i, a in enumerate(made) for b in made[i + 1 :])
    assert targeted(affinity, KEY, Target.IN, "x1") != targeted(affinity, KEY, Target.IN, "y2")


@pytest.mark.parametrize("target", list(Target))
@pytest.mark.parametrize("kind", ["podAffinity", "podAntiAffinity"])
def test_a_target_leaves_what_is_no_node_rule_as_it_is(target, kind):
    affinity = {kind: {REQUIRED: [OTHERS], PREFERENCE: LIKED}, "nodeAffinity": PREFERRED}
    merged = targeted(affinity, KEY, target, "x1")
    assert merged[kind] == affinity[kind]
    assert merged["nodeAffinity"][PREFERENCE] == PREFERRED[PREFERENCE]


@pytest.mark.parametrize("target", list(Target))
@pytest.mark.parametrize("empty", [{"nodeAffinity": {}}, {"nodeAffinity": None}])
def test_an_empty_node_affinity_is_none(target, empty):
    """The apiserver keeps an empty object; what we make of it must not change from pass to pass."""
    own = untargeted(targeted(empty, KEY, target, "x1"))
    again = untargeted(targeted(own, KEY, target, "x1"))
    assert again == own
    assert runs(own, Target.ALL, node())


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
        ({"initContainers": [{"name": "i", "image": "registry.example/i@sha256:1"}]}, None),
        ({"ephemeralContainers": [{"name": "e", "image": "e:1"}]}, "ImageNotPinned"),
        ({"affinity": []}, None),
        ({"affinity": required({"matchExpressions": [ZONE]}, {})}, None),
        ({"affinity": required({})}, "InvalidTemplate"),
        ({"affinity": required({}, {"matchExpressions": []})}, "InvalidTemplate"),
        ({"affinity": required({"matchExpressions": [RULE]})}, "InvalidTemplate"),
        (
            {"affinity": required({"matchExpressions": [ZONE]}, {"matchExpressions": [RULE]})},
            "InvalidTemplate",
        ),
        ({"nodeSelector": {KEY: "x1"}}, "InvalidTemplate"),
        ({"nodeSelector": {"zone": "a"}}, None),
        ({"affinity": ["x"]}, "InvalidTemplate"),
    ],
)
def test_what_keeps_a_template_from_running_is_found(pod, reason):
    template = agent_template()
    template["spec"] |= pod
    problem = find_problem(template, make_channel().spec)
    assert (problem.reason if problem else None) == reason


def test_a_parked_template_loses_only_what_parks_it():
    template = agent_template()
    selector = {"wavegate.dev/parked": "true", "zone": "a"}
    template["spec"] |= {"nodeSelector": selector, "affinity": required({"matchFields": [NAME]})}
    free = unparked(template)
    assert free["spec"]["nodeSelector"] == {"zone": "a"}
    assert free["spec"] == {**template["spec"], "nodeSelector": {"zone": "a"}}
    assert selector["wavegate.dev/parked"]
    assert runs_on(free, node())
    assert not runs_on(template, node())


@pytest.mark.parametrize("selector", [None, {}, {"wavegate.dev/parked": "true"}])
def test_a_parked_template_without_a_selector_of_its_own_runs_everywhere(selector):
    template = agent_template()
    template["spec"]["nodeSelector"] = selector
    made = revision_template(unparked(template), "rules", "x1")
    assert runs_on(made, node())
    assert runs(made["spec"]["affinity"], Target.IN, node("x1"))


def test_every_revision_of_a_channel_keeps_every_other_one_away():
    """The rule is about the channel, never about the attempt: else two agents met at hand-over."""
    made = [revision_template(agent_template(), "rules", attempt) for attempt in ("x1", "y2")]
    (first,), (second,) = (m["spec"]["affinity"]["podAntiAffinity"][REQUIRED] for m in made)
    assert first == second
    labels = made[0]["metadata"]["labels"].items()
    assert first["labelSelector"]["matchLabels"].items() <= labels


def test_own_pod_affinity_of_all_kinds_is_kept():
    template = agent_template()
    own = {
        "nodeAffinity": PREFERRED,
        "podAffinity": {REQUIRED: [OTHERS], PREFERENCE: LIKED},
        "podAntiAffinity": {PREFERENCE: LIKED},
    }
    template["spec"]["affinity"] = copy.deepcopy(own)
    made = revision_template(template, "rules", "x1")["spec"]["affinity"]
    assert made["nodeAffinity"] == PREFERRED
    assert made["podAffinity"] == own["podAffinity"]
    assert made["podAntiAffinity"][PREFERENCE] == LIKED
    assert len(made["podAntiAffinity"][REQUIRED]) == 1


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
