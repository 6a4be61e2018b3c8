"""Of what a dry run gives back, our own fields must be as sent; the rest is the cluster's own."""

import copy

import pytest

from support.builders import KEY, agent_template, digest
from wavegate.rollout.observation import RevisionView
from wavegate.rollout.steps import Target
from wavegate.rollout.templates import REQUIRED, revision_template
from wavegate.rollout.trial import (
    agent_pod,
    changed_pod,
    changed_revision,
    lost_content,
    retarget_patch,
)

OTHER = {"labelSelector": {"matchLabels": {"app": "x"}}, "topologyKey": "zone"}


@pytest.fixture
def view():
    """A revision of an agent with tolerations, a node selector and a priority."""
    template = agent_template()
    template["metadata"] = {"labels": {"app": "agent"}, "annotations": {"mesh": "off"}}
    template["spec"] |= {
        "nodeSelector": {"os": "linux"},
        "tolerations": [{"key": "a", "operator": "Exists"}],
        "priorityClassName": "high",
        "initContainers": [{"name": "init", "image": f"registry.example/i@{digest('init')}"}],
        "affinity": {"podAntiAffinity": {REQUIRED: [OTHER]}},
    }
    template["spec"]["volumes"].append({"name": "cm", "configMap": {"name": "c"}})
    made = revision_template(template, "rules", "x1")
    own = made["spec"]["affinity"]
    return RevisionView("x1", "rules-x1", True, own, own, made, "rules", "7", uid="uid-1")


@pytest.fixture
def pod(view):
    return agent_pod(view, "agents", "n1")


@pytest.fixture
def answer(view):
    """What the apiserver gives back of a DaemonSet that was pointed at nothing."""
    (patch,) = retarget_patch(view, KEY, Target.NOTHING)
    template = copy.deepcopy(view.template)
    template["spec"]["affinity"] = patch["value"]
    labels = {"wavegate.dev/channel": "rules", "wavegate.dev/attempt": "x1"}
    spec = {"template": template, "updateStrategy": {"type": "OnDelete"}}
    return {"metadata": {"labels": labels}, "spec": spec}


def test_a_pod_is_made_as_the_daemon_set_controller_makes_it(view, pod):
    labels = pod["metadata"]["labels"]
    assert {"app": "agent", "wavegate.dev/attempt": "x1"}.items() <= labels.items()
    assert {"controller-revision-hash", "pod-template-generation"} <= labels.keys()
    assert pod["metadata"]["annotations"] == {"mesh": "off"}
    (owner,) = pod["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("DaemonSet", "rules-x1", "uid-1")
    (term,) = pod["spec"]["affinity"]["nodeAffinity"][REQUIRED]["nodeSelectorTerms"]
    field = {"key": "metadata.name", "operator": "In", "values": ["n1"]}
    assert term == {"matchFields": [field]}
    assert len(pod["spec"]["affinity"]["podAntiAffinity"][REQUIRED]) == 2
    assert pod["spec"]["tolerations"][0] == {"key": "a", "operator": "Exists"}
    assert len(pod["spec"]["tolerations"]) == 7
    assert view.own_affinity["podAntiAffinity"].keys() == {REQUIRED}
    assert "nodeAffinity" not in view.own_affinity


def image(pod, name):
    pod["spec"]["containers"][0]["image"] = name


def drop(pod, *path):
    for key in path[:-1]:
        pod = pod[key]
    del pod[path[-1]]


ANTI = ("spec", "affinity", "podAntiAffinity", REQUIRED)
HARMLESS = {
    "nothing": lambda pod: None,
    "a sidecar": lambda pod: pod["spec"]["containers"].append({"name": "mesh", "image": "m:1"}),
    "a volume": lambda pod: pod["spec"]["volumes"].append({"name": "token", "projected": {}}),
    "an annotation": lambda pod: pod["metadata"]["annotations"].update({"seen": "today"}),
    "another label": lambda pod: pod["metadata"]["labels"].update({"team": "x"}),
    "a mirror": lambda pod: image(pod, f"mirror.example/agent@{digest('agent')}"),
    "a toleration": lambda pod: pod["spec"]["tolerations"].append({"key": "gpu"}),
    "a node selector": lambda pod: pod["spec"]["nodeSelector"].update({"zone": "a"}),
    "a preference": lambda pod: pod["spec"]["affinity"]["nodeAffinity"].update({"preferred": []}),
}
OURS = {
    "image of container agent": lambda pod: image(pod, f"x/agent@{digest('other')}"),
    "image of container init": lambda pod: pod["spec"]["initContainers"].clear(),
    "image of volume content": lambda pod: pod["spec"]["volumes"][0].update(
        {"image": {"reference": f"x@{digest('other')}"}}
    ),
    "ConfigMap of volume cm": lambda pod: pod["spec"]["volumes"][1].update(
        {"configMap": {"name": "d"}}
    ),
    "label wavegate.dev/attempt": lambda pod: pod["metadata"]["labels"].update(
        {"wavegate.dev/attempt": "y2"}
    ),
    "label wavegate.dev/channel": lambda pod: drop(
        pod, "metadata", "labels", "wavegate.dev/channel"
    ),
    "nodeSelector os": lambda pod: drop(pod, "spec", "nodeSelector"),
    'toleration {"key": "a", "operator": "Exists"}': lambda pod: pod["spec"]["tolerations"].pop(0),
    "priorityClassName": lambda pod: pod["spec"].update({"priorityClassName": "low"}),
    "schedulerName": lambda pod: pod["spec"].update({"schedulerName": "mine"}),
    "nodeName": lambda pod: pod["spec"].update({"nodeName": "n2"}),
    "node affinity": lambda pod: drop(pod, "spec", "affinity", "nodeAffinity"),
    "number of podAffinity terms": lambda pod: pod["spec"]["affinity"].update(
        {"podAffinity": {REQUIRED: [OTHER]}}
    ),
    "our podAntiAffinity": lambda pod: pod["spec"]["affinity"]["podAntiAffinity"][REQUIRED][
        1
    ].update({"topologyKey": "zone"}),
    "number of podAntiAffinity terms": lambda pod: pod["spec"]["affinity"]["podAntiAffinity"][
        REQUIRED
    ].pop(0),
}


@pytest.mark.parametrize("case", HARMLESS)
def test_what_a_cluster_adds_to_every_pod_is_no_obstacle(pod, case):
    stored = copy.deepcopy(pod)
    HARMLESS[case](stored)
    assert changed_pod(pod, stored) == ()


@pytest.mark.parametrize("field", OURS)
def test_each_field_of_ours_that_a_pod_would_lose_is_named(pod, field):
    stored = copy.deepcopy(pod)
    OURS[field](stored)
    assert changed_pod(pod, stored) == (field,)


def test_a_daemon_set_that_comes_back_as_sent_is_no_obstacle(view, answer):
    patch = retarget_patch(view, KEY, Target.NOTHING)
    answer["metadata"]["annotations"] = {"seen": "today"}
    assert changed_revision(view, patch, answer) == ()


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("affinity", lambda body: drop(body, "spec", "template", "spec", "affinity")),
        (
            "affinity",
            lambda body: body["spec"]["template"]["spec"]["affinity"]["nodeAffinity"].update(
                {"preferredDuringSchedulingIgnoredDuringExecution": []}
            ),
        ),
        ("updateStrategy", lambda b: b["spec"].update({"updateStrategy": {"type": "Rolling"}})),
        ("label of the DaemonSet", lambda body: drop(body, "metadata", "labels")),
        (
            "label wavegate.dev/attempt",
            lambda b: drop(b, "spec", "template", "metadata", "labels", "wavegate.dev/attempt"),
        ),
        ("image of container agent", lambda body: image(body["spec"]["template"], "x@sha256:1")),
    ],
)
def test_each_field_of_ours_that_a_daemon_set_would_lose_is_named(view, answer, field, change):
    change(answer)
    patch = retarget_patch(view, KEY, Target.NOTHING)
    assert changed_revision(view, patch, answer) == (field,)


def daemon_set(pod):
    return {"spec": {"template": copy.deepcopy(pod)}}


@pytest.mark.parametrize("case", HARMLESS)
def test_what_a_cluster_adds_to_every_daemon_set_takes_no_content_away(pod, case):
    stored = daemon_set(pod)
    HARMLESS[case](stored["spec"]["template"])
    assert lost_content(daemon_set(pod), stored) == ""


@pytest.mark.parametrize(
    ("field", "remedy"),
    [
        ("image of volume content", "bind the content by containerImage or configMap"),
        ("image of container agent", "Correct the webhook or policy"),
    ],
)
def test_content_that_a_daemon_set_would_lose_is_named_with_what_to_do(pod, field, remedy):
    stored = daemon_set(pod)
    OURS[field](stored["spec"]["template"])
    said = lost_content(daemon_set(pod), stored)
    assert f"without: {field}. " in said
    assert remedy in said
