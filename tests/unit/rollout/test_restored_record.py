"""The record is gone or from another day: what runs is adopted, and a person lets it go on."""

from dataclasses import replace

import pytest

from support.builders import SimDaemonSet, digest, make_channel
from support.invariants import ended, phase_of
from wavegate.api import Phase, Reason, WaveState
from wavegate.rollout import channel_report, lost, queue, report
from wavegate.rollout.attempt import Revision
from wavegate.rollout.decide import decide
from wavegate.rollout.steps import Step, Target


def rolling(sim, release="b", wave=0):
    """Publish a release and wait until this wave has moved a node."""
    if release not in sim.releases:
        sim.publish(release, ord(release) - ord("a") + 1)
    sim.step_until(lambda: _moved_in(sim, wave))


def _moved_in(sim, wave):
    rollout = sim.record.rollout
    return rollout and rollout.wave >= wave and rollout.waves[wave].moved > 0


def completed(sim, release):
    sim.publish(release, ord(release) - ord("a") + 1)
    sim.run(600, until=ended(sim, release))
    sim.run(20)
    assert phase_of(sim, release)[0] == "Completed"


def let_go(sim):
    """A person takes over, and lets go."""
    sim.channel = make_channel(suspend=True)
    sim.run(10)
    assert sim.record.lost.taken_over
    sim.channel = make_channel()
    sim.run(1)
    assert sim.record.lost is None


def said(sim):
    """The Ready condition of the channel, and its lines."""
    status = channel_report.channel_status(sim.observe())
    condition, *_ = status["conditions"]
    return condition["reason"], condition["message"], status.get("breakGlass", [])


def revert_by_hand(sim):
    """What the lines of the status do."""
    candidate, stable = lost.in_flight(sim.observe())
    sim.retarget(candidate.attempt, Target.NOTHING)
    if stable:
        sim.retarget(stable.attempt, Target.ALL)
    for pod in sim.pods:
        pod.deleting |= pod.attempt == candidate.attempt


def nothing_is_written(sim, seconds=150):
    before = sim.writes
    sim.run(seconds)
    assert sim.writes == before, sim.story[-5:]


def test_a_record_that_is_deleted_on_an_idle_channel_is_written_anew_from_what_runs(sim):
    completed(sim, "b")
    sim.restore()
    sim.publish("c", 3)
    sim.run(60)
    stable = sim.record.stable
    assert (stable.release, stable.release_uid) == ("b", sim.releases["b"].uid)
    assert (stable.version, stable.sequence, stable.digest) == ("b", 2, digest("b"))
    assert phase_of(sim, "b") == ("Completed", "StateLost")
    assert sim.record.rollout is None
    reason, message, lines = said(sim)
    assert (reason, lines) == ("StateLost", [])
    assert "spec.suspend to true" in message
    nothing_is_written(sim)
    let_go(sim)
    sim.run(600, until=ended(sim, "c"))
    assert phase_of(sim, "c") == ("Completed", "Completed")
    assert [o.release for o in sim.record.outcomes] == ["c", "b"]


@pytest.mark.parametrize("tidied", [False, True])
def test_a_release_that_failed_does_not_run_again_after_a_loss(sim, tidied):
    completed(sim, "b")
    sim.harms[digest("c")] = "loop"
    sim.publish("c", 3)
    sim.step_until(ended(sim, "c"))
    if tidied:
        sim.run(20)
    sim.restore()
    sim.run(5)
    assert sim.record.stable.release == "b"
    let_go(sim)
    sim.run(30)
    nothing_is_written(sim)
    assert (phase_of(sim, "c"), sim.record.attempts) == (("", ""), 0)


def test_a_daemon_set_that_says_no_sequence_counts_as_the_newest_release_there_is(sim):
    completed(sim, "b")
    sim.publish("c", 7, suspend=True)
    sim.restore()
    obs = sim.observe()
    old = {a: replace(view, sequence=None) for a, view in obs.revisions.items()}
    assert decide(replace(obs, revisions=old), sim.now).record.floor == 7


def test_a_record_that_is_deleted_in_the_middle_touches_nothing_until_a_person_reverted(sim):
    rolling(sim)
    sim.run(10)
    sim.restore()
    before = dict(sim.running())
    nothing_is_written(sim)
    assert sim.running() == before
    reason, message, lines = said(sim)
    assert reason == "StateLost"
    assert "status.breakGlass" in message
    assert [line.split()[3] for line in lines] == ["patch", "delete", "patch", "delete"]
    revert_by_hand(sim)
    sim.run(30)
    assert sim.record.stable.release == "a"
    assert sim.running() == dict.fromkeys(sim.nodes, "a")
    let_go(sim)
    completed(sim, "c")
    assert phase_of(sim, "b") == ("", "")


def test_a_record_from_before_a_completed_release_gives_way_to_what_runs(sim):
    old = sim.record
    completed(sim, "b")
    sim.restore(old)
    sim.publish("c", 3)
    sim.run(30)
    assert sim.record.stable.release == "b"
    assert [r.release for r in sim.record.history] == ["a"]
    assert sim.record.rollout is None
    assert sim.running() == dict.fromkeys(sim.nodes, "b")
    let_go(sim)
    sim.run(600, until=ended(sim, "c"))
    assert phase_of(sim, "c") == ("Completed", "Completed")


def test_a_record_from_before_an_attempt_that_is_in_flight_touches_nothing(sim):
    old = sim.record
    rolling(sim, wave=1)
    sim.restore(old)
    before = dict(sim.running())
    nothing_is_written(sim)
    assert sim.running() == before
    assert said(sim)[0] == "StateLost"
    assert len(said(sim)[2]) == 4
    revert_by_hand(sim)
    sim.run(30)
    assert sim.record.lost is not None
    assert sim.running() == dict.fromkeys(sim.nodes, "a")


def older_wave(sim):
    """A record of the running attempt from its first wave, while the second one moves."""
    rolling(sim)
    old = sim.record
    rolling(sim, wave=1)
    sim.run(3)
    sim.restore(old)
    return labelled_now(sim)


def labelled_now(sim):
    """Nodes with the label of the running attempt."""
    attempt = sim.record.rollout.attempt
    return {node.name for node in sim.nodes.values() if node.attempt == attempt}


def test_a_record_from_an_earlier_wave_moves_no_node_forward_or_back(sim):
    labelled = older_wave(sim)
    sim.run(200)
    assert labelled_now(sim) == labelled
    assert len(labelled) == 2
    assert sim.record.rollout.waves[-1].state is not WaveState.Pending
    status = report.release_status(sim.observe(), sim.releases["b"], Step(), sim.now)
    assert (status["phase"], status["reason"]) == ("Paused", "StateLost")
    assert status["breakGlass"]


def test_a_record_from_an_earlier_wave_still_reverts_harm_on_any_node_of_a_ledger(sim):
    labelled = older_wave(sim)
    (victim, *_) = sorted(labelled - {"canary-0"})
    sim.nodes[victim].boot += 1
    sim.run(120, until=ended(sim, "b"))
    sim.run(5)
    assert sim.record.block_of(digest("b"))
    assert sim.running() == dict.fromkeys(sim.nodes, "a")


@pytest.mark.parametrize("paused", [None, Reason.HoldTimeout])
def test_a_record_from_the_middle_of_a_release_that_is_completed_adopts_it(sim, paused):
    rolling(sim)
    old = replace(sim.record, rollout=replace(sim.record.rollout, paused=paused))
    sim.run(600, until=ended(sim, "b"))
    sim.run(10)
    sim.restore(old)
    sim.run(10)
    assert phase_of(sim, "b") == ("Completed", "StateLost")
    assert sim.record.stable.release == "b"
    assert sim.running() == dict.fromkeys(sim.nodes, "b")


@pytest.mark.parametrize("phase", [Phase.Rolling, Phase.Reverting])
def test_a_record_from_the_middle_of_a_release_that_another_replaced_ends_it(sim, phase):
    rolling(sim)
    old = sim.record
    if phase is Phase.Reverting:
        old = replace(old, rollout=replace(old.rollout, phase=phase, reverting_since=sim.now))
    del sim.releases["b"]
    sim.run(60, until=ended(sim, "b"))
    completed(sim, "c")
    sim.restore(old)
    sim.run(10)
    assert phase_of(sim, "b") == ("Reverted", "StateLost")
    assert sim.record.stable.release == "c"
    assert sim.running() == dict.fromkeys(sim.nodes, "c")


def test_a_record_from_before_a_release_that_was_reverted_and_tidied_starts_nothing(sim):
    old = sim.record
    sim.harms[digest("b")] = "loop"
    sim.publish("b", 2)
    sim.run(600, until=ended(sim, "b"))
    sim.run(20)
    assert len(sim.sets) == 1
    sim.restore(old)
    sim.run(60)
    assert sim.record.rollout is None
    assert sim.record.lost is not None
    assert sim.record.stable.release == "a"


def test_a_stable_daemon_set_that_is_gone_starts_nothing_and_names_it(sim):
    completed(sim, "b")
    sim.watchers.clear()
    gone = sim.sets.pop(sim.record.stable.attempt).revision.daemon_set
    sim.pods = [pod for pod in sim.pods if pod.attempt in sim.sets]
    sim.publish("c", 3)
    nothing_is_written(sim)
    reason, message, _ = said(sim)
    assert reason == "StateLost"
    assert gone in message


def test_a_record_that_can_t_be_read_is_not_overwritten(sim):
    sim.restore()
    obs = replace(sim.observe(), record_unreadable=True)
    assert decide(obs, sim.now).record is None
    assert "can't be read" in queue.channel_problem(obs).message


def test_nothing_is_adopted_while_a_watch_is_interrupted(sim):
    sim.restore()
    assert decide(replace(sim.observe(), blind="the watch is interrupted"), sim.now).record is None


def test_two_daemon_sets_for_all_nodes_are_adopted_by_nobody(sim):
    plant(sim, Target.ALL)
    nothing_is_written(sim)
    assert said(sim)[0] == "StateLost"


def plant(sim, target):
    """Someone creates a DaemonSet that looks like a revision."""
    known = sim.sets[sim.record.stable.attempt]
    revision = Revision("planted", "rules-planted", "x", "x", "x", 0, "", 0.0)
    sim.sets["planted"] = SimDaemonSet(revision, known.template, known.affinity)
    sim.retarget("planted", target)


def test_a_planted_daemon_set_stops_what_goes_forward_but_no_revert(sim):
    rolling(sim)
    sim.run(10)
    plant(sim, Target.NOTHING)
    sim.run(120)
    assert labelled_now(sim) == {"canary-0"}
    assert sim.record.rollout.waves[-1].name == "canary"
    sim.nodes["canary-0"].boot += 1
    sim.run(60, until=ended(sim, "b"))
    assert phase_of(sim, "b")[0] == "Reverted"
    sim.run(5)
    assert sim.running() == dict.fromkeys(sim.nodes, "a")


def test_a_channel_whose_daemon_sets_were_all_deleted_begins_anew_beside_old_ledgers(sim):
    sim.watchers.clear()
    sim.sets, sim.pods = {}, []
    sim.restore()
    assert sim.ledgers
    sim.publish("b", 2)
    sim.run(600, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Completed", "Completed")
    assert sim.running() == dict.fromkeys(sim.nodes, "b")
    assert {attempt for attempt, _ in sim.ledgers} == {sim.record.stable.attempt}


def test_a_record_from_the_last_wave_of_a_completed_release_is_seen_to_be_older(sim):
    rolling(sim, wave=1)
    sim.run(2)
    old = sim.record
    sim.run(600, until=ended(sim, "b"))
    sim.run(10)
    sim.restore(old)
    sim.add_nodes("workers", 1)
    sim.run(20)
    assert phase_of(sim, "b") == ("Completed", "StateLost")
    assert sim.running() == dict.fromkeys(sim.nodes, "b")
