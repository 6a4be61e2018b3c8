"""Nodes that went back to stable fail on it, too: the channel stops, and a person decides."""

import pytest

from support.builders import digest, make_decision
from support.invariants import ended, phase_of, with_stable
from wavegate.rollout import channel_report, report
from wavegate.rollout.steps import Step


@pytest.fixture
def sim(make_sim):
    """Release a is baked, b completed after it; c is about to be reverted on five nodes."""
    sim = with_stable(make_sim(workers=5, rollout={"bake": "1m"}))
    sim.run(200, until=lambda: sim.record.last_baked is not None)
    sim.publish("b", 2)
    sim.run(400, until=ended(sim, "b"))
    sim.publish("c", 3)
    sim.run(400, until=lambda: list(sim.running().values()).count("c") >= 4)
    sim.run(3)
    return sim


def fail(sim, on_stable=2):
    """Two nodes with c crash and stay down; so many of the others' agents crash on stable."""
    moved = [name for name, content in sim.running().items() if content == "c"]
    for name in moved[:2]:
        sim.die(name)
    sim.run(100, until=lambda: sim.record.rollout and sim.record.rollout.incident)
    back = moved[2:]
    sim.run(30, until=lambda: all(sim.running().get(n) == "b" for n in back))
    for name in back[:on_stable]:
        sim.pod_on(name).restarts += 1
    return moved


def ready(sim):
    return channel_report.channel_status(sim.observe())["conditions"][0]


def decide(sim, action, release, **spec):
    made = {"made": sim.now, "decidedBy": "alice", **spec}
    sim.decisions.append(make_decision(f"{action}-{len(sim.decisions)}", release, action, **made))
    decision = sim.decisions[-1]
    sim.run(1)
    return report.decision_status(sim.observe(), decision, sim.now)


def test_two_nodes_that_fail_on_stable_end_the_revert_and_stop_the_channel(sim):
    fail(sim)
    sim.run(20, until=ended(sim, "c"))
    assert phase_of(sim, "c") == ("Reverted", "StableSuspect")
    message = sim.record.outcomes[0].message
    assert "nodes fail on stable release b as well" in message
    assert "need hands" in message, "nobody waited for those that are down"
    condition = ready(sim)
    assert (condition["status"], condition["reason"]) == ("False", "StableSuspect")
    assert f"Revert, with release: b and digest: {digest('b')}" in condition["message"]
    sim.publish("d", 4)
    sim.run(7_200)
    assert sim.record.rollout is None
    status = report.release_status(sim.observe(), sim.releases["d"], Step(), sim.now)
    assert (status["reason"], status["waitingFor"]) == ("StableSuspect", "Person")


def test_one_is_not_enough(sim):
    moved = fail(sim, on_stable=1)
    sim.run(5)
    assert sim.record.rollout is not None
    for name in moved[:2]:
        sim.revive(name)
    sim.run(200, until=ended(sim, "c"))
    assert phase_of(sim, "c") == ("Reverted", "Reverted")


def test_crashes_of_before_the_revert_say_nothing(sim):
    """Stable's agents may have crashed long ago on nodes that were labelled in this moment."""
    for name, content in sim.running().items():
        if content == "b":
            sim.pod_on(name).restarts = 3
    fail(sim, on_stable=1)
    sim.run(5)
    assert sim.record.rollout is not None


def test_machines_that_the_content_killed_do_not_count_as_lost_on_stable(sim):
    moved = [name for name, content in sim.running().items() if content == "c"]
    for name in moved:
        sim.die(name)
    sim.run(400, until=ended(sim, "c"))
    assert phase_of(sim, "c") == ("Reverted", "RevertedWithNodesDown")


def test_machines_that_are_lost_on_stable_count(sim):
    moved = fail(sim, on_stable=0)
    for name in moved[2:4]:
        sim.die(name)
    sim.run(100, until=ended(sim, "c"))
    assert phase_of(sim, "c") == ("Reverted", "StableSuspect")


def test_a_resume_lets_the_next_release_start(sim):
    moved = fail(sim)
    sim.run(20, until=ended(sim, "c"))
    for name in moved[:2]:
        sim.revive(name)
    sim.publish("d", 4)
    assert decide(sim, "Resume", "c")["phase"] == "Accepted"
    assert ready(sim)["status"] == "True"
    sim.run(600, until=ended(sim, "d"))
    assert phase_of(sim, "d") == ("Completed", "Completed")


def test_a_person_goes_back_to_the_last_baked(sim):
    moved = fail(sim)
    sim.run(20, until=ended(sim, "c"))
    for name in moved[:2]:
        sim.revive(name)
    sim.run(20)
    said = decide(sim, "Revert", "b", decidedBy="")
    assert (said["phase"], said["releaseUID"]) == ("Accepted", sim.releases["b"].uid)
    sim.run(200, until=lambda: sim.record.rollout is None)
    assert set(sim.running().values()) == {"a"}
    assert phase_of(sim, "b") == ("Reverted", "Reverted")
    outcome = next(o for o in sim.record.outcomes if o.release == "b")
    assert outcome.incident.reason.value == "RevertDecided"
    assert sim.record.block_of(digest("b")) is None
    assert ready(sim)["reason"] == "StableSuspect", "nothing starts by itself yet"
    assert decide(sim, "Resume", "c")["phase"] == "Accepted"
    assert ready(sim)["status"] == "True"


def test_what_is_not_stable_is_not_taken_back(sim):
    fail(sim)
    sim.run(20, until=ended(sim, "c"))
    said = decide(sim, "Revert", "c")
    assert said["phase"] == "Refused"
    assert "is not what is stable" in said["message"]


def test_stable_is_taken_back_only_where_it_is_in_doubt(sim):
    sim.run(600, until=ended(sim, "c"))
    said = decide(sim, "Revert", "c")
    assert said["phase"] == "Refused"
    assert "is not rolling out" in said["message"]


def test_where_nothing_is_left_to_go_back_to_it_says_so(sim):
    fail(sim)
    sim.run(20, until=ended(sim, "c"))
    sim.sets = {k: v for k, v in sim.sets.items() if k == sim.record.stable.attempt}
    said = decide(sim, "Revert", "b")
    assert said["phase"] == "Refused"
    assert "no earlier revision is left" in said["message"]
