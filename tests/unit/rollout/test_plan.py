"""Plans: pools, strata, zones, critical pools and the control plane, from the pure functions."""

import random
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.invariants import ended, phase_of, with_stable
from support.walks import POOLS, as_stored_before, channel, node, walk
from wavegate.rollout import queue
from wavegate.rollout.choice import NEVER, PREFERRED, spread
from wavegate.rollout.decide import decide
from wavegate.rollout.names import CANARY_LABEL
from wavegate.rollout.observation import CriticalWorkloads
from wavegate.rollout.strata import stratum_of

DEFAULT = ["first-node", "each-stratum", "25-percent", "half", "all"]


def names(walked):
    return [wave.name for wave in walked]


def taken(walked, name):
    return [n for wave in walked if wave.name == name for n in wave.nodes]


FLEETS = st.lists(
    st.builds(
        lambda *facts: facts,
        st.sampled_from(["web", "web", "data", "pay", "none"]),
        st.sampled_from(["6.12", "6.12", "6.18", "5.15"]),
        st.sampled_from(["", "a", "b", "c"]),
        st.sampled_from([False, False, False, True]),
        st.sampled_from(["", "", "", NEVER, PREFERRED]),
    ),
    min_size=1,
    max_size=60,
)
OWN_WAVES = [
    {"name": "one", "upTo": 1},
    {"name": "half", "upTo": "50%"},
    {"name": "all", "upTo": "100%"},
]


@settings(max_examples=150, deadline=None)
@given(FLEETS, st.sampled_from([[], OWN_WAVES]), st.randoms(use_true_random=False))
def test_each_node_comes_once_and_in_its_turn(fleet, waves, rng):
    nodes = [node(number, *facts) for number, facts in enumerate(fleet)]
    walked = walk(channel(waves=waves), nodes)
    came = [n.name for wave in walked for n in wave.nodes]
    assert sorted(came) == [n.name for n in nodes], "every node, and each once"
    shuffled = nodes[:]
    rng.shuffle(shuffled)
    again = walk(channel(waves=waves), shuffled)
    assert [(w.name, [n.name for n in w.nodes]) for w in again] == [
        (w.name, [n.name for n in w.nodes]) for w in walked
    ], "the order of what is listed decides nothing"
    soaked = set()
    for index, wave in enumerate(walked):
        fresh = Counter(stratum_of(n) for n in wave.nodes if stratum_of(n) not in soaked)
        assert index == 0 or all(count == 1 for count in fresh.values()), "one of a new stratum"
        soaked |= fresh.keys()
        if any(n.control_plane for n in wave.nodes):
            assert len(wave.nodes) == 1
        if index < 2 and not wave.name.startswith(("critical", "control", "no-pool", "rest")):
            assert not any(n.labels.get(CANARY_LABEL) == NEVER for n in wave.nodes)


@settings(max_examples=100, deadline=None)
@given(FLEETS)
def test_by_default_expensive_nodes_come_after_all_others(fleet):
    nodes = [node(number, *facts) for number, facts in enumerate(fleet)]
    stages = [_stage(n) for wave in walk(channel(), nodes) if _is_planned(wave) for n in wave.nodes]
    assert all(a <= b for a, b in pairwise(stages))


SERVING = st.lists(st.sets(st.integers(0, 59), min_size=1, max_size=12), max_size=3)


@settings(max_examples=150, deadline=None)
@given(FLEETS, SERVING)
def test_nothing_that_keeps_a_node_from_a_wave_lets_expensive_nodes_go_before_it(fleet, serving):
    """Small pools in steps, strata, labels of people, and at most a quarter of a workload."""
    nodes = [node(number, *facts) for number, facts in enumerate(fleet)]
    on = [frozenset(f"node-{n:05d}" for n in places if n < len(nodes)) for places in serving]
    workloads = CriticalWorkloads({f"a/{n}": names for n, names in enumerate(on) if names})
    walked = walk(channel(), nodes, workloads)
    dear = [max(0, _stage(n) - 1) for wave in walked for n in wave.nodes]
    assert all(a <= b for a, b in pairwise(dear))
    for wave in walked:
        held = {n.name for n in wave.nodes}
        assert all(len(held & names) <= max(1, len(names) // 4) for names in on)


def _is_planned(wave):
    return not wave.name.startswith(("rest", "last"))


def _stage(n):
    if n.control_plane:
        return 3
    return {"pay": 2, "none": 1}.get(n.labels["pool"], 0)


def mixed(count, kernels=3, zones=3):
    rng = random.Random(count)  # noqa: S311
    return [
        node(n, rng.choice(["web", "data"]), f"6.{rng.randrange(kernels)}", f"z{n % zones}")
        for n in range(count)
    ]


@pytest.mark.parametrize(
    ("count", "wanted"),
    [
        (1, [1, 0, 0, 0, 0]),
        (3, [1, 0, 0, 1, 1]),
        (12, [1, 0, 2, 3, 6]),
        (200, [1, 0, 49, 50, 100]),
        (5_000, [1, 0, 1249, 1250, 2500]),
    ],
)
def test_the_default_plan_of_fleets_of_one_kind(count, wanted):
    walked = walk(channel(), [node(n) for n in range(count)])
    assert names(walked) == DEFAULT
    assert [len(wave.nodes) for wave in walked] == wanted


@pytest.mark.parametrize("count", [12, 200, 5_000])
def test_each_kind_of_machine_has_its_first_node_early(count):
    walked = walk(channel(), mixed(count))
    strata = [stratum_of(n) for wave in walked[:3] for n in wave.nodes]
    assert len(set(strata)) == 3
    assert len(taken(walked, "each-stratum")) == (1 if count == 12 else 2)


def test_at_most_five_percent_are_tried_at_once_for_their_strata():
    walked = walk(channel(), [node(n, kernel=f"6.{n % 40}") for n in range(200)])
    assert len(taken(walked, "each-stratum")) == 9  # 5 %, the first node counts
    assert len({n.kernel for wave in walked[:3] for n in wave.nodes}) == 40


def test_what_no_pool_selects_then_critical_pools_then_the_control_plane_come_last():
    nodes = [node(n) for n in range(10)] + [node(n, "pay") for n in range(10, 17)]
    nodes += [node(17, "none"), node(18, "pay", master=True), node(19, "none", master=True)]
    walked = walk(channel(), nodes)
    assert names(walked)[5:] == [
        "no-pool",
        "critical-first",
        "critical-half",
        "critical-all",
        "control-plane-1",
        "control-plane-2",
    ]
    assert [len(wave.nodes) for wave in walked[5:]] == [1, 1, 3, 3, 1, 1]


def test_the_rest_of_a_small_pool_comes_before_critical_pools():
    nodes = [node(n) for n in range(40)] + [node(40 + n, "data") for n in range(9)]
    nodes += [node(50 + n, "pay") for n in range(3)] + [node(60, master=True)]
    walked = walk(channel(), nodes)
    assert names(walked)[4:] == [
        "all",
        "all-2",
        "all-3",
        "all-4",
        "critical-first",
        "critical-half",
        "critical-all",
        "control-plane-1",
    ]
    assert steps(walked, "data")[4:8] == [3, 2, 1, 1]


def test_the_rest_of_a_stratum_that_no_pool_selects_comes_before_critical_pools():
    nodes = [node(n) for n in range(20)] + [node(20 + n, "none", "6.18") for n in range(5)]
    walked = walk(channel(), [*nodes, node(30, "pay")])
    found = {wave.name: len(wave.nodes) for wave in walked[5:]}
    assert found == {
        "no-pool": 1,
        "no-pool-2": 4,
        "critical-first": 1,
        "critical-half": 0,
        "critical-all": 0,
    }


def test_the_rest_of_a_critical_pool_comes_before_the_control_plane():
    nodes = [node(n) for n in range(20)] + [node(20 + n, "pay") for n in range(7)]
    served = CriticalWorkloads({"a/b": frozenset(n.name for n in nodes[20:])})
    walked = walk(channel(), [*nodes, node(30, master=True)], served)
    names_of = [wave.name for wave in walked if any(_stage(n) == 2 for n in wave.nodes)]
    assert names_of[2:] == ["critical-all", *(f"critical-all-{n}" for n in range(2, 6))]
    assert names(walked)[-1] == "control-plane-1"


def test_where_nothing_is_expensive_no_wave_comes_again():
    nodes = [node(n) for n in range(40)] + [node(40 + n, "data") for n in range(9)]
    walked = walk(channel(), nodes)
    assert names(walked) == [*DEFAULT, "rest-1", "rest-2", "last-1"]


def test_waves_of_ones_own_do_not_come_again():
    """Their number is what people wrote."""
    nodes = [node(n) for n in range(10)] + [node(10 + n, kernel="6.18") for n in range(5)]
    own = [{"name": "one", "upTo": 1}, {"name": "all", "upTo": "100%"}]
    walked = walk(channel(waves=own), [*nodes, node(20, master=True)])
    assert names(walked) == ["one", "all", "control-plane-1", "rest-1"]


def test_a_plan_that_was_frozen_by_an_earlier_version_keeps_its_meaning():
    """Its waves do not say that they repeat."""
    nodes = [node(n) for n in range(40)] + [node(40 + n, "data") for n in range(9)]
    nodes += [node(50 + n, "pay") for n in range(3)]
    walked = walk(channel(), nodes, frozen=as_stored_before)
    ends = ["critical-first", "critical-half", "critical-all", "rest-1", "rest-2", "last-1"]
    assert names(walked) == [*DEFAULT, *ends]


def test_who_joined_since_does_not_keep_critical_nodes_waiting():
    """A sweep takes them at the end. It takes none along either: each wave that comes again takes
    one at least of those that were there, so it ends.
    """
    nodes = [node(n) for n in range(40)] + [node(40 + n, "data") for n in range(5)]
    late = [replace(node(50 + n, "data"), created=2.0) for n in range(4)]
    walked = walk(channel(), [*nodes, *late, node(60, "pay")])
    joined = {n.name for n in late}
    again = [n.name for wave in walked if "all-" in wave.name for n in wave.nodes]
    assert again
    assert not joined & {*again}
    dear = next(i for i, wave in enumerate(walked) if any(_stage(n) == 2 for n in wave.nodes))
    after = {n.name for wave in walked[dear + 1 :] for n in wave.nodes}
    assert after <= joined


def test_a_critical_pool_that_overlaps_an_ordinary_one_has_its_own_steps():
    """As where one pool takes all workers, and another those of them that are expensive."""
    workers = {"name": "workers", "selector": {}}
    pools = [workers, {**POOLS[2], "selector": {"matchLabels": {"pool": "pay"}}}]
    fleet = [node(i) for i in range(20)] + [node(20 + i, "pay") for i in range(40)]
    walked = walk(channel(pools=pools), fleet)
    found = {w.name: len(w.nodes) for w in walked if any(_stage(n) == 2 for n in w.nodes)}
    assert found == {"critical-first": 1, "critical-half": 19, "critical-all": 20}


def test_a_wave_that_names_a_critical_pool_takes_it_when_its_user_says_so():
    waves = [{"name": "pay", "pools": ["pay"], "upTo": "100%"}, {"name": "all", "upTo": "100%"}]
    walked = walk(channel(waves=waves), [node(n, "pay") for n in range(3)] + [node(9)])
    assert [(wave.name, len(wave.nodes)) for wave in walked] == [("pay", 3), ("all", 1)]


def test_a_wave_of_nothing_but_control_plane_nodes_leaves_them_to_the_end():
    waves = [{"name": "data", "pools": ["data"], "upTo": "100%"}, {"name": "all", "upTo": "100%"}]
    nodes = [node(n, "data", master=True) for n in range(2)] + [node(9)]
    walked = walk(channel(waves=waves), nodes)
    assert [(wave.name, len(wave.nodes)) for wave in walked] == [
        ("data", 0),
        ("all", 1),
        ("control-plane-1", 1),
        ("control-plane-2", 1),
    ]


def test_zones_take_turns():
    nodes = [node(n, zone="a") for n in range(4)] + [node(9, zone="b"), node(10, zone="c")]
    assert [n.zone for n in spread(nodes)] == ["a", "b", "c", "a", "a", "a"]


def test_people_say_who_is_a_canary_and_who_is_spared():
    nodes = [node(n, label=NEVER) for n in range(9)] + [node(9), node(10, label=PREFERRED)]
    walked = walk(channel(), nodes)
    assert [n.name for n in taken(walked, "first-node")] == ["node-00010"]
    assert taken(walked, "each-stratum") == []
    assert len(taken(walked, "all")) == 5


def steps(walked, pool):
    return [sum(n.labels["pool"] == pool for n in wave.nodes) for wave in walked]


@given(st.integers(1, 9), st.integers(2, 60))
@settings(max_examples=60, deadline=None)
def test_a_small_pool_goes_one_one_and_then_by_halves(small, large):
    nodes = [node(n, "data") for n in range(small)] + [node(100 + n) for n in range(large)]
    walked = walk(channel(), nodes)
    left = small
    for wave, count in zip(walked, steps(walked, "data"), strict=True):
        had = small - left
        if not wave.name.startswith("last"):
            assert count <= (1 if had < 2 else max(1, left // 2))
        left -= count
    if small == 1:
        assert walked[0].nodes[0].labels["pool"] == "web", "a larger pool is first"


@pytest.mark.parametrize(
    ("fleet", "alone"),
    [
        ([node(1)], True),
        ([node(1), node(2, "data")], True),
        ([node(1), node(2)], False),
        ([node(1), node(2, "none"), node(3, "none")], False),
        ([node(1), node(2, master=True)], True),
        ([], False),
    ],
)
def test_where_no_pool_has_two_nodes_a_person_is_asked(fleet, alone):
    first = queue.freeze(channel(), nodes=fleet).waves[0]
    assert first.approval is first.no_canary is alone
    own = [{"name": "all", "upTo": "100%"}]
    assert not queue.freeze(channel(waves=own), nodes=fleet).waves[0].approval, (
        "its user has decided"
    )


def test_who_spares_all_nodes_is_told_so(make_sim):
    sim = make_sim()
    for machine in sim.nodes.values():
        machine.labels[CANARY_LABEL] = NEVER
    sim.publish("a", 1)
    sim.run(20)
    obs = sim.observe()
    said = " ".join(finding.message for finding in decide(obs, sim.now).findings)
    assert "no healthy node is there for wave canary" in said
    assert f"5 spared by label {CANARY_LABEL}: never" in said
    assert sim.record.rollout.waves[-1].nodes == 0


def test_a_second_wave_of_nothing_but_spared_nodes_leaves_them_to_a_sweep(make_sim):
    """Who spares all but the canaries means: after them. A first wave without a node is held."""
    sim = make_sim(canaries=2)
    for name, machine in sim.nodes.items():
        if name.startswith("workers"):
            machine.labels[CANARY_LABEL] = NEVER
    sim = with_stable(sim)
    sim.publish("b", 2)
    sim.run(900, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Completed", "Completed")
    waves = [(w.name, w.nodes) for w in sim.record.outcomes[0].waves]
    assert waves == [("canary", 2), ("all", 0), ("rest-1", 4)]
