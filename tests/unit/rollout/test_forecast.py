"""The plan that is shown before anything starts."""

import json
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.builders import make_channel, make_release
from support.invariants import with_stable
from support.planned import node, observed
from support.walks import walk
from wavegate.rollout import channel_report, forecast, waves, workloads
from wavegate.rollout.forecast import least_moving
from wavegate.rollout.kept import Kept
from wavegate.rollout.names import CANARY_LABEL
from wavegate.rollout.observation import CriticalWorkloads
from wavegate.rollout.templates import HOSTNAME

NEXT = make_release("b", 2)
LATER = (
    r"a wave takes .*, so it comes (?:in wave (\S+)|in a sweep after the waves), not in (\S+): (.*)"
)


def test_a_plan_is_shown_before_anything_starts_also_when_all_is_suspended():
    held = make_release("b", 2, suspend=True)
    for release, suspend in ((NEXT, True), (held, False), (held, True)):
        obs = observed([node(i) for i in range(20)], release, suspend=suspend)
        plan = channel_report.channel_status(obs)["plan"]
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


def test_a_plan_says_that_a_first_release_can_t_drill_the_way_back():
    wanted = {"rollout": {"drill": "Always"}}
    said = " ".join(forecast.plan(observed([node(1)], NEXT, **wanted))["blindSpots"])
    assert "the way back is not drilled: nothing is stable yet" in said
    said = " ".join(forecast.plan(observed([node(1)], NEXT))["blindSpots"])
    assert "drilled" not in said


def test_nodes_of_critical_workloads_are_named_with_the_wave_in_which_they_come():
    nodes = [node(i, kernel="6.0") for i in range(40)]
    on = [n.name for n in nodes[:6]]
    obs = observed(nodes, NEXT, served={"kube-system/kube-dns": on})
    plan = forecast.plan(obs)
    said = [line for line in plan["later"] if "kube-dns" in line]
    assert said
    for line in said:
        assert line.startswith("a wave takes 1 of the 6 nodes of kube-system/kube-dns, so it comes")
        assert any(name in line for name in on)
    taken = sum(wave["nodes"] for wave in plan["waves"])
    assert any("sweep after the waves, not in all" in line for line in said) is (taken < 40)
    free = forecast.plan(observed(nodes, NEXT))
    assert "later" not in free, "nobody is moved where nothing critical runs"


def test_many_critical_workloads_leave_the_list_of_causes_short():
    nodes = [node(i, kernel="6.0") for i in range(60)]
    served = {f"a/web-{i}": [f"node-{(i * 2 + k) % 60}" for k in range(9)] for i in range(30)}
    plan = forecast.plan(observed(nodes, NEXT, served=served))
    assert len(plan["later"]) <= 8
    assert any("more come later because of critical workloads" in line for line in plan["later"])


FLEETS = st.lists(
    st.tuples(
        st.sampled_from(["6.12", "6.12", "6.18"]),
        st.sampled_from(["a", "b", ""]),
        st.sampled_from([False] * 9 + [True]),
    ),
    min_size=1,
    max_size=40,
)
PLACES = st.dictionaries(
    st.sampled_from(["kube-system/kube-dns", "policy/webhook", "a/b"]),
    st.frozensets(st.integers(0, 39), min_size=1),
)


@settings(max_examples=100, deadline=None)
@given(FLEETS, PLACES, st.integers(0, 45))
def test_the_plan_that_is_shown_is_the_plan_that_is_kept(fleet, places, own):
    """Wave by wave as many nodes, and the same first ones, whatever runs on them; and who is said
    to come in another wave comes in it.
    """
    nodes = [
        node(i, kernel=kernel, zone=zone, control_plane=master)
        for i, (kernel, zone, master) in enumerate(fleet)
    ]
    served = {name: [f"node-{i}" for i in on] for name, on in places.items()}
    obs = replace(observed(nodes, NEXT, served=served), own_node=f"node-{own}")
    plan = forecast.plan(obs)
    walked = walk(obs.channel, nodes, obs.critical, obs.own_node)
    kept = {wave.name: [n.name for n in wave.nodes] for wave in walked}
    for place, wave in enumerate(plan["waves"]):
        assert wave["nodes"] == len(kept[wave["name"]])
        named = kept[wave["name"]][: forecast.FIRST] if place < forecast.NAMING else []
        assert wave.get("first", []) == named
    lines = (re.fullmatch(LATER, line) for line in plan.get("later", ()))
    for came, not_in, names in (line.groups() for line in lines if line):
        for name in re.findall(r"node-\d+", names):
            assert name not in kept[not_in]
            assert came is None or name in kept[came]


def test_a_plan_shows_waves_that_come_again_before_expensive_nodes():
    """Every node that is there counts as one of the beginning, whenever it joined."""
    nodes = [node(i, kernel="6.0", created=1e9) for i in range(7)]
    plan = forecast.plan(observed([*nodes, node(7, control_plane=True)], NEXT))
    found = {wave["name"]: wave["nodes"] for wave in plan["waves"]}
    assert found["all-2"] == 1
    assert sum(found.values()) == 8
    assert list(found)[-1] == "control-plane-1"
    assert "later" not in plan


def test_what_is_not_known_of_critical_workloads_is_a_blind_spot():
    obs = observed([node(1), node(2)], NEXT)
    assert "critical workloads" not in " ".join(forecast.plan(obs)["blindSpots"])
    obs = replace(obs, critical=CriticalWorkloads())
    assert "not read yet where critical" in " ".join(forecast.plan(obs)["blindSpots"])
    failed = CriticalWorkloads({}, 0.0, workloads.services_of(obs.channel), "", "forbidden")
    obs = replace(obs, critical=failed)
    assert "no wave would open (WorkloadsUnseen)" in " ".join(forecast.plan(obs)["blindSpots"])


def test_a_node_that_people_spare_is_in_no_early_wave():
    nodes = [node(i, labels={CANARY_LABEL: "never"}) for i in range(20)] + [node(20)]
    plan = forecast.plan(observed(nodes, NEXT))
    assert plan["waves"][0]["first"] == ["node-20"]


def looked_at(obs):
    """The plan after as many looks as it takes."""
    while forecast.is_under_way(obs):
        obs = replace(obs, kept=Kept())  # as of a channel where nothing is under way
    return forecast.plan(obs)


def test_a_large_fleet_is_planned_once_a_minute_and_a_quiet_one_not_again():
    obs = observed([node(i) for i in range(300)], NEXT)
    first = looked_at(obs)
    assert looked_at(replace(obs)) is first
    more = replace(obs, nodes={**obs.nodes, "x": node(999, name="x")}, at=30.0)
    assert looked_at(more) is first
    later = replace(more, at=61.0)
    assert forecast.plan(later) is first  # until the newer one is complete
    assert looked_at(later)["nodes"] == 301
    assert looked_at(replace(more, shown=Kept()))["nodes"] == 301


def test_no_look_at_a_large_fleet_works_out_more_than_one_wave(monkeypatch):
    nodes = [node(i) for i in range(1_000)]
    whole = looked_at(observed(nodes[:200], NEXT))
    assert not forecast.is_under_way(observed(nodes[:200], NEXT))
    asked = []
    choose, passed = waves.in_turn, forecast._passed
    monkeypatch.setattr(waves, "in_turn", lambda *of: asked.append("choose") or choose(*of))
    monkeypatch.setattr(forecast, "_passed", lambda *of: asked.append(len(of[2])) or passed(*of))
    obs, looks = observed(nodes, NEXT), 0
    while forecast.is_under_way(obs):
        assert forecast.plan(obs) is None
        large = [what for what in asked if what == "choose" or what > forecast.LARGE]
        assert len(large) <= 1, asked
        asked.clear()
        obs, looks = replace(obs), looks + 1
    assert [wave["name"] for wave in forecast.plan(obs)["waves"]] == [
        wave["name"] for wave in whole["waves"]
    ]
    assert looks == 9  # the start, five choices, three large waves that pass


def test_a_step_that_fails_is_no_endless_one(monkeypatch):
    obs = observed([node(i) for i in range(300)], NEXT)
    assert forecast.is_under_way(obs)
    with monkeypatch.context() as broken:
        broken.setattr(waves, "in_turn", lambda *_: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            forecast.plan(replace(obs))
    assert not forecast.is_under_way(replace(obs))
    later = replace(obs, at=100.0, nodes=dict(obs.nodes))
    assert looked_at(later)["nodes"] == 300


def test_what_is_worked_out_in_steps_is_of_one_moment():
    obs = observed([node(i) for i in range(300)], NEXT)
    assert forecast.is_under_way(obs)
    fewer = replace(obs, nodes=dict(list(obs.nodes.items())[:250]))
    assert looked_at(fewer) == looked_at(observed([node(i) for i in range(300)], NEXT))


def test_a_plan_of_five_thousand_nodes_with_long_names_stays_small():
    nodes = [node(i, name=f"{i:05d}".ljust(63, "n"), ready=i % 7 > 0) for i in range(5_000)]
    plan = looked_at(observed(nodes, NEXT))
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


def test_a_wave_that_would_be_held_for_want_of_a_node_says_so():
    """Nothing is shown that the rollout would do otherwise."""
    spared = [node(i, labels={CANARY_LABEL: "never"}) for i in range(20)]
    first = forecast.plan(observed(spared, NEXT))["waves"][0]
    assert first["summary"].startswith("no node may be taken now, so it is held: 20 spared by")
    ill = [node(i, ready=False) for i in range(20)]
    assert "so it is held" in forecast.plan(observed(ill, NEXT))["waves"][0]["summary"]
    alike = [node(i, kernel="6.1") for i in range(20)]
    second = forecast.plan(observed(alike, NEXT))["waves"][1]
    assert second["summary"] == "no node", "it passes at once: no kind of machine is left to try"
