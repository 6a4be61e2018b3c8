"""When a newer release takes the place of one that is rolling out, and why it waits otherwise.

There is one slot. A release that runs is fenced and taken back as by any other revert, and proven
back, before the newer one starts: there is never a third revision. Nothing is blocked.

It must not be too easy either, or a feed with many releases a day would never finish one: so what
has replaced another is itself replaced by a more urgent one only. A change of the agent is replaced
by none, however urgent: a newer release may need it.
"""

from wavegate.api import Phase, Reason, Release, Severity
from wavegate.evidence import Verdict
from wavegate.rollout import cooldown, queue, revert
from wavegate.rollout.attempt import Rollout
from wavegate.rollout.observation import Observation
from wavegate.rollout.record import Record
from wavegate.rollout.steps import Step

_PAUSED = "is paused, and waits for a person: resume or revert it"


def replaced(obs: Observation, rollout: Rollout, step: Step, now: float) -> Step:
    """Take the running release back for a newer one, if that may be; else `step`, which is what it
    would do. Harm is dealt with first, so that it blocks; so is what is to be stored, such as a
    suspect. In a disturbance of the whole cluster nothing could be proven back.
    """
    newer = successor(obs, rollout, now)
    if newer is None or step.record is not None:
        return step
    if any(_comes_first(finding.verdict, finding.reason) for finding in step.findings):
        return step
    urgent = _most_urgent(obs)
    more = f" ({urgent} waits)" if urgent.rank > rollout.plan.severity.rank else ""
    message = f"release {newer.name} is newer and takes its place{more}; nothing is blocked"
    return revert.begin(obs, rollout, Reason.Replaced, message, now)


def successor(obs: Observation, rollout: Rollout, now: float) -> Release | None:
    """The newest release that may start, if it may take the place of the one that rolls out."""
    newer = _newest(obs)
    if newer is None or obs.channel is None or obs.unreadable or obs.blind:
        return None
    if obs.channel.spec.suspend or queue.channel_problem(obs) or cooldown.stop(obs, now):
        return None
    return None if _kept_by(obs, rollout) else newer


def why_it_waits(obs: Observation, *, paused: bool) -> str:
    """Why the newest release does not start yet, for a person."""
    rollout = obs.record.rollout
    if rollout is None:
        return "It is its turn"
    agent = rollout.candidate.is_agent
    name = "the change of the agent" if agent else f"release {rollout.candidate.release}"
    if rollout.phase is Phase.Reverting:
        return f"It starts when the nodes of {name} are proven to be back"
    kept = _PAUSED if paused else _kept_by(obs, rollout)
    if kept:
        return f"It starts when {name} has ended, which {kept}"
    return f"It takes the place of {name}"


def _kept_by(obs: Observation, rollout: Rollout) -> str:
    """What keeps the running release in its place, in words; empty when nothing does."""
    if rollout.candidate.is_agent:
        return "goes before releases"
    urgent = _most_urgent(obs).rank > rollout.plan.severity.rank
    if rollout.phase is not Phase.Rolling:
        return "is being prepared"
    if rollout.paused is not None:
        return _PAUSED
    if rollout.promoting:
        return "becomes stable just now"
    if _in_first_wave(rollout):
        return "" if urgent or not _has_replaced(obs.record) else "took another one's place itself"
    if obs.record.stable is None:  # its nodes would be left without any agent
        return "is the first of this channel and past its first wave"
    return "" if urgent else "is past its first wave"


def _newest(obs: Observation) -> Release | None:
    newer = _newer(obs)
    return newer[0] if newer else None


def _newer(obs: Observation) -> list[Release]:
    """Releases that may start and are newer than the one that rolls out, the newest first."""
    rollout = obs.record.rollout
    running = rollout.candidate.sequence if rollout else -1
    return [r for r in queue.eligible(obs) if r.spec.sequence > running]


def _most_urgent(obs: Observation) -> Severity:
    """Of all that wait: the newest brings what those before it brought."""
    waiting = (queue.severity_of(obs.channel, release) for release in _newer(obs))
    return max(waiting, key=lambda severity: severity.rank, default=Severity.Routine)


def _in_first_wave(rollout: Rollout) -> bool:
    """Before the first wave, or in it. One that was excused and is done again is still the first;
    one that has passed is not.
    """
    passed = any(wave.passed_at is not None for wave in rollout.waves)
    return rollout.wave <= 0 and not passed


def _has_replaced(record: Record) -> bool:
    """Whether the release that rolls out took the place of another: no other ended in between."""
    releases = (outcome for outcome in record.outcomes if not outcome.agent)
    last = next(releases, None)
    return last is not None and last.phase is Phase.Superseded


def _comes_first(verdict: Verdict, reason: Reason) -> bool:
    return verdict is Verdict.FAIL or reason is Reason.ClusterWideDisturbance
