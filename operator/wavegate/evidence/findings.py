"""A finding says what was seen, of which node, and what it means; the worst one is the verdict."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from wavegate.api import GateKind, Reason


class Verdict(IntEnum):
    """Ordered from best to worst, so that `max` is the verdict of a wave."""

    PASS = 0
    WAIT = 1
    """Not yet known: the evidence is still on its way."""
    HOLD = 2
    """Evidence is missing. Nothing moves until it is back."""
    FAIL = 3
    """Positive evidence of harm."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One reason not to go on. `blocks`: the content itself did harm, so its digest is blocked."""

    verdict: Verdict
    reason: Reason
    message: str
    node: str | None = None
    blocks: bool = False
    gate: GateKind = GateKind.Sight
    """The kind of evidence that it is."""
    check: str = ""
    """Name of the check, if one found it."""


def worst(findings: Iterable[Finding]) -> Verdict:
    """The verdict over all findings; Pass only when there is none.

    Whoever calls must have made sure that each node and each check *could* have produced one:
    no finding means that all evidence was there and good.
    """
    return max((finding.verdict for finding in findings), default=Verdict.PASS)


def how_often(times: int) -> str:
    """A count as people say it."""
    return "once" if times == 1 else f"{times} times"
