"""People pause, resume and revert; a pause never stops watching or reverting."""

from support.builders import digest, make_decision
from support.invariants import ended, phase_of, with_stable
from wavegate.api import Phase, WaveState


def state(sim):
    """State of the running wave."""
    rollout = sim.record.rollout
    return rollout.waves[-1].state if rollout and rollout.waves else None


# Was: MAX_DECISIONS (100) notes are kept; the 101st decision is noted anew on each pass, for ever,
# before anything else is looked at. Reverts starve too.
def test_a_channel_with_many_old_decisions_still_rolls_out_and_reverts(sim):
    sim.decisions += [make_decision(f"d{i}", "a", "Pause") for i in range(101)]
    sim.harms[digest("b")] = "loop"
    sim.publish("b", 2)
    sim.run(600, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Reverted", "Reverted")


# Was: while `suspend` is true `_resumed` takes the pause away and `fail` puts it back, each pass,
# for ever: a storm of writes, and the incident flickers.
def test_suspending_a_release_that_failed_and_paused_does_not_write_for_ever(make_sim):
    sim = with_stable(make_sim(rollout={"onFailure": "Pause"}))
    sim.harms[digest("b")] = "kill"
    sim.publish("b", 2)
    sim.run(600, until=lambda: sim.record.rollout and sim.record.rollout.paused)
    sim.publish("b", 2, suspend=True)
    sim.run(60)
    assert sim.record.rollout.phase is Phase.Rolling
    assert len([pod for pod in sim.pods if pod.attempt == sim.record.rollout.attempt]) == 1


def test_a_revert_that_is_decided_in_a_pause_says_what_harm_was_seen_before(make_sim):
    """The incident of the pause is not shown any more, and nothing else keeps it."""
    sim = with_stable(make_sim(rollout={"onFailure": "Pause"}))
    sim.harms[digest("b")] = "loop"
    sim.publish("b", 2)
    sim.run(600, until=lambda: sim.record.rollout and sim.record.rollout.paused)
    harm = sim.record.rollout.incident.message
    sim.decisions.append(make_decision("back", "b", "Revert", reason="it smells"))
    sim.run(600, until=ended(sim, "b"))
    outcome = sim.record.outcomes[0]
    assert outcome.incident.reason == "RevertDecided"
    assert "it smells" in outcome.incident.message
    assert f"; before that: {harm}" in outcome.incident.message


# Was: `overdue` is measured from the move, not from when the pod was last well. Ten minutes after
# a node was moved, any eviction, deletion or flap of its agent is an instant Fail. (An unready one
# even blocks the digest.)
def test_an_agent_that_is_evicted_long_after_its_move_may_come_back(sim):
    sim.publish("b", 2)
    sim.run(600, until=lambda: state(sim) is WaveState.Soaking)
    sim.publish("b", 2, suspend=True)
    sim.run(200)
    sim.delete_pod("canary-0")
    sim.run(30)
    sim.publish("b", 2)
    sim.run(600, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Completed", "Completed")


def test_a_soak_that_runs_goes_on_in_a_pause_and_none_begins_in_it(sim):
    """Time is all that this costs, and a first wave that is not done fails by any harm."""
    sim.publish("b", 2)
    sim.run(600, until=lambda: state(sim) is WaveState.Soaking)
    sim.publish("b", 2, suspend=True)
    sim.run(5)
    assert state(sim) is WaveState.Soaking
    sim.delete_pod("canary-0")
    sim.run(200)
    assert state(sim) is WaveState.Moving
    assert sim.record.rollout.waves[-1].interrupted
    sim.die("canary-0")
    sim.run(600, until=ended(sim, "b"))
    assert phase_of(sim, "b")[0] == "Reverted"
    assert sim.record.block_of(digest("b"))


def test_a_wave_that_was_paused_before_its_soak_soaks_when_it_is_resumed(sim):
    sim.publish("b", 2)
    sim.run(600, until=lambda: state(sim) is WaveState.Moving and "b" in sim.running().values())
    sim.publish("b", 2, suspend=True)
    sim.run(200)
    assert (state(sim), sim.record.rollout.waves[-1].soak_began) == (WaveState.Moving, None)
    sim.publish("b", 2)
    sim.run(10, until=lambda: state(sim) is WaveState.Soaking)
    sim.run(600, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Completed", "Completed")
