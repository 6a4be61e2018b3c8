"""Whether releases come faster than the plan lets one through: PlanSlowerThanFeed.

Then most of them never reach the last wave: newer ones overtake them, and nodes late in the plan
run old content without anybody having decided so. Nothing is decided by it; people are told.
"""

import statistics
from itertools import pairwise

from wavegate.api import Duration, Phase, Reason
from wavegate.rollout import forecast
from wavegate.rollout.observation import Observation
from wavegate.rollout.steps import Problem

LOOKED_AT = 10
"""So many of the newest releases are looked at."""
FEWEST = 4
"""Fewer releases than these have no rhythm."""


def distance(obs: Observation) -> float | None:
    """The median of the seconds between the creation of the newest releases; None of too few. Who
    made several in one moment (a folder in Git, a restored backup) has no rhythm either.
    """
    created = sorted(release.created for release in obs.releases)[-LOOKED_AT:]
    if len(created) < FEWEST:
        return None
    gaps = [later - earlier for earlier, later in pairwise(created)]
    return statistics.median(gaps) or None


def slower(obs: Observation) -> Problem | None:
    """Say that the plan is slower than the feed; None when it is not, or that is not known."""
    gap, seconds, how = obs.once(_compared)
    if gap is None or seconds <= gap:
        return None
    message = (
        f"Releases come every {Duration(gap)} (the median), but one {how} {Duration(seconds)}, so "
        "newer ones overtake most of them. Shorten soaks, merge waves or raise maxUnavailable; or "
        "publish less often."
    )
    return Problem(Reason.PlanSlowerThanFeed, message)


def is_known(obs: Observation) -> bool:
    """Whether there is anything to compare."""
    gap, seconds, _ = obs.once(_compared)
    return gap is not None and seconds > 0.0


def _compared(obs: Observation) -> tuple[float | None, float, str]:
    return distance(obs), *_takes(obs)


def _takes(obs: Observation) -> tuple[float, str]:
    """Seconds that a rollout takes, and how that is known: as the last one that completed did, else
    what the plan takes at least; 0.0 while neither is known.
    """
    completed = (o for o in obs.record.outcomes if o.phase is Phase.Completed and not o.agent)
    done = next(completed, None)
    if done is not None:
        return done.finished_at - done.started_at, "took"
    plan = forecast.plan(obs)
    return (float(Duration.parse(plan["least"])) if plan else 0.0), "takes at least"
