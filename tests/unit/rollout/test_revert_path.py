"""No wave opens, and no node is labelled, without a fresh proof of the way back from this wave."""

from dataclasses import replace

import pytest

from support.invariants import ended, phase_of, with_stable
from wavegate.api import Phase, Reason, WaveState
from wavegate.rollout import way_back
from wavegate.rollout.decide import decide
from wavegate.rollout.report import release_status
from wavegate.rollout.steps import MoveNodes, StoreLedger

SAID = "the way back is blocked: pods.example.com says no"


def labelled(sim):
    """Nodes that carry the label of the running attempt."""
    return [n.name for n in sim.nodes.values() if n.attempt == sim.record.rollout.attempt]


def status(sim, release="b"):
    obs = sim.observe()
    return release_status(obs, sim.releases[release], decide(obs, sim.now), sim.now)


def at_wave(sim, number):
    """A condition: this wave (from 0) is there and not opened."""
    return lambda: (
        sim.record.rollout is not None
        and sim.record.rollout.wave == number
        and sim.record.rollout.waves[-1].state is WaveState.Pending
    )


@pytest.mark.parametrize("wave", [0, 1])
def test_a_way_back_that_is_blocked_holds_the_wave_and_it_goes_on_by_itself(sim, wave):
    sim.publish("b", 2)
    sim.step_until(at_wave(sim, wave))
    before = labelled(sim)
    sim.blocks = SAID
    sim.run(200)
    assert labelled(sim) == before
    assert at_wave(sim, wave)()
    shown = status(sim)
    assert (shown["phase"], shown["reason"]) == ("Rolling", "RevertPathBlocked")
    assert (shown["waitingFor"], SAID in shown["message"]) == ("Evidence", True)
    sim.blocks = ""
    sim.run(400, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Completed", "Completed")


def test_a_first_release_waits_for_its_way_back_too(make_sim):
    sim = make_sim()
    sim.blocks = SAID
    sim.publish("a", 1)
    sim.run(100)
    assert labelled(sim) == []
    sim.blocks = ""
    sim.run(400, until=ended(sim, "a"))
    assert phase_of(sim, "a") == ("Completed", "Completed")


def test_a_sweep_waits_for_its_way_back_too(sim):
    sim.publish("b", 2)
    sim.step_until(at_wave(sim, 1))
    sim.run(100, until=lambda: sim.record.rollout.waves[-1].state is WaveState.Soaking)
    (joined,) = sim.add_nodes("workers", 1)
    sim.step_until(at_wave(sim, 2))
    sim.blocks = SAID
    sim.run(100)
    assert joined not in labelled(sim)
    sim.blocks = ""
    sim.run(400, until=ended(sim, "b"))
    assert sim.running()[joined] == "b"


def test_a_way_back_that_stays_blocked_asks_a_person_and_is_not_tried_during_the_pause(make_sim):
    sim = with_stable(make_sim(rollout={"holdTimeout": "2m"}))
    sim.blocks = SAID
    sim.publish("b", 2)
    sim.run(300, until=lambda: sim.record.rollout and sim.record.rollout.paused is not None)
    assert sim.record.rollout.paused is Reason.HoldTimeout
    before = sim.dry_runs
    sim.run(300)
    assert sim.dry_runs == before
    sim.blocks = ""
    sim.publish("b", 2, suspend=True)
    sim.run(5)
    sim.publish("b", 2)
    sim.run(400, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Completed", "Completed")


def test_it_is_tried_once_for_a_wave_and_every_15_s_while_it_is_blocked(sim):
    before = sim.dry_runs
    sim.publish("b", 2)
    sim.run(400, until=ended(sim, "b"))
    assert sim.dry_runs - before == 2
    sim.blocks = SAID
    sim.publish("c", 3)
    sim.run(20, until=at_wave(sim, 0))
    sim.run(2)
    before = sim.dry_runs
    sim.run(150)
    assert sim.dry_runs - before == 10


def test_an_operator_that_restarts_before_the_first_label_proves_the_way_back_again(sim):
    sim.publish("b", 2)
    sim.step_until(
        lambda: (
            sim.record.rollout and sim.record.rollout.waves and sim.record.rollout.waves[-1].moved
        )
    )
    assert labelled(sim) == []
    sim.forget()
    sim.blocks = SAID
    sim.run(60)
    assert labelled(sim) == []
    assert status(sim)["reason"] == "RevertPathBlocked"
    sim.blocks = ""
    sim.run(400, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Completed", "Completed")


def test_a_wave_whose_first_node_is_moved_is_not_stopped_by_its_way_back(sim):
    sim.publish("b", 2)
    sim.step_until(lambda: sim.record.rollout and sim.record.rollout.wave == 1 and moving(sim))
    before = len(labelled(sim))
    sim.way_back = None
    sim.blocks = SAID
    sim.run(60, until=lambda: len(labelled(sim)) > before)


def moving(sim):
    ledger = sim.ledgers.get((sim.record.rollout.attempt, 1))
    names = {node.name for node in ledger.nodes} if ledger else set()
    return names & set(labelled(sim))


@pytest.fixture
def pending(sim):
    """Release b is about to open its second wave, with a proof."""
    sim.publish("b", 2)
    sim.step_until(at_wave(sim, 1))
    sim.tick()
    assert sim.way_back.ledger == 1
    return sim


def next_action(sim, **changes):
    obs = sim.observe()
    proof = replace(obs.way_back, **changes) if changes else None
    step = decide(replace(obs, way_back=proof), sim.now)
    return next((type(action) for action in step.actions), None), step


@pytest.mark.parametrize(
    ("changes", "opens"),
    [
        ({"problem": ""}, True),
        ({}, False),
        ({"ledger": 0}, False),
        ({"attempt": "other"}, False),
        ({"problem": SAID}, False),
        ({"asked_at": 0.0}, False),
        ({"asked_at": 2e9}, False),
    ],
)
def test_a_wave_opens_only_on_a_fresh_proof_that_is_about_it(pending, changes, opens):
    action, step = next_action(pending, **changes)
    assert action is (StoreLedger if opens else None)
    if not opens and not changes.get("problem"):
        assert step.waiting == way_back.TRYING
        assert step.requeue


@pytest.mark.parametrize(("age", "opens"), [(60.0, True), (60.1, False)])
def test_a_proof_grows_old(pending, age, opens):
    action, _ = next_action(pending, asked_at=pending.now - age)
    assert (action is StoreLedger) is opens


def test_a_ledger_that_is_there_is_not_opened_and_not_moved_without_a_proof(pending):
    pending.step_until(lambda: (pending.record.rollout.attempt, 1) in pending.ledgers)
    _, step = next_action(pending)
    assert (step.record, step.waiting) == (None, way_back.TRYING)
    pending.step_until(lambda: pending.record.rollout.waves[-1].state is WaveState.Moving)
    _, step = next_action(pending)
    assert (step.record, step.actions, step.waiting) == (None, (), way_back.TRYING)
    pending.step_until(lambda: pending.record.rollout.waves[-1].moved)
    action, step = next_action(pending)
    assert (action, step.waiting) == (None, way_back.TRYING)
    action, _ = next_action(pending, problem="")
    assert action is MoveNodes


def test_a_revert_asks_for_no_proof(sim):
    sim.publish("b", 2)
    sim.run(100, until=lambda: sim.running().get("canary-0") == "b")
    sim.blocks = SAID
    del sim.releases["b"]
    before = sim.dry_runs
    sim.run(100, until=ended(sim, "b"))
    assert phase_of(sim, "b")[0] == Phase.Reverted
    assert sim.dry_runs == before
    assert set(sim.running().values()) == {"a"}
