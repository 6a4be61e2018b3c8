"""Three golden stories on 200 nodes: each seed shows what the sandbox showed, and each rollout is
what the plan told before.
"""

import random
from collections.abc import Callable
from typing import Any

import pytest

from fidelity import fleet_stories, recordings
from fidelity.fleet_stories import RECORDED_AS, STORIES, FleetStory, Result
from fidelity.simulated import SimulatedFleet, large_simulation
from simulation.invariants import Guard
from wavegate.rollout import choice, forecast, groups, waves

SEEDS = (1, 2, 3)


def played(seed: int) -> dict[str, Result]:
    with large_simulation(seed) as sim:
        sim.watchers.append(Guard())
        return dict(fleet_stories.play(SimulatedFleet(sim)))


@pytest.fixture(scope="module")
def results() -> dict[int, dict[str, Result]]:
    return {seed: played(seed) for seed in SEEDS}


def difference(story: FleetStory, result: Result) -> str:
    if isinstance(result, BaseException):
        raise result
    return recordings.compare(RECORDED_AS + story.name, result)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_the_simulation_shows_what_was_recorded(
    story: FleetStory, seed: int, results: dict[int, dict[str, Result]]
) -> None:
    found = difference(story, results[seed][story.name])
    assert not found, found


def take_many_of_each_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    def one_of_each(_obs: Any, _rollout: Any, nodes: Any) -> tuple[list[Any], list[Any]]:
        return list(nodes), []

    monkeypatch.setattr(choice, "one_of_each", one_of_each)


def take_zones_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "spread", lambda nodes: sorted(nodes, key=lambda n: n.zone))


def take_critical_nodes_with_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    real = groups.groups_of
    monkeypatch.setattr(
        groups,
        "groups_of",
        lambda pools: real(p.model_copy(update={"critical": False}) for p in pools),
    )


def show_another_order(monkeypatch: pytest.MonkeyPatch) -> None:
    real, drawn = waves.in_turn, random.Random(1)  # noqa: S311

    class Shuffled:
        def __getattr__(self, name: str) -> Any:
            return getattr(waves, name)

        @staticmethod
        def in_turn(*args: Any) -> tuple[list[Any], int]:
            nodes, lacking = real(*args)
            return drawn.sample(nodes, len(nodes)), lacking

    monkeypatch.setattr(forecast, "waves", Shuffled())


MUTANTS = (
    take_many_of_each_kind,
    take_zones_as_they_come,
    take_critical_nodes_with_the_others,
    show_another_order,
)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_rollout_that_is_not_as_planned_is_found(
    mutant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant(monkeypatch)
    with large_simulation(1) as sim:  # no guard: the comparison alone finds it
        result = fleet_stories.play(SimulatedFleet(sim), STORIES[:1])[STORIES[0].name]
    with pytest.raises(AssertionError):
        assert not difference(STORIES[0], result)
