"""Fisher's exact test against published tables and against all ways that there are."""

from itertools import combinations

import pytest

from wavegate.evidence import is_cluster_wide, smallest_effect
from wavegate.evidence.control import fisher


@pytest.mark.parametrize(("guessed", "ways"), [(4, 1), (3, 17), (2, 53), (1, 69), (0, 70)])
def test_the_lady_who_tastes_tea(guessed, ways):
    """Fisher 1935: 4 of 8 cups had the milk first, she names 4; 70 choices are possible."""
    assert fisher(guessed, 4, 4 - guessed, 4) == ways / 70


@pytest.mark.parametrize(
    ("harmed", "nodes", "control_harmed", "control"),
    [(1, 3, 2, 6), (3, 3, 0, 6), (2, 5, 2, 5), (0, 4, 3, 5), (2, 2, 4, 8)],
)
def test_it_counts_the_ways_in_which_chance_puts_as_many_into_the_wave(
    harmed, nodes, control_harmed, control
):
    everyone, total = range(nodes + control), harmed + control_harmed
    ways = list(combinations(everyone, total))
    as_many = sum(sum(node < nodes for node in chosen) >= harmed for chosen in ways)
    assert fisher(harmed, nodes, control_harmed, control) == pytest.approx(as_many / len(ways))


def test_thousands_of_nodes_are_no_trouble():
    assert fisher(50, 1_000, 200, 4_000) == pytest.approx(0.5, abs=0.05)


GROUPS = [
    pytest.param(1, 1, 4, 4, False, id="a control of four proves nothing"),
    pytest.param(1, 1, 1, 5, False, id="one control node alone proves nothing"),
    pytest.param(1, 1, 2, 5, True, id="two of five"),
    pytest.param(2, 10, 4, 100, False, id="less than 5 % of the control"),
    pytest.param(3, 10, 5, 100, False, id="5 %, but the wave is hit harder"),
    pytest.param(2, 10, 20, 100, True, id="a fifth of both"),
    pytest.param(10, 10, 50, 100, False, id="half of the control, but all of the wave"),
    pytest.param(10, 10, 100, 100, True, id="all"),
]


@pytest.mark.parametrize(("harmed", "nodes", "control_harmed", "control", "wide"), GROUPS)
def test_it_is_the_cluster_when_the_control_is_hit_alike(
    harmed, nodes, control_harmed, control, wide
):
    assert is_cluster_wide(harmed, nodes, control_harmed, control) is wide


@pytest.mark.parametrize(
    ("nodes", "first", "share"),
    [(1, True, 0.95), (5, True, 1 - 0.05 ** (1 / 5)), (5, False, 0.657), (1, False, 1.0)],
)
def test_the_smallest_effect_that_a_wave_sees(nodes, first, share):
    """Of five nodes that may each be harmed with 45 %, one is with 95 %."""
    assert smallest_effect(nodes, first=first, loaded=nodes) == pytest.approx(share, abs=1e-3)
