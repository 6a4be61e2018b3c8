"""Two channels never run one agent on one node: the younger starts nothing."""

from dataclasses import replace

import pytest

from support.builders import agent_template, make_channel
from wavegate.api import Channel
from wavegate.rollout import queue
from wavegate.rollout.twice import same_agent

OLD, YOUNG = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"


def channel(name, created, namespace="agents", **spec):
    body = make_channel(**spec).model_dump(by_alias=True, exclude_none=True, mode="json")
    body["metadata"] |= {"name": name, "namespace": namespace, "creationTimestamp": created}
    return Channel.parse(body)


def agent(image="registry.example/agent", **pod):
    template = agent_template()
    template["spec"]["containers"][0]["image"] = image
    template["spec"] |= pod
    return {"template": template}


def problem(sim, mine, *others):
    obs = replace(sim.observe(), channel=mine, others=others)
    return queue.channel_problem(obs)


def test_the_younger_of_two_starts_nothing_and_names_the_older_and_five_nodes(make_sim):
    sim = make_sim(workers=8)
    old, young = channel("old", OLD), channel("young", YOUNG, "elsewhere")
    assert problem(sim, old, young) is None
    found = problem(sim, young, old)
    assert found.reason == "NodeClaimedTwice"
    assert "channel agents/old" in found.message
    assert "and 4 more" in found.message


def test_of_two_of_one_second_the_name_decides(make_sim):
    one, two = channel("a", OLD), channel("b", OLD)
    assert problem(make_sim(), one, two) is None
    assert problem(make_sim(), two, one).reason == "NodeClaimedTwice"


def test_an_older_one_that_is_being_deleted_or_on_other_nodes_is_no_problem(make_sim):
    young, old = channel("young", YOUNG), channel("old", OLD)
    metadata = old.metadata.model_copy(update={"deletion_timestamp": YOUNG})
    assert problem(make_sim(), young, old.model_copy(update={"metadata": metadata})) is None
    canary = {"pool": "canary"}
    apart = channel("old", OLD, agent=agent(nodeSelector=canary))
    mine = channel("young", YOUNG, agent=agent(nodeSelector={"pool": "workers"}))
    assert problem(make_sim(), mine, apart) is None
    found = problem(make_sim(), young, apart)
    assert "canary-0" in found.message
    assert "workers" not in found.message.partition("No release")[0]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("registry.example/agent:1", "registry.example/agent@sha256:" + "a" * 64, True),
        ("registry.example:5000/agent:1", "registry.example:5000/agent", True),
        ("registry.example/agent", "registry.example/scanner", False),
        ("registry.example/agent", "other.example/agent", False),
    ],
)
def test_the_same_agent_is_the_same_repository_whatever_the_tag(one, other, same):
    pair = [channel(name, OLD, agent=agent(image)) for name, image in (("a", one), ("b", other))]
    assert same_agent(*pair) is same


def test_a_parked_daemon_set_is_the_same_agent_in_its_namespace_only():
    parked = {"daemonSetRef": {"name": "edr"}}
    one, other = channel("a", OLD, agent=parked), channel("b", OLD, agent=parked)
    assert same_agent(one, other)
    assert not same_agent(one, channel("b", OLD, "elsewhere", agent=parked))
    assert not same_agent(one, channel("b", OLD))


def test_many_may_carry_content_with_one_image():
    selector = {"agentSelector": {"matchLabels": {"app": "edr"}}}
    assert not same_agent(channel("a", OLD, **selector), channel("b", OLD))
