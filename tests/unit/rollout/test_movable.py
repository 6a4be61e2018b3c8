"""No node is moved that would lose its agent, now or at a revert, or that could run two."""

from dataclasses import replace

import pytest

from support.builders import agent_template, make_channel
from support.invariants import ended, phase_of
from wavegate.api import WaveState
from wavegate.evidence import Taint
from wavegate.rollout import exposure
from wavegate.rollout.channel_report import channel_status
from wavegate.rollout.decide import decide
from wavegate.rollout.movable import describe, not_movable
from wavegate.rollout.report import release_status
from wavegate.rollout.steps import Target
from wavegate.rollout.templates import HOSTNAME

TAINT = Taint("example.com/new", "", "NoSchedule")
TOLERANT = {"tolerations": [{"key": "example.com/new", "operator": "Exists"}]}


def tolerant(sim):
    """From now on the channel's template tolerates the taint."""
    template = agent_template()
    template["spec"] |= TOLERANT
    sim.channel = make_channel(agent={"template": template})


def held(sim):
    """A condition: what rolls out is held because of nodes that can't be moved."""
    return lambda: status(sim).get("reason") == "NotMovable"


def status(sim):
    obs = sim.observe()
    if "b" not in sim.releases:
        return channel_status(obs, decide(obs, sim.now), sim.now).get("agentRollout", {})
    return release_status(obs, sim.releases["b"], decide(obs, sim.now), sim.now)


def label(sim, name, host):
    """Give a node another host name; None takes its label away."""
    changed = {**sim.nodes[name].labels, HOSTNAME: host}
    sim.nodes[name].labels = {k: v for k, v in changed.items() if v is not None}


@pytest.mark.parametrize("canaries", [1, 2])
def test_a_node_that_a_revert_would_leave_without_an_agent_keeps_stable(make_sim, canaries):
    sim = make_sim(canaries=canaries)
    sim.publish("a", 1)
    sim.run(400, until=ended(sim, "a"))
    sim.nodes["workers-4"].taints = (TAINT,)
    tolerant(sim)
    sim.run(400, until=held(sim))
    stable = sim.record.stable.attempt
    assert {pod.node for pod in sim.pods if pod.attempt == stable} == {"workers-4"}
    assert "workers-4: the stable template does not run there" in status(sim)["message"]
    sim.nodes["workers-4"].taints = ()
    sim.run(400, until=lambda: sim.record.rollout is None)
    assert {pod.attempt for pod in sim.pods} == {sim.record.stable.attempt} != {stable}


def test_a_node_that_only_the_new_template_tolerates_and_that_has_no_agent_is_moved(make_sim):
    sim = make_sim()
    sim.nodes["workers-4"].taints = (TAINT,)
    sim.publish("a", 1)
    sim.run(400, until=ended(sim, "a"))
    assert "workers-4" not in sim.running()
    tolerant(sim)
    sim.publish("b", 2)
    sim.run(400, until=ended(sim, "b"))
    assert sim.running() == dict.fromkeys(sim.nodes, "b")


@pytest.mark.parametrize("host", [None, "workers-2"])
def test_a_node_without_a_host_name_of_its_own_keeps_stable_and_is_named(sim, host):
    label(sim, "workers-4", host=host)
    stuck = {"workers-4"} | ({host} if host else set())
    sim.publish("b", 2)
    sim.run(400, until=held(sim))
    sim.run(60)
    assert {n for n, content in sim.running().items() if content == "a"} == stuck
    assert all(f"{name}: it " in status(sim)["message"] for name in stuck)
    label(sim, "workers-4", host="workers-4")
    sim.run(400, until=ended(sim, "b"))
    assert sim.running() == dict.fromkeys(sim.nodes, "b")


@pytest.mark.parametrize("host", [None, "workers-2"])
def test_a_revert_leaves_nodes_without_a_host_name_of_their_own_alone(sim, host):
    label(sim, "workers-4", host=host)
    before = {pod.node: pod.uid for pod in sim.pods}
    stuck = {"workers-4"} | ({host} if host else set())
    sim.publish("b", 2)
    sim.run(400, until=held(sim))
    del sim.releases["b"]
    sim.run(60, until=ended(sim, "b"))
    assert phase_of(sim, "b")[0] == "Reverted"
    assert set(sim.running()) == set(sim.nodes)
    assert {p.node for p in sim.pods if p.uid == before[p.node]} == stuck


def test_a_first_release_does_not_go_to_nodes_without_a_host_name_of_their_own(make_sim):
    sim = make_sim()
    label(sim, "workers-4", host=None)
    sim.publish("b", 1)
    sim.run(400, until=held(sim))
    assert set(sim.running()) == set(sim.nodes) - {"workers-4"}


def test_a_wave_of_nodes_that_can_t_be_moved_says_so_and_is_paused_in_the_end(make_sim, sim):
    label(sim, "canary-0", host=None)
    sim.publish("b", 2)
    sim.run(30)
    assert "no healthy node is there for wave canary" in status(sim)["message"]
    assert "1 node can't be moved (canary-0: it has no label" in status(sim)["message"]
    sim.run(4_000, until=lambda: sim.record.rollout.paused is not None)
    assert status(sim)["phase"] == "Paused"
    assert "canary-0: it has no label" in status(sim)["message"]


def test_a_wave_whose_pools_select_no_node_any_more_says_so_and_goes_on_when_one_is_labelled(sim):
    sim.publish("b", 2)
    sim.step_until(lambda: sim.record.rollout and sim.record.rollout.waves)
    sim.nodes["canary-0"].labels["pool"] = "workers"
    sim.run(30)
    said = status(sim)["message"]
    assert "the pools of wave canary select no node any more: canary (pool=canary)" in said
    assert "label a node so" in said
    assert sim.record.rollout.waves[-1].held_since is not None
    sim.nodes["canary-0"].labels["pool"] = "canary"
    sim.run(400, until=lambda: sim.record.rollout is None)
    assert sim.record.stable.release == "b"


def test_a_wave_whose_pools_select_nodes_without_an_agent_only_says_that(make_sim):
    sim = make_sim()
    sim.publish("b", 1)
    sim.step_until(lambda: sim.record.rollout and sim.record.rollout.waves)
    sim.nodes["canary-0"].taints = (TAINT,)
    sim.run(30)
    said = status(sim)["message"]
    assert "of wave canary select only nodes on which the agent does not run" in said


def test_nodes_that_can_t_be_moved_are_shown_while_waves_go_on(sim):
    label(sim, "workers-4", host=None)
    sim.publish("b", 2)
    sim.run(100, until=lambda: sim.record.rollout and sim.record.rollout.wave == 1)
    shown = status(sim)
    assert shown["phase"] == "Rolling"
    assert shown["message"].count("workers-4: it has no label") == 1


@pytest.mark.parametrize("change", ["taint", "hostname", "shared"])
def test_a_node_that_can_t_be_moved_any_more_is_looked_at_again_before_its_label(sim, change):
    tolerant(sim)
    sim.step_until(
        lambda: (
            sim.record.rollout
            and sim.record.rollout.wave == 1
            and sim.record.rollout.waves[-1].state is WaveState.Moving
        )
    )
    node = sim.nodes["workers-4"]
    obs = sim.observe()
    assert node.name in {n.name for n in exposure.measure(obs, obs.record.rollout, sim.now).unmoved}
    if change == "taint":
        node.taints = (TAINT,)
    else:
        label(sim, node.name, host=None if change == "hostname" else "canary-0")
    obs = sim.observe()
    left = exposure.measure(obs, obs.record.rollout, sim.now)
    assert node.name not in {n.name for n in left.unmoved}
    sim.run(400, until=held(sim))
    assert node.attempt != sim.record.rollout.attempt


def test_a_node_that_carries_the_candidate_already_may_lose_its_host_name(sim):
    sim.publish("b", 2)
    sim.step_until(lambda: sim.running().get("canary-0") == "b")
    label(sim, "canary-0", host=None)
    sim.run(400, until=ended(sim, "b"))
    assert set(sim.running().values()) == {"b"}


def test_a_stable_agent_that_is_leaving_is_none_that_could_be_lost(sim):
    tolerant(sim)
    sim.nodes["workers-4"].taints = (TAINT,)
    sim.publish("b", 2)
    sim.step_until(lambda: sim.record.rollout and sim.record.rollout.waves)
    obs = sim.observe()
    assert set(not_movable(obs, obs.record.rollout)) == {"workers-4"}
    leaving = tuple(replace(p, terminating=p.node == "workers-4") for p in obs.pods)
    assert not_movable(replace(obs, pods=leaving), obs.record.rollout) == {}


@pytest.mark.parametrize(("host", "waits"), [(None, False), ("workers-2", True)])
def test_a_promotion_that_has_begun_goes_on_unless_a_node_would_lose_its_agent(sim, host, waits):
    """Both revisions match all nodes now: a node with two agents gets one by going on."""
    sim.publish("b", 2)
    sim.step_until(lambda: sim.record.rollout and sim.record.rollout.promoting)
    (joined,) = sim.add_nodes("workers", 1)
    for pod in sim.pods:
        assert pod.attempt == sim.record.rollout.attempt
    attempt = sim.record.rollout.attempt
    sim.retarget(attempt, Target.ALL)
    sim.tick()
    stable_pod = replace(sim.pods[0].view(), node=joined, attempt=sim.record.stable.attempt)
    label(sim, joined, host)
    obs = sim.observe()
    pods = [pod for pod in obs.pods if pod.node in obs.nodes and pod.node != joined]
    obs = replace(obs, pods=(*pods, stable_pod))
    step = decide(obs, sim.now)
    assert bool(step.actions) is not waits
    assert (step.findings and step.findings[0].reason) == ("NotMovable" if waits else ())


def test_a_message_names_three_and_counts_all():
    found = {f"n{number}": "it is odd" for number in range(5)}
    assert describe(found) == (
        "5 nodes can't be moved (n0: it is odd; n1: it is odd; n2: it is odd; and 2 more)"
    )
    assert describe({"n": "it is odd"}) == "1 node can't be moved (n: it is odd)"
    assert describe({}) == ""
