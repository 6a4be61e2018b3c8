"""Which release is next: the newest that is new, valid, not suspended and not blocked."""

from dataclasses import replace

import pytest
from pydantic import TypeAdapter

from support.builders import digest, make_channel, make_release
from wavegate.api import IntOrPercent, OnFailure, Phase, Reason
from wavegate.evidence import CheckSpec
from wavegate.rollout import queue, report
from wavegate.rollout.attempt import Revision
from wavegate.rollout.record import Blocked, Outcome, Record
from wavegate.rollout.steps import Step


def outcome(sequence, phase=Phase.Reverted):
    return Outcome(
        "r", f"u{sequence}", sequence, "x", digest("r"), phase, Reason.Reverted, "", 0.0, 0.0
    )


def revision(sequence):
    return Revision("x", "rules-x", "r", "u", "v", sequence, digest("r"), 0.0)


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (Record("n", "c"), -1),
        (Record("n", "c", stable=revision(4)), 4),
        (Record("n", "c", outcomes=(outcome(2), outcome(7))), 7),
        (Record("n", "c", stable=revision(9), outcomes=(outcome(2),)), 9),
        (Record("n", "c", stable=revision(0)), 0),
    ],
)
def test_the_floor_is_the_highest_sequence_that_was_ever_tried(record, expected):
    assert queue.floor(record) == expected


@pytest.mark.parametrize(
    ("releases", "expected"),
    [
        ([], []),
        ([("b", 2, {})], ["b"]),
        ([("b", 2, {}), ("d", 4, {}), ("c", 3, {})], ["d", "c", "b"]),
        ([("b", 1, {})], []),
        ([("b", 0, {})], []),
        ([("b", 2, {}), ("c", 3, {"suspend": True})], ["b"]),
        ([("b", 2, {}), ("bad", 3, {})], ["b"]),
    ],
)
def test_the_newest_that_may_start_comes_first(sim, releases, expected):
    blocked = Blocked(digest("bad"), "bad", Reason.AgentRestarted, 0.0)
    obs = replace(
        sim.observe(),
        record=replace(sim.record, blocked=(blocked,)),
        releases=tuple(make_release(name, number, **spec) for name, number, spec in releases),
    )
    assert [release.name for release in queue.eligible(obs)] == expected


def says_7():
    release = make_release("b", 2)
    content = release.spec.content.model_copy(update={"loaded_digest": "RULES-7"})
    return release.model_copy(update={"spec": release.spec.model_copy(update={"content": content})})


@pytest.mark.parametrize(
    ("loaded", "starts"),
    [("rules-7", []), ("sha256:RULES-7", []), ("rules-8", ["b"]), ("", ["b"])],
)
def test_another_image_that_is_loaded_as_what_is_blocked_does_not_start(sim, loaded, starts):
    blocked = Blocked(digest("bad"), "bad", Reason.AgentRestarted, 0.0, "7", loaded)
    record = replace(sim.record, blocked=(blocked,))
    obs = replace(sim.observe(), record=record, releases=(says_7(),))
    assert [release.name for release in queue.eligible(obs)] == starts


def test_the_release_that_is_refused_says_which_content_is_meant(sim):
    blocked = Blocked(digest("bad"), "bad", Reason.AgentRestarted, 0.0, "7", "rules-7")
    record = replace(sim.record, blocked=(blocked,))
    obs = replace(sim.observe(), record=record, releases=(says_7(),))
    status = report.release_status(obs, says_7(), Step(), 0.0)
    assert (status["phase"], status["reason"]) == ("Rejected", "DigestBlocked")
    assert f"loadedDigest rules-7 is that of {digest('bad')}" in status["message"]
    assert "release bad (AgentRestarted)" in status["message"]


def test_a_digest_that_is_blocked_itself_is_named_first(sim):
    alike = Blocked(digest("bad"), "alike", Reason.AgentRestarted, 0.0, "7", "rules-7")
    itself = Blocked(digest("other"), "itself", Reason.AgentRestarted, 0.0, "8")
    record = replace(sim.record, blocked=(alike, itself))
    assert record.block_of(digest("other"), "rules-7") == itself
    assert record.block_of(digest("new"), "rules-7") == alike
    assert record.block_of(digest("new")) is None


def test_a_release_that_is_being_deleted_does_not_start(sim):
    release = make_release("b", 2)
    metadata = release.metadata.model_copy(update={"deletion_timestamp": "2026-01-01T00:00:00Z"})
    going = release.model_copy(update={"metadata": metadata})
    obs = replace(sim.observe(), releases=(going,))
    assert queue.eligible(obs) == []
    assert not queue.is_open(obs, going)
    assert queue.is_open(obs, release)


def test_two_releases_of_one_sequence_have_an_order_that_does_not_depend_on_the_list(sim):
    one, other = make_release("b", 2), make_release("c", 2)
    both = {
        queue.eligible(replace(sim.observe(), releases=pair))[0].name
        for pair in ((one, other), (other, one))
    }
    assert len(both) == 1


def test_a_plan_is_the_channel_s_policy_in_seconds():
    check = {"name": "c", "query": "q", "max": "0.5", "per": "Wave", "interval": "1m"}
    channel = make_channel(
        checks=[check],
        prometheus={"url": "http://prometheus"},
        waves=[],
        rollout={"onFailure": "Pause", "holdTimeout": "1h"},
    )
    plan = queue.freeze(channel)
    assert [str(wave.up_to) for wave in plan.waves] == ["1", "5%", "25%", "50%", "100%"]
    assert {wave.pools for wave in plan.waves} == {("canary", "workers")}
    assert (plan.settle, plan.progress_deadline, plan.hold_timeout) == (5.0, 120.0, 3600.0)
    assert plan.on_failure is OnFailure.Pause
    assert plan.prometheus == "http://prometheus"
    (frozen,) = plan.checks
    assert (frozen.per_node, frozen.max, frozen.interval, frozen.timeout) == (
        False,
        0.5,
        60.0,
        10.0,
    )


def frozen(**options):
    """The frozen form of one check, of a channel with a named connection."""
    check = {"name": "c", "query": "up", **options}
    plan = queue.freeze(make_channel(checks=[check], prometheus={"connection": "thanos"}))
    assert (plan.prometheus, plan.connection) == ("", "thanos")
    return plan.checks[0]


def test_the_options_of_a_check_are_frozen_with_their_defaults():
    plain = CheckSpec("c", "up", True, "node", 1.0, 30.0, 10.0)
    assert frozen(max=1) == plain
    assert frozen(min="0.5") == replace(plain, max=None, min=0.5)
    assert frozen(max=1, freshness={"maxAge": "2m"}) == replace(plain, max_age=120.0, age_of="up")
    series = {"maxAge": "2m", "series": "x"}
    assert frozen(max=1, freshness=series) == replace(plain, max_age=120.0, age_of="x")
    rest = frozen(
        max=1, control={"maxRatio": 3}, coverage="90%", consecutive=3, holdTimeout="5m", dryRun=True
    )
    share = IntOrPercent(90, is_percent=True)
    assert rest == replace(
        plain, max_ratio=3.0, coverage=share, consecutive=3, hold_timeout=300.0, dry_run=True
    )


def test_a_check_that_an_older_version_stored_is_read_with_the_defaults():
    stored = {"name": "c", "query": "up", "per_node": True, "node_label": "node", "max": 1.0}
    read = TypeAdapter(CheckSpec).validate_python({**stored, "interval": 30.0, "timeout": 10.0})
    assert read == CheckSpec("c", "up", True, "node", 1.0, 30.0, 10.0)
    everything = frozen(max=1, coverage="90%", freshness={"maxAge": "2m"})
    adapter = TypeAdapter(CheckSpec)
    assert adapter.validate_json(adapter.dump_json(everything)) == everything


def test_an_attempt_is_started_from_the_release(sim):
    obs = sim.observe()
    rollout = queue.start(obs, obs.channel, make_release("b", 2), 7.0)
    candidate = rollout.candidate
    assert (rollout.phase, rollout.started_at, rollout.waves) == (Phase.Pending, 7.0, ())
    assert (candidate.release, candidate.sequence, candidate.digest) == ("b", 2, digest("b"))
    assert candidate.daemon_set == f"rules-{candidate.attempt}"
    assert candidate.attempt != sim.record.stable.attempt
