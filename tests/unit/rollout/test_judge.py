"""What a rollout is judged by when the view is broken: nobody may pass on what is not seen."""

from dataclasses import replace

import pytest

from support.builders import digest, make_channel
from support.invariants import ended, phase_of
from wavegate.api import Phase, Reason, WaveState
from wavegate.evidence import Taint
from wavegate.rollout.decide import decide
from wavegate.rollout.judge import judge, judged_nodes
from wavegate.rollout.steps import MoveNodes, Retarget, Target
from wavegate.rollout.waves import baseline_of


@pytest.fixture
def moving(sim):
    """Release b is on the canary and settles there."""
    sim.publish("b", 2)
    sim.run(100, until=lambda: sim.running().get("canary-0") == "b")
    return sim


def reasons(sim, **changes):
    obs = replace(sim.observe(), **changes)
    return [(f.verdict.name, f.reason.value) for f in judge(obs, obs.record.rollout, sim.now)]


def test_a_wave_that_is_well_has_no_finding(moving):
    moving.run(12)
    assert reasons(moving) == []


def test_a_broken_watch_waits_and_a_lost_ledger_holds(moving):
    moving.run(12)
    blind = "the watch of nodes is interrupted"
    assert reasons(moving, blind=blind) == [("WAIT", "ViewStale")]
    assert reasons(moving, ledgers={}) == [("HOLD", "LedgerLost")]


def test_nothing_moves_while_a_watch_is_broken(moving):
    sim = moving
    sim.step_until(lambda: sim.record.rollout.wave == 1 and sim.record.rollout.waves[-1].moved)
    obs = sim.observe()
    assert isinstance(decide(obs, sim.now).actions[0], MoveNodes)
    assert decide(replace(obs, blind="the watch of pods is interrupted"), sim.now).actions == ()


def test_a_broken_watch_passes_no_wave(moving):
    sim = moving
    sim.run(60, until=lambda: sim.record.rollout.waves[-1].state is WaveState.Soaking)
    sim.now += 600
    sim.leases = dict.fromkeys(sim.nodes, sim.now)
    for _ in range(5):
        step = decide(replace(sim.observe(), blind="a watch is interrupted"), sim.now)
        if step.record is None:
            break
        assert step.record.rollout.waves[-1].state is not WaveState.Passed
        sim.record = step.record


def test_while_a_watch_is_broken_the_record_is_not_written_again_and_again(moving):
    sim = moving
    sim.run(60, until=lambda: sim.record.rollout.waves[-1].state is WaveState.Soaking)
    written = 0
    for _ in range(20):
        step = decide(replace(sim.observe(), blind="a watch is interrupted"), sim.now)
        written += step.record is not None
        sim.record = step.record or sim.record
    assert written == 1  # the stretch of good time has ended


def test_a_broken_watch_proves_no_node_to_be_back(sim):
    sim.harms[digest("b")] = "loop"
    sim.publish("b", 2)

    def would_end():
        rollout = sim.record.rollout
        reverting = rollout is not None and rollout.phase is Phase.Reverting
        return reverting and decide(sim.observe(), sim.now).record is not None

    sim.step_until(would_end)
    assert decide(replace(sim.observe(), blind="a watch is interrupted"), sim.now).record is None


def test_findings_come_in_the_order_of_the_ledgers_whatever_the_order_of_a_set(moving):
    sim = moving
    sim.step_until(lambda: len(sim.observe().moved(sim.record.rollout.attempt)) > 3)
    obs = sim.observe()
    found = [f.node for f in judge(replace(obs, leases={}), obs.record.rollout, sim.now)]
    silent = list(dict.fromkeys(found))
    assert silent == [name for name in baseline_of(obs) if name in silent]
    assert len(silent) > 3


@pytest.mark.parametrize("moved", [0, 1])
def test_a_machine_that_is_gone_and_was_never_seen_is_judged_by_how_far_its_wave_was_moved(
    moving, moved
):
    obs = moving.observe()
    rollout = obs.record.rollout.with_wave(moved=moved)
    nodes = {name: node for name, node in obs.nodes.items() if name != "canary-0"}
    unseen = replace(obs, nodes=nodes, gone={}, record=replace(obs.record, rollout=rollout))
    assert judged_nodes(unseen, rollout) == ({"canary-0"} if moved else set())


def test_a_label_that_someone_took_away_hides_no_harm(moving):
    sim = moving
    sim.nodes["canary-0"].attempt = None
    sim.nodes["canary-0"].boot += 1
    assert ("FAIL", "NodeRebooted") in reasons(sim)


def test_harm_comes_first(moving):
    moving.nodes["canary-0"].boot += 1
    found = reasons(moving, blind="a watch is interrupted", leases={})
    assert found[0] == ("FAIL", "NodeRebooted")


@pytest.mark.parametrize("whose", ["candidate", "stable"])
def test_a_daemon_set_that_someone_pointed_at_all_nodes_is_pointed_back(moving, whose):
    sim = moving
    candidate, stable = sim.record.rollout.attempt, sim.record.stable.attempt
    sim.watchers.clear()
    attempt, target = (candidate, Target.IN) if whose == "candidate" else (stable, Target.NOT_IN)
    sim.retarget(attempt, Target.ALL)
    assert decide(sim.observe(), sim.now).actions == (Retarget(attempt, target, candidate),)


def test_a_promotion_waits_while_it_would_take_an_agent_away(sim):
    """The taint came after stable's pod: it stays there, and the candidate's could not start."""
    (late,) = [name for name in sim.nodes if name == "workers-2"]
    sim.publish("b", 2)
    sim.channel = make_channel(rollout={"holdTimeout": "1h"})
    sim.run(60, until=lambda: sim.running().get("canary-0") == "b")
    sim.step_until(lambda: sim.record.rollout.promoting)
    obs = sim.observe()
    stable = next(p for p in obs.pods if p.attempt == obs.record.rollout.attempt)
    left = replace(stable, uid="left", node=late, attempt=obs.record.stable.attempt)
    tainted = replace(obs.nodes[late], taints=(Taint("gpu", "", "NoExecute"),))
    obs = replace(obs, pods=(*obs.pods, left), nodes={**obs.nodes, late: tainted})
    step = decide(obs, sim.now)
    assert step.actions == ()
    assert step.record is None or step.record.rollout is not None
    assert sim.record.stable.release == "a"


def test_a_release_that_can_t_be_read_does_not_count_as_deleted(moving):
    obs = replace(moving.observe(), releases=(), unreadable=True)
    assert decide(obs, moving.now).record is None
    gone = decide(replace(obs, unreadable=False), moving.now)
    assert gone.record.rollout.incident.reason is Reason.ReleaseDeleted


def test_a_soak_that_a_leader_with_a_fast_clock_began_begins_anew(moving):
    sim = moving
    sim.run(60, until=lambda: sim.record.rollout.waves[-1].state is WaveState.Soaking)
    ahead = sim.record.rollout.with_wave(soak_since=sim.now + 3600)
    sim.record = replace(sim.record, rollout=ahead)
    sim.run(400, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Completed", "Completed")
