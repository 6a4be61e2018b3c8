"""Critical workloads: how many of their nodes a ledger may hold, from the pure functions."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.builders import make_channel
from support.walks import begun, walk
from wavegate.api import Phase, Reason, WaveState
from wavegate.evidence import Ledger, LedgerNode, NodeView
from wavegate.rollout import queue, waves, workloads
from wavegate.rollout.decide import decide
from wavegate.rollout.observation import CriticalWorkloads
from wavegate.rollout.strata import code_of

DNS = "kube-system/kube-dns"
POOLS = [
    {"name": "web", "selector": {"matchLabels": {"pool": "web"}}},
    {"name": "pay", "selector": {"matchLabels": {"pool": "pay"}}, "critical": True},
]
ONE_WAVE = [{"name": "all", "upTo": "100%"}]


def channel(waves=(), **rollout):
    return make_channel(pools=POOLS, waves=list(waves), rollout=rollout)


def node(number, pool="web", kernel="6.12", *, master=False):
    name = f"node-{number:03d}"
    return NodeView(
        name,
        f"uid-{number}",
        f"boot-{number}",
        ready=True,
        labels={"kubernetes.io/hostname": name, "pool": pool},
        kernel=kernel,
        control_plane=master,
    )


def runs_on(numbers, name=DNS):
    return CriticalWorkloads({name: frozenset(f"node-{number:03d}" for number in numbers)})


def held(walked, critical, name=DNS):
    return [len(critical.nodes[name] & {n.name for n in wave.nodes}) for wave in walked]


@pytest.mark.parametrize(
    ("count", "most"), [(1, 1), (2, 1), (3, 1), (4, 1), (7, 1), (8, 2), (11, 2), (12, 3), (40, 10)]
)
def test_a_wave_over_all_nodes_holds_a_quarter_of_a_workloads_and_the_rest_comes_later(count, most):
    critical = runs_on(range(count))
    walked = walk(channel(ONE_WAVE), [node(n) for n in range(50)], critical)
    assert held(walked, critical)[0] == most
    assert len(walked[0].nodes) == 50 - count + most, "what serves none of it is not left out"
    assert sum(held(walked, critical)) == count
    assert not any(
        critical.nodes[DNS] & {n.name for n in wave.nodes}
        for wave in walked
        if wave.name.startswith("last")
    ), "none is moved without a soak"


FLEETS = st.lists(
    st.tuples(
        st.sampled_from(["web", "web", "pay", "none"]),
        st.sampled_from(["6.12", "6.12", "6.18"]),
        st.booleans(),
    ),
    min_size=1,
    max_size=40,
)
PLACES = st.dictionaries(
    st.sampled_from([DNS, "monitoring/prometheus", "policy/webhook"]),
    st.frozensets(st.integers(0, 39), min_size=1),
)


@settings(max_examples=200, deadline=None)
@given(FLEETS, PLACES, st.sampled_from([[], ONE_WAVE]), st.integers(0, 39))
def test_each_ledger_obeys_and_every_node_has_its_turn(fleet, places, waves, own):
    nodes = [
        node(number, pool, kernel, master=master and number % 9 == 0)
        for number, (pool, kernel, master) in enumerate(fleet)
    ]
    critical = CriticalWorkloads(
        {name: runs_on(numbers).nodes[DNS] for name, numbers in places.items()}
    )
    walked = walk(channel(waves), nodes, critical, own_node=f"node-{own:03d}")
    came = sorted(n.name for wave in walked for n in wave.nodes)
    assert came == [n.name for n in nodes], "every node, and each once"
    for on in critical.nodes.values():
        for wave in walked:
            count = len(on & {n.name for n in wave.nodes})
            assert count <= max(1, len(on) // 4)
            assert len(on) == 1 or count < len(on), "at least one stays outside"
            assert not (count and wave.name.startswith("last"))


def test_without_critical_workloads_nothing_changes():
    nodes = [node(number) for number in range(30)]
    assert walk(channel(), nodes) == walk(channel(), nodes, CriticalWorkloads())


@pytest.mark.parametrize("kind", ["alone", "own"])
def test_the_one_node_of_a_workload_and_the_operators_own_come_last_in_their_wave(kind):
    nodes = [node(number) for number in range(10)]
    for number in range(10):
        critical = runs_on([number]) if kind == "alone" else CriticalWorkloads()
        own = "" if kind == "alone" else f"node-{number:03d}"
        walked = walk(channel(), nodes, critical, own_node=own)
        taken = [n.name for wave in walked if not wave.name.startswith("rest") for n in wave.nodes]
        assert taken[-1] == f"node-{number:03d}"


def test_a_wave_that_was_not_done_counts_with_the_next_one(make_sim):
    """Its nodes may be lost yet: the ledger that takes their place spares the others."""
    sim = make_sim()
    sim.publish("a", 1)
    sim.run(20)
    obs, rollout = sim.observe(), sim.record.rollout
    names = sorted(obs.nodes)
    obs = replace(obs, critical=CriticalWorkloads({DNS: frozenset(names)}))
    entry = obs.nodes[names[0]]
    ledger = Ledger(rollout.attempt, 0, (LedgerNode(entry.name, entry.uid, "", healthy=True),), 1)
    excused = replace(rollout.waves[0], state=WaveState.Excused, ledger=0)
    pending = replace(rollout.waves[0], state=WaveState.Pending, ledger=1)
    rollout = replace(rollout, waves=(excused, pending))
    obs = replace(obs, ledgers={0: ledger})
    assert [n.name for n in workloads.within(obs, rollout, obs.nodes.values())] == [names[0]]
    assert DNS in workloads.full(obs, rollout)
    passed = replace(rollout, waves=(replace(excused, state=WaveState.Passed), pending))
    assert len(workloads.within(obs, passed, obs.nodes.values())) == 1
    assert workloads.full(obs, passed) == ""


@pytest.mark.parametrize(
    ("url", "service"),
    [
        ("http://prometheus.monitoring:9090", "monitoring/prometheus"),
        ("https://prometheus.monitoring.svc/path", "monitoring/prometheus"),
        ("http://prometheus.monitoring.svc.cluster.local:9090", "monitoring/prometheus"),
        ("http://prometheus.2nd-line:9090", "2nd-line/prometheus"),
        ("http://prometheus:9090", ""),
        ("https://prometheus.example.com", ""),
        ("http://10.0.0.1:9090", ""),
        ("http://[::1]:9090", ""),
        ("", ""),
    ],
)
def test_the_service_of_prometheus_is_known_from_its_url(url, service):
    plan = replace(queue.freeze(channel()), prometheus=url)
    assert workloads.services(plan) == {DNS} | ({service} if service else set())


def test_a_channel_names_more_of_them():
    named = [{"namespace": "pay", "service": "ledger"}, {"namespace": "a", "service": "b"}]
    plan = queue.freeze(channel(criticalWorkloads=named))
    assert workloads.services(plan) == {DNS, "pay/ledger", "a/b"}


def test_what_cannot_be_seen_holds_a_wave_before_it_chooses(make_sim):
    sim = make_sim()
    sim.publish("a", 1)
    while not (sim.record.rollout and sim.record.rollout.waves):
        sim.run(1)
    obs, rollout = sim.observe(), sim.record.rollout
    pending = replace(
        rollout, waves=(replace(rollout.waves[-1], state=WaveState.Pending, held_since=None),)
    )
    unread = replace(obs.critical, read_at=sim.now, error="the lists can't be read")
    obs = replace(obs, record=replace(obs.record, rollout=pending), ledgers={}, critical=unread)
    step = decide(obs, sim.now)
    assert Reason.WorkloadsUnseen in {finding.reason for finding in step.findings}
    assert not step.actions
    assert step.record.rollout.waves[-1].state is WaveState.Pending
    assert step.record.rollout.waves[-1].held_since == sim.now
    anyone = next(iter(obs.nodes.values()))
    assert not workloads.may_skip_soak(obs, anyone), "nor is anything moved without a soak"


@pytest.mark.parametrize("critical", [CriticalWorkloads(), "old", "other", "shown"])
def test_a_wave_waits_for_a_look_of_its_own_that_is_of_now(make_sim, critical):
    sim = make_sim()
    sim.publish("a", 1)
    while not (sim.record.rollout and sim.record.rollout.waves):
        sim.run(1)
    obs, rollout = sim.observe(), sim.record.rollout
    pending = replace(rollout, waves=(replace(rollout.waves[-1], state=WaveState.Pending),))
    known = replace(obs.critical, read_at=sim.now)
    if critical == "old":
        critical = replace(known, read_at=sim.now - workloads.FRESH_SECONDS)
    elif critical == "other":
        critical = replace(known, services=frozenset({"a/b"}))
    elif critical == "shown":
        critical = replace(known, attempt="")
    obs = replace(obs, record=replace(obs.record, rollout=pending), ledgers={}, critical=critical)
    step = decide(obs, sim.now)
    assert (step.record, step.actions, step.waiting) == (None, (), workloads.READING)
    after = decide(replace(obs, critical=known), sim.now)
    assert after.waiting != workloads.READING


def test_no_last_ledger_takes_a_node_that_came_to_serve_one():
    """What is not soaked was chosen by another look: a workload may have moved there since."""
    obs, rollout = begun(channel(ONE_WAVE), [node(0), node(1)], runs_on([0]))
    while rollout.planned:
        rollout = rollout.with_wave(state=WaveState.Passed).with_next_wave(last=True)
    rollout = replace(rollout, proven=(code_of(node(0)),))
    assert [n.name for n in waves.sweep(obs, rollout)] == ["node-001"]
    assert waves.sweep(replace(obs, critical=runs_on([0, 1])), rollout) == []


@pytest.mark.parametrize(
    ("state", "asked"),
    [
        (WaveState.Pending, True),
        (WaveState.Passed, True),
        (WaveState.AwaitingApproval, False),
        (WaveState.Soaking, False),
        (WaveState.Held, False),
    ],
)
def test_it_is_asked_only_while_nodes_are_chosen(make_sim, state, asked):
    sim = make_sim()
    sim.publish("a", 1)
    sim.run(20)
    obs = sim.observe()

    def is_asked(rollout, **changes):
        seen = replace(obs, record=replace(obs.record, rollout=rollout), **changes)
        return workloads.due_in(seen, CriticalWorkloads(), sim.now) == 0.0

    rollout = sim.record.rollout.with_wave(state=state)
    assert is_asked(rollout) is asked
    assert not is_asked(replace(rollout, phase=Phase.Reverting))
    assert is_asked(replace(rollout, promoting=True)), "who joined since is swept first"
    assert is_asked(replace(rollout, excused={"node": "uid"})), "others may take its place"
    assert is_asked(None), "the next plan is shown"
    assert not is_asked(None, channel=None)
    assert not is_asked(None, forbidden="no rights")
