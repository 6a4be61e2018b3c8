"""Prometheus checks. Only a finite, fresh value about every moved node lets a check pass.

An outage, an empty answer or NaN is a Hold: never a Pass, never an instant Fail. `truth.TABLE` says
it row by row.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from statistics import median

from wavegate.api import GateKind, Reason
from wavegate.evidence.findings import Finding, Verdict, how_often
from wavegate.evidence.observation import CheckResult, CheckSpec, Sample

LOST_SECONDS, LOST_INTERVALS = 180.0, 3
"""A node is lost to a check when it was silent for so long, and so many intervals."""
NEW_SECONDS, NEW_INTERVALS = 90.0, 3
"""Until so long after its move, and so many intervals, a node may have no series yet."""
LEAST_CONTROL, CONTROL_SHARE = 5, 0.9
"""So many nodes without the content are asked for at least, and this share of them reports."""
END_OF_TIME = 253_402_300_799.0
"""The last second of the year 9999: a later one is no time that can be written."""
_NOT_FINITE = "answered NaN or infinity"
_PORT = re.compile(r":[0-9]{1,5}$")


@dataclass(frozen=True, slots=True)
class Reading:
    """The worst sample about one node (about the wave, if `node` is empty)."""

    node: str
    value: float
    excess: float
    """How far it is outside of the limits; negative when it is within them, NaN when no number."""
    sampled_at: float | None
    """When it was sampled, by Prometheus' clock: its age, where that is asked, is left out."""
    age: float
    """Seconds since its series was sampled; infinite when that is not known."""
    is_fresh: bool

    @property
    def badness(self) -> tuple[bool, int, float]:
        """The higher, the more it speaks against a pass; what is old speaks least."""
        return (self.is_fresh, *_rank(self.excess))


@dataclass(frozen=True, slots=True)
class Survey:
    """What an answer says of some nodes, for people, whatever it proves."""

    bad: tuple[Reading, ...]
    """Outside of the limits, no number, or old; the worst first."""
    good: Reading | None
    """Of the others, the one nearest to its limit."""
    good_count: int
    silent: tuple[str, ...]
    """Nodes of which it says nothing."""


def judge_check(
    check: CheckSpec, result: CheckResult | None, moved: frozenset[str], since: float
) -> Iterator[Finding]:
    """What decides: nothing of a check that is only a dry run, else what `assess_check` finds."""
    if not check.dry_run:
        yield from assess_check(check, result, moved, since)


def assess_check(
    check: CheckSpec, result: CheckResult | None, moved: frozenset[str], since: float
) -> Iterator[Finding]:
    """Judge the newest answer to `check` about the `moved` nodes; one asked before `since`, or
    about fewer nodes, can still show harm but not prove its absence.
    """
    if result is None:
        yield _finding(check, Verdict.WAIT, Reason.CheckNoData, "was not asked yet")
        return
    lost = no_answer(check, result)
    if lost is not None:
        yield lost
        return
    relevant = [sample for sample in result.samples if _is_about(check, sample, moved)]
    harm = list(outside_limits(check, result, moved))
    if harm:
        yield from harm
    elif any(not math.isfinite(sample.value) for sample in relevant):
        yield _finding(check, Verdict.HOLD, Reason.CheckNoData, _NOT_FINITE)
    elif result.asked_at < since or not moved <= result.nodes:
        yield _finding(check, Verdict.WAIT, Reason.CheckNoData, "has no fresh answer yet")
    else:
        yield from _proof(check, result, relevant, moved)


def outside_limits(
    check: CheckSpec, result: CheckResult | None, nodes: Iterable[str]
) -> Iterator[Finding]:
    """One finding for each of these nodes (or one for all, `per: Wave`) whose worst fresh value is
    above `max`, and not excused by the control, or below `min`; the worst first. None without a
    whole answer.
    """
    if result is None or no_answer(check, result) is not None:
        return
    wanted, ages, check = frozenset(nodes), _ages(check, result), limited(check, result)
    worst: dict[str, Sample] = {}
    for sample in result.samples:
        excess = _excess(check, sample)
        if excess == 0.0:
            continue  # nearly all are
        node = reported_node(check, sample) if check.per_node else ""
        known = _excess(check, worst[node]) if node in worst else 0.0
        about = node in wanted or not check.per_node
        if about and excess > known and _is_fresh(check, ages, node):
            worst[node] = sample
    for node, sample in sorted(worst.items(), key=lambda item: -_excess(check, item[1])):
        yield _outside(check, result, sample, node or None)


def survey(check: CheckSpec, result: CheckResult, nodes: frozenset[str]) -> Survey:
    """Sort an answer about these nodes by what speaks against a pass."""
    ages, bad, check = _ages(check, result), list[Reading](), limited(check, result)
    best, found, count = -math.inf, None, 0
    worst = _worst_of_each(check, result, nodes)
    for node, (excess, sample) in worst.items():
        fresh = _is_fresh(check, ages, node)
        if not fresh or not excess <= 0:  # NaN is no number
            bad.append(_reading(check, node, sample, ages))
            continue
        count += 1
        if excess >= best:
            best, found = excess, (node, sample)
    bad.sort(key=lambda reading: reading.node)  # not in the order of the answer
    bad.sort(key=lambda reading: reading.badness, reverse=True)
    good = _reading(check, *found, ages) if found else None
    silent = tuple(sorted(nodes - worst.keys())) if check.per_node else ()
    return Survey(tuple(bad), good, count, silent)


def _worst_of_each(
    check: CheckSpec, result: CheckResult, nodes: frozenset[str]
) -> dict[str, tuple[float, Sample]]:
    """The worst sample about each node, and how far it is outside of the limits."""
    worst: dict[str, tuple[float, Sample]] = {}
    for sample in result.samples:
        node = reported_node(check, sample) if check.per_node else ""
        if node in nodes or not check.per_node:
            excess, known = _distance(check, sample.value), worst.get(node)
            if known is None or _rank(excess) > _rank(known[0]):
                worst[node] = excess, sample
    return worst


def _reading(check: CheckSpec, node: str, sample: Sample, ages: Mapping[str, float]) -> Reading:
    age = ages.get(node, math.inf)
    return Reading(
        node,
        sample.value,
        _distance(check, sample.value),
        _sampled_at(check, sample, age),
        age,
        _is_fresh(check, ages, node),
    )


def lost_nodes(check: CheckSpec, result: CheckResult, nodes: frozenset[str]) -> list[str]:
    """Those of these nodes that were silent for so long that it counts, if the control reports."""
    since = result.asked_at - max(LOST_SECONDS, LOST_INTERVALS * check.interval)
    return sorted(n for n, at in result.silent.items() if at <= since and n in nodes)


def silent_nodes(check: CheckSpec, result: CheckResult) -> frozenset[str]:
    """The nodes that were asked about and have no fresh number; none of an answer that says nothing
    at all, and none of a check of the whole wave.
    """
    if not check.per_node or no_answer(check, result) is not None:
        return frozenset()
    ages = _ages(check, result)
    finite = (s for s in result.samples if math.isfinite(s.value))
    seen = {reported_node(check, sample) for sample in finite}
    return frozenset(n for n in result.nodes if n not in seen or not _is_fresh(check, ages, n))


def limited(check: CheckSpec, result: CheckResult) -> CheckSpec:
    """The check with the `max` that counts for this answer: a value above it is excused as far as
    it is not above `max_ratio` times the median of a control that reports.
    """
    usual, ratio = result.control_median, check.max_ratio
    if check.max is None or ratio is None or usual is None or not control_reports(result):
        return check
    most = ratio * usual
    return replace(check, max=max(check.max, most)) if math.isfinite(most) else check


def median_of(check: CheckSpec, result: CheckResult) -> float | None:
    """The median over the nodes that were asked about and have a fresh number, each by its highest:
    less than half of them can't raise it above what the others have. None without any.
    """
    wanted, highest = result.nodes - silent_nodes(check, result), dict[str, float]()
    for sample in result.samples:
        node = reported_node(check, sample)
        if node in wanted and math.isfinite(sample.value):
            highest[node] = max(sample.value, highest.get(node, sample.value))
    return median(highest.values()) if highest else None


def control_reports(result: CheckResult) -> bool:
    """Whether so many nodes without the content report that they tell what is usual."""
    reporting, asked = result.control
    return asked >= LEAST_CONTROL and reporting >= CONTROL_SHARE * asked


def _lost(check: CheckSpec, result: CheckResult, node: str) -> Finding:
    reporting, asked = result.control
    message = (
        f"check {check.name} lost node {node}, while {reporting} of {asked} nodes without the "
        "content report"
    )
    return Finding(
        Verdict.FAIL,
        Reason.EvidenceLostOnWave,
        message,
        node,
        gate=GateKind.Check,
        check=check.name,
    )


def reported_node(check: CheckSpec, sample: Sample) -> str:
    """The node that a sample speaks about: its label, without a port as in `instance`."""
    name = sample.labels.get(check.node_label, "")
    return _PORT.sub("", name) if ":" in name else name


def no_answer(check: CheckSpec, result: CheckResult) -> Finding | None:
    """Why this answer says nothing at all."""
    if result.error:
        reason = Reason.CheckInvalid if result.refused else Reason.CheckUnreachable
        return _finding(check, Verdict.HOLD, reason, result.error)
    if result.warnings:
        what = f"was answered with warnings: {'; '.join(result.warnings)}"
        return _finding(check, Verdict.HOLD, Reason.CheckIncomplete, what)
    return None


def _proof(
    check: CheckSpec, result: CheckResult, samples: list[Sample], moved: frozenset[str]
) -> Iterator[Finding]:
    """What keeps good values from proving that no harm was done."""
    missing = _missing(check, result, samples, moved)
    lost = lost_nodes(check, result, moved) if missing is not None else []
    if lost and control_reports(result):
        yield from (_lost(check, result, node) for node in lost)
    elif missing is not None and _may_come(check, result, moved):
        told = f"{missing.message}; these were moved just now"
        yield replace(missing, verdict=Verdict.WAIT, reason=Reason.CheckNoData, message=told)
    elif missing is not None:
        yield missing
    elif result.passes < check.consecutive:
        what = f"was good {how_often(result.passes)} in a row; {check.consecutive} are needed"
        yield _finding(check, Verdict.WAIT, Reason.CheckNoData, what)


def _may_come(check: CheckSpec, result: CheckResult, moved: frozenset[str]) -> bool:
    """Whether all that is missing is of nodes that are too new to have it."""
    silent = silent_nodes(check, result) & moved
    return bool(silent) and silent <= result.new


def _missing(
    check: CheckSpec, result: CheckResult, samples: list[Sample], moved: frozenset[str]
) -> Finding | None:
    """What the answer lacks; None when enough nodes reported, and lately."""
    ages = _ages(check, result)
    if not check.per_node:
        if len(samples) != 1:
            what = f"answered {len(samples)} series where `per: Wave` needs exactly one"
            return _finding(check, Verdict.HOLD, Reason.CheckNoData, _with_infos(result, what))
        return None if _is_fresh(check, ages, "") else _stale(check, "", ages.get(""))
    seen = {reported_node(check, sample) for sample in samples}
    needed = min(len(moved), check.coverage.resolve(len(moved)))
    old = sorted(node for node in seen if not _is_fresh(check, ages, node))
    if len(seen) - len(old) >= needed:
        return None
    if len(seen) >= needed:
        whose = f" for {len(old)} of {len(moved)} nodes ({', '.join(old[:5])})"
        return _stale(check, whose, max(ages.get(node, math.inf) for node in old))
    silent = sorted(moved - seen)
    what = f"has no series for {len(silent)} of {len(moved)} nodes ({', '.join(silent[:5])})"
    what += f"; {needed} must report" if needed < len(moved) else ""
    return _finding(check, Verdict.HOLD, Reason.CheckNoData, _with_infos(result, what))


def _ages(check: CheckSpec, result: CheckResult) -> dict[str, float]:
    """The age of each node's oldest series; of all of them together (key ""), `per: Wave`."""
    oldest: dict[str, float] = {}
    for age in result.ages:
        node = reported_node(check, age) if check.per_node else ""
        seconds = age.value if math.isfinite(age.value) else math.inf
        oldest[node] = max(seconds, oldest.get(node, seconds))
    return oldest


def _is_fresh(check: CheckSpec, ages: Mapping[str, float], node: str) -> bool:
    """Whether the samples of a node are young enough to be evidence."""
    return not check.age_of or ages.get(node, math.inf) <= check.max_age


def _stale(check: CheckSpec, whose: str, age: float | None) -> Finding:
    known = age is not None and math.isfinite(age)
    seen = f"the oldest is from {age:.0f} s ago" if known else "no age is known of some"
    what = f"has no sample of the last {check.max_age:g} s{whose}: {seen}"
    return _finding(check, Verdict.HOLD, Reason.CheckStale, what)


def _with_infos(result: CheckResult, what: str) -> str:
    """What is missing, and what Prometheus remarks on the query: often that is why."""
    return f"{what} (Prometheus remarks: {'; '.join(result.infos)})" if result.infos else what


def _is_about(check: CheckSpec, sample: Sample, moved: frozenset[str]) -> bool:
    return not check.per_node or reported_node(check, sample) in moved


def _excess(check: CheckSpec, sample: Sample) -> float:
    """How far a value is outside of the limits; 0 = it is not, or is no number."""
    distance = _distance(check, sample.value)
    return 0.0 if math.isnan(distance) else max(0.0, distance)


def _distance(check: CheckSpec, value: float) -> float:
    """How far a value is beyond the limit that it is nearest to; negative within both, NaN for
    what is no number.
    """
    if not math.isfinite(value):
        return math.nan
    above = value - check.max if check.max is not None else -math.inf
    below = check.min - value if check.min is not None else -math.inf
    return max(above, below)


def _rank(excess: float) -> tuple[int, float]:
    """The higher, the more it speaks against a pass: harm, then no number, then what is nearest
    to its limit.
    """
    if math.isnan(excess):
        return 1, 0.0
    return (2 if excess > 0 else 0), excess


def _sampled_at(check: CheckSpec, sample: Sample, age: float) -> float | None:
    if sample.at is None or (check.age_of and not math.isfinite(age)):
        return None
    at = sample.at - age if check.age_of else sample.at
    return at if 0.0 <= at < END_OF_TIME else None


def _outside(check: CheckSpec, result: CheckResult, sample: Sample, node: str | None) -> Finding:
    where = f" on node {node}" if node else ""
    message = f"check {check.name} saw {sample.value:g}{where}"
    if check.max is not None and sample.value > check.max:
        message += f", more than {check.max:g}{_compared(check, result)}"
        reason = Reason.CheckAboveMax
    else:
        reason = Reason.CheckBelowMin
        message += f", less than {check.min:g}"
    return Finding(Verdict.FAIL, reason, message, node, gate=GateKind.Check, check=check.name)


def _compared(check: CheckSpec, result: CheckResult) -> str:
    """How the limit of a check that looks at the control came about."""
    if check.max_ratio is None:
        return ""
    reporting, asked = result.control
    if result.control_median is None or not control_reports(result):
        return f" ({reporting} of {asked} nodes without the content report: too few to compare)"
    return f" (control: {check.max_ratio:g} times the median {result.control_median:g})"


def _finding(check: CheckSpec, verdict: Verdict, reason: Reason, what: str) -> Finding:
    message = f"check {check.name} {what}"
    return Finding(verdict, reason, message, gate=GateKind.Check, check=check.name)
