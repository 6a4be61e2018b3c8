"""What people read about a bake: in the status of its release, and as Events."""

from datetime import UTC, datetime
from typing import Any

from wavegate.api import OnFailure, Phase, Reason, WaitingFor
from wavegate.evidence import Gate
from wavegate.rollout import watch
from wavegate.rollout.attempt import Incident
from wavegate.rollout.observation import Observation
from wavegate.rollout.record import Bake, Outcome, Record

Told = tuple[Reason, str, bool]
"""Reason, message, and whether it is a warning."""


def completed(obs: Observation, outcome: Outcome, now: float) -> dict[str, Any]:
    """What a bake changes in the status of a completed release. Nothing in it ticks."""
    bake = obs.record.bake
    if outcome.phase is not Phase.Completed:
        return {}
    if outcome.baked_at is not None:
        return {"reason": Reason.Baked.value, "message": f"{outcome.message}, and baked"}
    if bake is None or bake.attempt != outcome.attempt:
        return {}
    if bake.incident is not None:
        return {
            "reason": _verdict(bake.incident).value,
            "message": f"{bake.incident.message.rstrip('.')}. {_remedy(obs, bake, bake.incident)}",
            "waitingFor": WaitingFor.Person.value,
        }
    head = f"{outcome.message}; it bakes until {_clock(bake.until)}"
    if bake.suspects:
        last = ", ".join(suspect.node for suspect in reversed(bake.suspects[-5:]))
        head = f"{head}; {len(bake.suspects)} nodes came to harm, as chance explains ({last})"
    status = {"reason": Reason.Baking.value, "message": head}
    if now >= bake.until:
        lacks = watch.missing(obs, bake, watch.watched(obs, bake), now)
        waiting = {"waitingFor": WaitingFor.Evidence.value, "message": f"{head}; waiting: {lacks}"}
        status |= waiting if lacks else {}
    return status


def incident_of(obs: Observation, outcome: Outcome) -> Incident | None:
    """The incident of a release that ended: of its rollout, or of its bake."""
    bake = obs.record.bake
    own = bake is not None and bake.attempt == outcome.attempt
    return outcome.incident or (bake.incident if bake is not None and own else None)


def gates_of(obs: Observation, outcome: Outcome) -> tuple[Gate, ...]:
    """What each gate said at the end of a release; of a bake that failed, what it said then."""
    bake = obs.record.bake
    own = bake is not None and bake.attempt == outcome.attempt and bake.incident is not None
    return bake.rollout.gates if bake is not None and own else outcome.gates


def news(before: Record, after: Record) -> tuple[str, Told] | None:
    """What one write of the record says about a bake: UID of the release, and what to tell."""
    if after.last_baked is not None and after.last_baked != before.last_baked:
        revision = after.last_baked
        return revision.release_uid, (Reason.Baked, f"{revision.title} is baked", False)
    bake, was = after.bake, before.bake
    if bake is None or bake.incident is None or (was is not None and was.incident is not None):
        return None
    told = (_verdict(bake.incident), bake.incident.message, True)
    return bake.rollout.candidate.release_uid, told


def _verdict(incident: Incident) -> Reason:
    unproven = incident.reason is Reason.BakeUnproven
    return Reason.BakeUnproven if unproven else Reason.BakeFailed


def _remedy(obs: Observation, bake: Bake, incident: Incident) -> str:
    """What was done about a failed bake, and what a person can do."""
    running = obs.record.rollout
    publish = "publish repaired or earlier content as a new release"
    if incident.reason is Reason.BakeUnproven or bake.rollout.plan.on_failure is OnFailure.Pause:
        return f"Nothing was changed (it is not taken back by itself): {publish}."
    if running is not None and running.candidate.is_agent:
        return (
            f"The rollout of {running.candidate.title} is paused. If it is the repair, resume it "
            "by setting the channel's spec.suspend to true and then to false. Else put the "
            "template back; then this one goes back too."
        )
    if running is not None:
        other = running.candidate.release
        return (
            f"Release {other} is paused. If it is the repair, resume it by setting its "
            "spec.suspend to true and then to false. Else revert it; then this one goes back too."
        )
    return f"No earlier revision is left to go back to, so it stays: {publish}."


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
