"""`decide`: what to do next on a channel. Pure and total: all of it follows from its input.

Order of concern: finish a revert before anything else, then what a bake shows, then what people
decided, then go forward, then start what is next, then tidy up.
"""

from collections.abc import Iterator
from dataclasses import replace

from wavegate.api import Decision, DecisionAction, Phase, Reason
from wavegate.rollout import bake, forward, lost, queue, revert, soak
from wavegate.rollout.judge import judge
from wavegate.rollout.names import HANDS_OFF_ANNOTATION
from wavegate.rollout.observation import Observation
from wavegate.rollout.record import MAX_HISTORY, DecisionNote, Record, Rollout
from wavegate.rollout.steps import TICK, Forget, Retarget, Step, Target

MAX_DECISIONS = 100
"""Most reverts, and most pauses, of one rollout that are noted: a record must always fit."""
LOOK_AGAIN = 5.0
"""Seconds until a channel or a release that can't start is looked at again: what it lacks (a
ConfigMap, a DaemonSet, nodes) is not all watched."""


def decide(obs: Observation, now: float) -> Step:
    """Return the next step for this channel; `now` is the engine's clock in seconds."""
    if obs.hands_off:
        return _hands_off(obs, obs.record.rollout, now)
    if lost.is_lost(obs) and not lost.in_position(obs):
        return lost.advance(obs, now)
    return bake.remind(obs, bake.notice(obs, now) or _decide(obs, now), now)


def _decide(obs: Observation, now: float) -> Step:
    record, rollout = obs.record, obs.record.rollout
    if rollout is None:
        return _idle(obs, now)
    if rollout.phase is Phase.Reverting:
        return revert.advance(obs, rollout, now)
    noted = _note_decisions(obs, rollout, now)
    if noted is not record:
        return Step(record=noted)
    ended = _ended_by_person(obs, rollout)
    if ended is not None:
        return revert.begin(obs, rollout, *ended, now)
    resumed = _resumed(obs, rollout, now)
    if resumed is not rollout:
        return Step(record=replace(record, rollout=resumed))
    if rollout.phase is Phase.Pending:
        return forward.prepare(obs, rollout, now)
    return forward.advance(obs, rollout, pause_reason(obs, now), now)


def pause_reason(obs: Observation, now: float) -> Reason | None:
    """Why no node may be moved now; None when it may."""
    rollout = obs.record.rollout
    release = obs.release(rollout.candidate.release_uid) if rollout else None
    if obs.hands_off:
        return Reason.HandsOff
    if lost.is_lost(obs):
        return Reason.StateLost
    if obs.channel is not None and obs.channel.spec.suspend:
        return Reason.ChannelSuspended
    if release is not None and release.spec.suspend:
        return Reason.Suspended
    if any(_holds(obs, decision, now) for decision in obs.decisions):
        return Reason.PausedByDecision
    return rollout.paused if rollout else None


def expires_at(decision: Decision, note: DecisionNote) -> float:
    """When an accepted pause ends, by the engine's clock."""
    return note.at + float(decision.spec.pause_length)


def _hands_off(obs: Observation, rollout: Rollout | None, now: float) -> Step:
    """Nothing is written, not even a revert; what is seen of the nodes is still told."""
    rolling = rollout is not None and rollout.phase is Phase.Rolling
    findings = judge(obs, rollout, now) if rollout is not None and rolling else ()
    waiting = f"a person to remove annotation {HANDS_OFF_ANNOTATION}"
    requeue = TICK if rollout else None
    return Step(findings=findings, judged=rolling, waiting=waiting, requeue=requeue)


def _idle(obs: Observation, now: float) -> Step:
    record, channel = obs.record, obs.channel
    repair = tuple(_towards_stable(obs))
    if repair:
        return Step(actions=repair, requeue=1.0)
    if lost.stray_ledgers(obs):
        return Step(actions=(Forget(ledgers_of=lost.stray_ledgers(obs)[0]),), requeue=1.0)
    if channel is not None and not channel.spec.suspend and not queue.channel_problem(obs):
        ready = queue.eligible(obs)
        if ready:
            rollout = queue.start(obs, channel, ready[0], now)
            started = replace(record, rollout=rollout, attempts=record.attempts + 1)
            return Step(record=started)
    return _tidy(obs)


def _towards_stable(obs: Observation) -> Iterator[Retarget]:
    """Without a rollout every node belongs to stable; whoever changed that is corrected."""
    stable = obs.revision(obs.record.stable)
    if stable is not None and not stable.targets(obs.key, Target.ALL):
        yield Retarget(stable.attempt, Target.ALL)
    else:
        yield from forward.retired(obs)


def _tidy(obs: Observation) -> Step:
    """Keep the last revisions' templates, the last baked one's, and the ledgers of the last
    attempts, the baking one's among them.
    """
    record = obs.record
    kept = {revision.attempt for revision in record.history[:MAX_HISTORY]}
    kept |= {r.attempt for r in (record.stable, record.last_baked) if r is not None}
    for attempt in sorted(obs.revisions):
        if attempt not in kept and not obs.pods_of(attempt):
            return Step(actions=(Forget(revision=attempt),), requeue=1.0)
    recent = {outcome.attempt for outcome in record.outcomes[:MAX_HISTORY]}
    recent |= {record.bake.attempt} if record.bake else set()
    for attempt in sorted(obs.old_ledgers - recent):
        return Step(actions=(Forget(ledgers_of=attempt),), requeue=1.0)
    waiting = queue.channel_problem(obs) or any(queue.is_open(obs, r) for r in obs.releases)
    return Step(requeue=LOOK_AGAIN if waiting else None)


def _ended_by_person(obs: Observation, rollout: Rollout) -> tuple[Reason, str] | None:
    """A deletion or a decision that ends the running release."""
    if obs.channel is None and not obs.unreadable:
        return Reason.ChannelDeleted, "the channel was deleted"
    if obs.release(rollout.candidate.release_uid) is None and not obs.unreadable:
        return Reason.ReleaseDeleted, f"release {rollout.candidate.release} was deleted"
    for note in obs.record.decisions:
        decision = next((d for d in obs.decisions if d.uid == note.uid), None)
        if decision is None or _action(decision) is DecisionAction.Pause:
            continue
        if note.release_uid == rollout.candidate.release_uid:
            return Reason.RevertDecided, f"decision {decision.name}: {decision.spec.reason}"
    return None


def _resumed(obs: Observation, rollout: Rollout, now: float) -> Rollout:
    """A person who suspends a release that paused itself takes over; unsetting `suspend` then
    resumes it. Harm that is still there pauses it again.
    """
    release = obs.release(rollout.candidate.release_uid)
    if rollout.paused is None or release is None or release.spec.suspend == rollout.taken_over:
        return rollout
    if release.spec.suspend:
        return replace(rollout, taken_over=True)
    resumed = replace(rollout, paused=None, incident=None, taken_over=False)
    return soak.resumed(resumed, now) if rollout.waves else resumed


def _note_decisions(obs: Observation, rollout: Rollout, now: float) -> Record:
    """Note the decisions about the running release that were not noted before: each acts once.

    Those about something else are left alone, so that a note is never lost to a flood of them.
    """
    known = {note.uid: note for note in obs.record.decisions}
    matching = [d for d in obs.decisions if refusal(obs, d) is None]
    unknown = [d for d in matching if d.uid not in known]
    reverts = [d for d in unknown if _action(d) is DecisionAction.Revert]
    pauses = [d for d in unknown if _action(d) is DecisionAction.Pause]
    room = max(0, MAX_DECISIONS - (len(matching) - len(unknown)))
    fresh = [*reverts[:MAX_DECISIONS], *pauses[:room]]
    if not fresh:
        return obs.record
    notes = [DecisionNote(d.uid, rollout.candidate.release_uid, now) for d in fresh]
    present = {decision.uid for decision in obs.decisions}
    kept = [note for note in obs.record.decisions if note.uid in present]
    return replace(obs.record, decisions=(*kept, *notes))


def refusal(obs: Observation, decision: Decision) -> str | None:
    """Why a decision does not apply to what is rolling out now; None when it does."""
    rollout = obs.record.rollout
    running = obs.release(rollout.candidate.release_uid) if rollout else None
    if running is None or rollout is None or running.name != decision.spec.release:
        return f"release {decision.spec.release} is not rolling out; nothing was changed"
    if decision.spec.digest != rollout.candidate.digest:
        return (
            f"release {running.name} carries {rollout.candidate.digest}, not "
            f"{decision.spec.digest}; nothing was changed"
        )
    return None


def _holds(obs: Observation, decision: Decision, now: float) -> bool:
    note = next((n for n in obs.record.decisions if n.uid == decision.uid), None)
    rollout = obs.record.rollout
    if note is None or rollout is None:
        return False
    if _action(decision) is not DecisionAction.Pause:
        return False
    current = note.release_uid == rollout.candidate.release_uid
    return current and now < expires_at(decision, note)


def _action(decision: Decision) -> DecisionAction:
    return DecisionAction(decision.spec.action)
