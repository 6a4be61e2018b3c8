"""Soak and judgement: a wave passes on evidence that is younger than its soak, never on time.

Good time is collected in stretches. What happened while the operator did not watch is no good
time; what is still on its way after a restart is no gap either, else an operator that restarts
often would never come to an end.

The wall has a bound: after three times its length since it first began, a soak counts as held. It
goes on all the same, since good time is good time; but if it is not complete after `holdTimeout`, a
person is asked. When the bound was found passed is stored, and neither evidence that comes and
goes nor an operator that restarts begins that time anew.
"""

from dataclasses import replace

from wavegate.api import Duration, Reason, WaveState
from wavegate.evidence import LEASE_STALE_SECONDS, Finding, Verdict, worst
from wavegate.rollout import exposure, proven
from wavegate.rollout.attempt import UNOPENED, Rollout, WaveRun
from wavegate.rollout.judge import witnesses
from wavegate.rollout.observation import Observation
from wavegate.rollout.steps import QUIET, TICK, Step, save, wait

_COLLECTING = (WaveState.Moving, WaveState.Soaking, WaveState.Held)
_OPEN = (*_COLLECTING, WaveState.Judging)
NEVER = dict.fromkeys(
    ("soak_since", "judged_since", "held_since", "soak_began", "overrun_since"), None
)
"""All times of a wave's soak, taken back."""
BOUND = 3
"""A soak that is not collected in so many times its length counts as held."""
MAX_WHY = 300
MAX_UNSTEADY = 50
"""So many nodes that interrupt a soak are no few."""
_ON_ITS_WAY = (Reason.CheckNoData, Reason.NotHeardFrom)


def advance(
    obs: Observation, rollout: Rollout, findings: tuple[Finding, ...], now: float
) -> Step | None:
    """What the evidence makes of the wave; None when nodes may be moved."""
    wave = rollout.waves[-1]
    state = wave.state
    if state in _OPEN and _newest(wave) > now:
        # Written by a leader whose clock is ahead of ours: begin this wave's soak again.
        return save(obs.record, rollout.with_wave(state=WaveState.Moving, **NEVER))
    if state is WaveState.AwaitingApproval:  # a person takes as long as it takes
        return None
    over = _over_bound(obs, rollout, findings, now)
    if over is not None:
        return over
    if worst(findings) is Verdict.HOLD:
        return hold(obs, rollout, findings[0].message, now, _longest_hold(rollout, findings))
    if state is WaveState.Held:
        return save(obs.record, rollout.with_wave(state=WaveState.Moving, held_since=None))
    if state is WaveState.Soaking:
        return _soak(obs, rollout, findings, now)
    if state is WaveState.Judging:
        return _judge(obs, rollout, findings, now)
    return None


def hold(
    obs: Observation, rollout: Rollout, message: str, now: float, longest: float | None = None
) -> Step:
    """Evidence is missing: nothing moves, and after `longest` seconds (the rollout's `holdTimeout`)
    a person is asked.
    """
    wave = rollout.waves[-1]
    if wave.held_since is None:
        held = _interrupted(obs, rollout, message, now)
        unopened = wave.state in (*UNOPENED, WaveState.Passed)
        state = wave.state if unopened else WaveState.Held
        return save(obs.record, held.with_wave(state=state, held_since=now))
    longest = rollout.plan.hold_timeout if longest is None else longest
    left = longest - (now - wave.held_since)
    if left <= 0 and rollout.paused is None:
        return save(obs.record, replace(rollout, paused=Reason.HoldTimeout))
    return wait(message, max(left, TICK))


def _longest_hold(rollout: Rollout, findings: tuple[Finding, ...]) -> float:
    """For how long these may hold the wave. It has one clock, whatever held it when: of several
    that hold it now, the one that asks a person first counts.
    """
    holding = (finding for finding in findings if finding.verdict is Verdict.HOLD)
    limits = (rollout.plan.hold_timeout_of(finding.check) for finding in holding)
    return min(limits, default=rollout.plan.hold_timeout)


def gap(findings: tuple[Finding, ...]) -> Finding | None:
    """What keeps this moment from being good time; None when nothing does."""
    return next((finding for finding in findings if finding.reason not in _ON_ITS_WAY), None)


def _soak(obs: Observation, rollout: Rollout, findings: tuple[Finding, ...], now: float) -> Step:
    """Collect good time; a gap ends the stretch and the wave looks at its nodes again."""
    ends = gap(findings)
    if ends is not None:
        ended = _interrupted(obs, rollout, ends.message, now)
        nodes = {f.node for f in findings if f.node is not None} | {*rollout.waves[-1].unsteady}
        unsteady = tuple(sorted(nodes)[:MAX_UNSTEADY])
        return save(obs.record, ended.with_wave(state=WaveState.Moving, unsteady=unsteady))
    left = _length(rollout) - rollout.waves[-1].soaked_until(now, obs.watching_since)
    if left > 0:
        return Step(requeue=min(left, QUIET))
    return save(obs.record, rollout.with_wave(state=WaveState.Judging, judged_since=now))


def _judge(obs: Observation, rollout: Rollout, findings: tuple[Finding, ...], now: float) -> Step:
    """Pass only when each node was heard from, and each check asked, after the soak's end."""
    since = rollout.waves[-1].judged_since or now
    missing = _missing(obs, rollout, findings, since, now)
    if not missing:
        over = {"soak_since": None, "interrupted": "", "unsteady": ()}
        passed = rollout.with_wave(state=WaveState.Passed, passed_at=now, **over)
        return save(obs.record, replace(passed, proven=proven.by_now(obs, rollout)))
    if now - since > rollout.plan.hold_timeout and rollout.paused is None:
        return save(obs.record, replace(rollout, paused=Reason.HoldTimeout))
    return wait(missing)


def _missing(
    obs: Observation,
    rollout: Rollout,
    findings: tuple[Finding, ...],
    since: float,
    now: float,
) -> str:
    """What keeps the wave from passing, in words; empty when nothing does."""
    nodes = witnesses(obs, rollout)
    silent = sorted(name for name in nodes if obs.leases.get(name, 0.0) < since)
    unsettled = exposure.measure(obs, rollout, now).in_flight
    if findings:
        return findings[0].message
    if not nodes:
        return "a node that could give evidence"
    if silent:
        return f"a sign of life from {len(silent)} of {len(nodes)} nodes ({silent[0]})"
    if obs.seen_at < since:  # a watch that lives may be late: a crash in the soak may be unseen
        return "a look at all nodes and pods after the soak"
    return f"{len(unsettled)} nodes to settle" if unsettled else ""


def begin(rollout: Rollout, now: float) -> Rollout:
    """All nodes of the wave are settled: a stretch of good time begins."""
    wave = rollout.waves[-1]
    began = now if wave.soak_began is None else wave.soak_began
    return rollout.with_wave(
        state=WaveState.Soaking, soak_since=now, soak_began=began, labelled=wave.moved
    )


def resumed(rollout: Rollout, now: float) -> Rollout:
    """A person takes the pause back: all waiting, and the bound on the soak, begin anew."""
    wave = rollout.waves[-1]
    return rollout.with_wave(
        held_since=None,
        judged_since=None if wave.judged_since is None else now,
        soak_began=None if wave.soak_began is None else now,
        overrun_since=None,
    )


def again(rollout: Rollout, why: str) -> Rollout:
    """There was harm: whatever becomes of it, the wave's soak begins anew, from nothing."""
    if not rollout.waves or rollout.waves[-1].state not in _OPEN:
        return rollout
    begun = {"state": WaveState.Moving, "soaked": 0.0, "unsteady": (), **NEVER}
    return rollout.with_wave(interrupted=why[:MAX_WHY], **begun)


def interrupt(obs: Observation, rollout: Rollout, why: str, now: float) -> Rollout:
    """There was harm once more: good time ends, and what was collected before it stays."""
    if not rollout.waves or rollout.waves[-1].state not in (WaveState.Soaking, WaveState.Judging):
        return rollout
    return _interrupted(obs, rollout, why, now).with_wave(state=WaveState.Moving)


def bound(rollout: Rollout) -> tuple[Finding, ...]:
    """What the status says of a soak that is over its bound; empty when none is."""
    wave = rollout.waves[-1] if rollout.waves else None
    if wave is None or wave.overrun_since is None or wave.state not in _COLLECTING:
        return ()
    why = wave.interrupted or "no operator watched"
    message = (
        f"the soak of {Duration(_length(rollout))} was not collected in {BOUND} times that; "
        f"interrupted last because {why}"
    )
    return (Finding(Verdict.HOLD, Reason.SoakInterrupted, message),)


def is_over_bound(obs: Observation, rollout: Rollout, now: float) -> bool:
    """Whether the soak of the current wave took longer than its bound, and is not collected."""
    wave, length = rollout.waves[-1], _length(rollout)
    if wave.state not in _COLLECTING or wave.soak_began is None or not length:
        return False
    complete = wave.soaked_until(now, obs.watching_since) >= length
    return not complete and now - wave.soak_began > BOUND * length


def _over_bound(
    obs: Observation, rollout: Rollout, findings: tuple[Finding, ...], now: float
) -> Step | None:
    """Store that the bound is passed; after `holdTimeout` more, ask a person. A check that holds
    may have a longer one.
    """
    wave, length = rollout.waves[-1], _length(rollout)
    if wave.state not in _COLLECTING or wave.soak_began is None or not length:
        return None
    if wave.overrun_since is None:
        if not is_over_bound(obs, rollout, now):
            return None
        return save(obs.record, rollout.with_wave(overrun_since=now))
    longest = max(rollout.plan.hold_timeout, _longest_hold(rollout, findings))
    if rollout.paused is None and now - wave.overrun_since > longest:
        return save(obs.record, replace(rollout, paused=Reason.HoldTimeout))
    return None


def _newest(wave: WaveRun) -> float:
    times = (getattr(wave, name) for name in NEVER)
    return max(at or 0.0 for at in times)


def _interrupted(obs: Observation, rollout: Rollout, why: str, now: float) -> Rollout:
    """End the running stretch of good time; what a dead node may have faked is not counted."""
    wave = rollout.waves[-1]
    if wave.soak_since is None:
        return rollout.with_wave(judged_since=None)
    running = wave.soaked_until(now, obs.watching_since) - wave.soaked
    good = max(0.0, running - LEASE_STALE_SECONDS)
    return rollout.with_wave(
        soaked=wave.soaked + good, soak_since=None, judged_since=None, interrupted=why[:MAX_WHY]
    )


def collected(obs: Observation, rollout: Rollout, now: float) -> float:
    """Seconds of the current wave's soak so far; its whole length once it is judged."""
    return min(rollout.waves[-1].soaked_until(now, obs.watching_since), _length(rollout))


def _length(rollout: Rollout) -> float:
    """Seconds of good time that the wave needs; none for the last, small ledger."""
    if rollout.waves[-1].last:
        return 0.0
    planned = rollout.planned
    return planned.soak if planned else rollout.plan.waves[-1].soak
