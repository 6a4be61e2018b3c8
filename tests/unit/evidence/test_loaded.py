"""What an agent reports: only the released content, from the agent that runs, is proof."""

import math
from dataclasses import replace

import pytest

from wavegate.evidence import (
    CheckResult,
    CheckSpec,
    LoadedProof,
    PodView,
    Sample,
    is_loaded,
    judge_answer,
    judge_loaded,
    said_by_metric,
    said_by_pods,
)

HEX = "ab" * 32
POD = PodView("p", "ns", "u", "c", "x", "n", "Running", True, 100.0, False, 0)
METRIC = CheckSpec("loadedProof", "m", True, "node", None, 30.0, 10.0, max_age=120.0, age_of="m")
PROOF = LoadedProof(metric=METRIC, digest_label="digest")
NODES = frozenset({"n"})


def answered(*series, asked_at=150.0, **more):
    """An answer of (digest, value, age) about node n; the ages lack the metric's name."""
    labels = [
        {"node": "n", "digest": digest, "pod": str(i)} for i, (digest, *_) in enumerate(series)
    ]
    return CheckResult(
        asked_at,
        NODES,
        tuple(
            Sample({"__name__": "m", **own}, value)
            for own, (_, value, _) in zip(labels, series, strict=True)
        ),
        ages=tuple(
            Sample(own, age)
            for own, (_, _, age) in zip(labels, series, strict=True)
            if age is not None
        ),
        **more,
    )


def said(*series, **more):
    return said_by_metric(PROOF, answered(*series, **more), {"n": POD}).get("n")


@pytest.mark.parametrize(
    ("reported", "released", "same"),
    [
        (HEX, f"sha256:{HEX}", True),
        (f"SHA256:{HEX.upper()} ", f"sha256:{HEX}", True),
        (HEX[:-1], f"sha256:{HEX}", False),
        ("rules-7", "rules-7", True),
    ],
)
def test_a_digest_is_the_same_in_any_case_and_with_or_without_its_algorithm(
    reported, released, same
):
    by_node = said_by_pods("a", {"n": replace(POD, annotations={"a": reported})})
    assert is_loaded(by_node["n"], released) is same


@pytest.mark.parametrize("annotations", [{}, {"a": ""}, {"b": HEX}])
def test_an_agent_that_wrote_no_such_annotation_has_said_nothing(annotations):
    assert said_by_pods("a", {"n": replace(POD, annotations=annotations)}) == {}
    assert not is_loaded(None, HEX)


def test_two_contents_at_once_are_no_proof_of_either():
    assert said((HEX, 1.0, 1.0), ("cd" * 32, 1.0, 1.0)) == {HEX, "cd" * 32}
    assert not is_loaded(frozenset({HEX, "cd" * 32}), HEX)


@pytest.mark.parametrize(
    ("value", "age", "counts"),
    [
        (1.0, 1.0, True),
        (1.0, 50.0, True),
        (1.0, 50.1, False),  # sampled before the agent was Ready: an earlier pod said it
        (0.0, 1.0, False),
        (math.nan, 1.0, False),
        (1.0, None, False),
        (1.0, math.nan, False),
    ],
)
def test_a_series_counts_that_is_above_0_and_younger_than_the_agent(value, age, counts):
    assert said((HEX, value, age)) == (frozenset({HEX}) if counts else None)


def test_a_series_that_is_older_than_its_greatest_age_is_no_report():
    assert said((HEX, 1.0, 120.0), asked_at=1000.0) == {HEX}
    assert said((HEX, 1.0, 120.1), asked_at=1000.0) is None


@pytest.mark.parametrize("more", [{"error": "down"}, {"warnings": ("a store is down",)}])
def test_an_answer_that_is_none_says_nothing_and_holds(more):
    assert said((HEX, 1.0, 1.0), **more) is None
    (finding,) = judge_answer(PROOF, answered((HEX, 1.0, 1.0), **more), NODES, 0.0)
    assert finding.verdict.name == "HOLD"


@pytest.mark.parametrize(
    ("result", "waits"),
    [
        (None, "not asked yet"),
        (answered(asked_at=149.0), "no fresh answer"),
        (replace(answered(), nodes=frozenset()), "no fresh answer"),
    ],
)
def test_an_answer_that_is_early_or_narrow_waits(result, waits):
    (finding,) = judge_answer(PROOF, result, NODES, 150.0)
    assert finding.verdict.name == "WAIT"
    assert waits in finding.message


def test_a_fresh_answer_is_judged_node_by_node():
    assert not list(judge_answer(PROOF, answered(), NODES, 150.0))


@pytest.mark.parametrize("pods", [{}, {"n": replace(POD, ready=False, ready_since=None)}])
def test_nobody_speaks_for_a_node_without_a_ready_agent(pods):
    assert said_by_metric(PROOF, answered((HEX, 1.0, 1.0)), pods) == {}


def verdict(reported, *, overdue):
    found = list(judge_loaded("n", reported, HEX, overdue=overdue))
    return [(f.verdict.name, f.reason.value, f.blocks) for f in found]


def test_the_released_content_is_no_finding_and_nothing_else_is_none():
    assert verdict(frozenset({HEX}), overdue=True) == []
    for silent in (None, frozenset()):
        assert verdict(silent, overdue=False) == [("WAIT", "LoadedNotReported", False)]
        assert verdict(silent, overdue=True) == [("HOLD", "LoadedNotReported", False)]
    for other in (frozenset({"x"}), frozenset({"x", HEX})):
        assert verdict(other, overdue=False) == [("WAIT", "OtherContentLoaded", False)]
        assert verdict(other, overdue=True) == [("FAIL", "OtherContentLoaded", False)]
