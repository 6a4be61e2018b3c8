"""A plan that runs only ever tightens."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.builders import make_channel, make_decision
from support.invariants import with_stable
from support.world import SimCluster
from wavegate.api import IntOrPercent, OnFailure
from wavegate.evidence import CheckSpec
from wavegate.rollout import channel_report, queue, report, transitions
from wavegate.rollout.attempt import Plan, PlannedWave
from wavegate.rollout.edits import differing, is_tighter, tightened

shares = st.builds(IntOrPercent, st.integers(1, 4), st.booleans())
seconds = st.sampled_from([0.0, 30.0, 60.0])
names = st.sampled_from(["canary", "all"])
limits = st.sampled_from([None, 0.0, 1.0, 2.0])
waves = st.builds(PlannedWave, names, st.just(("p",)), shares, seconds, st.booleans())
checks = st.builds(
    CheckSpec,
    st.just("errors"),
    st.sampled_from(["up", "down"]),
    per_node=st.just(True),
    node_label=st.just("node"),
    max=limits,
    min=limits,
    max_ratio=st.sampled_from([None, None, 2.0]),
    interval=st.just(30.0),
    timeout=st.just(10.0),
)
plans = st.builds(
    Plan,
    pools=st.just(()),
    waves=st.lists(waves, min_size=1, max_size=2).map(tuple),
    max_unavailable=shares,
    settle=seconds,
    critical_services=st.sampled_from([(), ("a/b",), ("c/d",), ("a/b", "c/d")]),
    progress_deadline=st.just(600.0),
    hold_timeout=st.sampled_from([600.0, 1_200.0]),
    on_failure=st.sampled_from(OnFailure),
    checks=st.lists(checks, max_size=1).map(tuple),
    bake=seconds,
)


@given(plans, plans)
def test_what_is_tightened_is_tighter_and_asks_for_no_more_the_second_time(plan, wanted):
    tighter = tightened(plan, wanted)
    assert is_tighter(plan, tighter)
    assert tightened(tighter, wanted) == tighter


@given(plans, plans, plans)
def test_tighter_is_an_order(first, wanted, last):
    second = tightened(first, wanted)
    third = tightened(second, last)
    assert is_tighter(first, first)
    assert is_tighter(first, third)
    assert second == first or not is_tighter(second, first)


@given(plans, plans)
def test_two_plans_that_are_as_tight_as_each_other_are_the_same(one, other):
    assert not (is_tighter(one, other) and is_tighter(other, one)) or one == other


@given(plans, plans)
def test_an_edit_that_is_taken_back_stays(plan, wanted):
    tighter = tightened(plan, wanted)
    assert tightened(tighter, plan) == tighter


@given(plans, plans)
def test_what_is_tighter_acts_as_a_whole_and_nothing_of_it_waits(plan, wanted):
    tighter = tightened(plan, wanted)
    assert list(differing(tightened(plan, tighter), tighter)) == []


@given(plans, plans, st.integers(1, 2))
def test_a_wave_that_is_open_keeps_its_share_and_approval(plan, wanted, opened):
    edited = tightened(plan, wanted, opened, opened - 1)
    for old, new in zip(plan.waves[:opened], edited.waves, strict=False):
        assert (old.up_to, old.approval) == (new.up_to, new.approval)
    assert is_tighter(plan, edited)


repeating = plans.map(
    lambda plan: replace(plan, waves=(replace(plan.waves[0], repeats=True), *plan.waves[1:]))
)


@given(repeating, plans)
def test_a_wave_that_comes_again_is_no_looser_and_is_edited_like_its_last(plan, wanted):
    twice = plan.with_again(0).with_again(1)
    assert [wave.name.rpartition("-")[2] for wave in twice.waves[1:3]] == ["2", "3"]
    assert not is_tighter(plan, twice)
    assert not is_tighter(twice, plan)
    edited = tightened(twice, wanted)
    assert is_tighter(twice, edited)
    assert tightened(edited, wanted) == edited


TIGHTER = [
    {"max_unavailable": IntOrPercent(1)},
    {"settle": 90.0},
    {"bake": 1e6},
    {"on_failure": OnFailure.Revert},
]
OTHER = [
    {"progress_deadline": 1.0},
    {"hold_timeout": 1.0},
    {"agents": "app=edr"},
    {"prometheus": "http://other"},
    {"pools": ()},
]
PLAN = replace(queue.freeze(make_channel()), on_failure=OnFailure.Pause)


@pytest.mark.parametrize("edit", TIGHTER)
def test_a_field_with_an_order_acts_one_way_only(edit):
    edited = replace(PLAN, **edit)
    assert tightened(PLAN, edited) == edited
    assert tightened(edited, PLAN) == edited
    assert is_tighter(PLAN, edited)
    assert not is_tighter(edited, PLAN)
    assert len(list(differing(edited, PLAN))) == 1


@pytest.mark.parametrize("edit", OTHER)
def test_a_field_without_an_order_waits(edit):
    edited = replace(PLAN, **edit)
    assert tightened(PLAN, edited) == PLAN
    assert not is_tighter(PLAN, edited)
    assert len(list(differing(PLAN, edited))) == 1


def test_a_share_and_a_number_are_not_compared_but_one_node_is_least():
    five, percent = IntOrPercent(5), IntOrPercent(5, is_percent=True)
    for old, new in ((five, percent), (percent, five)):
        plan = replace(PLAN, max_unavailable=old)
        assert tightened(plan, replace(plan, max_unavailable=new)) == plan
        assert tightened(plan, replace(plan, max_unavailable=IntOrPercent(1))) != plan


def test_limits_of_the_same_check_tighten_and_another_query_waits():
    check = CheckSpec("e", "up", True, "node", max=2.0, min=0.0, interval=30, timeout=10)
    plan = replace(PLAN, checks=(check,))
    tighter = replace(plan, checks=(replace(check, max=1.0, min=0.5),))
    assert tightened(plan, tighter) == tighter
    for other in (
        replace(check, query="down", max=1.0),
        replace(check, max=None),
        replace(check, max=3.0),
    ):
        assert tightened(plan, replace(plan, checks=(other,))) == plan
    assert tightened(plan, replace(plan, checks=())) == plan
    assert tightened(PLAN, plan) == PLAN  # a check that is added waits


# In flight


def edit(sim: SimCluster, **rollout) -> None:
    sim.channel = make_channel(rollout=rollout)


@pytest.fixture
def rolling(sim):
    sim.publish("b", 2)
    sim.run(60, until=lambda: bool(sim.record.rollout and sim.record.rollout.waves))
    return sim


def conditions(sim):
    obs = sim.observe()
    return {c["type"]: c for c in channel_report.channel_status(obs)["conditions"]}


def test_an_edit_in_flight_acts_if_it_tightens_and_else_is_shown(rolling):
    sim = rolling
    assert conditions(sim)["PlanCurrent"]["status"] == "True"
    before = sim.record.rollout.plan
    edit(sim, maxUnavailable=1, soak="20s", settle="9s")
    sim.run(3)
    plan = sim.record.rollout.plan
    assert (plan.max_unavailable, plan.settle) == (IntOrPercent(1), 9.0)
    assert [w.soak for w in plan.waves] == [w.soak for w in before.waves]
    said = conditions(sim)["PlanCurrent"]
    assert (said["status"], said["reason"]) == ("False", "PlanOutdated")
    assert "spec.waves[canary].soak" in said["message"]
    assert "maxUnavailable" not in said["message"]
    edit(sim)
    sim.run(3)
    assert sim.record.rollout.plan == plan
    assert "spec.rollout.maxUnavailable" in conditions(sim)["PlanCurrent"]["message"]


def test_a_lower_severity_than_at_the_start_makes_soaks_longer_and_a_higher_one_waits(make_sim):
    sim = with_stable(make_sim())
    edit(sim, soak=None, maxSeverity="Urgent")
    sim.publish("b", 2, severity="Urgent")
    sim.run(60, until=lambda: bool(sim.record.rollout and sim.record.rollout.waves))
    quick = [wave.soak for wave in sim.record.rollout.plan.waves]
    assert conditions(sim)["PlanCurrent"]["status"] == "True"
    edit(sim, soak=None)
    sim.run(3)
    slow = [wave.soak for wave in sim.record.rollout.plan.waves]
    assert all(a < b for a, b in zip(quick, slow, strict=True))
    edit(sim, soak=None, maxSeverity="Emergency")
    sim.run(3)
    assert [wave.soak for wave in sim.record.rollout.plan.waves] == slow


def test_a_blocked_digest_is_taken_back_whoever_blocked_it(rolling):
    sim = rolling
    sim.policies = "a dry run was not refused"
    sim.decisions.append(make_decision("stop", "b", "Block"))
    sim.run(200, until=lambda: sim.record.rollout is None)
    outcome = sim.record.outcomes[0]
    assert (outcome.phase, outcome.incident.reason) == ("Reverted", "DigestBlocked")
    [entry] = sim.record.blocked
    assert (entry.reason, entry.incident) == ("BlockedByDecision", "stop")


def test_a_digest_can_be_blocked_before_its_release_starts(sim):
    sim.channel = make_channel(suspend=True)
    sim.publish("b", 2)
    sim.run(3)
    sim.decisions.append(make_decision("stop", "b", "Block"))
    sim.run(3)
    sim.channel = make_channel()
    sim.run(30)
    assert sim.record.rollout is None
    sim.decisions.append(make_decision("again", "b", "Block"))
    sim.run(3)
    obs = sim.observe()
    said = report.decision_status(obs, sim.decisions[-1], sim.now)
    assert said["phase"] == "Refused"
    assert "already" in said["message"]


def test_the_table_of_states_lets_a_plan_only_tighten(make_sim):
    sim = with_stable(make_sim())
    sim.publish("b", 2)
    sim.run(5)
    old = sim.record
    for plan, fine in (({"settle": 99.0}, True), ({"settle": 0.0}, False)):
        rollout = replace(old.rollout, plan=replace(old.rollout.plan, **plan))
        assert (transitions.check(old, replace(old, rollout=rollout)) == "") is fine


def test_a_wave_that_is_open_keeps_its_nodes_and_the_next_one_waits_for_a_person(rolling):
    sim = rolling
    sim.run(30, until=lambda: sim.record.rollout.waves[-1].state == "Soaking")
    waves = [{**wave.dump(), "approval": "Required"} for wave in sim.channel.spec.waves]
    sim.channel = make_channel(waves=waves)
    sim.run(3)
    assert [wave.approval for wave in sim.record.rollout.plan.waves] == [False, True]
    said = conditions(sim)["PlanCurrent"]["message"]
    assert "spec.waves[canary].approval" in said
    sim.run(120)
    assert sim.record.rollout.waves[-1].state == "AwaitingApproval"
