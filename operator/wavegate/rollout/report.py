"""Status of releases and decisions, computed from what is remembered and seen. It is written, never
read.

Phase and message are computed once, here; kubectl, Argo CD and people only read them.
"""

from typing import Any

from wavegate.api import (
    Decision,
    DecisionPhase,
    Phase,
    Reason,
    Release,
    WaitingFor,
)
from wavegate.evidence import Gate
from wavegate.rollout import (
    bake_report,
    cooldown,
    decisions,
    excerpts,
    progress_report,
    queue,
    refused,
    succession,
)
from wavegate.rollout.decide import pause_reason
from wavegate.rollout.observation import Observation
from wavegate.rollout.record import Outcome
from wavegate.rollout.steps import Problem, Step


def release_status(
    obs: Observation, release: Release, step: Step, now: float, gates: tuple[Gate, ...] = ()
) -> dict[str, Any]:
    """Status of one release of this channel, without the transition times of its conditions.
    `gates`: what each gate of the rollout said when that changed last.
    """
    rollout = obs.record.rollout
    outcome = obs.record.outcome_of(release.uid)
    is_running = rollout is not None and rollout.candidate.release_uid == release.uid
    if rollout is not None and is_running:
        severity = rollout.plan.severity
        status = progress_report.running(obs, rollout, step, now, gates)
    elif outcome is not None:
        severity = outcome.severity
        status = _ended(obs, outcome, now)
    else:
        severity = queue.severity_of(obs.channel, release)
        status = _queued(obs, release, now)
    problem = None if outcome else _problem(obs, release)
    complete = Problem(status["reason"], status["message"])
    return {
        "observedGeneration": release.generation,
        "digest": queue.digest_of(obs, release),
        "severity": severity.value,
        **status,
        "conditions": [
            excerpts.condition("Ready", problem, "The release is valid"),
            excerpts.condition(
                "Complete",
                None if status["phase"] == Phase.Completed else complete,
                status["message"],
                Reason.Completed,
            ),
            _baked(outcome, status),
            *(progress_report.plan_current(obs) if is_running else ()),
        ],
    }


def decision_status(obs: Observation, decision: Decision, now: float) -> dict[str, Any] | None:
    """Status of a person's decision; None when there is nothing new to say about it."""
    note = decisions.note_of(obs, decision)
    if note is None:
        return _refused(obs, decision, now)
    phase, reason = DecisionPhase.Accepted, Reason.DecisionAccepted
    message = f"{decision.spec.action} of release {decision.spec.release}"
    stable = obs.record.stable
    if decision.spec.action == "Block" and stable and stable.digest == decision.spec.digest:
        message = (
            f"{message}; it is stable, so it stays on all nodes until another release has taken "
            "its place: publish repaired content"
        )
    if note.ended:
        phase, reason = DecisionPhase.Expired, Reason.DecisionExpired
        message = f"The pause was ended by decision {note.ended}"
    elif decision.spec.action == "Pause" and now >= decisions.expires_at(decision, note):
        phase, reason, message = DecisionPhase.Expired, Reason.DecisionExpired, "The pause is over"
    return {
        "phase": phase.value,
        "reason": reason.value,
        "message": message,
        "releaseUID": note.release_uid,
        "at": excerpts.timestamp(note.at),
    }


def _refused(obs: Observation, decision: Decision, now: float) -> dict[str, Any] | None:
    """A decision that was carried out on an earlier rollout keeps what was said of it then."""
    if decision.status.get("phase") or decisions.is_awaited(obs, decision):
        return None
    problem = decisions.refusal(obs, decision, now)
    if problem is None:
        return None
    return {
        "phase": DecisionPhase.Refused.value,
        "reason": problem.reason,
        "message": problem.message,
        "at": excerpts.timestamp(now),
    }


def _baked(outcome: Outcome | None, status: dict[str, Any]) -> dict[str, Any]:
    """Whether it ended its bake well."""
    if outcome is not None and outcome.baked_at is not None:
        return excerpts.condition("Baked", None, status["message"], Reason.Baked)
    problem = Problem(status["reason"], status["message"])
    if status["reason"] == Reason.Completed.value:
        problem = Problem(Reason.NotBaked, Reason.NotBaked.meaning)
    return excerpts.condition("Baked", problem, "")


def _ended(obs: Observation, outcome: Outcome, now: float) -> dict[str, Any]:
    status: dict[str, Any] = {
        **excerpts.ended(outcome),
        "digest": outcome.digest,
        "waves": excerpts.waves(outcome.waves, outcome.attempt),
        **excerpts.gates(bake_report.gates_of(obs, outcome)),
    } | bake_report.completed(obs, outcome, now)
    incident = bake_report.incident_of(obs, outcome)
    if incident:
        status["incident"] = excerpts.incident(incident, outcome.attempt)
    return status


def _queued(obs: Observation, release: Release, now: float) -> dict[str, Any]:
    phase, reason, message, waiting = _queue_place(obs, release, now)
    return {
        "phase": phase.value,
        "reason": reason,
        "message": message,
        "waitingFor": waiting.value,
    }


def _problem(obs: Observation, release: Release) -> Problem | None:
    """What is wrong with a release; its content is read only while it may still start."""
    return queue.release_problem(obs, release) if queue.is_open(obs, release) else None


def _queue_place(
    obs: Observation, release: Release, now: float
) -> tuple[Phase, str, str, WaitingFor]:
    problem = _problem(obs, release)
    if problem:
        return Phase.Pending, problem.reason, problem.message, WaitingFor.Person
    blocked = queue.block_of(obs, release)
    if blocked:
        its = release.spec.content
        digest, loaded = queue.digest_of(obs, release), queue.loaded_of(release)
        message = refused.told(blocked, digest, loaded, its.layers)
        return Phase.Rejected, Reason.DigestBlocked, message, WaitingFor.Nothing
    running = obs.record.rollout
    highest = max(obs.record.highest_sequence, running.candidate.sequence if running else -1)
    if release.spec.sequence <= highest:
        newer = queue.overtaken_by(obs.record, release)
        reason = Reason.Superseded if newer else Reason.NotNewer
        return Phase.Superseded, reason, _passed_by(release, newer, highest), WaitingFor.Nothing
    if release.spec.suspend:
        return Phase.Pending, Reason.Suspended, Reason.Suspended.meaning, WaitingFor.Person
    return _turn(obs, release, now)


def _passed_by(release: Release, newer: str, highest: int = 0) -> str:
    """What is said of a release that ends without a rollout. Argo CD shows it as Healthy, as it
    must not trouble anybody for ever; so this has to say plainly that nothing of it is applied.
    """
    if newer:
        return f"it is not rolled out: release {newer} is newer"
    return (
        f"it is not rolled out: its sequence {release.spec.sequence} is not higher than {highest}, "
        "which was tried here before. If this content is to run, publish it in a new release with "
        "a higher spec.sequence"
    )


def _turn(obs: Observation, release: Release, now: float) -> tuple[Phase, str, str, WaitingFor]:
    channel_problem = queue.channel_problem(obs)
    if channel_problem:
        message = f"channel {obs.name} is not ready: {channel_problem.message}"
        return Phase.Pending, channel_problem.reason, message, WaitingFor.Person
    if obs.channel is not None and obs.channel.spec.suspend:
        meaning = Reason.ChannelSuspended.meaning
        return Phase.Pending, Reason.ChannelSuspended, meaning, WaitingFor.Person
    newest = next(iter(queue.eligible(obs)), None)
    if newest is not None and newest.uid != release.uid:
        message = _passed_by(release, newest.name)
        return Phase.Superseded, Reason.Superseded, message, WaitingFor.Nothing
    stop = cooldown.stop(obs, now) if obs.record.rollout is None else None
    if stop is not None:
        return Phase.Pending, stop[0].reason, stop[0].message, stop[1]
    message = succession.why_it_waits(obs, paused=pause_reason(obs, now) is not None)
    return Phase.Pending, Reason.Queued, message, WaitingFor.Nothing
