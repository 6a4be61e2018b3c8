"""What each kind of answer of Prometheus means, row by row: DESIGN §6 as data.

docs/reference/evidence.md is made from it, and a test asks `judge_check` about every row. A row
that is not here does not exist: whatever else comes back is an error, and an error holds.
"""

from dataclasses import dataclass

from wavegate.api import Reason
from wavegate.evidence.findings import Verdict


@dataclass(frozen=True, slots=True)
class Meaning:
    """Verdict and reason; a Pass needs no reason."""

    verdict: Verdict
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of answer. `node` and `wave` are what it means for a check of that kind; None where
    such a check can't get it.
    """

    name: str
    answer: str
    node: Meaning | None
    wave: Meaning | None


PASS = Meaning(Verdict.PASS)
WAIT = Meaning(Verdict.WAIT, Reason.CheckNoData)
NO_DATA = Meaning(Verdict.HOLD, Reason.CheckNoData)
UNREACHABLE = Meaning(Verdict.HOLD, Reason.CheckUnreachable)
INVALID = Meaning(Verdict.HOLD, Reason.CheckInvalid)
INCOMPLETE = Meaning(Verdict.HOLD, Reason.CheckIncomplete)
STALE = Meaning(Verdict.HOLD, Reason.CheckStale)
ABOVE = Meaning(Verdict.FAIL, Reason.CheckAboveMax)
LOST = Meaning(Verdict.FAIL, Reason.EvidenceLostOnWave)
BELOW = Meaning(Verdict.FAIL, Reason.CheckBelowMin)


def _both(name: str, answer: str, meaning: Meaning) -> Row:
    return Row(name, answer, meaning, meaning)


TABLE = (
    _both("good", "finite values within the limits, whole, fresh, after the soak", PASS),
    _both("not asked", "none yet", WAIT),
    _both("unreachable", "none: time-out, refused connection, TLS error, redirect", UNREACHABLE),
    _both("status", "an HTTP status other than 200, 400 and 422", UNREACHABLE),
    _both("form", "no vector in JSON, cut off, more than 8 MiB or 20,000 series", UNREACHABLE),
    _both("connection", "none: the files of the connection can't be used", UNREACHABLE),
    _both("refused", "400 or 422: Prometheus can't run the query", INVALID),
    _both("warnings", "one with `warnings`, whatever its values", INCOMPLETE),
    _both("empty", "no series at all", NO_DATA),
    _both("NaN", "NaN about a judged node, or in the sample of the wave", NO_DATA),
    _both("infinity", "+Inf or -Inf there", NO_DATA),
    _both("above", "a finite value above `max`, whatever else is missing", ABOVE),
    Row(
        "usual",
        "such a value, not above `control.maxRatio` times the median of the control, of which 90 % "
        "(5 nodes at least that are in the same pools, without the content) have a fresh number; "
        "all else is good",
        PASS,
        None,
    ),
    Row(
        "unusual",
        "such a value, above that too, or fewer of the control have a number",
        ABOVE,
        None,
    ),
    _both("below", "a finite value below `min`, whatever else is missing", BELOW),
    _both("stale", "good values, but samples older than `freshness.maxAge`", STALE),
    _both("stale harm", "a value outside of the limits, as old: it may be from before", STALE),
    _both("no age", "good values, but no age of their samples", STALE),
    _both(
        "early",
        "good values, asked before the soak ended, or before a wave opened that has moved no node",
        WAIT,
    ),
    _both("narrow", "good values, asked before all nodes were moved", WAIT),
    _both("consecutive", "good values, fewer times in a row than `consecutive`", WAIT),
    Row("too few", "good values of fewer nodes than `coverage`", NO_DATA, None),
    Row(
        "new",
        "the same, if each node without a fresh number was moved less than 90 s and 3 intervals "
        "ago: its new pods may not have been scraped yet",
        WAIT,
        None,
    ),
    Row(
        "lost",
        "too few for 3 intervals and 3 minutes at least, while 90 % of the control (5 nodes at "
        "least that are in the same pools, without the content) have a fresh number",
        LOST,
        None,
    ),
    Row("lost alike", "the same, but fewer of the control have one", NO_DATA, None),
    Row("covered", "good values of as many nodes as `coverage`", PASS, None),
    Row("another node", "any value, but only of nodes that are not judged", NO_DATA, None),
    Row("another label", "any value, but without the label `nodeLabel`", NO_DATA, None),
    Row("several", "more than one series (of a node, or for the wave), all good", PASS, NO_DATA),
    _both("several, one bad", "the same, one of them outside of the limits", ABOVE),
    _both("dry run", "any, to a check with `dryRun`", PASS),
)
