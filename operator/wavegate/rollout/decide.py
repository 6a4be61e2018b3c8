"""`decide`: what to do next on a channel. Pure and total: all of it follows from its input.

Order of concern: finish a revert before anything else, then what a bake shows, then what people
decided, then go forward, then start what is next, then tidy up.
"""

from collections.abc import Iterator
from dataclasses import replace

from wavegate.api import Phase, Reason
from wavegate.rollout import (
    agent_same,
    agent_template,
    bake,
    busy,
    cooldown,
    decisions,
    edits,
    forward,
    lost,
    prepare,
    queue,
    refused,
    revert,
    succession,
)
from wavegate.rollout.attempt import Rollout
from wavegate.rollout.judge import judge
from wavegate.rollout.names import HANDS_OFF_ANNOTATION
from wavegate.rollout.observation import Observation
from wavegate.rollout.record import MAX_HISTORY
from wavegate.rollout.steps import TICK, Forget, Retarget, Step, Target

LOOK_AGAIN = 5.0
"""Seconds until a channel or a release that can't start is looked at again: what it lacks (a
ConfigMap, a DaemonSet, nodes) is not all watched."""

LOOK_AT_PARKED = 30.0
"""Seconds until a parked DaemonSet is read again: it is not watched."""


def decide(obs: Observation, now: float) -> Step:
    """Return the next step for this channel; `now` is the engine's clock in seconds."""
    if obs.hands_off:
        return _hands_off(obs, obs.record.rollout, now)
    if lost.is_lost(obs) and not lost.in_position(obs):
        return lost.advance(obs, now)
    return bake.remind(obs, _timed(obs, bake.notice(obs, now) or _decide(obs, now), now), now)


def _timed(obs: Observation, step: Step, now: float) -> Step:
    """Store with a pause when it began, whatever paused it: a `Resume` is about what was seen."""
    before, after = obs.record.rollout, step.record.rollout if step.record else None
    if step.record is None or after is None or after.paused is None:
        return step
    if before is not None and before.paused is after.paused:
        return step
    return replace(step, record=replace(step.record, rollout=replace(after, paused_at=now)))


def _decide(obs: Observation, now: float) -> Step:
    record, rollout = obs.record, obs.record.rollout
    if rollout is not None and rollout.phase is Phase.Reverting:
        return revert.advance(obs, rollout, now)
    decided = decisions.carry_out(obs, now)
    if decided is not record:
        return Step(record=decided)
    if rollout is None:
        return _idle(obs, now)
    ended = _ended_by_person(obs, rollout)
    if ended is not None:
        return revert.begin(obs, rollout, *ended, now)
    resumed = _resumed(obs, rollout, now)
    if resumed is not rollout:
        return Step(record=replace(record, rollout=resumed))
    tighter = edits.apply(obs, rollout)
    if tighter is not rollout:
        return Step(record=replace(record, rollout=tighter))
    if rollout.phase is Phase.Pending:
        return prepare.advance(obs, rollout, now)
    paused = pause_reason(obs, now)
    freed = busy.freed(obs, rollout, paused, now)
    if freed is not rollout:
        return Step(record=replace(record, rollout=freed))
    step = forward.advance(obs, rollout, paused, now)
    return step if paused else succession.replaced(obs, rollout, step, now)


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
    if any(decisions.holds(obs, decision, now) for decision in obs.decisions):
        return Reason.PausedByDecision
    return rollout.paused if rollout else None


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
    known = agent_same.known(obs)
    if known is not record and not lost.is_lost(obs):
        return Step(record=known)
    if channel is not None and not channel.spec.suspend and not queue.channel_problem(obs):
        rollout = queue.next_start(obs, channel, now)
        if rollout is not None and cooldown.stop(obs, now) is None:
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
    waiting = queue.channel_problem(obs) or agent_template.is_next(obs)
    waiting = waiting or any(queue.is_open(obs, r) for r in obs.releases)
    parked = LOOK_AT_PARKED if obs.agent.source else None
    return Step(requeue=LOOK_AGAIN if waiting else parked)


def _ended_by_person(obs: Observation, rollout: Rollout) -> tuple[Reason, str] | None:
    """A deletion, a decision, or a block of its digest that ends the running release. That is asked
    in each pass, so before each wave opens, too.
    """
    if obs.channel is None and not obs.unreadable:
        return Reason.ChannelDeleted, "the channel was deleted"
    back = agent_template.changed_back(obs, rollout)
    if back:
        return Reason.AgentTemplateChanged, back
    gone = obs.release(rollout.candidate.release_uid) is None
    if gone and not rollout.candidate.is_agent and not obs.unreadable:
        return Reason.ReleaseDeleted, f"release {rollout.candidate.release} was deleted"
    decided = decisions.revert_decided(obs, rollout)
    if decided:
        return Reason.RevertDecided, decided
    its = rollout.candidate
    blocked = obs.record.block_of(its.digest, its.loaded, its.layers)
    return (Reason.DigestBlocked, refused.told_under_way(blocked, its)) if blocked else None


def _resumed(obs: Observation, rollout: Rollout, now: float) -> Rollout:
    """A person who suspends a release that paused itself takes over; unsetting `suspend` then
    resumes it. Harm that is still there pauses it again. Of an agent's change it is the channel's.
    """
    if rollout.left_out:
        return rollout
    agent = rollout.candidate.is_agent
    lever = obs.channel if agent else obs.release(rollout.candidate.release_uid)
    if rollout.paused is None or lever is None or lever.spec.suspend == rollout.taken_over:
        return rollout
    if lever.spec.suspend:
        return replace(rollout, taken_over=True)
    return decisions.resumed(rollout, now)
