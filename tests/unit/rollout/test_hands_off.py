"""Hands-off: nothing but status is written, and afterwards it goes on from what is there."""

import pytest

from support.builders import digest
from support.invariants import ended, phase_of
from wavegate.api import Phase
from wavegate.rollout import channel_report, report
from wavegate.rollout.decide import decide
from wavegate.rollout.names import HANDS_OFF_ANNOTATION
from wavegate.rollout.steps import Target


def hands(sim, word="true"):
    """A person annotates the channel; an empty word takes the annotation away."""
    metadata = sim.channel.metadata
    annotations = {HANDS_OFF_ANNOTATION: word} if word else {}
    changed = metadata.model_copy(update={"annotations": annotations})
    sim.channel = sim.channel.model_copy(update={"metadata": changed})


def still(sim, seconds=60):
    before = sim.writes
    sim.run(seconds)
    assert sim.writes == before, sim.story[-5:]


def said(sim, release="b"):
    obs = sim.observe()
    step = decide(obs, sim.now)
    status = report.release_status(obs, sim.releases[release], step, sim.now)
    (ready, *_) = channel_report.channel_status(obs)["conditions"]
    return status["phase"], status["reason"], status["waitingFor"], ready["reason"]


@pytest.mark.parametrize("reached", ["Pending", "Moving", "Soaking", "Judging", "promoting"])
def test_nothing_is_written_under_hands_off_wherever_the_rollout_is(sim, reached):
    sim.publish("b", 2)
    sim.step_until(lambda: sim.record.rollout and reached in str(sim.record.rollout))
    hands(sim)
    still(sim)
    assert said(sim) == ("Paused", "HandsOff", "Person", "HandsOff")
    hands(sim, "")
    sim.run(600, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Completed", "Completed")
    sim.run(10)
    assert sim.running() == dict.fromkeys(sim.nodes, "b")


def test_harm_is_told_but_not_reverted_until_the_annotation_is_gone(sim):
    sim.publish("b", 2)
    sim.run(300, until=lambda: sim.running().get("canary-0") == "b")
    hands(sim)
    sim.nodes["canary-0"].boot += 1
    still(sim)
    obs = sim.observe()
    assert (
        "rebooted"
        in report.release_status(obs, sim.releases["b"], decide(obs, sim.now), 0.0)["message"]
    )
    hands(sim, "")
    sim.run(60, until=ended(sim, "b"))
    assert phase_of(sim, "b")[0] == "Reverted"
    assert sim.record.block_of(digest("b"))


def test_a_revert_that_is_half_done_stops_too_and_is_finished_afterwards(sim):
    sim.publish("b", 2)
    sim.run(300, until=lambda: sim.running().get("canary-0") == "b")
    sim.nodes["canary-0"].boot += 1
    sim.step_until(lambda: sim.record.rollout.phase is Phase.Reverting)
    hands(sim)
    still(sim)
    assert said(sim) == ("Reverting", "HandsOff", "Person", "HandsOff")
    hands(sim, "")
    sim.run(60, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Reverted", "Reverted")


def test_an_idle_channel_is_neither_repaired_nor_started(sim):
    hands(sim)
    sim.publish("b", 2)
    sim.retarget(sim.record.stable.attempt, Target.NOT_IN, "nobody")
    still(sim)
    assert said(sim) == ("Pending", "HandsOff", "Person", "HandsOff")
    hands(sim, "")
    sim.run(600, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Completed", "Completed")


def test_a_lost_record_is_not_written_under_hands_off(sim):
    hands(sim)
    sim.restore()
    still(sim)
    hands(sim, "")
    sim.run(5)
    assert sim.record.stable.release == "a"


@pytest.mark.parametrize("word", ["false", "", "yes", "True"])
def test_only_the_word_true_means_hands_off(sim, word):
    hands(sim, word)
    assert not sim.observe().hands_off
