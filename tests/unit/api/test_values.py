"""Durations, shares, label selectors and numbers."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from wavegate.api import Check, Condition, Duration, IntOrPercent, LabelSelector


@pytest.mark.parametrize(
    ("text", "seconds", "shortest"),
    [
        ("90s", 90, "1m30s"),
        ("10m", 600, "10m"),
        ("60s", 60, "1m"),
        ("1h30m", 5400, "1h30m"),
        ("1h0m5s", 3605, "1h5s"),
        ("90m", 5400, "1h30m"),
        ("72h", 259200, "72h"),
        ("0s", 0, "0s"),
    ],
)
def test_a_duration_is_seconds_and_prints_its_shortest_text(text, seconds, shortest):
    found = Duration.parse(text)
    assert found == seconds
    assert str(found) == f"{found}" == shortest


@pytest.mark.parametrize(
    "text", ["", "10", "1.5h", "500ms", "1d", "PT5M", "-5s", "5s1m", "10 m", "5s\n", "٣s", "h"]
)
def test_text_that_is_no_duration_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match="1h30m"):
        Duration.parse(text)


@given(st.integers(min_value=0, max_value=10**9))
def test_a_duration_reads_back_what_it_prints(seconds):
    assert Duration.parse(str(Duration(seconds))) == seconds


def test_a_duration_adds_to_a_clock_and_prints_whole_seconds():
    assert 100.5 + Duration.parse("10s") == 110.5
    assert str(Duration(59.9)) == "59s"
    assert str(Duration(-61)) == "-1m1s"
    assert str(Duration(-0.5)) == "0s"


@pytest.mark.parametrize(
    ("raw", "total", "nodes"),
    [
        (1, 40, 1),
        (7, 3, 7),
        ("5%", 40, 2),
        ("5%", 41, 3),
        ("5%", 5, 1),
        ("1%", 0, 1),
        ("100%", 0, 1),
        ("100%", 40, 40),
        ("33%", 100, 33),
        ("7%", 100, 7),  # 0.07 * 100 is 7.000000000000001 with floats
        ("29%", 100, 29),
    ],
)
def test_a_share_is_rounded_up_and_at_least_one(raw, total, nodes):
    assert IntOrPercent.parse(raw).resolve(total) == nodes


@given(st.integers(1, 100), st.integers(1, 100_000))
def test_a_share_is_exact_and_never_more_than_all(percent, total):
    nodes = IntOrPercent(percent, is_percent=True).resolve(total)
    assert nodes == math.ceil(Fraction(percent * total, 100))
    assert 1 <= nodes <= total


@pytest.mark.parametrize(
    "raw", [0, -1, "0%", "101%", "5", "5.5%", "", "05%", "5%\n", True, 1.0, None]
)
def test_what_is_no_share_is_refused_with_an_example(raw):
    with pytest.raises(ValueError, match="from 1% to 100%"):
        IntOrPercent.parse(raw)


@pytest.mark.parametrize("raw", [5, "5%"])
def test_a_share_prints_as_it_was_written(raw):
    assert str(IntOrPercent.parse(raw)) == str(raw)


def expression(operator, *values, key="pool"):
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


@pytest.mark.parametrize(
    ("selector", "labels", "selected"),
    [
        ({}, {}, True),
        ({}, {"pool": "a"}, True),
        ({"matchLabels": {"pool": "a"}}, {"pool": "a", "x": "y"}, True),
        ({"matchLabels": {"pool": "a"}}, {"pool": "b"}, False),
        ({"matchLabels": {"pool": "a"}}, {}, False),
        ({"matchLabels": {"pool": ""}}, {"pool": ""}, True),
        ({"matchLabels": {"pool": ""}}, {}, False),
        ({"matchLabels": {"pool": "a", "zone": "1"}}, {"pool": "a"}, False),
        (expression("In", "a", "b"), {"pool": "b"}, True),
        (expression("In", "a"), {"pool": "b"}, False),
        (expression("In", "a"), {}, False),
        (expression("In", ""), {}, False),
        (expression("In", ""), {"pool": ""}, True),
        (expression("NotIn", "a"), {"pool": "b"}, True),
        (expression("NotIn", "a"), {"pool": "a"}, False),
        (expression("NotIn", "a"), {}, True),
        (expression("NotIn", ""), {"pool": ""}, False),
        (expression("Exists"), {"pool": ""}, True),
        (expression("Exists"), {}, False),
        (expression("DoesNotExist"), {}, True),
        (expression("DoesNotExist"), {"pool": ""}, False),
        ({"matchLabels": {"x": "y"}, **expression("In", "a")}, {"pool": "a", "x": "y"}, True),
        ({"matchLabels": {"x": "y"}, **expression("In", "a")}, {"pool": "a"}, False),
        ({"matchLabels": {"x": "y"}, **expression("In", "a")}, {"x": "y"}, False),
    ],
)
def test_a_selector_selects_as_kubernetes_does(selector, labels, selected):
    assert LabelSelector.model_validate(selector).matches(labels) is selected


def test_an_unknown_operator_is_refused():
    with pytest.raises(ValidationError, match="DoesNotExist"):
        LabelSelector.model_validate(expression("Gt", "1"))


@pytest.mark.parametrize(
    ("raw", "number"), [("0", 0.0), (3, 3.0), ("0.5", 0.5), ("-1.25", -1.25), (0.5, 0.5)]
)
def test_the_limit_of_a_check_is_a_decimal_number(raw, number):
    assert Check.model_validate({"name": "a", "query": "up", "max": raw}).max == number


@pytest.mark.parametrize("raw", ["nan", "inf", "1e3", "", " 1", "1_000", True, [1]])
def test_a_limit_that_is_no_decimal_number_is_refused(raw):
    with pytest.raises(ValidationError, match="max"):
        Check.model_validate({"name": "a", "query": "up", "max": raw})


def test_a_condition_is_written_as_kubernetes_reads_it():
    condition = Condition(
        type="Ready",
        status="True",
        reason="Accepted",
        message="",
        last_transition_time="2026-07-19T04:09:00Z",
        observed_generation=3,
    )
    assert condition.dump() == {
        "type": "Ready",
        "status": "True",
        "reason": "Accepted",
        "message": "",
        "lastTransitionTime": "2026-07-19T04:09:00Z",
        "observedGeneration": 3,
    }
