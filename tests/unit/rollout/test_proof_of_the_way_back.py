"""A proof of the way back is about the DaemonSets that were tried, and no others."""

from dataclasses import replace

import pytest

from support.invariants import about_to_open
from wavegate.api import WaveState
from wavegate.evidence import Ledger, LedgerNode, Side
from wavegate.rollout import way_back
from wavegate.rollout.observation import RevertProof


@pytest.fixture
def obs():
    """Release b is about to open its first wave, and both DaemonSets have a UID."""
    seen = about_to_open().observe()
    known = {attempt: replace(r, uid=f"uid-{attempt}") for attempt, r in seen.revisions.items()}
    return replace(seen, revisions=known)


def proven(obs, tried):
    rollout = obs.record.rollout
    proof = RevertProof(rollout.attempt, rollout.waves[-1].ledger, 0.0, tried=frozenset(tried))
    return way_back.is_proven(replace(obs, way_back=proof), rollout, 1.0)


# Was: a wave opened by the proof that was made while stable's DaemonSet was deleted, which had
# tried the candidate only (random story 979353473).
def test_it_counts_only_if_both_were_tried_as_they_are_now(obs):
    both = [f"uid-{obs.record.stable.attempt}", f"uid-{obs.record.rollout.candidate.attempt}"]
    assert proven(obs, both)
    assert not proven(obs, both[1:]), "stable was not there"
    assert not proven(obs, ["another", both[1]]), "stable was made anew since"
    assert not proven(obs, [])


# Was: after a record from a backup, a wave that is not open had nodes already; it waited for a
# proof that nobody asked for, and for ever (random story, CI's seed).
@pytest.mark.parametrize(
    ("state", "due"),
    [(WaveState.Pending, True), (WaveState.Moving, False), (WaveState.Held, False)],
)
def test_a_wave_that_is_not_open_asks_for_it_whoever_has_its_nodes_already(obs, state, due):
    rollout = obs.record.rollout.with_wave(state=state)
    canary = obs.nodes["canary-0"]
    nodes = {**obs.nodes, "canary-0": replace(canary, sides={obs.key: Side(rollout.attempt, 0.0)})}
    number = rollout.waves[-1].ledger
    entry = LedgerNode("canary-0", canary.uid, canary.boot_id, healthy=True)
    ledgers = {number: Ledger(rollout.attempt, number, (entry,))}
    moved = replace(obs, nodes=nodes, ledgers=ledgers)
    assert way_back.is_due(moved, rollout, 1.0) is due
