"""Waves that come again: no dead end, not for ever, and nothing else lets a plan grow."""

from dataclasses import replace

import pytest

from support.invariants import ended
from support.walks import as_stored_before, begun, channel, moved, node, walk
from support.world import SimCluster
from wavegate.api import WaveState
from wavegate.rollout import transitions, waves
from wavegate.rollout.observation import CriticalWorkloads

POOLS = [
    {"name": p, "selector": {"matchLabels": {"pool": p}}, "critical": p == "pay"}
    for p in ("canary", "workers", "pay")
]


def current(sim):
    rollout = sim.record.rollout
    return rollout.waves[-1] if rollout and rollout.waves else None


def _soaks(sim, name):
    wave = current(sim)
    return wave is not None and (wave.name, wave.state) == (name, WaveState.Soaking)


@pytest.fixture
def serving(make_sim, monkeypatch):
    """All four nodes of one pool serve a workload, which a drain leaves there (a DaemonSet)."""
    known = SimCluster.observe

    def observe(sim):
        obs = known(sim)
        on = frozenset(n.name for n in sim.nodes.values() if sim.is_ready(n) and n.name in sim_on)
        nodes = {"ingress/admission": on} if on else {}
        return replace(obs, critical=replace(obs.critical, nodes=nodes))

    sim_on = set()
    monkeypatch.setattr(SimCluster, "observe", observe)
    sim = make_sim(canaries=12, pools=POOLS, waves=[], rollout={"holdTimeout": "5m"})
    sim_on |= set(sim.add_nodes("workers", 7))
    sim.add_nodes("pay", 2)
    sim.publish("a", 1)
    sim.run(1200, until=ended(sim, "a"))
    return sim


@pytest.mark.parametrize("repeats", [True, False])
def test_a_wave_that_comes_again_is_no_dead_end_when_its_only_node_is_rebooted_as_announced(
    serving, monkeypatch, repeats
):
    """Of a workload that a drain leaves there one node stands in each wave. Swept (the second case,
    as before these waves came again) it goes on.
    """
    sim = serving
    name = "all-2" if repeats else "rest-1"
    if not repeats:
        monkeypatch.setattr(waves, "_comes_again", lambda *_: False)
    sim.publish("b", 2)
    sim.run(1200, until=lambda: _soaks(sim, name))
    ledger = sim.ledgers[(sim.record.rollout.attempt, current(sim).ledger)]
    (one,) = [entry.name for entry in ledger.nodes]
    sim.nodes[one].unschedulable = True
    sim.run(1)
    sim.revive(one)  # a fast reboot: it was Ready all the time
    sim.tick()
    sim.nodes[one].unschedulable = False
    sim.run(600)
    rollout = sim.record.rollout
    assert rollout is None or rollout.paused is None


def _at_no_pool_2():
    """Two nodes that no pool selects: one has the release, and the other is left."""
    nodes = [node(n) for n in range(12)] + [node(20, "none"), node(21, "none"), node(30, "pay")]
    served = CriticalWorkloads({"a/b": frozenset(["node-00020", "node-00021"])})
    obs, rollout = begun(channel(), nodes, served)
    for _ in range(20):
        planned = rollout.planned
        chosen = waves.choose(obs, rollout, planned)[0]
        if planned.name == "no-pool-2":
            return obs, rollout, chosen
        obs, rollout = moved(obs, rollout, chosen)
        rollout = waves.next_wave(obs, rollout)
        obs = replace(obs, record=replace(obs.record, rollout=rollout))
    raise AssertionError([w.name for w in rollout.waves])


def test_a_wave_that_comes_again_is_over_when_its_last_node_is_gone_before_it_opened():
    """And the other one was rebooted as announced since its wave passed, so it is excused."""
    obs, rollout, (left,) = _at_no_pool_2()
    (other,) = {"node-00020", "node-00021"} - {left.name}
    rollout = replace(rollout, excused={other: "mark"})
    nodes = {name: n for name, n in obs.nodes.items() if name != left.name}
    obs = replace(obs, nodes=nodes, record=replace(obs.record, rollout=rollout))
    assert waves.left_behind(obs, rollout, rollout.planned) == []
    chosen, lacking = waves.choose(obs, rollout, rollout.planned)
    assert chosen == []
    assert lacking == 0  # else it is held, and in the end a person is asked about nothing


def _rolling(count=3):
    nodes = [node(n) for n in range(12)] + [node(30, "pay")]
    obs, rollout = begun(channel(), nodes, CriticalWorkloads())
    for _ in range(count):
        rollout = rollout.with_wave(state=WaveState.Passed, nodes=1, moved=1, passed_at=1.0)
        rollout = rollout.with_next_wave()
    return replace(obs.record, rollout=rollout), rollout


@pytest.mark.parametrize("passed", [2, 6])
def test_a_wave_comes_again_only_when_it_has_passed_and_is_the_newest(passed):
    """Not while an earlier one is under way; nor later, when it would shift the plan under waves
    that have run.
    """
    record, rollout = _rolling(passed)
    place = next(i for i, w in enumerate(rollout.plan.waves) if w.name == "all")
    grown = replace(rollout, plan=rollout.plan.with_again(place))
    assert transitions.check(record, replace(record, rollout=grown))


def test_waves_do_not_come_again_several_times_at_once():
    record, rollout = _rolling(4)
    rollout = rollout.with_wave(state=WaveState.Passed, nodes=1, moved=1, passed_at=1.0)
    record = replace(record, rollout=rollout)
    plan = rollout.plan
    for place in range(4, 9):
        plan = plan.with_again(place)
    grown = replace(rollout, plan=plan).with_next_wave()
    assert transitions.check(record, replace(record, rollout=grown))


def test_the_one_that_is_allowed():
    record, rollout = _rolling(4)
    rollout = rollout.with_wave(state=WaveState.Passed, nodes=1, moved=1, passed_at=1.0)
    grown = replace(rollout, plan=rollout.plan.with_again(4)).with_next_wave()
    assert grown.waves[-1].name == "all-2"
    record = replace(record, rollout=rollout)
    assert not transitions.check(record, replace(record, rollout=grown))


def test_what_is_left_after_so_many_times_is_swept():
    """One node of each pair serves the same workload, which is on all nodes."""
    nodes = [node(n) for n in range(30)] + [node(90, "pay")]
    on = [f"node-{n:05}" for n in range(30)]
    pairs = {f"a/{x}-{y}": frozenset((x, y)) for x in on for y in on if x < y}
    names = [wave.name for wave in walk(channel(), nodes, CriticalWorkloads(pairs))]
    again = [name for name in names if name.startswith("all-")]
    assert again == [f"all-{n}" for n in range(2, waves.MAX_AGAIN + 2)]
    assert names.index("critical-all") < names.index("rest-1")


def test_a_sweep_does_not_count_the_control_plane_as_nodes_of_a_small_pool():
    """Nine ordinary nodes and one of the control plane are no pool of ten."""
    nodes = [node(n) for n in range(40)] + [node(40 + n, "data") for n in range(9)]
    walked = walk(channel(), [*nodes, node(60, "data", master=True)], frozen=as_stored_before)
    swept = [len(w.nodes) for w in walked if w.name.startswith(("rest", "last"))]
    assert swept == [2, 1, 1]
