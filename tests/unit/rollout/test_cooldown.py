"""After a revert that harm caused nothing starts for a while; after two, nothing at all."""

from dataclasses import replace

import pytest

from support.builders import digest, make_channel, make_decision
from support.invariants import ended, phase_of, with_stable
from wavegate.api import Reason
from wavegate.rollout import channel_report, cooldown, report
from wavegate.rollout.steps import Step

POLICY = {"coolDown": "10m", "breaker": {"reverts": 2, "within": "1h"}}


@pytest.fixture
def sim(make_sim):
    """Release a is stable, on a channel with cool-down and breaker."""
    return with_stable(make_sim(rollout=POLICY))


def fails(sim, name, sequence):
    """Publish content that crashes the agent, and wait for its end."""
    sim.harms[digest(name)] = "loop"
    sim.publish(name, sequence)
    sim.run(900, until=ended(sim, name))
    assert phase_of(sim, name)[0] == "Reverted"


def said(sim, name):
    status = report.release_status(sim.observe(), sim.releases[name], Step(), sim.now)
    return status["phase"], status["reason"], status["waitingFor"]


def ready(sim):
    return channel_report.channel_status(sim.observe())["conditions"][0]


def resume(sim, release, **spec):
    made = {"made": sim.now, "decidedBy": "alice", **spec}
    sim.decisions.append(make_decision(f"go-{len(sim.decisions)}", release, "Resume", **made))
    decision = sim.decisions[-1]
    sim.run(3)
    return report.decision_status(sim.observe(), decision, sim.now)


def test_the_next_release_waits_until_the_channel_has_cooled_down(sim):
    fails(sim, "b", 2)
    at = sim.record.outcomes[0].finished_at
    sim.publish("c", 3)
    sim.run(5)
    assert said(sim, "c") == ("Pending", "CoolingDown", "Nothing")
    assert ready(sim)["status"] == "True"
    sim.run(580)
    assert sim.record.rollout is None
    sim.run(400, until=lambda: sim.record.rollout is not None)
    assert 600 <= sim.now - at <= 610
    sim.run(400, until=ended(sim, "c"))
    assert phase_of(sim, "c") == ("Completed", "Completed")


def test_what_a_person_took_back_keeps_nobody_waiting(sim):
    sim.publish("b", 2)
    sim.run(300, until=lambda: sim.running().get("canary-0") == "b")
    sim.decisions.append(make_decision("back", "b", "Revert"))
    sim.run(100, until=ended(sim, "b"))
    sim.publish("c", 3)
    sim.run(5)
    assert sim.record.rollout.candidate.release == "c"


def test_what_never_ran_keeps_nobody_waiting():
    assert cooldown.COUNTS.isdisjoint({Reason.CannotFetch, Reason.Unschedulable})


def test_a_shorter_cool_down_in_the_channel_acts_at_once(sim):
    fails(sim, "b", 2)
    sim.publish("c", 3)
    sim.run(30)
    assert sim.record.rollout is None
    sim.channel = make_channel(rollout={**POLICY, "coolDown": "20s"})
    sim.run(6)
    assert sim.record.rollout is not None


def test_a_person_cuts_it_short(sim):
    fails(sim, "b", 2)
    sim.publish("c", 3)
    sim.run(30)
    assert resume(sim, "b")["phase"] == "Accepted"
    sim.run(6)
    assert sim.record.rollout.candidate.release == "c"


def test_two_reverts_open_the_breaker_for_as_long_as_nobody_looks(sim):
    fails(sim, "b", 2)
    fails(sim, "c", 3)
    sim.publish("d", 4)
    sim.run(7_200)
    assert sim.record.rollout is None
    assert said(sim, "d") == ("Pending", "BreakerOpen", "Person")
    condition = ready(sim)
    assert (condition["status"], condition["reason"]) == ("False", "BreakerOpen")
    assert "release c (AgentRestarted), release b (AgentRestarted)" in condition["message"]
    done = resume(sim, "c")
    assert (done["phase"], done["releaseUID"]) == ("Accepted", sim.releases["c"].uid)
    sim.run(400, until=ended(sim, "d"))
    assert phase_of(sim, "d") == ("Completed", "Completed")
    assert ready(sim)["status"] == "True"


def test_reverts_that_are_further_apart_do_not(sim):
    fails(sim, "b", 2)
    sim.run(3_600)
    fails(sim, "c", 3)
    sim.publish("d", 4)
    sim.run(700, until=lambda: sim.record.rollout is not None)
    assert sim.record.rollout.candidate.release == "d"


def test_after_a_person_let_go_it_takes_two_more(sim):
    fails(sim, "b", 2)
    fails(sim, "c", 3)
    resume(sim, "c")
    fails(sim, "d", 4)
    assert ready(sim)["status"] == "True"
    fails(sim, "e", 5)
    assert ready(sim)["reason"] == "BreakerOpen"


def test_no_breaker_and_old_reverts_keep_nobody_waiting(sim):
    fails(sim, "b", 2)
    fails(sim, "c", 3)
    sim.channel = make_channel(rollout={**POLICY, "breaker": {"reverts": 0}})
    assert ready(sim)["status"] == "True"
    sim.run(600)
    sim.publish("d", 4)
    sim.run(400, until=ended(sim, "d"))
    sim.channel = make_channel(rollout=POLICY)
    assert ready(sim)["status"] == "True", "what started since then has passed it"


@pytest.mark.parametrize(
    ("release", "spec", "words"),
    [
        ("b", {}, "is release c"),
        ("c", {"digest": digest("b")}, "is release c"),
        ("c", {"made": 0}, "before release c was taken back"),
    ],
)
def test_a_resume_of_something_else_closes_nothing(sim, release, spec, words):
    fails(sim, "b", 2)
    fails(sim, "c", 3)
    sim.policies_since = -10.0
    done = resume(sim, release, **spec)
    assert done["phase"] == "Refused"
    assert words in done["message"]
    assert ready(sim)["reason"] == "BreakerOpen"
    assert sim.record.resumed_at == 0.0


def test_a_resume_when_nothing_waits_says_so(sim):
    done = resume(sim, "a")
    assert done["phase"] == "Refused"
    assert "no revert keeps others waiting" in done["message"]


def test_a_resume_that_proves_nobody_closes_nothing(sim):
    fails(sim, "b", 2)
    fails(sim, "c", 3)
    sim.policies = "a dry run was not refused"
    done = resume(sim, "c")
    assert (done["phase"], done["reason"]) == ("Refused", "PoliciesNotInForce")
    assert ready(sim)["reason"] == "BreakerOpen"


def test_a_release_that_was_deleted_can_still_be_named(sim):
    fails(sim, "b", 2)
    fails(sim, "c", 3)
    uid = sim.releases.pop("c").uid
    done = resume(sim, "c")
    assert (done["phase"], done["releaseUID"]) == ("Accepted", uid)


def test_the_write_that_opens_it_says_so_once(sim):
    fails(sim, "b", 2)
    before = replace(sim.record, outcomes=sim.record.outcomes[1:])
    sim.harms[digest("c")] = "loop"
    sim.publish("c", 3)
    sim.run(900, until=lambda: sim.record.rollout is not None)
    running = sim.record
    assert cooldown.news(sim.channel, before, running) is None
    sim.run(900, until=ended(sim, "c"))
    told = cooldown.news(sim.channel, running, sim.record)
    assert (told[0], told[2]) == (Reason.BreakerOpen, True)
    assert cooldown.news(sim.channel, sim.record, sim.record) is None
