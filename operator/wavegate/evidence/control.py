"""The control group: nodes of the same pools that do not have the content. Is it the cluster?

When a switch, a zone or a power supply fails, nodes with and without the content fail alike. Fail
is the default; a disturbance of the whole cluster needs a proof: enough control nodes came to the
same harm, not later than the first node of the wave, and the wave is not hit harder than chance
explains.
"""

from functools import lru_cache
from math import comb

from wavegate.api import IntOrPercent
from wavegate.evidence.corroboration import most_soon
from wavegate.evidence.promql import LEAST_CONTROL

LEAST_HARMED = 2
_SHARE = IntOrPercent(5, is_percent=True)
ALIKE = 0.05
"""Above this probability the wave is not hit harder than the control."""
FOUND = 0.95
"""How surely a wave is to find an effect that is called seen."""


def fisher(harmed: int, nodes: int, control_harmed: int, control: int) -> float:
    """The probability that chance alone puts so many of the harmed nodes, or more, into the wave.

    Fisher's exact test, one-sided, as only more harm speaks against the content: with m harmed of
    N nodes in all, P(X ≥ harmed) where P(X = k) = C(n, k) C(N - n, m - k) / C(N, m) (R. A. Fisher,
    The Design of Experiments, 1935, II; hypergeometric distribution). In whole numbers, so exact.
    """
    everyone, all_harmed = nodes + control, harmed + control_harmed
    ways = sum(
        comb(nodes, k) * comb(control, all_harmed - k)
        for k in range(harmed, min(nodes, all_harmed) + 1)
    )
    return ways / comb(everyone, all_harmed)


def is_cluster_wide(harmed: int, nodes: int, control_harmed: int, control: int) -> bool:
    """Whether the control came to harm as the wave did: at least two of it and 5 %."""
    if control < LEAST_CONTROL:
        return False
    if control_harmed < max(LEAST_HARMED, _SHARE.resolve(control)):
        return False
    return fisher(harmed, nodes, control_harmed, control) > ALIKE


@lru_cache(1024)  # a status is made with each pass
def smallest_effect(nodes: int, *, first: bool, loaded: int) -> float:
    """The smallest share of nodes to be harmed by the content that a wave of `nodes` finds with
    95 %, when each is harmed with that probability.

    In the `first` wave one harmed node is enough: 1 - 0.05^(1/n). Later it takes one more than
    chance explains of all nodes `loaded` so far: the q with P(X ≥ k) = 0.95, X binomial. 1 if that
    is more than the wave has.
    """
    needed = 1 if first else most_soon(loaded) + 1
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        if _at_least(needed, nodes, middle) >= FOUND:
            high = middle
        else:
            low = middle
    return high


def _at_least(needed: int, nodes: int, share: float) -> float:
    """P(X ≥ needed), X binomial with `nodes` and `share`."""
    fewer = (comb(nodes, k) * share**k * (1 - share) ** (nodes - k) for k in range(needed))
    return 1.0 - sum(fewer)
