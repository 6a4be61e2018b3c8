"""The control: who counts as a node without the content."""

from dataclasses import replace

import pytest

from support.invariants import ended, in_wave, with_stable
from wavegate.api import Reason, WaveState
from wavegate.evidence import Taint
from wavegate.rollout.attempt import Suspect
from wavegate.rollout.control import control_group


@pytest.fixture
def sim(make_sim):
    """Release b is on the first of five nodes of pool canary; four more are of pool workers."""
    waves = [
        {"name": "one", "pools": ["canary"], "upTo": 1},
        {"name": "all", "upTo": "100%"},
    ]
    found = with_stable(make_sim(canaries=5, waves=waves))
    found.publish("b", 2)
    found.run(60, until=in_wave(found, "one"))
    return found


def group(sim, rollout=None, **seen):
    obs = replace(sim.observe(), **seen)
    return {node.name for node in control_group(obs, rollout or sim.record.rollout)}


def canaries(sim):
    return {name for name in sim.nodes if name.startswith("canary")}


def with_content(sim):
    return {pod.node for pod in sim.pods if pod.attempt == sim.record.rollout.attempt}


def test_it_is_of_the_pools_of_the_waves_so_far(sim):
    assert len(with_content(sim)) == 1
    assert group(sim) == canaries(sim) - with_content(sim)
    sim.step_until(in_wave(sim, "all", WaveState.Moving))
    assert group(sim) == sim.nodes.keys() - with_content(sim), "also those that are to be moved"


def test_a_node_may_be_ill_and_a_machine_without_an_agent_is_none(sim):
    nodes, (ill, other) = sim.observe().nodes, sorted(group(sim))[:2]
    gpu = replace(nodes[other], taints=(Taint("gpu", "", "NoSchedule"),))
    seen = {**nodes, ill: replace(nodes[ill], ready=False), other: gpu}
    assert group(sim) - group(sim, nodes=seen) == {other}


def test_who_had_the_content_is_none_while_its_pod_is_there_or_when_it_came_to_harm(sim):
    [name] = with_content(sim)
    sim.nodes[name].attempt = None
    assert name not in group(sim), "its pod is not replaced yet"
    rollout = sim.record.rollout
    sim.run(10)
    assert name in group(sim)
    harmed = Suspect(name, Reason.NodeRebooted, sim.now, blocks=True)
    assert name not in group(sim, replace(rollout, suspects=(harmed,)))


def test_in_a_sweep_it_is_of_all_pools_and_of_none(sim):
    for number in range(2):
        sim.nodes[sorted(sim.nodes)[number]].labels.pop("pool")
    sim.run(900, until=lambda: sim.record.rollout.planned is None)
    assert sim.record.rollout.waves[-1].name == "rest-1"
    sim.step_until(in_wave(sim, "rest-1", WaveState.Moving))
    left = sim.nodes.keys() - with_content(sim)
    assert left
    assert group(sim) == left


def test_of_what_is_stable_there_is_none(sim):
    sim.run(900, until=ended(sim, "b"))
    bake = sim.record.bake
    [joined] = sim.add_nodes("workers", 1)
    sim.run(10)
    assert sim.running()[joined] == "b"
    assert group(sim, bake.rollout) == set(), "who joined later has it too, without a label"
