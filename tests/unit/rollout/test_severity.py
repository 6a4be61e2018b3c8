"""How much counts of what a release claims, and what it shortens."""

from dataclasses import replace

import pytest

from support.builders import make_channel, make_release
from wavegate.api import DEFAULT_WAVES, Phase, Severity
from wavegate.rollout import queue, report
from wavegate.rollout.steps import Step

MINUTE = 60.0


def soaks(severity, floor=180.0, **spec):
    channel = make_channel(**{"waves": [], **spec})
    return [wave.soak / MINUTE for wave in queue.freeze(channel, severity, floor).waves]


@pytest.mark.parametrize(
    ("claim", "most", "counts"),
    [
        ("Routine", "Emergency", "Routine"),
        ("Urgent", "Routine", "Routine"),
        ("Emergency", "Urgent", "Urgent"),
        ("Emergency", "Emergency", "Emergency"),
    ],
)
def test_no_more_of_a_claim_counts_than_the_channel_lets(claim, most, counts):
    channel = make_channel(rollout={"maxSeverity": most})
    assert queue.severity_of(channel, make_release("b", 2, severity=claim)) == counts


def test_without_a_word_of_the_platform_team_every_claim_is_routine():
    release = make_release("b", 2, severity="Emergency")
    assert queue.severity_of(make_channel(), release) is Severity.Routine
    assert queue.severity_of(None, release) is Severity.Routine


@pytest.mark.parametrize(
    ("severity", "first_two", "later"),
    [(Severity.Routine, 15, 10), (Severity.Urgent, 10, 5), (Severity.Emergency, 5, 3)],
)
def test_default_soaks_are_shorter_the_more_urgent_it_is(severity, first_two, later):
    expected = [first_two] * 2 + [later] * (len(DEFAULT_WAVES) - 2)
    assert soaks(severity, rollout={"soak": None}) == expected


def test_a_soak_that_the_platform_team_set_is_not_shortened():
    assert set(soaks(Severity.Emergency, rollout={"soak": "12m"})) == {12}
    waves = [{"name": "all", "upTo": "100%", "soak": "20m"}]
    assert soaks(Severity.Emergency, rollout={"soak": "12m"}, waves=waves) == [20]


def test_no_default_soak_is_shortened_below_the_floor():
    assert soaks(Severity.Emergency, floor=6 * MINUTE, rollout={"soak": None}) == [6] * len(
        DEFAULT_WAVES
    )
    assert min(soaks(Severity.Routine, floor=12 * MINUTE, rollout={"soak": None})) == 10


def test_what_counts_is_frozen_and_shown(sim):
    channel = make_channel(rollout={"maxSeverity": "Urgent"})
    release = make_release("b", 2, severity="Emergency")
    obs = replace(sim.observe(), channel=channel, releases=(release,))
    assert report.release_status(obs, release, Step(), 0.0)["severity"] == "Urgent"
    rollout = queue.start(obs, channel, release, 0.0)
    obs = replace(obs, channel=make_channel(), record=replace(obs.record, rollout=rollout))
    assert report.release_status(obs, release, Step(), 0.0)["severity"] == "Urgent"
    ended = obs.record.ended(Phase.Completed, queue.Reason.Completed, "", 0.0)
    obs = replace(obs, record=ended)
    assert report.release_status(obs, release, Step(), 0.0)["severity"] == "Urgent"
