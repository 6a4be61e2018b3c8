"""The plan that is shown before anything starts."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.builders import make_channel, make_release
from support.invariants import with_stable
from support.planned import node, observed
from wavegate.rollout import forecast, report
from wavegate.rollout.forecast import least_moving
from wavegate.rollout.kept import Kept
from wavegate.rollout.names import CANARY_LABEL
from wavegate.rollout.templates import HOSTNAME

NEXT = make_release("b", 2)


def test_a_plan_is_shown_before_anything_starts_also_when_all_is_suspended():
    held = make_release("b", 2, suspend=True)
    for release, suspend in ((NEXT, True), (held, False), (held, True)):
        obs = observed([node(i) for i in range(20)], release, suspend=suspend)
        plan = report.channel_status(obs)["plan"]
        assert plan["release"] == "b"
        assert plan["nodes"] == sum(wave["nodes"] for wave in plan["waves"]) == 20
        assert plan["waves"][0]["summary"] == "1 node, 10m soak"
        assert len(plan["waves"][0]["first"]) == 1


def test_without_a_release_counts_are_shown_and_no_names():
    plan = forecast.plan(observed([node(i) for i in range(20)]))
    assert plan["nodes"] == 20
    assert "release" not in plan
    assert not any("first" in wave for wave in plan["waves"])


def test_nodes_that_no_wave_takes_are_named_with_the_cause():
    nodes = [node(i) for i in range(10)]
    nodes += [node(10, ready=False), node(11, unschedulable=True), node(12, labels={HOSTNAME: "n"})]
    nodes += [node(13, labels={HOSTNAME: "n"})]
    later = forecast.plan(observed(nodes, NEXT))["later"]
    assert any("not Ready" in line and "node-10" in line for line in later)
    assert any("cordoned" in line and "node-11" in line for line in later)
    assert any("can't be moved" in line and "node-12" in line for line in later)


def test_a_plan_says_what_it_cannot_see():
    said = " ".join(forecast.plan(observed([node(1)], NEXT))["blindSpots"])
    for words in ("not proven", "workload harm is not observed", "no control group"):
        assert words in said


def test_a_node_that_people_spare_is_in_no_early_wave():
    nodes = [node(i, labels={CANARY_LABEL: "never"}) for i in range(20)] + [node(20)]
    plan = forecast.plan(observed(nodes, NEXT))
    assert plan["waves"][0]["first"] == ["node-20"]


def test_a_large_fleet_is_planned_once_a_minute_and_a_quiet_one_not_again():
    obs = observed([node(i) for i in range(300)], NEXT)
    first = forecast.plan(obs)
    assert forecast.plan(obs) is first
    more = replace(obs, nodes={**obs.nodes, "x": node(999, name="x")}, seen_at=30.0)
    assert forecast.plan(more) is first
    assert forecast.plan(replace(more, seen_at=61.0))["nodes"] == 301
    assert forecast.plan(replace(more, kept=Kept()))["nodes"] == 301


def test_a_plan_of_five_thousand_nodes_with_long_names_stays_small():
    nodes = [node(i, name=f"{i:05d}".ljust(63, "n"), ready=i % 7 > 0) for i in range(5_000)]
    plan = forecast.plan(observed(nodes, NEXT))
    assert plan["nodes"] == 5_000
    assert len(json.dumps(plan)) < 8_192


@given(st.integers(0, 400), st.integers(0, 50), st.integers(1, 60))
def test_moving_takes_no_less_than_the_exposure_rule_lets(count, settled, most):
    seconds = least_moving(count, settled, most, 60.0)
    assert seconds >= 60.0 * -(-count // most)
    assert seconds <= 60.0 * count
    assert least_moving(count, settled + 1, most, 60.0) <= seconds


def test_nodes_double_until_max_unavailable():
    assert least_moving(1 + 1 + 2 + 4 + 4, 0, 4, 60.0) == 300.0


@pytest.mark.parametrize("workers", [4, 20])
def test_no_rollout_is_faster_than_its_plan_and_the_nodes_are_the_same(make_sim, workers):
    sim = with_stable(make_sim(workers=workers, rollout={"maxUnavailable": 3}))
    sim.channel = make_channel(suspend=True, rollout={"maxUnavailable": 3})
    sim.publish("b", 2)
    sim.run(3)
    plan = forecast.plan(sim.observe())
    waves = {wave["name"]: wave for wave in plan["waves"]}
    sim.channel = make_channel(rollout={"maxUnavailable": 3})
    began = sim.now
    taken = []
    sim.run(60, until=lambda: bool(sim.observe().ledgers))
    taken.append([n.name for n in sim.observe().ledgers[0].nodes])
    sim.run(3_000, until=lambda: sim.record.rollout is None)
    took, outcome = sim.now - began, sim.record.outcomes[0]
    assert [(w.name, w.nodes) for w in outcome.waves] == [
        (name, wave["nodes"]) for name, wave in waves.items()
    ]
    assert taken[0][: forecast.FIRST] == waves["canary"]["first"]
    seconds = forecast.Duration.parse(plan["least"])
    assert seconds <= took <= 4 * seconds
