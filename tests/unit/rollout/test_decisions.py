"""Pause and Revert decisions: bound to release and digest, once, and never against safety."""

from dataclasses import replace

import pytest

from support.builders import digest, make_channel, make_decision, make_release
from support.invariants import ended, phase_of, with_stable
from wavegate.rollout import channel_report, decisions, report
from wavegate.rollout.decide import decide
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


# Resume


def later(sim, name, action, release="b", **spec):
    """A decision that a person makes now, and that proves who it was."""
    made = make_decision(name, release, action, made=sim.now, decidedBy="alice", **spec)
    sim.decisions.append(made)


def test_a_pause_is_ended_by_a_later_resume(rolling):
    sim = rolling
    sim.decisions.append(make_decision("wait", "b", "Pause", made=sim.now))
    sim.run(10)
    later(sim, "go", "Resume")
    sim.run(3)
    assert status_of(sim, "go")["phase"] == "Accepted"
    ended = status_of(sim, "wait")
    assert (ended["phase"], ended["message"]) == ("Expired", "The pause was ended by decision go")
    assert release_status(sim, "b")["phase"] == "Rolling"


def test_a_resume_ends_no_pause_that_came_after_it(rolling):
    sim = rolling
    later(sim, "go", "Resume")
    sim.run(3)
    assert status_of(sim, "go")["phase"] == "Refused"
    assert "had not paused itself" in status_of(sim, "go")["message"]
    sim.decisions.append(make_decision("wait", "b", "Pause", made=sim.now))
    sim.run(300)
    assert release_status(sim, "b")["reason"] == "PausedByDecision"
    assert list(sim.running().values()).count("b") == 1


@pytest.fixture
def asking(make_sim):
    """Release b crashed its canary's agent, on a channel that pauses on failure."""
    sim = with_stable(make_sim(rollout={"onFailure": "Pause"}))
    sim.harms[digest("b")] = "loop"
    sim.publish("b", 2)
    sim.run(600, until=lambda: sim.record.rollout and sim.record.rollout.paused)
    return sim


def test_a_release_that_paused_itself_is_resumed_and_pauses_again_while_there_is_harm(asking):
    sim = asking
    sim.run(30)
    paused_at = sim.record.rollout.paused_at
    later(sim, "go", "Resume")
    sim.run(30)
    assert status_of(sim, "go")["phase"] == "Accepted"
    assert sim.record.rollout.paused_at > paused_at
    assert sim.record.rollout.paused


def test_a_resume_acts_once(asking):
    sim = asking
    sim.run(30)
    later(sim, "go", "Resume")
    sim.run(30)
    paused_at = sim.record.rollout.paused_at
    sim.run(200)
    assert sim.record.rollout.paused_at == paused_at
    assert len(sim.record.decisions) == 1


def test_a_resume_from_before_the_pause_does_not_act_on_it(make_sim):
    sim = with_stable(make_sim(rollout={"onFailure": "Pause"}))
    sim.harms[digest("b")] = "loop"
    sim.publish("b", 2)
    later(sim, "go", "Resume")
    sim.run(600, until=lambda: sim.record.rollout and sim.record.rollout.paused)
    sim.run(60)
    assert sim.record.rollout.paused
    assert sim.record.decisions == ()


def test_a_resume_on_another_digest_is_refused(asking):
    sim = asking
    sim.run(30)
    later(sim, "go", "Resume", digest=digest("other"))
    sim.run(5)
    assert status_of(sim, "go")["phase"] == "Refused"
    assert sim.record.rollout.paused


# What loosens is obeyed only where the policies prove who decided


@pytest.mark.parametrize("missing", ["a dry run was not refused", "old", "nobody"])
def test_what_loosens_is_refused_where_nothing_proves_who_decided(asking, missing):
    sim = asking
    sim.run(30)
    by = "" if missing == "nobody" else "alice"
    sim.decisions.append(make_decision("go", "b", "Resume", made=sim.now, decidedBy=by))
    sim.policies_since = sim.now + 1 if missing == "old" else 0.0
    sim.policies = missing if missing.startswith("a dry run") else ""
    sim.run(5)
    said = status_of(sim, "go")
    assert (said["phase"], said["reason"]) == ("Refused", "PoliciesNotInForce")
    assert "create it again" in said["message"]
    assert "admissionPolicies.enabled" in said["message"]
    assert sim.record.rollout.paused
    assert sim.record.decisions == ()


def test_what_loosens_waits_for_a_proof_that_is_newer(asking):
    sim = asking
    sim.run(30)
    later(sim, "go", "Resume")
    obs = sim.observe()
    for proof in (None, replace(obs.policies, asked_at=sim.now + 0.5)):
        early = replace(obs, policies=proof)
        assert decisions.carry_out(early, sim.now) is obs.record
        assert report.decision_status(early, sim.decisions[-1], sim.now) is None
        assert decisions.proof_wanted_at(early) == (sim.now + 1 if proof else 0.0)
    proven = replace(obs, policies=replace(obs.policies, asked_at=sim.now + 1))
    assert decisions.carry_out(proven, sim.now).rollout.paused is None
    assert decisions.proof_wanted_at(proven) is None


@pytest.mark.parametrize("action", ["Pause", "Revert"])
def test_what_tightens_is_obeyed_whoever_made_it(rolling, action):
    sim = rolling
    sim.policies = "a dry run was not refused"
    sim.decisions.append(make_decision("stop", "b", action))
    sim.run(2)
    assert status_of(sim, "stop")["phase"] == "Accepted"


# Unblock


@pytest.fixture
def blocked(sim):
    """Release b came to harm: its digest is blocked."""
    sim.harms[digest("b")] = "loop"
    sim.publish("b", 2)
    sim.run(600, until=ended(sim, "b"))
    sim.harms.clear()
    return sim


def test_an_unblocked_digest_runs_in_a_new_release_and_the_old_one_does_not(blocked):
    sim = blocked
    sim.publish("again", 3, "b")
    sim.run(10)
    assert release_status(sim, "again")["reason"] == "DigestBlocked"
    incident = release_status(sim, "b")["incident"]["id"]
    assert channel_report.channel_status(sim.observe())["blocked"][0]["incident"] == incident
    later(sim, "trust", "Unblock", incident=incident)
    sim.run(600, until=ended(sim, "again"))
    assert phase_of(sim, "again") == ("Completed", "Completed")
    assert phase_of(sim, "b")[0] == "Reverted"
    assert status_of(sim, "trust")["phase"] == "Accepted"
    assert sim.record.blocked == ()


def test_a_digest_is_unblocked_by_the_name_of_a_release_that_is_deleted(blocked):
    """Who takes a bad release out of Git prunes it, and the block names it all the same."""
    sim = blocked
    uid = sim.releases.pop("b").uid
    later(sim, "wrong", "Unblock", incident="another")
    later(sim, "never", "Unblock", release="c", digest=digest("c"), incident="another")
    sim.run(2)
    assert "is blocked by incident" in status_of(sim, "wrong")["message"]
    assert "there is no release c" in status_of(sim, "never")["message"]
    later(sim, "trust", "Unblock", incident=sim.record.blocked[0].incident)
    sim.run(2)
    said = status_of(sim, "trust")
    assert (said["phase"], said["releaseUID"]) == ("Accepted", uid)
    assert sim.record.blocked == ()


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"incident": "another"}, "is blocked by incident"),
        ({"digest": digest("other")}, "carries"),
        ({"release": "a"}, "is not blocked"),
    ],
)
def test_an_unblock_that_does_not_fit_is_refused(blocked, spec, words):
    sim = blocked
    incident = sim.record.blocked[0].incident
    later(sim, "trust", "Unblock", **{"incident": incident} | spec)
    sim.run(5)
    said = status_of(sim, "trust")
    assert said["phase"] == "Refused"
    assert words in said["message"]
    assert sim.record.block_of(digest("b"))


def test_an_unblock_does_not_undo_the_next_incident_of_the_same_digest(blocked):
    sim = blocked
    later(sim, "trust", "Unblock", incident=sim.record.blocked[0].incident)
    sim.harms[digest("b")] = "loop"
    sim.publish("again", 3, "b")
    sim.run(600, until=ended(sim, "again"))
    sim.run(60)
    assert sim.record.block_of(digest("b")).incident == sim.record.outcomes[0].attempt
    sim.decisions.clear()
    sim.run(2)
    later(sim, "same", "Unblock", incident="unknown")
    sim.run(5)
    assert status_of(sim, "same")["phase"] == "Refused"


def test_who_reverted_stands_in_the_incident(rolling):
    sim = rolling
    sim.decisions.append(make_decision("back", "b", "Revert", decidedBy="alice"))
    sim.run(60, until=ended(sim, "b"))
    assert sim.record.outcomes[0].incident.message == "decision back by alice: a test"


# Approve

APPROVED = [
    {"name": "canary", "pools": ["canary"], "upTo": "100%"},
    {"name": "all", "upTo": "100%", "approval": "Required"},
]


@pytest.fixture
def awaiting(make_sim):
    """Release b waits for a person before its second wave."""
    sim = with_stable(make_sim())
    sim.channel = make_channel(waves=APPROVED)
    sim.publish("b", 2)
    sim.run(600, until=lambda: release_status(sim, "b")["reason"] == "AwaitingApproval")
    return sim


def test_a_wave_that_needs_an_approval_waits_for_a_person_and_for_nothing_else(awaiting):
    sim = awaiting
    sim.run(4_000)
    said = release_status(sim, "b")
    assert [said[k] for k in ("phase", "reason", "waitingFor")] == [
        "Rolling",
        "AwaitingApproval",
        "Person",
    ]
    waiting = decide(sim.observe(), sim.now).waiting
    assert waiting == "a person to decide Approve, with wave: all"
    assert list(sim.running().values()).count("b") == 1
    assert {ledger for ledger, _ in sim.ledgers if ledger} == {sim.record.rollout.attempt} | {
        sim.record.stable.attempt
    }


def test_an_approved_wave_opens_and_the_record_says_by_which_decision(awaiting):
    sim = awaiting
    later(sim, "fine", "Approve", wave="all")
    sim.run(600, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Completed", "Completed")
    assert [w.approved for w in sim.record.outcomes[0].waves] == ["", "fine"]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"wave": "canary"}, "wave canary needs no approval; those that do: all"),
        ({"wave": "all", "digest": digest("other")}, "carries"),
        ({"wave": "all", "release": "a", "digest": digest("a")}, "is not rolling out"),
    ],
)
def test_an_approval_of_something_else_opens_nothing(awaiting, spec, words):
    sim = awaiting
    given = dict(spec)
    content = given.pop("digest", digest("b"))
    release = given.pop("release", "b")
    made = make_decision("fine", release, "Approve", made=sim.now, decidedBy="alice", **given)
    spec_of = made.spec.model_copy(update={"digest": content})
    sim.decisions.append(made.model_copy(update={"spec": spec_of}))
    sim.run(60)
    assert words in status_of(sim, "fine")["message"]
    assert list(sim.running().values()).count("b") == 1


def test_an_approval_that_nothing_proves_opens_nothing(awaiting):
    sim = awaiting
    sim.policies = "a dry run was not refused"
    later(sim, "fine", "Approve", wave="all")
    sim.run(60)
    assert status_of(sim, "fine")["reason"] == "PoliciesNotInForce"
    assert list(sim.running().values()).count("b") == 1


def test_a_wave_may_be_approved_before_its_turn_and_a_deleted_approval_counts_no_more(make_sim):
    for deleted in (False, True):
        sim = with_stable(make_sim())
        sim.channel = make_channel(waves=APPROVED)
        sim.publish("b", 2)
        sim.run(300, until=lambda sim=sim: "b" in sim.running().values())
        later(sim, "early", "Approve", wave="all")
        sim.run(3)
        assert status_of(sim, "early")["phase"] == "Accepted"
        if deleted:
            sim.decisions.clear()
        sim.run(300)
        assert (phase_of(sim, "b")[0] == "Completed") is not deleted


def test_an_approval_is_for_one_release_uid(awaiting):
    sim = awaiting
    later(sim, "back", "Revert")
    later(sim, "fine", "Approve", wave="all")
    sim.run(60, until=ended(sim, "b"))
    sim.releases["b"] = make_release("b", 3)
    sim.run(600)
    assert release_status(sim, "b")["reason"] == "AwaitingApproval"


def test_a_pause_holds_an_approved_wave(awaiting):
    sim = awaiting
    sim.decisions.append(make_decision("wait", "b", "Pause", made=sim.now))
    sim.run(2)
    later(sim, "fine", "Approve", wave="all")
    sim.run(300)
    assert release_status(sim, "b")["reason"] == "PausedByDecision"
    assert list(sim.running().values()).count("b") == 1
    sim.decisions = [d for d in sim.decisions if d.name != "wait"]
    sim.run(600, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Completed", "Completed")


def test_a_block_covers_what_agents_load_also_in_a_release_that_rolls_out(sim):
    with_stable(sim)
    for name, number in (("b", 2), ("c", 3)):
        sim.publish(name, number)
        content = sim.releases[name].spec.content.model_copy(update={"loaded_digest": "RULES-7"})
        spec = sim.releases[name].spec.model_copy(update={"content": content})
        sim.releases[name] = sim.releases[name].model_copy(update={"spec": spec})
    sim.run(60, until=lambda: sim.record.rollout and sim.record.rollout.waves)
    assert sim.record.rollout.candidate.release == "c"
    sim.decisions.append(make_decision("never", "b", "Block"))
    sim.run(60, until=ended(sim, "c"))
    assert [entry.loaded for entry in sim.record.blocked] == ["RULES-7"]
    assert sim.record.outcomes[0].incident.reason == "DigestBlocked"


def test_who_blocks_what_is_stable_is_told_that_it_stays(sim):
    sim.decisions.append(make_decision("never", "a", "Block"))
    sim.run(10)
    said = status_of(sim, "never")
    assert said["phase"] == "Accepted"
    assert "it is stable, so it stays on all nodes" in said["message"]
    (new,) = sim.add_nodes("workers", 1)
    sim.run(10)
    assert sim.running() == dict.fromkeys(sim.nodes, "a")
    assert new in sim.running()
