"""Agents that agentSelector selects, on nodes where ours only carry content."""

from dataclasses import replace

import pytest

from support.builders import digest
from support.carrying import carrying, pod_on
from support.invariants import ended, phase_of, with_stable
from wavegate.api import WaveState
from wavegate.evidence import Verdict
from wavegate.rollout import exposure, gates, waves
from wavegate.rollout.decide import decide
from wavegate.rollout.judge import judge


@pytest.fixture
def sim(make_sim):
    return with_stable(carrying(make_sim))


def soaking(sim):
    sim.publish("b", 2)
    sim.run(200, until=lambda: state(sim) is WaveState.Soaking)


def state(sim):
    waves_so_far = sim.record.rollout.waves
    return waves_so_far[-1].state if waves_so_far else None


def found(sim):
    findings = judge(sim.observe(), sim.record.rollout, sim.now)
    return [(f.verdict.name, f.reason.value, f.blocks) for f in findings]


def test_restarts_before_the_wave_opened_are_no_news(sim):
    sim.publish("b", 2)
    sim.run(400, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Completed", "Completed")
    assert all(e.agents for led in sim.observe().bake_ledgers.values() for e in led.nodes)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"restarts": 8}, "AgentRestarted"),
        ({"restarts": 8, "last_exit": "OOMKilled, exit code 137"}, "AgentOOMKilled"),
        ({"waiting": "CrashLoopBackOff", "ready": False}, "AgentRestarted"),
    ],
)
def test_one_that_crashes_since_then_fails_the_wave_and_blocks(sim, changes, reason):
    soaking(sim)
    sim.change("canary-0", **changes)
    assert found(sim) == [("FAIL", reason, True)]
    sim.run(10)
    sim.change("canary-0", ready=True, waiting="", ready_since=sim.now)
    sim.run(60, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Reverted", "Reverted")
    assert sim.record.block_of(digest("b")) is not None


def test_one_that_is_not_ready_waits_and_fails_past_the_deadline(sim):
    soaking(sim)
    sim.change("canary-0", ready=False, unready_since=sim.now)
    assert found(sim) == [("WAIT", "AgentNotReady", False)]
    sim.run(100)
    assert sim.record.rollout.incident is None
    assert "canary-0" in exposure.measure(sim.observe(), sim.record.rollout, sim.now).in_flight
    sim.run(60, until=lambda: sim.record.rollout.incident is not None)
    assert sim.record.rollout.incident.reason == "AgentNotReady"


def test_one_that_is_replaced_counts_from_its_start_and_has_the_whole_deadline_to_come(sim):
    soaking(sim)
    sim.run(20)
    gone, sim.lost = sim.theirs.pop("edr-canary-0"), {"canary-0": sim.now + 300}
    sim.now += 300
    assert ("WAIT", "Unschedulable", False) in found(sim)
    sim.lost = {}
    assert ("FAIL", "Unschedulable", False) in found(sim)
    sim.theirs["new"] = replace(gone, uid="new", restarts=0)
    assert ("FAIL", "AgentRestarted", True) not in found(sim)
    sim.theirs["new"] = replace(gone, uid="new", restarts=1)
    assert ("FAIL", "AgentRestarted", True) in found(sim)


def test_one_that_stays_away_fails_past_the_deadline_without_a_block(sim):
    soaking(sim)
    sim.theirs.pop("edr-canary-0")
    sim.lost = {"canary-0": sim.now}
    sim.run(150, until=lambda: sim.record.rollout.incident is not None)
    assert sim.record.rollout.incident.reason == "Unschedulable"
    assert not sim.record.blocked


@pytest.mark.parametrize(
    "before",
    [
        {"ready": False, "unready_since": 0.0, "waiting": "CrashLoopBackOff"},
        {"terminating": True},
    ],
)
def test_a_node_on_which_none_was_ready_is_taken_last_and_not_judged_by_it(sim, before):
    sim.observe()
    sim.change("workers-2", **before)
    sim.publish("b", 2)
    moved = []
    sim.watchers.append(lambda s, _obs, _step: note_moved(s, moved))
    sim.run(60, until=lambda: len(sim.ledgers) > 1)
    sim.change("workers-2", restarts=50)
    sim.run(400, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Completed", "Completed")
    assert moved[-1] == "workers-2"


def note_moved(sim, moved):
    rollout = sim.record.rollout
    attempt = rollout.attempt if rollout else "none"
    moved += [n.name for n in sim.nodes.values() if n.attempt == attempt and n.name not in moved]


def test_a_node_with_more_pods_than_an_agent_has_is_not_judged_and_its_ledger_stays_small(sim):
    sim.observe()
    for number in range(5):
        sim.theirs[f"x{number}"] = pod_on("workers-2", f"x{number}")
    obs = sim.observe()
    sim.publish("b", 2)
    sim.run(20, until=lambda: bool(sim.record.rollout and sim.record.rollout.waves))
    ledger = waves.ledger_for(obs, sim.record.rollout, obs.nodes.values())
    assert {e.name for e in ledger.nodes if not e.agents} == {"workers-2"}


def test_no_wave_opens_where_no_agent_could_speak_for_it(sim):
    sim.observe()
    sim.theirs.clear()
    sim.publish("b", 2)
    sim.run(60)
    (wave,) = sim.record.rollout.waves
    assert (wave.state, wave.held_since is not None) == (WaveState.Pending, True)
    assert "selects no pod" in decide(sim.observe(), sim.now).findings[0].message


def test_no_wave_opens_and_none_passes_while_the_watch_is_broken(sim):
    sim.hidden = "the watch of the pods that agentSelector selects is interrupted"
    sim.publish("b", 2)
    sim.run(60)
    assert state(sim) is WaveState.Pending
    sim.hidden = ""
    sim.run(100, until=lambda: state(sim) is WaveState.Soaking)
    sim.hidden = "the watch of the pods that agentSelector selects is interrupted"
    sim.run(300)
    assert state(sim) is not WaveState.Passed
    assert found(sim)[0][:2] == ("WAIT", "ViewStale")


def test_a_crash_between_ledger_and_move_is_not_blamed_on_the_content(sim):
    sim.publish("b", 2)
    sim.step_until(lambda: rolling(sim) and (sim.record.rollout.attempt, 0) in sim.ledgers)
    sim.change("canary-0", restarts=8)
    sim.run(400, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Completed", "Completed")


def rolling(sim):
    return sim.record.rollout is not None and sim.record.rollout.waves


def test_one_that_crashes_while_it_bakes_makes_its_node_a_suspect(sim):
    sim.publish("b", 2)
    sim.run(400, until=ended(sim, "b"))
    sim.change("canary-0", restarts=8)
    sim.run(5)
    assert [s.node for s in sim.record.bake.suspects] == ["canary-0"]


def test_an_agent_that_is_not_ready_or_not_seen_keeps_a_bake_from_ending_well(sim):
    sim.publish("b", 2)
    sim.run(400, until=ended(sim, "b"))
    sim.hidden = "the watch is interrupted"
    sim.now = sim.record.bake.until
    sim.run(5)
    assert sim.record.bake is not None
    assert sim.record.last_baked is None or sim.record.last_baked.release != "b"


def test_the_gate_of_agents_counts_only_nodes_whose_other_agents_are_well(sim):
    soaking(sim)
    sim.change("canary-0", ready=False, unready_since=sim.now)
    sim.run(2)
    obs, rollout = sim.observe(), sim.record.rollout
    said = {g.name: g for g in gates.look(obs, rollout, judge(obs, rollout, sim.now), sim.now)}
    assert (said["Agents"].reporting, said["Agents"].expected) == (0, 1)
    assert said["Agents"].verdict is Verdict.WAIT
