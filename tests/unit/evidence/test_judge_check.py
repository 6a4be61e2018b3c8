"""A check passes only on a finite, fresh value about every moved node; see test_truth.py too."""

import math

import pytest

from wavegate.api import IntOrPercent
from wavegate.evidence import CheckResult, CheckSpec, Sample, Verdict, judge_check, worst

MOVED = frozenset({"n1", "n2"})
NAN, INF = math.nan, math.inf


def spec(**changes):
    base = {"name": "c", "query": "q", "per_node": True, "node_label": "node", "max": 1.0}
    return CheckSpec(**{**base, "interval": 30.0, "timeout": 10.0, **changes})


def samples(**values):
    return tuple(Sample({"node": node}, value) for node, value in values.items())


def found(result, since=100.0, **changes):
    return list(judge_check(spec(**changes), result, MOVED, since))


def verdict(result, since=100.0, **changes):
    findings = found(result, since, **changes)
    assert len({finding.verdict for finding in findings}) <= 1
    return (worst(findings).name, findings[0].reason.value if findings else "")


PASS, ABOVE = ("PASS", ""), ("FAIL", "CheckAboveMax")
HOLD, WAIT = ("HOLD", "CheckNoData"), ("WAIT", "CheckNoData")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"n1": 0.0, "n2": 1.0}, PASS),
        ({"n1": -5.0, "n2": 0.0}, PASS),
        ({"n1": 0.0, "n2": 1.1}, ABOVE),
        ({"n1": NAN, "n2": 1.1}, ABOVE),
        ({"n1": 1.1}, ABOVE),
        ({"n1": 0.0}, HOLD),
        ({}, HOLD),
        ({"n1": 0.0, "n2": NAN}, HOLD),
        ({"n1": 0.0, "n2": INF}, HOLD),
        ({"n1": 0.0, "n2": -INF}, HOLD),
        ({"n1": 0.0, "n2": 0.0, "other": 9.0}, PASS),
        ({"n1": 0.0, "n2": 0.0, "other": NAN}, PASS),
        ({"n1": 0.0, "other": 0.0}, HOLD),
    ],
)
def test_per_node_each_moved_node_needs_a_finite_value_up_to_max(values, expected):
    assert verdict(CheckResult(100.0, MOVED, samples(**values))) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0], PASS),
        ([1.0], PASS),
        ([1.1], ABOVE),
        ([], HOLD),
        ([0.0, 0.0], HOLD),
        ([0.0, 1.1], ABOVE),
        ([NAN], HOLD),
        ([INF], HOLD),
    ],
)
def test_per_wave_exactly_one_finite_value_up_to_max_is_needed(values, expected):
    answer = tuple(Sample({"i": str(i)}, value) for i, value in enumerate(values))
    assert verdict(CheckResult(100.0, MOVED, answer), per_node=False) == expected


@pytest.mark.parametrize(
    ("asked_at", "nodes", "values", "expected"),
    [
        (100.0, MOVED, {"n1": 0.0, "n2": 0.0}, PASS),
        (99.9, MOVED, {"n1": 0.0, "n2": 0.0}, WAIT),
        (100.0, {"n1"}, {"n1": 0.0, "n2": 0.0}, WAIT),
        (100.0, MOVED | {"n3"}, {"n1": 0.0, "n2": 0.0}, PASS),
        (99.9, {"n1"}, {"n1": 1.1}, ABOVE),
        (99.9, {"n1"}, {"n1": NAN}, HOLD),
        (99.9, {"n1"}, {}, WAIT),
    ],
)
def test_an_old_or_narrow_answer_can_show_harm_but_not_its_absence(
    asked_at, nodes, values, expected
):
    assert verdict(CheckResult(asked_at, frozenset(nodes), samples(**values))) == expected


def test_a_check_that_was_not_asked_yet_waits():
    assert verdict(None) == WAIT


@pytest.mark.parametrize(
    ("refused", "reason"), [(False, "CheckUnreachable"), (True, "CheckInvalid")]
)
def test_an_error_holds_and_is_told_apart_from_a_query_that_can_t_run(refused, reason):
    result = CheckResult(100.0, MOVED, samples(n1=9.0), error="is down", refused=refused)
    assert verdict(result) == ("HOLD", reason)
    assert "is down" in found(result)[0].message


def test_each_node_above_is_named_once_the_worst_first_and_does_not_block():
    answer = samples(n1=2.0, n2=7.5) + samples(n1=3.0, n2=0.0)
    findings = found(CheckResult(100.0, MOVED, answer))
    assert [(finding.node, finding.blocks) for finding in findings] == [
        ("n2", False),
        ("n1", False),
    ]
    assert [finding.message for finding in findings] == [
        "check c saw 7.5 on node n2, more than 1",
        "check c saw 3 on node n1, more than 1",
    ]


def test_a_port_in_the_label_of_the_node_is_left_out():
    answer = (Sample({"instance": "n1:9100"}, 0.0), Sample({"instance": "n2:9182"}, 9.0))
    (finding,) = found(CheckResult(100.0, MOVED, answer), node_label="instance")
    assert finding.node == "n2"


def test_what_is_stale_or_too_few_is_told_with_figures():
    ages = samples(n1=30.0, n2=400.0)
    stale = CheckResult(100.0, MOVED, samples(n1=0.0, n2=0.0), ages=ages)
    (finding,) = found(stale, max_age=60.0, age_of="up")
    assert finding.message == (
        "check c has no sample of the last 60 s for 1 of 2 nodes (n2): the oldest is from 400 s ago"
    )
    moved = frozenset(f"n{n}" for n in range(10))
    few = CheckResult(100.0, moved, samples(n0=0.0), infos=("no counter",))
    check = spec(coverage=IntOrPercent(90, is_percent=True))
    (finding,) = judge_check(check, few, moved, 100.0)
    assert finding.message == (
        "check c has no series for 9 of 10 nodes (n1, n2, n3, n4, n5); 9 must report "
        "(Prometheus remarks: no counter)"
    )


def test_missing_nodes_are_named():
    (finding,) = found(CheckResult(100.0, MOVED, samples(n1=0.0)))
    assert "has no series for 1 of 2 nodes (n2)" in finding.message


def test_series_without_the_node_label_say_nothing_about_a_node():
    answer = (Sample({"instance": "n1"}, 9.0), Sample({"instance": "n2"}, 0.0))
    assert verdict(CheckResult(100.0, MOVED, answer)) == HOLD
    assert verdict(CheckResult(100.0, MOVED, answer), node_label="instance") == ABOVE


def test_the_verdict_over_nothing_is_pass_and_the_worst_wins():
    assert worst([]) is Verdict.PASS
    assert list(Verdict) == sorted(Verdict)
