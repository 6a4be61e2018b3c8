"""When a newer release takes the place of one that rolls out, and when it waits."""

from dataclasses import replace

import pytest

from support.builders import make_channel, make_release
from wavegate.api import Phase, Reason, Severity, WaveState
from wavegate.evidence import Finding, Verdict
from wavegate.rollout import succession
from wavegate.rollout.attempt import WaveRun
from wavegate.rollout.record import Outcome
from wavegate.rollout.steps import Step

URGENT = {"maxSeverity": "Emergency"}


@pytest.fixture
def running(sim):
    """Release b is in its first wave, and c, which is newer, is there."""
    sim.publish("b", 2)
    sim.run(60, until=lambda: sim.record.rollout and sim.record.rollout.waves)
    assert sim.record.rollout.waves[-1].state is not WaveState.Passed
    return replace(sim.observe(), releases=(*sim.releases.values(), make_release("c", 3)))


def with_rollout(obs, **changes):
    rollout = replace(obs.record.rollout, **changes)
    return replace(obs, record=replace(obs.record, rollout=rollout))


def in_second_wave(obs):
    done = WaveRun("canary", state=WaveState.Passed, passed_at=1.0)
    return with_rollout(obs, waves=(done, WaveRun("all", ledger=1)))


def waiting(obs, **spec):
    return replace(obs, releases=(*obs.releases[:-1], make_release("c", 3, **spec)))


def successor(obs):
    found = succession.successor(obs, obs.record.rollout, 0.0)
    return found.name if found else ""


def test_in_the_first_wave_the_newest_takes_the_place(running):
    assert successor(running) == "c"
    assert succession.why_it_waits(running, paused=False) == "It takes the place of release b"


def test_past_the_first_wave_a_more_urgent_one_does(running):
    later = replace(in_second_wave(running), channel=make_channel(rollout=URGENT))
    assert successor(later) == ""
    assert successor(waiting(later, severity="Urgent")) == "c"


def test_what_waits_is_as_urgent_as_the_most_urgent_before_it(running):
    later = replace(in_second_wave(running), channel=make_channel(rollout=URGENT))
    urgent = waiting(later, severity="Emergency")
    both = replace(urgent, releases=(*urgent.releases, make_release("d", 4)))
    assert successor(both) == "d"


def test_as_urgent_is_not_more_urgent(running):
    plan = replace(running.record.rollout.plan, severity=Severity.Urgent)
    later = with_rollout(in_second_wave(running), plan=plan)
    later = replace(later, channel=make_channel(rollout=URGENT))
    assert successor(waiting(later, severity="Urgent")) == ""


def test_where_nothing_is_stable_no_later_wave_is_left_without_an_agent(running):
    later = replace(in_second_wave(running), channel=make_channel(rollout=URGENT))
    bare = replace(later, record=replace(later.record, stable=None))
    assert successor(waiting(bare, severity="Emergency")) == ""


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"paused": Reason.HoldTimeout}, "paused"),
        ({"promoting": True}, "becomes stable"),
        ({"phase": Phase.Pending}, "prepared"),
        ({"phase": Phase.Reverting}, "proven to be back"),
    ],
)
def test_what_keeps_the_running_one_is_said(running, changes, why):
    kept = with_rollout(running, **changes)
    assert successor(kept) == ""
    assert why in succession.why_it_waits(kept, paused=False)


def test_what_replaced_another_is_replaced_by_a_more_urgent_one_only(running):
    last = running.record.outcomes[0]
    taken = Outcome(
        "z", "uid-z", 1, "z", last.digest, Phase.Superseded, Reason.Replaced, "", 0.0, 0.0
    )
    record = replace(running.record, outcomes=(taken, *running.record.outcomes))
    again = replace(running, record=record, channel=make_channel(rollout=URGENT))
    assert successor(again) == ""
    assert successor(waiting(again, severity="Urgent")) == "c"


@pytest.mark.parametrize("blind", [{"blind": "nodes"}, {"unreadable": True}])
def test_who_sees_not_all_replaces_nothing(running, blind):
    assert successor(replace(running, **blind)) == ""


def test_a_suspended_channel_keeps_what_runs(running):
    assert successor(replace(running, channel=make_channel(suspend=True))) == ""


def test_harm_comes_first_so_that_it_blocks(running):
    harm = Finding(Verdict.FAIL, Reason.AgentRestarted, "the agent restarted", "canary-0")
    failing = Step(findings=(harm,))
    assert succession.replaced(running, running.record.rollout, failing, 0.0) is failing
    step = succession.replaced(running, running.record.rollout, Step(), 0.0)
    assert step.record.rollout.incident.reason is Reason.Replaced
    assert step.record.blocked == ()
