"""Every row of the truth table, for each kind of check."""

import math

import pytest

from wavegate.api import IntOrPercent
from wavegate.evidence import CheckResult, CheckSpec, Sample, Verdict, judge_check, worst
from wavegate.evidence.gates import of_check
from wavegate.evidence.truth import TABLE

MOVED = frozenset({"n1", "n2", "n3", "n4"})
SINCE = 100.0
AGED = {"max_age": 60.0, "age_of": "up"}


def of(kind, *values, label="node", nodes=("n1", "n2", "n3", "n4")):
    """Samples with these values: of a wave, or of its nodes in turn (the last value repeats)."""
    if kind == "wave":
        return tuple(Sample({"series": str(n)}, value) for n, value in enumerate(values))
    padded = (*values, *[values[-1]] * (len(nodes) - len(values)))
    return tuple(Sample({label: node}, v) for node, v in zip(nodes, padded, strict=True))


def answer(kind, *values, asked_at=SINCE, nodes=MOVED, **more):
    return CheckResult(asked_at, nodes, of(kind, *values), **more)


def error(text, **more):
    return lambda _kind: [({}, CheckResult(SINCE, MOVED, of("wave", 0.0), text, **more))]


def good(kind, spec=None, **more):
    return spec or {}, answer(kind, 0.0, **more)


def lost(kind, since, spec=None, *, control=(9, 10), nodes=("n1", "n2", "n3"), **more):
    """Good values of these nodes; the others are silent since then."""
    silent = dict.fromkeys(MOVED - set(nodes), since)
    samples = of(kind, 0.0, nodes=nodes) if nodes else ()
    return spec or {}, CheckResult(SINCE, MOVED, samples, silent=silent, control=control, **more)


def compared(kind, value, *, control=(9, 10), median=2.0, spec=None, **more):
    """A value above `max` (5) of a node, and what the control has to it."""
    told = answer(kind, value, 0.0, control=control, control_median=median, **more)
    return {"max_ratio": 3.0, **(spec or {})}, told


# Row -> the examples of it, each the options of the check and the answer.
EXAMPLES = {
    "good": lambda k: [
        good(k),
        ({}, answer(k, 5.0)),
        ({"min": 0.0}, answer(k, 0.0)),
        ({"max": None, "min": 0.0}, answer(k, 1e9)),
        good(k, AGED, ages=of(k, 60.0)),
        good(k, {"consecutive": 3}, passes=3),
        good(k, infos=("is no counter",)),
        *([compared(k, 5.0, median=0.0)] if k == "node" else []),
    ],
    "not asked": lambda _: [({}, None), (AGED, None)],
    "unreachable": error("got no answer within 10 s"),
    "status": error("was refused: 503"),
    "form": error("could not be asked: no JSON"),
    "connection": error("could not be asked: no connection"),
    "refused": error("was refused: parse error", refused=True),
    "warnings": lambda k: [
        good(k, warnings=("partial",)),
        ({}, answer(k, 9.0, warnings=("partial",))),
        ({}, CheckResult(SINCE, MOVED, (), warnings=("partial",))),
    ],
    "empty": lambda _: [({}, CheckResult(SINCE, MOVED)), (AGED, CheckResult(SINCE, MOVED))],
    "NaN": lambda k: [
        ({}, answer(k, math.nan)),
        ({"coverage": IntOrPercent(1)} if k == "node" else {}, answer(k, math.nan)),
        ({"min": 0.0}, answer(k, math.nan)),
    ],
    "infinity": lambda k: [
        ({}, answer(k, math.inf)),
        ({}, answer(k, -math.inf)),
        ({"max": None, "min": 1.0}, answer(k, -math.inf)),
    ],
    "above": lambda k: [
        ({}, answer(k, 5.1)),
        ({}, answer(k, 5.1, asked_at=0.0)),
        ({}, answer(k, 5.1, nodes=frozenset())),
        ({"consecutive": 9}, answer(k, 5.1, passes=0)),
        (AGED, answer(k, 5.1, ages=of(k, 1.0))),
        ({}, answer(k, 9.0, math.nan)),
    ],
    "usual": lambda k: [
        compared(k, 6.0),
        compared(k, 6.0, control=(5, 5)),
        compared(k, 6.0, spec={"consecutive": 2}, passes=2),
        compared(k, 6.0, spec=AGED, ages=of(k, 1.0)),
        compared(k, 9.0, median=8.0),
    ],
    "unusual": lambda k: [
        compared(k, 6.1),
        compared(k, 6.0, spec={"max_ratio": None}),
        compared(k, 6.0, control=(4, 4)),
        compared(k, 6.0, control=(8, 9)),
        compared(k, 6.0, control=(0, 0), median=None),
        compared(k, 5.1, median=0.0),
        compared(k, 5.1, median=-9.0),
        compared(k, 5.1, median=1e308),
        compared(k, 6.1, asked_at=0.0, nodes=frozenset()),
    ],
    "below": lambda k: [
        ({"min": 1.0}, answer(k, 0.9)),
        ({"max": None, "min": -1.0}, answer(k, -2.0)),
    ],
    "stale": lambda k: [good(k, AGED, ages=of(k, 60.1)), good(k, AGED, ages=of(k, 300.0, 1.0))],
    "stale harm": lambda k: [(AGED, answer(k, 9.0, ages=of(k, 60.1)))],
    "no age": lambda k: [good(k, AGED), good(k, AGED, ages=of(k, math.nan))],
    "early": lambda k: [good(k, asked_at=99.9)],
    "narrow": lambda k: [good(k, nodes=frozenset({"n1"}))],
    "consecutive": lambda k: [good(k, {"consecutive": 3}, passes=2)],
    "too few": lambda k: [
        lost(k, SINCE, new=frozenset({"n1", "n2", "n3"})),
        lost(k, SINCE, nodes=("n1", "n2"), new=frozenset({"n4"})),
        ({}, CheckResult(SINCE, MOVED, of(k, 0.0, nodes=("n1", "n2", "n3")))),
        (
            {"coverage": IntOrPercent(76, is_percent=True)},
            CheckResult(SINCE, MOVED, of(k, 0.0, nodes=("n1", "n2", "n3"))),
        ),
    ],
    "new": lambda k: [
        lost(k, SINCE, new=frozenset({"n4"})),
        lost(k, SINCE, new=MOVED),
        lost(k, SINCE, nodes=(), new=MOVED),
        lost(k, SINCE, AGED, ages=of(k, 60.1, 1.0), nodes=tuple(sorted(MOVED)), new={"n1"}),
    ],
    "lost": lambda k: [
        lost(k, SINCE - 180.0),
        lost(k, SINCE - 180.0, control=(5, 5)),
        lost(k, SINCE - 180.0, nodes=()),
        lost(k, SINCE - 300.0, {"interval": 100.0}),
        lost(k, SINCE - 180.0, AGED, ages=of(k, 1.0, nodes=("n1", "n2", "n3"))),
    ],
    "lost alike": lambda k: [
        lost(k, SINCE - 179.0),
        lost(k, SINCE - 299.0, {"interval": 100.0}),
        lost(k, SINCE - 900.0, control=(0, 0)),
        lost(k, SINCE - 900.0, control=(4, 4)),
        lost(k, SINCE - 900.0, control=(8, 9)),
    ],
    "covered": lambda k: [
        (
            {"coverage": IntOrPercent(75, is_percent=True)},
            lost(k, SINCE - 900.0)[1],
        ),
        (
            {"coverage": IntOrPercent(75, is_percent=True)},
            CheckResult(SINCE, MOVED, of(k, 0.0, nodes=("n1", "n2", "n3"))),
        ),
        ({"coverage": IntOrPercent(1)}, CheckResult(SINCE, MOVED, of(k, 0.0, nodes=("n1",)))),
        ({"coverage": IntOrPercent(900)}, answer(k, 0.0)),
    ],
    "another node": lambda k: [
        ({}, CheckResult(SINCE, MOVED, of(k, 9.0, nodes=("other",)))),
        ({}, CheckResult(SINCE, MOVED, of(k, math.nan, nodes=("other",)))),
    ],
    "another label": lambda k: [
        ({}, CheckResult(SINCE, MOVED, of(k, 9.0, label="instance"))),
    ],
    "several": lambda k: [({}, CheckResult(SINCE, MOVED, of(k, 0.0, 1.0) * 2))],
    "several, one bad": lambda k: [({}, CheckResult(SINCE, MOVED, of(k, 0.0, 9.0) + of(k, 0.0)))],
    "dry run": lambda k: [
        ({"dry_run": True}, answer(k, 9.0)),
        ({"dry_run": True}, None),
        ({"dry_run": True}, CheckResult(SINCE, MOVED, error="is down")),
    ],
}

CASES = [
    pytest.param(row, kind, options, result, id=f"{row.name}-{kind}-{number}")
    for row in TABLE
    for kind in ("node", "wave")
    if getattr(row, kind) is not None
    for number, (options, result) in enumerate(EXAMPLES[row.name](kind))
]


@pytest.mark.parametrize(("row", "kind", "options", "result"), CASES)
def test_an_answer_means_what_its_row_says(row, kind, options, result):
    plain = {"name": "c", "query": "q", "node_label": "node", "max": 5.0, "interval": 30.0}
    check = CheckSpec(**{**plain, "per_node": kind == "node", "timeout": 10.0, **options})
    found = list(judge_check(check, result, MOVED, SINCE))
    meant = getattr(row, kind)
    assert worst(found) is meant.verdict
    assert {finding.reason for finding in found} == ({meant.reason} if meant.reason else set())
    assert not any(finding.blocks for finding in found)


@pytest.mark.parametrize(("row", "kind", "options", "result"), CASES)
def test_the_gate_of_a_check_says_the_same_and_by_which_value(row, kind, options, result):
    plain = {"name": "c", "query": "q", "node_label": "node", "max": 5.0, "interval": 30.0}
    check = CheckSpec(**{**plain, "per_node": kind == "node", "timeout": 10.0, **options})
    found = list(judge_check(check, result, MOVED, SINCE))
    gate = of_check(check, result, MOVED, found, 7.0)
    meant = getattr(row, kind)
    assert (gate.verdict, gate.reason) == (meant.verdict, meant.reason)
    assert gate.expected == (4 if kind == "node" else 1)
    if row.name == "lost":
        assert gate.worst[-1].what == "no series"
    elif meant.verdict is Verdict.FAIL:
        value = float(gate.value)
        assert value > 5.0 or (check.min is not None and value < check.min)
        assert [bad.what for bad in gate.worst][:1] == ([gate.value] if kind == "node" else [])
    if row.name in ("NaN", "infinity"):
        assert not math.isfinite(float(gate.value))
    if meant.verdict is Verdict.PASS and not check.dry_run:
        needed = check.coverage.resolve(4) if kind == "node" else 1
        assert gate.reporting >= min(needed, 4)


def test_each_row_has_examples_and_each_example_a_row():
    names = [row.name for row in TABLE]
    assert sorted(names) == sorted(EXAMPLES)
    assert len(set(names)) == len(names)
