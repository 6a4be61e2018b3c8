"""After a revert: the channel cools down, and after several in a short time its breaker opens.

Content that did harm is often followed by a repair in a hurry, or by the same fault under another
digest. So nothing starts for `spec.rollout.coolDown` after a revert that harm caused, and after
`spec.rollout.breaker` of them nothing starts at all until a person says so. All of it follows from
the outcomes in the record: there is no timer, and a new leader knows as much as the old one.
"""

from wavegate.api import Channel, Decision, Phase, Reason, WaitingFor
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
    opened = breaker(obs.channel, obs.record)
    if opened is not None:
        return opened, WaitingFor.Person
    newest, until = _cooling(obs.channel, obs.record, now)
    if newest is None:
        return None
    message = (
        f"release {newest.release} was taken back ({_why(newest)}), so nothing starts until "
        f"{timestamp(until)} (spec.rollout.coolDown); then the newest release does. "
        f"{_how_to_resume(newest)}"
    )
    return Problem(Reason.CoolingDown, message), WaitingFor.Nothing


def breaker(channel: Channel | None, record: Record) -> Problem | None:
    """Why the breaker is open; None when it is not. Time does not close it."""
    reverts = _tripped(channel, record)
    if record.rollout is not None or not reverts or channel is None:
        return None
    names = ", ".join(f"{outcome.release} ({_why(outcome)})" for outcome in reverts)
    message = (
        f"{len(reverts)} taken back within {channel.spec.rollout.breaker.within}: {names}. "
        "Nothing starts until a person has looked (spec.rollout.breaker). "
        f"{_how_to_resume(reverts[0])}"
    )
    return Problem(Reason.BreakerOpen, message)


def news(channel: Channel | None, before: Record, after: Record) -> tuple[Reason, str, bool] | None:
    """What one write of the record says of the breaker: reason, message, and that it warns."""
    ended = before.rollout is not None and after.rollout is None
    opened = breaker(channel, after) if ended else None
    return (Reason.BreakerOpen, opened.message, True) if opened else None


def stopped_by(obs: Observation, now: float) -> Outcome | None:
    """The newest revert that keeps releases from starting: the one that a `Resume` has to name."""
    if obs.record.rollout is not None:
        return None
    reverts = _tripped(obs.channel, obs.record)
    return reverts[0] if reverts else _cooling(obs.channel, obs.record, now)[0]


def unfit_to_resume(obs: Observation, decision: Decision, now: float) -> str:
    """Why a `Resume` does not let releases start again; empty when it does."""
    wanted, newest = decision.spec, stopped_by(obs, now)
    if newest is None:
        return f"release {wanted.release} is not rolling out, and no revert keeps others waiting"
    if (wanted.release, wanted.digest) != (newest.release, newest.digest):
        last = f"{newest.release}, with digest {newest.digest}"
        return f"what was taken back last, and has to be named, is release {last}"
    if decision.created + STAMP_SECONDS <= newest.finished_at:
        return f"it was made before release {newest.release} was taken back"
    return ""


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
        f"digest: {outcome.digest}."
    )
