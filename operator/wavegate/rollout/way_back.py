"""The proof of the way back: before a wave moves its first node, a dry run of the revert passed.

A revert is two PATCHes and the pods that follow. Who keeps these out (a webhook that fails closed,
a policy, a quota) is found before nodes need them, not after. The proof is about one wave: it names
the ledger, whose number no other wave has, and it grows old. A refusal holds the wave; nobody is
blamed, and it goes on by itself.
"""

from collections.abc import Iterable

from wavegate.api import Phase, Reason, WaveState
from wavegate.evidence import Finding, Verdict
from wavegate.rollout.attempt import Rollout
from wavegate.rollout.observation import Observation, RevertProof, RevisionView
from wavegate.rollout.waves import has_moved_any

FRESH_SECONDS = 60.0
"""A proof that is older says nothing about now."""
RENEW_SECONDS = 30.0
"""A wave that waits for something else has its proof renewed so often."""
RETRY_SECONDS = 15.0
"""A way back that is blocked is tried again so often."""

TRYING = "a dry run of the way back"

_OPENED = (WaveState.Moving, WaveState.Held)


def is_due(obs: Observation, rollout: Rollout, now: float) -> bool:
    """Whether the way back has to be tried now. Nobody asks this during a pause."""
    if not _is_unmoved(obs, rollout):
        return False
    proof = _proof(obs, rollout)
    if proof is None:
        return True
    return now - proof.asked_at >= (RETRY_SECONDS if proof.problem else RENEW_SECONDS)


def blocked(obs: Observation, rollout: Rollout) -> Finding | None:
    """What keeps the current wave from being opened, or from its first label; None if nothing."""
    proof = _proof(obs, rollout)
    if proof is None or not proof.problem or not _is_unmoved(obs, rollout):
        return None
    return Finding(Verdict.HOLD, Reason.RevertPathBlocked, proof.problem)


def is_proven(obs: Observation, rollout: Rollout, now: float) -> bool:
    """Whether the current wave may take its first node."""
    proof = _proof(obs, rollout)
    if proof is None or proof.problem:
        return False
    return 0.0 <= now - proof.asked_at <= FRESH_SECONDS


def _proof(obs: Observation, rollout: Rollout) -> RevertProof | None:
    """The newest proof, if it is about this wave."""
    proof = obs.way_back
    if proof is None or not rollout.waves:
        return None
    wanted = (rollout.attempt, rollout.waves[-1].ledger, uids(revisions(obs, rollout)))
    return proof if (proof.attempt, proof.ledger, proof.tried) == wanted else None


def revisions(
    obs: Observation, rollout: Rollout
) -> tuple[RevisionView | None, RevisionView | None]:
    """The DaemonSets of a revert as they are: the candidate's and stable's."""
    return obs.revision(rollout.candidate), obs.revision(obs.record.stable)


def uids(of: Iterable[RevisionView | None]) -> frozenset[str]:
    """What a proof about these DaemonSets is bound to."""
    return frozenset(view.uid for view in of if view is not None and view.uid)


def _is_unmoved(obs: Observation, rollout: Rollout) -> bool:
    """Whether the current wave has its first node before it."""
    if rollout.phase is not Phase.Rolling or rollout.promoting or not rollout.waves:
        return False
    state = rollout.waves[-1].state
    # By a record from a backup nodes of a wave that is not open may have been moved: it opens by a
    # proof all the same, and would wait for it for ever.
    return state is WaveState.Pending or (state in _OPENED and not has_moved_any(obs, rollout))
