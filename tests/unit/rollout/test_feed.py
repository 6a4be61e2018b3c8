"""Whether releases come faster than a rollout ends."""

from dataclasses import replace

import pytest

from support.builders import make_release
from support.planned import node, observed
from wavegate.api import Phase, Reason
from wavegate.rollout import channel_report, feed
from wavegate.rollout.record import Outcome

HOUR = 3_600


def seen(*made: int, took: float | None = None, agent: str = ""):
    releases = [make_release(f"r{i}", i, made=1_000_000 + at) for i, at in enumerate(made)]
    obs = observed([node(i) for i in range(20)], *releases)
    if took is None:
        return obs
    ended = Outcome(
        *("r0", "uid", 0, "a0", "", Phase.Completed, Reason.Completed, ""),
        started_at=1_000.0,
        finished_at=1_000.0 + took,
        agent=agent,
    )
    return replace(obs, record=replace(obs.record, outcomes=(ended,)))


def told(obs) -> dict | None:
    conditions = channel_report.channel_status(obs)["conditions"]
    return next((c for c in conditions if c["type"] == "KeepsUp"), None)


def test_a_plan_that_takes_longer_than_the_distance_of_releases_is_told_before_anything_ran():
    condition = told(seen(0, 600, 1_200, 1_800))
    assert (condition["status"], condition["reason"]) == ("False", "PlanSlowerThanFeed")
    assert "Releases come every 10m (the median), but one takes at least " in condition["message"]


def test_what_the_last_rollout_took_counts_more_than_what_the_plan_says():
    assert told(seen(0, 600, 1_200, 1_800, took=500.0))["status"] == "True"
    assert "took 10m1s" in told(seen(0, 600, 1_200, 1_800, took=601.0))["message"]


def test_what_a_change_of_the_agent_took_says_nothing_of_releases():
    message = told(seen(0, 600, 1_200, 1_800, took=500.0, agent="sha256:new"))["message"]
    assert "takes at least" in message


def test_a_day_without_a_release_changes_no_rhythm():
    assert told(seen(0, HOUR, 30 * HOUR, 31 * HOUR, took=2.0 * HOUR))["status"] == "False"
    assert told(seen(0, 9 * HOUR, 18 * HOUR, 27 * HOUR, took=2.0 * HOUR))["status"] == "True"


@pytest.mark.parametrize("made", [(), (0, 60, 120), (0, 0, 0, 0, 0)])
def test_too_few_releases_or_a_folder_that_was_applied_at_once_have_no_rhythm(made):
    assert told(seen(*made, took=500.0)) is None


def test_only_the_newest_releases_count():
    slow, fast = [i * 10 * HOUR for i in range(20)], [200 * HOUR + i * 60 for i in range(20)]
    assert feed.distance(seen(*slow, *fast)) == 60.0
