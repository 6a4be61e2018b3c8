"""`onFailure: RevertFailing`: strata that came to harm go back, a person decides on the rest."""

from dataclasses import replace

import pytest

from support.builders import digest, make_channel, make_decision
from support.invariants import ended, phase_of, with_stable
from wavegate.api import Reason
from wavegate.rollout import report
from wavegate.rollout.steps import Step

POLICY = {"onFailure": "RevertFailing"}


@pytest.fixture
def sim(make_sim):
    """Release b is on nodes of two kernels, and on none of the workers left."""
    sim = make_sim(canaries=2, workers=6, rollout=POLICY)
    for number, node in enumerate(sim.nodes.values()):
        node.kernel = ("6.1", "6.12")[number % 2]
    with_stable(sim)
    sim.publish("b", 2)
    sim.run(400, until=lambda: list(sim.running().values()).count("b") >= 7)
    return sim


def of(sim, kernel, content="b"):
    running = sim.running()
    return sorted(n for n, v in sim.nodes.items() if v.kernel == kernel and running[n] == content)


def harm(sim, *nodes):
    for name in nodes:
        sim.pod_on(name).restarts += 1
    sim.run(3)


def status(sim):
    return report.release_status(sim.observe(), sim.releases["b"], Step(), sim.now)


def test_nodes_alike_go_back_and_the_others_keep_it(sim):
    kept = of(sim, "6.1")
    harm(sim, *of(sim, "6.12")[:2])
    sim.run(20)
    assert of(sim, "6.12") == []
    assert of(sim, "6.1") == kept != []
    rollout = sim.record.rollout
    assert (rollout.paused, rollout.left_out) == (
        Reason.AgentRestarted,
        (("", "", "6.12", "", ""),),
    )
    said = status(sim)
    assert (said["phase"], said["waitingFor"]) == ("Paused", "Person")
    assert "nodes of 6.12 go back, the others keep it; all of them are back" in said["message"]
    assert sim.record.block_of(digest("b")) is None, "others still run it"


def test_what_is_not_back_is_named(sim):
    dead, other = of(sim, "6.12")[:2]
    sim.die(dead)
    sim.die(other)
    sim.run(80, until=lambda: sim.record.rollout.paused)
    sim.run(10)
    assert f"waiting for 2 nodes to be back on stable ({dead})" in status(sim)["message"]
    sim.revive(dead)
    sim.revive(other)
    sim.run(30)
    assert "all of them are back" in status(sim)["message"]


def test_no_node_is_moved_any_more_whatever_people_set(sim):
    harm(sim, *of(sim, "6.12")[:2])
    sim.run(20)
    before = sim.running()
    made = {"made": sim.now, "decidedBy": "alice"}
    sim.decisions.append(make_decision("go", "b", "Resume", **made))
    sim.run(5)
    said = report.decision_status(sim.observe(), sim.decisions[-1], sim.now)
    assert said["phase"] == "Refused"
    assert "decide Revert" in said["message"]
    for suspend in (True, False):
        spec = sim.releases["b"].spec.model_copy(update={"suspend": suspend})
        sim.releases["b"] = sim.releases["b"].model_copy(update={"spec": spec})
        sim.run(30)
    sim.run(3_600)
    assert sim.running() == before
    assert sim.record.rollout.paused


def test_a_person_takes_the_rest_back(sim):
    harm(sim, *of(sim, "6.12")[:2])
    sim.run(20)
    sim.decisions.append(make_decision("back", "b", "Revert"))
    sim.run(60, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Reverted", "Reverted")
    assert set(sim.running().values()) == {"a"}


def test_more_harm_takes_all_back_and_blocks(sim):
    harm(sim, *of(sim, "6.12")[:2])
    sim.run(20)
    harm(sim, of(sim, "6.1")[0])
    sim.run(60, until=ended(sim, "b"))
    assert phase_of(sim, "b")[0] == "Reverted"
    assert set(sim.running().values()) == {"a"}
    assert sim.record.block_of(digest("b"))


def test_a_label_that_someone_sets_on_a_node_that_went_back_is_taken_back(sim):
    harm(sim, *of(sim, "6.12")[:2])
    sim.run(20)
    name = next(n for n, v in sim.nodes.items() if v.kernel == "6.12")
    sim.nodes[name].attempt = sim.record.rollout.attempt
    sim.run(10)
    assert sim.nodes[name].attempt is None


@pytest.mark.parametrize("why", ["one stratum", "harm on both", "a node is gone", "Revert"])
def test_all_go_back_where_a_part_would_not_do(sim, why):
    victims = of(sim, "6.12")[:2]
    if why == "one stratum":
        for node in sim.nodes.values():
            node.kernel = "6.12"
    elif why == "harm on both":
        victims = [of(sim, "6.12")[0], of(sim, "6.1")[0]]
    elif why == "Revert":
        plan = replace(sim.record.rollout.plan, on_failure=make_channel().spec.rollout.on_failure)
        sim.record = replace(sim.record, rollout=replace(sim.record.rollout, plan=plan))
        sim.watchers.clear()
    if why == "a node is gone":
        for name in victims:
            sim.remove_node(name)
        sim.run(5)
    else:
        harm(sim, *victims)
    sim.run(100, until=ended(sim, "b"))
    assert phase_of(sim, "b")[0] == "Reverted"
