"""Harm on one node proves nothing; how much does, is held against exact sums of the Poisson law."""

from fractions import Fraction
from math import factorial

import pytest

from wavegate.evidence import is_corroborated, most_soon

HOUR = 3_600.0


def at_most(k: int, mean: Fraction) -> Fraction:
    """P(X ≤ k) times e^mean, exactly."""
    return sum((mean**i / factorial(i) for i in range(k + 1)), Fraction(0))


def whole(mean: Fraction) -> Fraction:
    """e^mean, exactly to far more digits than a double holds."""
    return at_most(60, mean)


@pytest.mark.parametrize(
    ("nodes", "most"), [(1, 1), (40, 1), (181, 1), (182, 2), (1_000, 3), (5_000, 6)]
)
def test_how_many_nodes_chance_may_harm_soon_after_loading(nodes, most):
    """The background is 0.1 % in an hour, so a quarter of that in 15 minutes."""
    assert most_soon(nodes) == most
    mean = Fraction(nodes, 4_000)
    assert 1 - at_most(most, mean) / whole(mean) <= Fraction(1, 1_000)
    if most > 1:
        assert 1 - at_most(most - 1, mean) / whole(mean) > Fraction(1, 1_000)


def test_two_of_5000_soon_after_loading_would_be_chance_in_a_third_of_all_rollouts():
    mean = Fraction(5_000, 4_000)
    assert round(float(1 - at_most(1, mean) / whole(mean)), 2) == 0.36


ONE = [
    pytest.param(1, 1, 2, 0.0, False, id="one alone, at once"),
    pytest.param(2, 2, 5, 60.0, True, id="two soon after loading"),
    pytest.param(2, 1, 5, 5 * HOUR, True, id="two of five within an hour"),
    pytest.param(
        2, 1, 100, 100 * HOUR, False, id="two of a hundred within an hour, one of them late"
    ),
    pytest.param(4, 1, 100, 100 * HOUR, True, id="four of a hundred within an hour"),
    pytest.param(6, 6, 5_000, 5_000 * 60.0, True, id="six of 5,000 within a minute"),
    pytest.param(6, 6, 5_000, 5_000 * HOUR, False, id="six of 5,000 within an hour"),
    pytest.param(7, 7, 5_000, 5_000 * HOUR, True, id="seven of 5,000 soon after loading"),
]


@pytest.mark.parametrize(("harmed", "soon", "nodes", "seconds", "expected"), ONE)
def test_harm_counts_when_more_nodes_show_it_than_chance_explains(
    harmed, soon, nodes, seconds, expected
):
    assert is_corroborated(harmed, soon, nodes, seconds) is expected
