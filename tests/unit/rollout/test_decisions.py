"""Pause and Revert decisions: bound to release and digest, once, and never against safety."""

import pytest

from support.builders import digest, make_decision, make_release
from support.invariants import ended, phase_of
from wavegate.rollout import report
from wavegate.rollout.steps import Step


def status_of(sim, name):
    """Status of a decision as it would be written now."""
    decision = next(d for d in sim.decisions if d.name == name)
    return report.decision_status(sim.observe(), decision, sim.now)


def release_status(sim, name):
    return report.release_status(sim.observe(), sim.releases[name], Step(), sim.now)


@pytest.fixture
def rolling(sim):
    """Release b is on the canary."""
    sim.publish("b", 2)
    sim.run(300, until=lambda: sim.running().get("canary-0") == "b")
    return sim


def test_a_pause_is_accepted_and_nothing_moves_until_it_expires(rolling):
    sim = rolling
    sim.decisions.append(make_decision("wait", "b", "Pause", expiresAfter="5m"))
    sim.run(1)
    said = status_of(sim, "wait")
    assert (said["phase"], said["releaseUID"]) == ("Accepted", sim.releases["b"].uid)
    paused = release_status(sim, "b")
    assert [paused[k] for k in ("phase", "reason", "waitingFor")] == [
        "Paused",
        "PausedByDecision",
        "Person",
    ]
    sim.run(290)
    assert list(sim.running().values()).count("b") == 1
    sim.run(300, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Completed", "Completed")
    assert status_of(sim, "wait")["phase"] == "Expired"


def test_a_pause_that_is_deleted_ends_at_once(rolling):
    sim = rolling
    sim.decisions.append(make_decision("wait", "b", "Pause"))
    sim.run(200)
    assert list(sim.running().values()).count("b") == 1
    sim.decisions.clear()
    sim.run(300, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Completed", "Completed")


def test_a_paused_release_that_does_harm_is_reverted_all_the_same(rolling):
    sim = rolling
    sim.decisions.append(make_decision("wait", "b", "Pause"))
    sim.run(10)
    sim.harms[digest("b")] = "loop"
    sim.run(60, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Reverted", "Reverted")
    assert sim.record.block_of(digest("b"))


def test_a_revert_is_accepted_says_why_and_blocks_nothing(rolling):
    sim = rolling
    sim.decisions.append(make_decision("back", "b", "Revert", reason="it smells"))
    sim.run(60, until=ended(sim, "b"))
    incident = sim.record.outcomes[0].incident
    assert (incident.reason.value, incident.message) == (
        "RevertDecided",
        "decision back: it smells",
    )
    assert sim.record.blocked == ()
    assert status_of(sim, "back")["phase"] == "Accepted"
    sim.run(5)
    assert set(sim.running().values()) == {"a"}


def test_a_revert_ends_a_release_that_is_paused(rolling):
    sim = rolling
    sim.decisions.append(make_decision("wait", "b", "Pause"))
    sim.run(10)
    sim.decisions.append(make_decision("back", "b", "Revert"))
    sim.run(60, until=ended(sim, "b"))
    assert phase_of(sim, "b")[0] == "Reverted"


@pytest.mark.parametrize("action", ["Pause", "Revert"])
def test_a_decision_on_another_digest_is_refused_and_says_both(rolling, action):
    sim = rolling
    sim.decisions.append(make_decision("wrong", "b", action, content="other"))
    sim.run(1)
    said = status_of(sim, "wrong")
    assert (said["phase"], said["reason"]) == ("Refused", "DecisionRefused")
    assert digest("b") in said["message"]
    assert digest("other") in said["message"]
    sim.run(400, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Completed", "Completed")
    assert sim.record.decisions == ()


def test_a_decision_on_a_release_that_does_not_roll_out_is_refused(sim):
    sim.decisions.append(make_decision("late", "a", "Revert"))
    sim.run(5)
    assert status_of(sim, "late")["phase"] == "Refused"
    assert "is not rolling out" in status_of(sim, "late")["message"]
    assert set(sim.running().values()) == {"a"}


def test_what_was_said_of_an_old_decision_stays(rolling):
    sim = rolling
    old = make_decision("wait", "b", "Pause", content="other")
    sim.decisions.append(old.model_copy(update={"status": {"phase": "Refused"}}))
    assert status_of(sim, "wait") is None


def test_a_revert_acts_once_and_not_on_a_later_release_of_the_same_name(rolling):
    sim = rolling
    sim.decisions.append(make_decision("back", "b", "Revert"))
    sim.run(60, until=ended(sim, "b"))
    sim.releases["b"] = make_release("b", 3)
    sim.run(400, until=lambda: sim.record.outcomes[0].sequence == 3)
    assert sim.record.outcomes[0].phase == "Completed"
    assert sim.record.outcomes[0].release_uid == sim.releases["b"].uid
