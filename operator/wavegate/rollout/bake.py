"""Bake: a completed release is watched for a day, as content can break nodes long after it came.

It ends well on evidence after its time (`Baked`), or with an incident when harm is beyond chance.
Then the failed revision becomes the candidate of a rollout that reverts, and the last baked one
stable, in one write of the record: from there on it is a revert like any other.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from wavegate.api import OnFailure, Phase, Reason
from wavegate.evidence import LedgerNode
from wavegate.rollout import watch
from wavegate.rollout.attempt import Incident, Revision, Rollout
from wavegate.rollout.marks import NOT_WATCHED
from wavegate.rollout.observation import Observation
from wavegate.rollout.record import Bake, Outcome, Record
from wavegate.rollout.revert import block
from wavegate.rollout.steps import Step
from wavegate.rollout.waves import baseline_of

LOOK_SECONDS = 30.0
"""Seconds until the nodes are looked at again when nothing happens: an agent that is not Ready
becomes harm by time alone."""
END_SECONDS = 5.0
"""The same, when only the proofs of the end are awaited."""
MAX_EXCUSED = 400_000
"""Characters that the excused nodes may take of a record, which holds 1 MiB: some 6,500 nodes. A
bake in which more are drained proves nothing."""


def begin(rollout: Rollout, now: float) -> Bake | None:
    """The bake of a rollout that is complete; None when the channel wants none."""
    if rollout.plan.bake <= 0:
        return None
    done = replace(
        rollout, promoting=False, paused=None, incident=None, completed_at=now, excused={}
    )
    return Bake(done, since=now, until=now + rollout.plan.bake, excused=rollout.excused)


def notice(obs: Observation, now: float) -> Step | None:
    """What the bake has to store now; None when nothing. A revert under way comes first."""
    bake, rollout = obs.record.bake, obs.record.rollout
    if bake is None or (rollout is not None and rollout.phase is Phase.Reverting):
        return None
    if obs.channel is None and not obs.unreadable:
        return Step(record=replace(obs.record, bake=None))
    if bake.incident is not None:
        back = _taken_back(obs, obs.record, now) if rollout is None else None
        return Step(record=back) if back else None
    nodes = watch.watched(obs, bake)
    noted = watch.note(obs, bake, nodes, now)
    incident = _incident(obs, noted, nodes, now)
    if incident is not None:
        told = replace(noted.rollout, gates=watch.gates_of(obs, noted, nodes, now))
        over = replace(noted, rollout=told, incident=incident, excused={})
        return Step(record=_failed(obs, over, now))
    if noted is not bake:
        return Step(record=replace(obs.record, bake=noted))
    if now >= bake.until and not watch.missing(obs, bake, nodes, now):
        return Step(record=_baked(obs.record, now))
    return None


def remind(obs: Observation, step: Step, now: float) -> Step:
    """The step of a pass, with when to look at the bake again. Where a candidate ends, the nodes
    that vanished out of its ledgers are not the baking content's to answer for.
    """
    bake, rollout = obs.record.bake, obs.record.rollout
    if bake is None or bake.incident is not None:
        return step
    after = step.record
    if after is not None:
        ended = rollout is not None and after.rollout is None
        if not ended or after.bake is None or after.bake.attempt != bake.attempt:
            return step
        lost = {n: NOT_WATCHED for n in baseline_of(obs) if n not in obs.nodes}
        excused = {**after.bake.excused, **lost}
        return replace(step, record=replace(after, bake=replace(after.bake, excused=excused)))
    left = bake.until - now
    due = min(LOOK_SECONDS, left) if left > 0 else END_SECONDS
    return replace(step, requeue=due if step.requeue is None else min(step.requeue, due))


def refuge(obs: Observation, record: Record) -> Revision | None:
    """What nodes can go back to: the last baked revision, else the newest before stable. Its
    DaemonSet must be there, and its content not blocked.
    """
    stable = record.stable.attempt if record.stable else ""
    kept = [record.last_baked] if record.last_baked else []
    for revision in (*kept, *record.history):
        blocked = record.block_of(revision.digest) or record.failed_agent(revision.agent)
        if revision.attempt != stable and obs.revision(revision) is not None and blocked is None:
            return revision
    return None


def _incident(
    obs: Observation, bake: Bake, nodes: Mapping[str, LedgerNode], now: float
) -> Incident | None:
    """Why the bake has failed; None as long as it has not."""
    above = watch.check_above(obs, bake, nodes)
    if above is not None:
        return Incident(above.reason, f"{above.message}, while it baked", (), now)
    if watch.beyond_chance(obs, bake, now):
        names = tuple(suspect.node for suspect in reversed(bake.suspects))[:5]
        counts = Counter(suspect.reason for suspect in bake.suspects).most_common()
        kinds = ", ".join(f"{reason.value} {count}" for reason, count in counts)
        message = (
            f"{len(bake.suspects)} of {watch.fleet_size(obs)} nodes came to harm while it baked, "
            f"more than chance explains ({kinds}; the last were {', '.join(names)})"
        )
        return Incident(counts[0][0], message, names, now)
    if sum(len(name) + 16 for name in bake.excused) > MAX_EXCUSED:
        return Incident(Reason.BakeUnproven, Reason.BakeUnproven.meaning, (), now)
    return None


def _failed(obs: Observation, bake: Bake, now: float) -> Record:
    """Block what did harm, and go back. A newer candidate that is under way is paused first: a
    person knows whether it is the repair.
    """
    record, running = replace(obs.record, bake=bake), obs.record.rollout
    if bake.incident is None or not _goes_back(bake):
        return record
    if watch.beyond_chance(obs, bake, now, blocking=True):
        record = block(record, bake.rollout, bake.incident.reason, now)
    if running is not None:
        paused = replace(running, paused=Reason.StableSuspect, taken_over=False)
        return replace(record, rollout=paused)
    return _taken_back(obs, record, now) or record


def _goes_back(bake: Bake) -> bool:
    unproven = bake.incident is not None and bake.incident.reason is Reason.BakeUnproven
    return bake.rollout.plan.on_failure is not OnFailure.Pause and not unproven


def _taken_back(obs: Observation, record: Record, now: float) -> Record | None:
    """The record in which the failed revision is reverted; None when it stays where it is."""
    bake, before = record.bake, refuge(obs, record)
    if bake is None or before is None or not _goes_back(bake):
        return None
    reverting = replace(
        bake.rollout, phase=Phase.Reverting, incident=bake.incident, reverting_since=now
    )
    return going_back(record, reverting, before, now)


def going_back(record: Record, reverting: Rollout, before: Revision, now: float) -> Record:
    """The record in which what is stable is taken back, and `before` is stable again."""
    return replace(
        record,
        stable=replace(before, since=now),
        rollout=reverting,
        bake=None,
        history=tuple(r for r in record.history if r.attempt != before.attempt),
        outcomes=tuple(o for o in record.outcomes if o.attempt != reverting.attempt),
    )


def _baked(record: Record, now: float) -> Record:
    stable = record.stable

    def stamped(outcome: Outcome) -> Outcome:
        own = stable is not None and outcome.attempt == stable.attempt
        return replace(outcome, baked_at=now) if own else outcome

    outcomes = tuple(stamped(outcome) for outcome in record.outcomes)
    return replace(record, bake=None, last_baked=stable, outcomes=outcomes)
