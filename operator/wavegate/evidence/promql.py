"""Prometheus checks. Only a finite, fresh value about every moved node lets a check pass.

An outage, an empty answer or NaN is a Hold: never a Pass, never an instant Fail.
"""

import math
from collections.abc import Iterator

from wavegate.api import Reason
from wavegate.evidence.findings import Finding, Verdict
from wavegate.evidence.observation import CheckResult, CheckSpec, Sample


def judge_check(
    check: CheckSpec, result: CheckResult | None, moved: frozenset[str], since: float
) -> Iterator[Finding]:
    """Judge the newest answer to `check` about the `moved` nodes; one asked before `since`, or
    about fewer nodes, can still show harm but not prove its absence.
    """
    if result is None:
        yield _finding(check, Verdict.WAIT, Reason.CheckNoData, "was not asked yet")
        return
    if result.error:
        reason = Reason.CheckInvalid if result.refused else Reason.CheckUnreachable
        yield _finding(check, Verdict.HOLD, reason, result.error)
        return
    relevant = [sample for sample in result.samples if _is_about(check, sample, moved)]
    above = [
        sample for sample in relevant if math.isfinite(sample.value) and sample.value > check.max
    ]
    if above:
        yield _above(check, max(above, key=lambda sample: sample.value))
    elif any(not math.isfinite(sample.value) for sample in relevant):
        yield _finding(check, Verdict.HOLD, Reason.CheckNoData, "answered NaN or infinity")
    elif result.asked_at < since or not moved <= result.nodes:
        yield _finding(check, Verdict.WAIT, Reason.CheckNoData, "has no fresh answer yet")
    else:
        yield from _coverage(check, relevant, moved)


def _coverage(check: CheckSpec, samples: list[Sample], moved: frozenset[str]) -> Iterator[Finding]:
    if not check.per_node:
        if len(samples) != 1:
            message = f"answered {len(samples)} series where `per: Wave` needs exactly one"
            yield _finding(check, Verdict.HOLD, Reason.CheckNoData, message)
        return
    silent = moved - {_node(check, sample) for sample in samples}
    if silent:
        names = ", ".join(sorted(silent)[:5])
        message = f"has no series for {len(silent)} of {len(moved)} nodes ({names})"
        yield _finding(check, Verdict.HOLD, Reason.CheckNoData, message)


def _node(check: CheckSpec, sample: Sample) -> str:
    return sample.labels.get(check.node_label, "")


def _is_about(check: CheckSpec, sample: Sample, moved: frozenset[str]) -> bool:
    return not check.per_node or _node(check, sample) in moved


def _above(check: CheckSpec, sample: Sample) -> Finding:
    node = _node(check, sample) if check.per_node else None
    where = f" on node {node}" if node else ""
    message = f"check {check.name} saw {sample.value:g}{where}, more than {check.max:g}"
    return Finding(Verdict.FAIL, Reason.CheckAboveMax, message, node)


def _finding(check: CheckSpec, verdict: Verdict, reason: Reason, what: str) -> Finding:
    return Finding(verdict, reason, f"check {check.name} {what}")
