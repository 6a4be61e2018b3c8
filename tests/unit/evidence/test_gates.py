"""What a gate keeps of the evidence: the worst value, its time, who is missing, in few bytes."""

import math
from dataclasses import replace

import pytest

from wavegate.api import GateKind, Reason
from wavegate.evidence import CheckResult, CheckSpec, Finding, Gate, Sample, Verdict, assess_check
from wavegate.evidence.gates import MAX_DETAILED, bounded, built_in, of_check
from wavegate.evidence.promql import END_OF_TIME

NODES = frozenset({"a", "b", "c"})
AT = 1_000.0


def gate_of(samples, ages=(), control=None, **options):
    """The gate of a check of nodes with these (node, value) samples."""
    plain = {"name": "crashes", "query": 'x{n=~"$nodes"}', "node_label": "node", "max": 5.0}
    plain |= {"per_node": True, "interval": 30.0, "timeout": 10.0}
    check = CheckSpec(**plain | options)
    answer = tuple(Sample({"node": node}, value, AT) for node, value in samples)
    old = tuple(Sample({"node": node}, value) for node, value in ages)
    result = CheckResult(0.0, NODES, answer, ages=old, query="x{n=~a|b|c}")
    result = replace(result, **control or {})
    return of_check(check, result, NODES, list(assess_check(check, result, NODES, 0.0)), 9.0)


def worst(gate):
    return [(bad.node, bad.what) for bad in gate.worst]


def test_the_value_is_the_one_farthest_beyond_its_limit():
    gate = gate_of([("a", 9.0), ("b", 7.0), ("c", 1.0)])
    assert (gate.verdict, gate.reason) == (Verdict.FAIL, Reason.CheckAboveMax)
    assert (gate.value, gate.threshold, gate.query) == ("9", "<= 5", "x{n=~a|b|c}")
    assert (gate.reporting, gate.expected) == (3, 3)
    assert worst(gate) == [("a", "9"), ("b", "7")]


def test_of_good_values_it_is_the_one_nearest_to_its_limit():
    gate = gate_of([("a", 4.0), ("b", 2.0), ("c", 3.0)], min=1.5)
    assert (gate.verdict, gate.reason, gate.worst) == (Verdict.PASS, None, ())
    assert (gate.value, gate.threshold) == ("2", ">= 1.5 and <= 5")


def test_the_limit_tells_of_the_control_that_it_was_compared_with():
    told = [("a", 11.0), ("b", 7.0), ("c", 1.0)]
    assert gate_of(told, max_ratio=3.0).threshold == "<= 5 or 3 x control"
    few = {"control": (8, 10), "control_median": 4.0}
    assert gate_of(told, max_ratio=3.0, control=few).threshold == "<= 5 or 3 x control"
    gate = gate_of(told, max_ratio=3.0, control={**few, "control": (9, 10)})
    assert (gate.verdict, gate.value, worst(gate)) == (Verdict.PASS, "11", [])
    assert gate.line == "check crashes: Pass, 11 (<= 5 or 3 x control (4)), 3 of 3"


def test_who_says_nothing_or_no_number_is_named():
    assert worst(gate_of([("a", 1.0)])) == [("b", "no series"), ("c", "no series")]
    gate = gate_of([("a", 1.0), ("b", math.nan), ("c", 2.0)])
    assert (gate.value, worst(gate), gate.reporting) == ("nan", [("b", "nan")], 2)


def test_the_time_of_a_sample_is_prometheus_own_less_the_age_that_was_asked():
    assert gate_of([("a", 9.0)]).sampled_at == AT
    aged = {"age_of": "x", "max_age": 60.0}
    assert gate_of([("a", 9.0)], [("a", 12.0)], **aged).sampled_at == AT - 12.0
    gate = gate_of([("a", 9.0), ("b", 1.0), ("c", 1.0)], [("a", 80.0), ("b", 1.0)], **aged)
    assert worst(gate) == [("a", "9, sampled 80 s before"), ("c", "1, of unknown age")]
    assert (gate.value, gate.sampled_at, gate.reporting) == ("1", AT - 1.0, 1)


@pytest.mark.parametrize("at", [math.inf, math.nan, -1.0, END_OF_TIME])
def test_a_time_that_can_not_be_written_is_none(at):
    check = CheckSpec("c", "x", False, "node", 5.0, 30.0, 10.0)
    result = CheckResult(0.0, NODES, (Sample({}, 9.0, at),))
    assert of_check(check, result, NODES, [], 9.0).sampled_at is None


def test_a_built_in_gate_names_each_node_once_by_its_worst_finding():
    found = [
        Finding(Verdict.FAIL, Reason.NodeRebooted, "a rebooted", "a", gate=GateKind.Nodes),
        Finding(Verdict.FAIL, Reason.NodeNotReady, "a is not Ready", "a", gate=GateKind.Nodes),
        Finding(Verdict.WAIT, Reason.LeaseStale, "b is silent", "b", gate=GateKind.Nodes),
    ]
    gate = built_in(GateKind.Nodes, found, 1, 3, 9.0)
    assert (gate.verdict, gate.reason, gate.message) == (Verdict.FAIL, "NodeRebooted", "a rebooted")
    assert worst(gate) == [("a", "NodeRebooted"), ("b", "LeaseStale")]
    assert gate.line == "Nodes: Fail NodeRebooted, 1 of 3"


def test_a_line_has_what_decided():
    assert gate_of([("a", 9.0)]).line == "check crashes: Fail CheckAboveMax, 9 (<= 5), 1 of 3"
    assert gate_of([("a", 9.0)], dry_run=True).line.startswith("check crashes (dry run): Fail")


def test_what_decided_comes_first_and_only_the_worst_keep_their_details():
    dry = Gate(GateKind.Check, Verdict.FAIL, 9.0, check="dry", dry_run=True)
    good = Gate(GateKind.Check, Verdict.PASS, 9.0, check="good", message="m")
    bad = [Gate(GateKind.Check, Verdict.HOLD, 9.0, check=f"c{n}", message="m") for n in range(4)]
    found = bounded([dry, good, *bad])
    assert [gate.check for gate in found] == ["c0", "c1", "c2", "c3", "good", "dry"]
    assert [gate.message for gate in found] == [*["m"] * MAX_DETAILED, "", ""]
