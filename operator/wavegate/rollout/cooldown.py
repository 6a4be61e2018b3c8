"""After a revert: the channel cools down, and after several in a short time its breaker opens.

Content that did harm is often followed by a repair in a hurry, or by the same fault under another
digest. So nothing starts for `spec.rollout.coolDown` after a revert that harm caused, and after
`spec.rollout.breaker` of them nothing starts at all until a person says so. All of it follows from
the outcomes in the record: there is no timer, and a new leader knows as much as the old one.
"""

from wavegate.api import Channel, Decision, Phase, Reason, WaitingFor
from wavegate.rollout.attempt import Revision
from wavegate.rollout.excerpts import timestamp
from wavegate.rollout.observation import Observation
from wavegate.rollout.record import Outcome, Record
from wavegate.rollout.steps import Problem

COUNTS = frozenset(
    {
        Reason.NodeNotReady,
        Reason.NodeRebooted,
        Reason.NodeCondition,
        Reason.NodeVanished,
        Reason.NodeReplaced,
        Reason.AgentRestarted,
        Reason.AgentOOMKilled,
        Reason.AgentNotReady,
        Reason.OtherContentLoaded,
        Reason.CheckAboveMax,
        Reason.CheckBelowMin,
        Reason.EvidenceLostOnWave,
        Reason.DrillFailed,
    }
)
"""Reverts by these count: something was seen on nodes that ran the content. What never ran (an
image that could not be fetched, no room for the pod) and what people did says nothing about it."""

STAMP_SECONDS = 1.0
"""The apiserver's timestamps are whole seconds: an object was made less than this later."""


def counted(record: Record) -> tuple[Outcome, ...]:
    """Reverts that harm caused, the newest first; not those after which a person let go on."""
    return tuple(
        outcome
        for outcome in record.outcomes
        if outcome.phase is Phase.Reverted
        and outcome.incident is not None
        and outcome.incident.reason in COUNTS
        and outcome.finished_at > record.resumed_at
    )


def stop(obs: Observation, now: float) -> tuple[Problem, WaitingFor] | None:
    """What keeps every release from starting, and what that waits for; None when nothing does."""
    closed = shut(obs.channel, obs.record)
    if closed is not None:
        return closed, WaitingFor.Person
    newest, until = _cooling(obs.channel, obs.record, now)
    if newest is None:
        return None
    message = (
        f"{newest.title} was taken back ({_why(newest)}), so nothing starts until "
        f"{timestamp(until)} (spec.rollout.coolDown); then the newest release does. "
        f"{_how_to_resume(newest)}"
    )
    return Problem(Reason.CoolingDown, message), WaitingFor.Nothing


def shut(channel: Channel | None, record: Record) -> Problem | None:
    """Why nothing starts until a person says so; None when that is not so. Time changes nothing."""
    if record.rollout is not None or channel is None:
        return None
    doubtful, reverts = _doubtful(record), _tripped(channel, record)
    if doubtful is not None:
        return Problem(Reason.StableSuspect, _choice(record, doubtful))
    if not reverts:
        return None
    names = ", ".join(f"{outcome.title} ({_why(outcome)})" for outcome in reverts)
    message = (
        f"{len(reverts)} taken back within {channel.spec.rollout.breaker.within}: {names}. "
        "Nothing starts until a person has looked (spec.rollout.breaker). "
        f"{_how_to_resume(reverts[0])}"
    )
    return Problem(Reason.BreakerOpen, message)


def news(channel: Channel | None, before: Record, after: Record) -> tuple[Reason, str, bool] | None:
    """What one write of the record says of that: reason, message, and that it warns."""
    ended = before.rollout is not None and after.rollout is None
    closed = shut(channel, after) if ended else None
    return (Reason[closed.reason], closed.message, True) if closed else None


def stopped_by(obs: Observation, now: float) -> Outcome | None:
    """The newest revert that keeps releases from starting: the one that a `Resume` has to name."""
    if obs.record.rollout is not None:
        return None
    reverts = _tripped(obs.channel, obs.record)
    doubtful = _doubtful(obs.record)
    if doubtful is not None:
        return doubtful
    return reverts[0] if reverts else _cooling(obs.channel, obs.record, now)[0]


def unfit_to_resume(obs: Observation, decision: Decision, now: float) -> str:
    """Why a `Resume` does not let releases start again; empty when it does."""
    wanted, newest = decision.spec, stopped_by(obs, now)
    if newest is None:
        return f"release {wanted.release} is not rolling out, and no revert keeps others waiting"
    if (wanted.release, wanted.digest) != newest.named:
        last = f"{newest.title}, by digest {newest.named[1]}"
        return f"what was taken back last, and has to be named, is {last}"
    if decision.created + STAMP_SECONDS <= newest.finished_at:
        return f"it was made before {newest.title} was taken back"
    return ""


def _doubtful(record: Record) -> Outcome | None:
    """The revert after which nodes failed on stable too, until a person lets go on, or something
    starts.
    """
    newest = next((o for o in record.outcomes if o.reason is Reason.StableSuspect), None)
    if newest is None or newest.finished_at <= record.resumed_at:
        return None
    passed = any(outcome.started_at >= newest.finished_at for outcome in record.outcomes)
    return None if passed else newest


def _choice(record: Record, doubtful: Outcome) -> str:
    stable, before = record.stable, _before(record)
    back = (
        f" To go back further, to release {before.release}, decide Revert, with release: "
        f"{stable.release} and digest: {stable.digest}; all nodes go."
        if stable is not None and before is not None
        else ""
    )
    return (
        f"nodes failed on stable after {doubtful.title} was taken back. Nothing starts "
        f"until a person has looked at them.{back} {_how_to_resume(doubtful)}"
    )


def _before(record: Record) -> Revision | None:
    """What a person may go back to from stable, as far as the record knows: see `bake.refuge`."""
    stable = record.stable.attempt if record.stable else ""
    for revision in (record.last_baked, *record.history):
        if revision is None or revision.attempt == stable:
            continue
        if not (record.block_of(revision.digest) or record.failed_agent(revision.agent)):
            return revision
    return None


def _tripped(channel: Channel | None, record: Record) -> tuple[Outcome, ...]:
    """The reverts that opened the breaker, the newest first; empty when it is closed. What started
    since then passed it: so it was closed, or not there yet.
    """
    if channel is None or not channel.spec.rollout.breaker.reverts:
        return ()
    policy = channel.spec.rollout.breaker
    reverts = counted(record)[: policy.reverts]
    if len(reverts) < policy.reverts:
        return ()
    newest, oldest = reverts[0].finished_at, reverts[-1].finished_at
    passed = any(outcome.started_at >= newest for outcome in record.outcomes)
    return () if passed or newest - oldest > float(policy.within) else reverts


def _cooling(channel: Channel | None, record: Record, now: float) -> tuple[Outcome | None, float]:
    """The revert after which the channel cools down, and until when; None when it does not."""
    reverts = counted(record)
    if channel is None or not reverts:
        return None, 0.0
    until = reverts[0].finished_at + float(channel.spec.rollout.cool_down)
    return (reverts[0], until) if now < until else (None, 0.0)


def _why(outcome: Outcome) -> str:
    return outcome.incident.reason.value if outcome.incident else outcome.reason.value


def _how_to_resume(outcome: Outcome) -> str:
    return (
        f"Who knows that the cause is gone decides Resume, with release: {outcome.release} and "
        f"digest: {outcome.named[1]}."
    )
