"""What the admission policy is told to refuse; never what stable runs."""

from dataclasses import replace

import pytest

from support.invariants import with_stable
from support.world import SimCluster
from wavegate.api import Phase, Reason
from wavegate.cluster.projections import encode_record, stored_config_map
from wavegate.rollout.names import content_name
from wavegate.rollout.record import MAX_BLOCKED, MAX_OUTCOMES, Blocked, Record
from wavegate.rollout.refused import fenced_attempts, refused_copies, refused_digests


@pytest.fixture
def record():
    """A record whose release `b` is rolling out; `a` is stable."""
    sim = SimCluster()
    sim.add_nodes("canary", 1)
    sim.add_nodes("workers", 3)
    with_stable(sim)
    sim.publish("b", 2)
    sim.run(100, until=lambda: sim.record.rollout and sim.record.rollout.waves)
    return sim.record


def blocking(record, *digests):
    entries = tuple(Blocked(d, "bad", Reason.NodeRebooted, 1.0) for d in digests)
    return replace(record, blocked=entries)


def reverting(record):
    return replace(record, rollout=replace(record.rollout, phase=Phase.Reverting))


def test_nothing_is_refused_while_nothing_failed(record):
    data = encode_record(record)
    assert (data["fenced"], data["blocked"], data["blockedCopies"]) == ("", "", "")
    assert fenced_attempts(Record("agents", "rules")) == ()


def test_the_write_that_intends_the_revert_fences_the_attempt(record):
    attempt = record.rollout.attempt
    assert encode_record(reverting(record))["fenced"] == attempt


def test_an_attempt_that_was_reverted_stays_fenced_and_one_that_completed_is_not(record):
    attempt = record.rollout.attempt
    ended = record.ended(Phase.Reverted, Reason.Reverted, "x", 1.0)
    assert attempt in fenced_attempts(ended)
    completed = record.ended(Phase.Completed, Reason.Completed, "x", 1.0)
    assert attempt not in fenced_attempts(completed)
    assert record.outcomes[0].attempt not in fenced_attempts(ended)


def test_stable_is_never_refused_whatever_else_is_recorded(record):
    """Stable's digest can be blocked: with another agent template it may have done harm."""
    contradicting = record.ended(Phase.Reverted, Reason.Reverted, "x", 1.0)
    outcome = replace(contradicting.outcomes[0], attempt=record.stable.attempt)
    contradicting = replace(contradicting, outcomes=(outcome,))
    assert fenced_attempts(contradicting) == ()
    blocked = blocking(record, record.stable.digest, "sha256:bad")
    assert refused_digests(blocked) == ("sha256:bad",)
    assert refused_copies(blocked) == (content_name("sha256:bad"),)


def test_without_a_stable_revision_all_that_is_blocked_is_refused(record):
    digest = record.stable.digest
    assert refused_digests(blocking(replace(record, stable=None), digest)) == (digest,)


def test_the_lists_are_bounded(record):
    for number in range(MAX_OUTCOMES * 2):
        candidate = replace(record.rollout.candidate, attempt=f"{number:010x}")
        one = replace(record, rollout=replace(record.rollout, candidate=candidate))
        record = replace(
            one.ended(Phase.Reverted, Reason.Reverted, "x", 1.0), rollout=record.rollout
        )
    full = blocking(reverting(record), *(f"sha256:{n:064x}" for n in range(MAX_BLOCKED)))
    data = encode_record(full)
    assert len(data["fenced"].split(" ")) == MAX_OUTCOMES + 1
    assert sum(len(data[key]) for key in ("fenced", "blocked", "blockedCopies")) < 16_384


def test_what_the_policy_reads_is_never_read_back(record):
    labels = {"wavegate.dev/kind": "record", "wavegate.dev/channel": "rules"}
    metadata = {"name": "x", "namespace": "agents", "resourceVersion": "7", "labels": labels}
    data = {**encode_record(record), "fenced": "forged", "blocked": "sha256:forged"}
    assert stored_config_map({"metadata": metadata, "data": data}, None, 0.0).record == record
