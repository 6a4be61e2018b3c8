"""How much harm chance explains: the bound is exact, and one node is always chance."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wavegate.evidence.background import (
    WINDOWS,
    is_beyond_chance,
    most_by_chance,
    poisson_bound,
)

HOUR, DAY = 3_600.0, 86_400.0


# The quantiles that R's qpois(1 - tail, mean) gives, computed here with 60 digits.
@pytest.mark.parametrize(
    ("mean", "tail", "expected"),
    [
        (0.0, 1e-3, 0),
        (0.001, 1e-3, 0),
        (0.001, 1e-5, 1),
        (0.096, 1e-3, 2),
        (0.5, 1e-3, 4),
        (1.0, 1e-3, 5),
        (1.25, 1e-5, 8),
        (5.0, 1e-3, 13),
        (10.0, 1e-3, 21),
        (20.0, 1e-5, 42),
        (100.0, 1e-3, 132),
        (120.0, 1e-3, 155),
        (700.0, 1e-3, 783),
        (1_000.0, 1e-5, 1_138),
        (5_000.0, 1e-3, 5_220),
    ],
)
def test_the_bound_is_the_quantile_of_the_poisson_distribution(mean, tail, expected):
    assert poisson_bound(mean, tail) == expected


@given(st.integers(1, 20_000), st.floats(0, 7 * DAY), st.floats(0, 7 * DAY))
def test_one_node_is_never_beyond_chance(nodes, watched, age):
    assert not is_beyond_chance([min(age, watched)], nodes, watched, DAY)


@pytest.mark.parametrize("nodes", [2, 4, 100, 5_000])
def test_two_nodes_in_the_first_moment_are_beyond_chance(nodes):
    assert is_beyond_chance([0.0, 0.5], nodes, 1.0, DAY)


@pytest.mark.parametrize(("nodes", "count"), [(4, 1), (1_000, 24), (5_000, 120)])
def test_what_the_background_explains_over_a_day_is_chance(nodes, count):
    ages = [DAY * (n + 0.5) / count for n in range(count)]
    assert not is_beyond_chance(ages, nodes, DAY, DAY)


def test_more_than_the_whole_day_explains_is_beyond_chance_however_it_is_spread():
    most = most_by_chance(5_000, DAY)
    assert 155 <= most <= 170
    ages = [DAY * n / most for n in range(most)]
    assert not is_beyond_chance(ages, 5_000, DAY, DAY)
    assert is_beyond_chance([*ages, DAY], 5_000, DAY, DAY)


@pytest.mark.parametrize(("nodes", "together"), [(10, 2), (100, 3), (1_000, 6), (5_000, 11)])
def test_nodes_that_break_together_late_in_the_day_are_beyond_chance(nodes, together):
    """The whole day would explain far more of them."""
    ages = [60.0 * n / together for n in range(together)]
    assert len(ages) <= max(2, most_by_chance(nodes, 20 * HOUR))
    assert is_beyond_chance(ages, nodes, 20 * HOUR, DAY)


def test_the_same_nodes_spread_over_the_day_are_chance():
    ages = [2 * HOUR * n for n in range(11)]
    assert not is_beyond_chance(ages, 5_000, 23 * HOUR, DAY)


def test_a_window_that_is_longer_than_the_watch_says_nothing_of_its_own():
    assert min(WINDOWS) > 600
    most = most_by_chance(5_000, 600.0)
    assert not is_beyond_chance([1.0] * most, 5_000, 600.0, DAY)


def test_chance_alone_hardly_ever_looks_like_harm():
    """60 days on 1,000 nodes, 1,440 failures: at 0.2 % a day, a red day is one seed in nine."""
    rng = random.Random(20240719)  # noqa: S311 (a simulation)
    for _ in range(60):
        at, times = 0.0, []
        while (at := at + rng.expovariate(1.0 / HOUR)) < DAY:
            times.append(at)
            assert not is_beyond_chance([at - time for time in times], 1_000, at, DAY)
