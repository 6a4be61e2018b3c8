"""Checks are asked when they are due, about all judged nodes, whose names are taken literally."""

import asyncio
import json
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.builders import make_channel
from support.fake_apiserver import until
from support.invariants import in_wave, with_stable
from support.world import SimCluster
from wavegate.api import WaveState
from wavegate.controller import queries
from wavegate.controller.checks import CheckRunner
from wavegate.controller.queries import VARIABLES, Questions, nodes_pattern
from wavegate.evidence import CheckResult, CheckSpec, Sample, Verdict, judge_check
from wavegate.rollout.waves import in_order, order_of
from wavegate.telemetry.connections import Source
from wavegate.telemetry.metrics import Metrics

KEY = ("agents", "rules")
names = st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,20}[a-z0-9])?", fullmatch=True)


def as_promql_reads_it(pattern):
    """A double-quoted PromQL string has the escapes of a JSON string, as far as we use them."""
    return json.loads(f'"{pattern}"')


@given(st.frozensets(names, min_size=1, max_size=5), names)
def test_the_pattern_matches_the_nodes_and_no_other(nodes, other):
    pattern = as_promql_reads_it(nodes_pattern(nodes))
    for name in nodes | {other}:
        assert bool(re.fullmatch(pattern, name)) is (name in nodes)


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ({"b", "a"}, "a|b"),
        ({"ip-1.eu"}, r"ip\\-1\\.eu"),
        ({'x"} or vector(0)'}, None),
    ],
)
def test_names_are_sorted_and_escaped_twice(nodes, expected):
    pattern = nodes_pattern(frozenset(nodes))
    if expected:
        assert pattern == expected
    assert "." not in pattern.replace("\\\\.", "")


class Reader:
    """Answers 0 for each node as soon as `answers` is set; remembers what was asked."""

    def __init__(self):
        self.asked = []
        self.value = 0.0
        self.silent, self.error = set(), ""
        self.values = {}
        self.errors = {}
        self.answers = asyncio.Event()
        self.answers.set()

    async def ask(self, source, check, query, nodes, now):
        self.asked.append((source, check.name, query, nodes, now))
        await self.answers.wait()
        told = sorted(nodes - self.silent)
        samples = tuple(Sample({"node": n}, self.values.get(n, self.value)) for n in told)
        said = {"error": self.error, **self.errors.get(nodes, {})}
        return CheckResult(now, nodes, samples, **said)


@pytest.fixture
def sim():
    """A first release with two checks is on its canary; the workers are of the wave's pools too."""
    checks = [
        {"name": "crashes", "query": 'up{node=~"$nodes"}', "max": 0, "interval": "30s"},
        {"name": "slow", "query": "sum(x)", "max": 0, "per": "Wave", "interval": "5m"},
    ]
    prometheus = {"url": "http://prometheus"}
    waves = [{"name": "canary", "upTo": 1}, {"name": "all", "upTo": "100%"}]
    found = SimCluster(channel=make_channel(checks=checks, prometheus=prometheus, waves=waves))
    found.add_nodes("canary", 1)
    workers = [found.nodes[name] for name in found.add_nodes("workers", 2)]
    for worker in workers:
        worker.unschedulable = True  # so the wave takes the canary
    found.publish("a", 1)
    found.run(60, until=lambda: bool(found.running()))
    for worker in workers:
        worker.unschedulable = False
    return found


@pytest.fixture
def reader():
    return Reader()


@pytest.fixture
def metrics():
    return Metrics()


@pytest.fixture
async def runner(sim, reader, metrics):
    made = CheckRunner(reader, lambda: sim.now, lambda _key: None, metrics)
    yield made
    made.close()


async def asked(runner, sim, reader):
    """What one pass asks: names of checks."""
    before = len(reader.asked)
    runner.ensure(KEY, sim.observe())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return sorted(name for _, name, *_ in reader.asked[before:])


def answers(runner, sim):
    """The answers about the attempt that rolls out."""
    return runner.results(KEY)[sim.record.rollout.attempt]


async def test_all_checks_are_asked_about_the_judged_nodes(runner, sim, reader):
    assert await asked(runner, sim, reader) == ["crashes", "slow"]
    source, _, query, nodes, _ = reader.asked[0]
    assert (source, query) == (
        Source("http://prometheus", namespace="agents"),
        r'up{node=~"canary\\-0"}',
    )
    assert nodes == {"canary-0"}
    await until(lambda: len(answers(runner, sim)) == 2)


async def test_a_check_is_asked_again_after_its_own_interval(runner, sim, reader):
    await asked(runner, sim, reader)
    await until(lambda: len(answers(runner, sim)) == 2)
    assert await asked(runner, sim, reader) == []
    sim.now += 30
    assert await asked(runner, sim, reader) == ["crashes"]
    await until(lambda: answers(runner, sim)["crashes"].asked_at == sim.now)
    sim.now += 270
    assert await asked(runner, sim, reader) == ["crashes", "slow"]


async def test_the_next_pass_is_due_when_the_next_check_is(runner, sim):
    assert runner.ensure(KEY, sim.observe()) is None, "both are asked now, and an answer wakes"
    await until(lambda: len(answers(runner, sim)) == 2)
    sim.now += 10
    assert runner.ensure(KEY, sim.observe()) == 20
    sim.now += 20
    assert runner.ensure(KEY, sim.observe()) == 270


async def test_a_check_that_was_not_answered_yet_is_not_asked_twice(runner, sim, reader):
    reader.answers.clear()
    assert await asked(runner, sim, reader) == ["crashes", "slow"]
    sim.now += 600
    assert await asked(runner, sim, reader) == []
    reader.answers.set()
    await until(lambda: len(answers(runner, sim)) == 2)
    assert await asked(runner, sim, reader) == ["crashes", "slow"]


async def test_nodes_that_joined_are_asked_about_soon(runner, sim, reader):
    await asked(runner, sim, reader)
    await until(lambda: len(answers(runner, sim)) == 2)
    sim.run(120, until=lambda: len(sim.running()) > 1)
    assert await asked(runner, sim, reader) == ["crashes", "slow"]


async def test_only_the_loaded_proof_is_asked_about_a_node_that_goes_back(reader):
    checks = [{"name": "crashes", "query": 'up{node=~"$nodes"}', "max": 0}]
    proof = {"metric": {"series": 'content_info{node=~"$nodes"}'}}
    prometheus = {"url": "http://prometheus"}
    spec = {"checks": checks, "prometheus": prometheus, "loadedProof": proof}
    sim = SimCluster(channel=make_channel(**spec, rollout={"bake": "0s"}))
    sim.add_nodes("canary", 1)
    sim.add_nodes("workers", 4)
    with_stable(sim)
    sim.publish("b", 2)
    sim.run(400, until=in_wave(sim, "all"))
    sim.nodes["workers-2"].boot += 1
    sim.run(10)
    runner = CheckRunner(reader, lambda: sim.now, lambda _key: None)
    assert await asked(runner, sim, reader) == ["crashes", "loadedProof"]
    about = {name: nodes for _, name, _, nodes, _ in reader.asked}
    assert about["loadedProof"] - about["crashes"] == {"workers-2"}
    runner.close()


async def test_a_wave_that_opens_has_all_checks_asked_soon_as_of_the_wave_before(
    runner, sim, reader
):
    rollout = sim.record.rollout
    checks = tuple(replace(check, query="$t0") for check in rollout.plan.checks)
    plan = replace(rollout.plan, checks=checks)
    sim.record = replace(sim.record, rollout=replace(rollout, plan=plan))
    sim.step_until(lambda: len(sim.record.rollout.waves) > 1)
    await asked(runner, sim, reader)
    await until(lambda: len(answers(runner, sim)) == 2)
    sim.now += 1
    assert await asked(runner, sim, reader) == []
    sim.step_until(in_wave(sim, "all", WaveState.Moving))
    assert await asked(runner, sim, reader) == ["crashes", "slow"]
    canary, opened = sim.record.rollout.waves
    assert (opened.opened_at, opened.moved) == (sim.now, 0)
    assert {query for _, _, query, _, _ in reader.asked} == {f"{canary.opened_at:.0f}"}
    await until(lambda: answers(runner, sim)["slow"].asked_at == sim.now)
    sim.now += 1
    assert await asked(runner, sim, reader) == [], "once is enough"
    sim.step_until(lambda: sim.record.rollout.waves[-1].moved)
    sim.now += 400
    assert await asked(runner, sim, reader) == ["crashes", "slow"]
    assert reader.asked[-1][2] == f"{opened.opened_at:.0f}"


async def test_answers_about_another_attempt_are_forgotten(runner, sim, reader):
    reader.answers.clear()
    await asked(runner, sim, reader)
    del sim.releases["a"]
    sim.run(60, until=lambda: sim.record.rollout is None)
    runner.ensure(KEY, sim.observe())
    reader.answers.set()
    await asyncio.sleep(0.01)
    assert dict(runner.results(KEY)) == {}


async def test_nothing_is_asked_without_a_rollout(runner, sim, reader):
    del sim.releases["a"]
    sim.run(60, until=lambda: sim.record.rollout is None)
    assert await asked(runner, sim, reader) == []


async def test_a_bake_goes_on_asking_and_ends_it(runner, sim, reader):
    sim.run(400, until=lambda: sim.record.bake is not None)
    assert await asked(runner, sim, reader) == ["crashes", "slow"]
    assert reader.asked[-1][3] == set(sim.nodes)
    attempt = sim.record.bake.attempt
    await until(lambda: len(runner.results(KEY)[attempt]) == 2)
    sim.now += 30
    assert await asked(runner, sim, reader) == ["crashes"]
    sim.record = replace(sim.record, bake=None)
    sim.now += 600
    assert await asked(runner, sim, reader) == []
    assert runner.results(KEY) == {}


async def test_the_checks_of_a_candidate_and_of_what_bakes_are_asked_apart(runner, sim, reader):
    sim.run(400, until=lambda: sim.record.bake is not None)
    sim.publish("b", 2)
    sim.run(100, until=lambda: "b" in sim.running().values())
    assert await asked(runner, sim, reader) == ["crashes", "crashes", "slow", "slow"]
    taken = {node for node, release in sim.running().items() if release == "b"}
    rest = set(sim.nodes) - taken
    assert {frozenset(nodes) for _, _, _, nodes, _ in reader.asked} == {
        frozenset(taken),
        frozenset(rest),
    }
    await until(lambda: [len(found) for found in runner.results(KEY).values()] == [2, 2])


async def answered_again(runner, sim, reader, value):
    """One more answer to `crashes`, with this value on each node."""
    reader.value, sim.now = value, sim.now + 30
    await asked(runner, sim, reader)
    await until(lambda: answers(runner, sim)["crashes"].asked_at == sim.now)
    return answers(runner, sim)["crashes"].passes


async def test_good_answers_in_a_row_are_counted_and_a_bad_one_begins_anew(runner, sim, reader):
    await asked(runner, sim, reader)
    await until(lambda: len(answers(runner, sim)) == 2)
    counted = [await answered_again(runner, sim, reader, value) for value in (0, 0, 9, 0, 0)]
    assert counted == [2, 3, 0, 1, 2]
    sim.run(120, until=lambda: len(sim.running()) > 1)
    assert await answered_again(runner, sim, reader, 0) == 1, "nothing is known of who joined"


def shown(metrics, check):
    labels = {"namespace": KEY[0], "channel": KEY[1], "check": check}
    return metrics.registry.get_sample_value("wavegate_check_verdict", labels)


async def test_the_verdict_of_each_check_is_a_metric_until_it_is_not_asked_any_more(
    runner, sim, reader, metrics
):
    await asked(runner, sim, reader)
    await until(lambda: len(answers(runner, sim)) == 2)
    assert (shown(metrics, "crashes"), shown(metrics, "slow")) == (0.0, 0.0)
    await answered_again(runner, sim, reader, 9)
    assert (shown(metrics, "crashes"), shown(metrics, "slow")) == (3.0, 0.0)
    del sim.releases["a"]
    sim.run(60, until=lambda: sim.record.rollout is None)
    runner.ensure(KEY, sim.observe())
    assert shown(metrics, "crashes") is None


async def test_a_dry_run_is_told_of_once_for_each_verdict(runner, sim, reader, caplog):
    caplog.set_level("INFO")
    rollout = sim.record.rollout
    checks = tuple(replace(check, dry_run=True) for check in rollout.plan.checks)
    plan = replace(rollout.plan, checks=checks)
    sim.record = replace(sim.record, rollout=replace(rollout, plan=plan))
    await asked(runner, sim, reader)
    await until(lambda: len(answers(runner, sim)) == 2)
    for value in (0, 9, 9):
        await answered_again(runner, sim, reader, value)
    told = [line for line in caplog.messages if "check crashes" in line]
    assert told == [
        "agents/rules: dry run, PASS: check crashes passes",
        "agents/rules: dry run, FAIL: check crashes saw 9 on node canary-0, more than 0",
    ]


async def silent_for(runner, sim, reader, seconds):
    """Answers each 30 s for so long; returns the last one to `crashes`."""
    for _ in range(seconds // 30):
        await answered_again(runner, sim, reader, 0)
    return answers(runner, sim)["crashes"]


@pytest.fixture
async def losing(sim, reader, runner):
    """Since the first answer the canary has no series; ten other nodes have one."""
    sim.add_nodes("workers", 8)
    reader.silent = {"canary-0"}
    await asked(runner, sim, reader)
    await until(lambda: len(answers(runner, sim)) == 2)
    return sim


def about(reader):
    """The nodes about which `crashes` was asked."""
    return [nodes for _, name, _, nodes, _ in reader.asked if name == "crashes"]


async def test_nodes_that_a_check_loses_are_told_from_a_check_that_does_not_work(
    runner, losing, reader
):
    found = await silent_for(runner, losing, reader, 150)
    assert set(about(reader)) == {frozenset({"canary-0"})}, "the control is not asked for nothing"
    found = await silent_for(runner, losing, reader, 30)
    control = set(losing.nodes) - {"canary-0"}
    assert (about(reader)[-1], found.control) == (control, (10, 10))
    rollout = losing.record.rollout
    (finding,) = judge_check(rollout.plan.checks[0], found, found.nodes, 0.0)
    assert (finding.verdict, finding.reason) == (Verdict.FAIL, "EvidenceLostOnWave")
    assert (finding.node, finding.blocks) == ("canary-0", False)
    assert "10 of 10" in finding.message
    reader.silent |= set(sorted(control)[:2])
    found = await silent_for(runner, losing, reader, 30)
    (finding,) = judge_check(rollout.plan.checks[0], found, found.nodes, 0.0)
    assert (found.control, finding.verdict) == ((8, 10), Verdict.HOLD)


async def test_a_series_that_comes_back_or_an_outage_begins_the_silence_anew(
    runner, losing, reader
):
    await silent_for(runner, losing, reader, 150)
    reader.error = "is down"
    await answered_again(runner, losing, reader, 0)
    reader.error = ""
    found = await silent_for(runner, losing, reader, 180)
    assert found.control == (0, 0)
    reader.silent = set()
    await answered_again(runner, losing, reader, 0)
    reader.silent = {"canary-0"}
    found = await silent_for(runner, losing, reader, 180)
    assert (found.silent, found.control) == ({"canary-0": losing.now - 150}, (0, 0))


async def test_without_five_control_nodes_nothing_is_lost(runner, losing, reader):
    for name in sorted(set(losing.nodes) - {"canary-0"})[4:]:
        losing.remove_node(name)
    found = await silent_for(runner, losing, reader, 300)
    assert (found.control, set(about(reader))) == ((0, 0), {frozenset({"canary-0"})})


async def test_a_node_that_was_just_moved_is_waited_for_and_held_later(runner, sim, reader):
    reader.silent = {"canary-0"}
    await asked(runner, sim, reader)
    await until(lambda: len(answers(runner, sim)) == 2)
    check = sim.record.rollout.plan.checks[0]
    verdicts = []
    for _ in range(4):
        await answered_again(runner, sim, reader, 0)
        result = answers(runner, sim)["crashes"]
        (finding,) = judge_check(check, result, result.nodes, 0.0)
        verdicts.append((finding.verdict.name, sim.now - sim.record.rollout.waves[-1].moved_at))
    assert [name for name, age in verdicts if age < 90] == ["WAIT"] * 2
    assert {name for name, age in verdicts if age >= 90} == {"HOLD"}


async def test_an_operator_that_restarts_makes_no_node_new(runner, sim, reader):
    reader.silent = {"canary-0"}
    sim.now += 120
    node = sim.observe().nodes["canary-0"]
    key = sim.observe().key
    side = replace(node.sides[key], since=sim.now - 1)
    obs = sim.observe()
    obs = replace(obs, nodes={**obs.nodes, "canary-0": replace(node, sides={key: side})})
    check = sim.record.rollout.plan.checks[0]
    about_it = Questions(sim.record.rollout, frozenset({"canary-0"}), 0.0)
    assert about_it.new(check, obs, sim.now) == frozenset()
    assert about_it.new(check, obs, sim.now - 60) == {"canary-0"}
    assert about_it.new(replace(check, interval=60.0), obs, sim.now) == {"canary-0"}


async def test_a_node_of_long_ago_is_not_new_in_a_wave_that_still_moves(sim):
    rollout = sim.record.rollout.with_wave(moved_at=sim.now + 119)
    asked_of = Questions(rollout, frozenset({"canary-0"}), 0.0)
    assert asked_of.new(rollout.plan.checks[0], sim.observe(), sim.now + 120) == frozenset()


@pytest.fixture
async def comparing(sim, reader, runner):
    """The check compares with ten control nodes; the first answer, all 0, is in."""
    sim.add_nodes("workers", 8)
    rollout = sim.record.rollout
    checks = tuple(replace(check, max_ratio=3.0) for check in rollout.plan.checks)
    plan = replace(rollout.plan, checks=checks)
    sim.record = replace(sim.record, rollout=replace(rollout, plan=plan))
    await asked(runner, sim, reader)
    await until(lambda: len(answers(runner, sim)) == 2)
    return sim


def control_of(sim):
    return sorted(set(sim.nodes) - {"canary-0"})


async def said(runner, sim, reader, value, control):
    """What the check finds when the canary has this value, and the control nodes have these."""
    reader.values = {"canary-0": value, **dict(zip(control_of(sim), control, strict=True))}
    await answered_again(runner, sim, reader, 0)
    result = answers(runner, sim)["crashes"]
    check = sim.record.rollout.plan.checks[0]
    return result, list(judge_check(check, result, result.nodes, 0.0))


async def test_the_control_is_asked_only_about_a_value_above_the_limit(runner, comparing, reader):
    result, found = await said(runner, comparing, reader, 0, [7] * 10)
    assert (found, result.control, result.control_median) == ([], (0, 0), None)
    assert set(about(reader)) == {frozenset({"canary-0"})}
    result, found = await said(runner, comparing, reader, 12, [4] * 10)
    assert about(reader)[-1] == set(control_of(comparing))
    assert (found, result.control, result.control_median) == ([], (10, 10), 4.0)
    assert result.passes == 3, "an excused value is a good one"
    result, (finding,) = await said(runner, comparing, reader, 12.5, [4] * 10)
    assert (finding.verdict, finding.reason) == (Verdict.FAIL, "CheckAboveMax")
    assert "saw 12.5 on node canary-0, more than 12 (control: 3 times the median 4)" in (
        finding.message
    )
    assert (result.passes, finding.blocks) == (0, False)


@pytest.mark.parametrize("liars", [1, 4])
async def test_who_has_less_than_half_of_the_control_excuses_nothing(
    runner, comparing, reader, liars
):
    control = [1e9] * liars + [1] * (10 - liars)
    _, (finding,) = await said(runner, comparing, reader, 4, control)
    assert finding.verdict is Verdict.FAIL


@pytest.mark.parametrize("nothing", [{"error": "x"}, {"warnings": ("partial",)}])
async def test_a_control_that_does_not_answer_leaves_the_absolute_limit(
    runner, comparing, reader, nothing
):
    reader.errors = {frozenset(control_of(comparing)): nothing}
    result, (finding,) = await said(runner, comparing, reader, 4, [4] * 10)
    assert (finding.verdict, result.control) == (Verdict.FAIL, (0, 0))


async def test_control_nodes_without_a_number_excuse_nothing(runner, comparing, reader):
    control = [9, 9, 9, 9, 9, 9, 9, 9, float("nan"), float("inf")]
    result, (finding,) = await said(runner, comparing, reader, 4, control)
    assert (finding.verdict, result.control) == (Verdict.FAIL, (8, 10))
    reader.silent = {control_of(comparing)[-1]}
    _, found = await said(runner, comparing, reader, 4, [9] * 10)
    assert found == [], "nine of ten are enough"


async def test_four_control_nodes_excuse_nothing(runner, comparing, reader):
    for name in control_of(comparing)[4:]:
        comparing.remove_node(name)
    result, (finding,) = await said(runner, comparing, reader, 4, [9] * 4)
    assert (finding.verdict, result.control) == (Verdict.FAIL, (0, 0))
    assert "more than 0 (0 of 0 nodes without the content report: too few" in finding.message


async def test_a_canary_without_a_number_is_held_whatever_the_control_has(
    runner, comparing, reader
):
    reader.silent, comparing.now = {"canary-0"}, comparing.now + 90
    _, (finding,) = await said(runner, comparing, reader, 0, [9] * 10)
    assert (finding.verdict, finding.reason) == (Verdict.HOLD, "CheckNoData")


def test_all_variables_are_replaced_once_in_query_and_series(sim):
    query = ";".join(f"${name}" for name in sorted(VARIABLES))
    check = CheckSpec("c", query, True, "node", 0.0, 30.0, 10.0, age_of='up{n=~"$nodes"}')
    rollout = sim.record.rollout
    asked_of = Questions(rollout, frozenset({"canary-0"}), 0.0)
    opened = rollout.waves[-1].opened_at
    found = asked_of.substituted(check, sim.observe(), opened + 412.7)
    pools = nodes_pattern(rollout.planned.pools)
    assert found.query.split(";") == [
        rollout.candidate.daemon_set,
        "rules",
        nodes_pattern(set(sim.nodes) - {"canary-0"}),
        "412s",
        "agents",
        nodes_pattern(["canary-0"]),
        pools,
        "a",
        f"{opened:.0f}",
    ]
    assert found.age_of == r'up{n=~"canary\\-0"}'


def test_a_wave_that_is_pending_has_no_time_yet_and_those_before_it_count(sim):
    rollout = sim.record.rollout
    check = CheckSpec("c", "$elapsed $t0", True, "node", 0.0, 30.0, 10.0)
    opened = rollout.waves[-1].opened_at
    later = Questions(rollout.with_next_wave(), frozenset({"canary-0"}), 0.0)
    found = later.substituted(check, sim.observe(), opened + 90.0)
    assert found.query == f"90s {opened:.0f}"


def test_without_a_control_node_the_expression_matches_no_node(sim):
    check = CheckSpec("c", "$control_nodes", True, "node", 0.0, 30.0, 10.0)
    asked_of = Questions(sim.record.rollout, frozenset(sim.nodes), 0.0)
    assert asked_of.substituted(check, sim.observe(), sim.now).query == "_none_"


def test_a_node_that_is_not_ready_is_no_control(sim):
    check = CheckSpec("c", "$control_nodes", True, "node", 0.0, 30.0, 10.0)
    (sick, well), obs = sorted(set(sim.nodes) - {"canary-0"}), sim.observe()
    obs = replace(obs, nodes={**obs.nodes, sick: replace(obs.nodes[sick], ready=False)})
    asked_of = Questions(sim.record.rollout, frozenset({"canary-0"}), 0.0)
    assert asked_of.substituted(check, obs, sim.now).query == nodes_pattern([well])


def test_of_many_control_nodes_those_are_named_that_get_the_content_last(sim, monkeypatch):
    monkeypatch.setattr(queries, "MAX_CONTROL", 1)
    check = CheckSpec("c", "$control_nodes", True, "node", 0.0, 30.0, 10.0)
    obs, order = sim.observe(), order_of(sim.record.rollout.candidate)
    asked_of = Questions(sim.record.rollout, frozenset({"canary-0"}), 0.0)
    workers = [node for name, node in obs.nodes.items() if name != "canary-0"]
    last = in_order(workers, order)[-1].name
    assert asked_of.substituted(check, obs, sim.now).query == nodes_pattern([last])


async def test_a_connection_is_asked_by_name_and_for_the_channel_s_namespace(sim, runner, reader):
    rollout = sim.record.rollout
    plan = replace(rollout.plan, prometheus="", connection="thanos")
    sim.record = replace(sim.record, rollout=replace(rollout, plan=plan))
    await asked(runner, sim, reader)
    assert reader.asked[0][0] == Source(connection="thanos", namespace="agents")
