"""What the gates of a running rollout say: followed when it means something else, not when a value
ticks.
"""

from dataclasses import replace

import pytest

from support import fleet
from support.builders import CHANNEL, SPACE
from wavegate.api import GateKind, Phase, Reason
from wavegate.controller.live import REFRESH_SECONDS, LiveGates
from wavegate.evidence import CheckResult, Finding, Sample, Verdict
from wavegate.rollout import report
from wavegate.rollout.decide import decide
from wavegate.rollout.steps import Step
from wavegate.telemetry.metrics import Metrics

KEY = (SPACE, CHANNEL)
ALL_WELL = Step(judged=True)
LOST = Finding(Verdict.FAIL, Reason.NodeNotReady, "x", "x", gate=GateKind.Nodes)


@pytest.fixture(scope="module")
def soaking():
    """50 nodes in the last wave's soak, 60 s of it done."""
    return fleet.observe(50, "soaking")


@pytest.fixture
def metrics():
    return Metrics()


@pytest.fixture
def live(metrics):
    return LiveGates(metrics)


def answered(obs, value):
    """The observation with another answer to its check."""
    nodes = frozenset(obs.nodes)
    samples = tuple(Sample({"node": name}, value) for name in nodes)
    return replace(obs, checks={"crashes": CheckResult(fleet.NOW, nodes, samples)})


def shown(metrics, gate):
    labels = {"namespace": SPACE, "channel": CHANNEL, "gate": gate}
    return metrics.registry.get_sample_value("wavegate_gate_verdict", labels)


def test_a_value_that_ticks_is_told_with_the_next_minute_of_the_soak(soaking, live):
    first = live.look(KEY, soaking, ALL_WELL, fleet.NOW)
    assert [gate.value for gate in first if gate.check] == ["0"]
    ticked = answered(soaking, -3.0)
    assert live.look(KEY, ticked, ALL_WELL, fleet.NOW + 59) == first
    later = live.look(KEY, ticked, ALL_WELL, fleet.NOW + 60)
    assert [(gate.value, gate.at) for gate in later if gate.check] == [("-3", fleet.NOW + 60)]


def test_without_a_soak_it_is_told_every_ten_minutes(live):
    obs = fleet.observe(50, "moving")
    first = live.look(KEY, obs, ALL_WELL, fleet.NOW)
    ticked = answered(obs, -3.0)
    assert live.look(KEY, ticked, ALL_WELL, fleet.NOW + REFRESH_SECONDS - 1) == first
    assert live.look(KEY, ticked, ALL_WELL, fleet.NOW + REFRESH_SECONDS) != first


def test_what_stays_the_same_is_not_told_again_so_a_rollout_that_waits_costs_no_write(live):
    obs, told = fleet.observe(50, "moving"), []
    for turn, value in enumerate((-3.0, -3.0, -4.0)):
        now = fleet.NOW + 2 * turn * REFRESH_SECONDS
        heard = replace(answered(obs, value), leases=dict.fromkeys(obs.nodes, now))
        told.append(live.look(KEY, heard, ALL_WELL, now))
    assert told[0] == told[1] != told[2]


def test_another_verdict_or_reason_is_told_at_once(soaking, live, metrics):
    assert live.look(KEY, soaking, ALL_WELL, fleet.NOW)[0].verdict is Verdict.PASS
    assert shown(metrics, "Nodes") == 0.0
    step = Step(findings=(LOST,), judged=True)
    (gate, *_) = live.look(KEY, soaking, step, fleet.NOW + 1)
    assert (gate.kind, gate.verdict, gate.at) == (GateKind.Nodes, Verdict.FAIL, fleet.NOW + 1)
    assert (shown(metrics, "Nodes"), shown(metrics, "Agents")) == (3.0, 0.0)
    other = replace(LOST, reason=Reason.NodeRebooted)
    step = Step(findings=(other,), judged=True)
    assert live.look(KEY, soaking, step, fleet.NOW + 2)[0].reason == "NodeRebooted"


def test_another_verdict_of_a_dry_run_is_told_at_once(soaking, live):
    rollout = soaking.record.rollout
    dry = tuple(replace(check, dry_run=True) for check in rollout.plan.checks)
    rollout = replace(rollout, plan=replace(rollout.plan, checks=dry))
    obs = replace(soaking, record=replace(soaking.record, rollout=rollout))
    assert live.look(KEY, obs, ALL_WELL, fleet.NOW)[-1].verdict is Verdict.PASS
    bad = answered(obs, 9.0)
    bad = replace(bad, checks={"crashes": replace(bad.checks["crashes"], passes=0)})
    assert live.look(KEY, bad, ALL_WELL, fleet.NOW + 1)[-1].verdict is Verdict.FAIL


def test_a_pass_that_judged_nothing_is_never_told_as_good(soaking, live):
    assert live.look(KEY, soaking, Step(), fleet.NOW) == ()
    first = live.look(KEY, soaking, ALL_WELL, fleet.NOW)
    assert live.look(KEY, soaking, Step(), fleet.NOW + REFRESH_SECONDS) == first


def test_after_a_failure_the_status_says_what_failed_not_what_is_now(soaking, live):
    (failing,) = live.look(KEY, soaking, Step(findings=(LOST,), judged=True), fleet.NOW)[:1]
    record = soaking.record
    reverting = replace(record.rollout, phase=Phase.Reverting, gates=(failing,))
    obs = replace(soaking, record=replace(record, rollout=reverting))
    assert live.look(KEY, obs, ALL_WELL, fleet.NOW + 1) == ()
    status = report.release_status(obs, obs.releases[1], ALL_WELL, fleet.NOW + 1, ())
    assert [gate["verdict"] for gate in status["gates"]] == ["Fail"]


def test_the_metric_goes_with_the_rollout(soaking, live, metrics):
    live.look(KEY, soaking, ALL_WELL, fleet.NOW)
    idle = replace(soaking, record=replace(soaking.record, rollout=None))
    assert live.look(KEY, idle, Step(), fleet.NOW) == ()
    assert shown(metrics, "Nodes") is None


@pytest.mark.parametrize("state", ["soaking", "judging", "moving"])
def test_what_decide_says_of_a_wave_is_judged(state):
    step = decide(fleet.observe(50, state), fleet.NOW)
    assert step.judged or step.record is not None
