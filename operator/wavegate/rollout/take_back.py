"""Take stable back to the last baked revision, as a person decided where stable is in doubt."""

from dataclasses import replace

from wavegate.api import Channel, Decision, Phase, Reason
from wavegate.rollout import queue
from wavegate.rollout.attempt import Incident, Revision, Rollout
from wavegate.rollout.bake import going_back, refuge
from wavegate.rollout.observation import Observation
from wavegate.rollout.record import Record


def unfit(obs: Observation, decision: Decision) -> str:
    """Why a `Revert` does not take stable back; empty when it does. It names what is stable."""
    stable, wanted = obs.record.stable, decision.spec
    if stable is None or (wanted.release, wanted.digest) != (stable.release, stable.digest):
        return f"release {wanted.release} is not rolling out, and is not what is stable"
    if refuge(obs, obs.record) is None:
        return f"no earlier revision is left to go back to from release {stable.release}"
    return ""


def take_back(obs: Observation, record: Record, decision: Decision, now: float) -> Record:
    """The record in which stable is reverted to the last baked revision, as a person decided. From
    there on it is a revert like that of a bake that failed.
    """
    channel, stable, before = obs.channel, record.stable, refuge(obs, record)
    if channel is None or stable is None or before is None:
        return record
    by = f" by {decision.spec.decided_by}" if decision.spec.decided_by else ""
    why = f"decision {decision.name}{by}: {decision.spec.reason}"
    reverting = replace(
        _as_completed(record, stable, channel, now),
        phase=Phase.Reverting,
        incident=Incident(Reason.RevertDecided, why, (), now),
        reverting_since=now,
    )
    return going_back(record, reverting, before, now)


def _as_completed(record: Record, stable: Revision, channel: Channel, now: float) -> Rollout:
    """The rollout by which stable was completed, as far as it is remembered."""
    if record.bake is not None and record.bake.attempt == stable.attempt:
        return record.bake.rollout
    outcome = next((o for o in record.outcomes if o.attempt == stable.attempt), None)
    waves = outcome.waves if outcome else ()
    return Rollout(
        stable,
        queue.freeze(channel),
        Phase.Reverting,
        started_at=outcome.started_at if outcome else stable.since,
        waves=waves,
        ledgers=1 + max((wave.ledger for wave in waves), default=-1),
        completed_at=outcome.finished_at if outcome else now,
    )
