"""The decision record: what each gate said, in the words and figures that it decided by.

A gate is one kind of evidence at one moment of a wave: what nodes show, what agents show, or one
check. It is made for people who ask afterwards why a wave stopped; nothing is decided by it.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from wavegate.api import GateKind, Reason
from wavegate.evidence.findings import Finding, Verdict
from wavegate.evidence.observation import CheckResult, CheckSpec
from wavegate.evidence.promql import Survey, control_reports, survey

MAX_WORST = 5
MAX_DETAILED = 4
"""So many gates of a record name their worst nodes: those that stopped the wave come first."""
MAX_MESSAGE, MAX_QUERY, SHORT_QUERY, MAX_LINE = 240, 1_024, 256, 96
"""Bytes of a gate's texts: a record holds many gates, and must always fit."""


@dataclass(frozen=True, slots=True)
class WorstNode:
    """One of the nodes to look at first, and what is known of it."""

    node: str
    what: str


@dataclass(frozen=True, slots=True)
class Gate:
    """What one kind of evidence said. Values are texts, as NaN is a value too."""

    kind: GateKind
    verdict: Verdict
    at: float
    """When the operator looked, by its own clock."""
    check: str = ""
    dry_run: bool = False
    reason: Reason | None = None
    """Of its worst finding; None when it passed."""
    message: str = ""
    query: str = ""
    value: str = ""
    """The worst of all nodes'."""
    threshold: str = ""
    sampled_at: float | None = None
    """When that value was sampled, by Prometheus' clock."""
    reporting: int = 0
    expected: int = 0
    worst: tuple[WorstNode, ...] = ()

    @property
    def name(self) -> str:
        """What people call it."""
        return f"check {self.check}" if self.check else self.kind.value

    @property
    def line(self) -> str:
        """The short form: `check crashes: Fail CheckAboveMax, 7 (<= 0), 5 of 5`."""
        why = f" {self.reason}" if self.reason else ""
        dry = " (dry run)" if self.dry_run else ""
        value = f", {self.value} ({self.threshold})" if self.value and self.threshold else ""
        line = f"{self.name}{dry}: {self.verdict.name.title()}{why}{value}"
        return cut(f"{line}, {self.reporting} of {self.expected}", MAX_LINE)


def built_in(
    kind: GateKind, findings: Sequence[Finding], reporting: int, expected: int, at: float
) -> Gate:
    """The gate of what nodes or agents show; `reporting` of `expected` gave positive evidence."""
    bad: dict[str, str] = {}
    # The worst first, then by name: nodes come from a set, whose order each process has anew. A
    # node may have several.
    for finding in sorted(findings, key=lambda found: (-found.verdict, found.node or "")):
        if finding.node and len(bad) < MAX_WORST:
            bad.setdefault(finding.node, finding.reason.value)
    worst = tuple(WorstNode(node, what) for node, what in bad.items())
    gate = Gate(kind, Verdict.PASS, at, reporting=reporting, expected=expected, worst=worst)
    return _said(gate, findings)


def of_check(
    check: CheckSpec,
    result: CheckResult | None,
    judged: frozenset[str],
    findings: Sequence[Finding],
    at: float,
) -> Gate:
    """The gate of one check, about which `assess_check` found these."""
    gate = Gate(
        GateKind.Check,
        Verdict.PASS,
        at,
        check=check.name,
        dry_run=check.dry_run,
        query=cut(result.query if result and result.query else check.query, MAX_QUERY),
        threshold=" and ".join(_limits(check, result)),
        expected=len(judged) if check.per_node else 1,
    )
    gate = _said(gate, findings)
    if result is None or result.error:
        return gate
    found = survey(check, result, judged)
    fresh_harm = [reading for reading in found.bad if reading.is_fresh]
    first = next(iter(fresh_harm), None) or found.good or next(iter(found.bad), None)
    return replace(
        gate,
        value=f"{first.value:g}" if first else "",
        sampled_at=first.sampled_at if first else None,
        reporting=found.good_count + sum(1 for r in fresh_harm if math.isfinite(r.value)),
        worst=tuple(islice(_worst(found), MAX_WORST)) if check.per_node else (),
    )


def bounded(gates: Iterable[Gate]) -> tuple[Gate, ...]:
    """The worst first, as their order else is; only the first few in detail."""
    ordered = sorted(gates, key=lambda gate: (gate.dry_run, -gate.verdict))
    return tuple(
        gate
        if place < MAX_DETAILED
        else replace(gate, worst=(), message="", query=cut(gate.query, SHORT_QUERY))
        for place, gate in enumerate(ordered)
    )


def cut(text: str, most: int) -> str:
    """The text, or as much of its beginning as `most` bytes hold."""
    raw = text.encode(errors="replace")
    return text if len(raw) <= most else raw[: most - 3].decode(errors="ignore") + "…"


def _said(gate: Gate, findings: Sequence[Finding]) -> Gate:
    """The gate with verdict, reason and words of its worst finding."""
    if not findings:
        return gate
    worst = max(findings, key=lambda finding: finding.verdict)
    message = cut(worst.message, MAX_MESSAGE)
    return replace(gate, verdict=worst.verdict, reason=worst.reason, message=message)


def _limits(check: CheckSpec, result: CheckResult | None) -> Iterator[str]:
    if check.min is not None:
        yield f">= {check.min:g}"
    if check.max is not None:
        yield f"<= {check.max:g}{_ratio(check, result)}"


def _ratio(check: CheckSpec, result: CheckResult | None) -> str:
    """With which value of the control the limit is compared, if it is."""
    if check.max_ratio is None:
        return ""
    known = result is not None and result.control_median is not None and control_reports(result)
    usual = f" ({result.control_median:g})" if result is not None and known else ""
    return f" or {check.max_ratio:g} x control{usual}"


def _worst(found: Survey) -> Iterator[WorstNode]:
    """The nodes that speak against a pass, or say nothing."""
    for reading in found.bad:
        what = f"{reading.value:g}"
        if not reading.is_fresh:
            known = math.isfinite(reading.age)
            what += f", sampled {reading.age:.0f} s before" if known else ", of unknown age"
        yield WorstNode(reading.node, what)
    for node in found.silent:
        yield WorstNode(node, "no series")
