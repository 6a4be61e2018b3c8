"""Harm beyond chance: machines fail by themselves, so a large fleet over a day is never without.

The background is 0.1 % of the nodes in an hour, as a Poisson process. Harm is beyond chance when
more distinct nodes were harmed than it explains with 99.9 %, and at least two: one node never
decides about a fleet.

A sum over the whole time alone would hide what breaks at once, late in it: at hour 20 on 5,000
nodes it explains 100 by chance, so 30 more that die together would pass. So short windows are
looked at as well. And who looks again at each event gives chance many tries: the bounds below are
for all tries of a day together. Simulated over 24 h, chance alone went beyond them in 0.05 % (4
nodes) to 0.18 % (5,000 nodes) of the days.
"""

import math
from collections.abc import Sequence

NODE_FAILURES_PER_HOUR = 0.001
"""Share of healthy nodes that ordinarily fail within an hour."""
FALSE_ALARMS = 0.001
"""How often chance alone may look like harm."""
TRIES = 20.0
"""So many tries the sum over the whole time has, as the looks at it depend on each other
(measured, see above)."""
WINDOWS = (900.0, 3_600.0, 14_400.0)
"""Seconds. What is loaded by a clock or a feed breaks nodes within minutes of each other."""
LEAST = 2
"""Fewer harmed nodes are always chance."""


def poisson_bound(mean: float, tail: float) -> int:
    """The smallest k with P(X > k) ≤ `tail`, for X Poisson with `mean`: its (1 - tail) quantile.

    P(X = k) = mean^k e^-mean / k!, summed up from k = 0 (NIST/SEMATECH e-Handbook of Statistical
    Methods, 1.3.6.6.19). Each term is taken by its logarithm, so that no mean underflows. Exact to
    about 1e-11, for tails of 1e-9 and more.
    """
    if mean <= 0.0:
        return 0
    k, below = 0, math.exp(-mean)
    while 1.0 - below > tail:
        k += 1
        below += math.exp(k * math.log(mean) - mean - math.lgamma(k + 1))
    return k


def most_by_chance(nodes: int, seconds: float) -> int:
    """How many of `nodes`, watched for so long, chance alone may harm; at least one."""
    return max(LEAST - 1, poisson_bound(expected(nodes, seconds), FALSE_ALARMS / TRIES))


def is_beyond_chance(ages: Sequence[float], nodes: int, watched: float, length: float) -> bool:
    """Whether so many harmed nodes can't be chance.

    `ages`: for each harmed node, how many seconds ago it was; `nodes` were watched for `watched`
    seconds of a time that is `length` seconds in all.
    """
    if len(ages) < LEAST:
        return False
    if len(ages) > most_by_chance(nodes, watched):
        return True
    whole = max(length, watched)
    return any(
        sum(age <= window for age in ages) > _most_within(nodes, window, whole)
        for window in WINDOWS
        if window < watched
    )


def _most_within(nodes: int, window: float, whole: float) -> int:
    """How many nodes chance alone may harm within any `window` of the whole time.

    Each harmed node ends such a window, and is one of it. So the probability that any window of a
    time has more than 1 + k is at most the number of harmed nodes times P(X > k), by the union
    bound.
    """
    tries = expected(nodes, whole)
    tail = min(1.0, FALSE_ALARMS / tries) if tries > 0 else 1.0
    return 1 + poisson_bound(expected(nodes, window), tail)


def expected(nodes: int, seconds: float) -> float:
    """How many of `nodes` the background harms in so long, on average."""
    return NODE_FAILURES_PER_HOUR * nodes * max(0.0, seconds) / 3_600.0
