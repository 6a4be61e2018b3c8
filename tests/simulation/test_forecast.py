"""The plan that is shown is the one that is kept to: what would show another is noticed."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from simulation.scenarios_forecast import planned_and_followed
from simulation.story import Story
from wavegate.rollout import forecast

Bug = Callable[[pytest.MonkeyPatch], None]


def orders_by_another_release(patch: pytest.MonkeyPatch) -> None:
    """Which node comes first follows from the release's UID, and the plan takes another."""
    begun = forecast._begun

    def wrong(*args):
        rollout, seen = begun(*args)
        candidate = replace(rollout.candidate, release_uid="another")
        rollout = replace(rollout, candidate=candidate)
        return rollout, replace(seen, record=replace(seen.record, rollout=rollout))

    patch.setattr(forecast, "_begun", wrong)


def forgets_which_kinds_are_proven(patch: pytest.MonkeyPatch) -> None:
    """A wave that has passed proves no kind of machine, so each wave takes one of each only."""
    passed = forecast._passed

    def wrong(obs, rollout, chosen):
        after, seen = passed(obs, rollout, chosen)
        after = replace(after, proven=rollout.proven)
        return after, replace(seen, record=replace(seen.record, rollout=after))

    patch.setattr(forecast, "_passed", wrong)


def forgets_which_nodes_have_it(patch: pytest.MonkeyPatch) -> None:
    """Each wave is planned as if none had gone before."""
    passed = forecast._passed

    def wrong(obs, rollout, chosen):
        after, _ = passed(obs, rollout, chosen)
        return after, obs

    patch.setattr(forecast, "_passed", wrong)


@pytest.mark.parametrize(
    "bug",
    [orders_by_another_release, forgets_which_kinds_are_proven, forgets_which_nodes_have_it],
    ids=lambda bug: bug.__name__,
)
def test_a_plan_that_is_not_kept_to_is_noticed(bug: Bug, monkeypatch) -> None:
    bug(monkeypatch)
    with (
        pytest.raises(AssertionError, match="not as planned"),
        Story(canaries=0, workers=7, before="") as story,
    ):
        planned_and_followed(story)
