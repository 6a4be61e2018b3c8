"""Soak and judgement: a wave passes on evidence that is younger than its soak, never on time.

Good time is collected in stretches. What happened while the operator did not watch is no good
time; what is still on its way after a restart is no gap either, else an operator that restarts
often would never come to an end.
"""

from dataclasses import replace

from wavegate.api import Reason, WaveState
from wavegate.evidence import LEASE_STALE_SECONDS, Finding, Verdict, worst
from wavegate.rollout import exposure
from wavegate.rollout.judge import judged_nodes
from wavegate.rollout.observation import Observation
from wavegate.rollout.record import Rollout
from wavegate.rollout.steps import QUIET, TICK, Step, save, wait

_OPEN = (WaveState.Moving, WaveState.Soaking, WaveState.Judging, WaveState.Held)
_ON_ITS_WAY = (Reason.CheckNoData, Reason.NotHeardFrom)


def advance(
    obs: Observation, rollout: Rollout, findings: tuple[Finding, ...], now: float
) -> Step | None:
    """What the evidence makes of the wave; None when nodes may be moved."""
    wave = rollout.waves[-1]
    state = wave.state
    if (
        state in _OPEN
        and max(wave.soak_since or 0, wave.judged_since or 0, wave.held_since or 0) > now
    ):
        # Written by a leader whose clock is ahead of ours: begin this wave's soak again.
        anew = rollout.with_wave(
            state=WaveState.Moving, soak_since=None, judged_since=None, held_since=None
        )
        return save(obs.record, anew)
    if worst(findings) is Verdict.HOLD:
        return hold(obs, rollout, findings[0].message, now)
    if state is WaveState.Held:
        back = _interrupted(obs, rollout, now).with_wave(state=WaveState.Moving, held_since=None)
        return save(obs.record, back)
    if state is WaveState.Soaking:
        return _soak(obs, rollout, findings, now)
    if state is WaveState.Judging:
        return _judge(obs, rollout, findings, now)
    return None


def hold(obs: Observation, rollout: Rollout, message: str, now: float) -> Step:
    """Evidence is missing: nothing moves, and after `holdTimeout` a person is asked."""
    wave = rollout.waves[-1]
    if wave.held_since is None:
        held = _interrupted(obs, rollout, now)
        unopened = wave.state in (WaveState.Pending, WaveState.Passed)
        state = wave.state if unopened else WaveState.Held
        return save(obs.record, held.with_wave(state=state, held_since=now))
    left = rollout.plan.hold_timeout - (now - wave.held_since)
    if left <= 0 and rollout.paused is None:
        return save(obs.record, replace(rollout, paused=Reason.HoldTimeout))
    return wait(message, max(left, TICK))


def _soak(obs: Observation, rollout: Rollout, findings: tuple[Finding, ...], now: float) -> Step:
    """Collect good time; a gap ends the stretch and the wave looks at its nodes again."""
    if any(finding.reason not in _ON_ITS_WAY for finding in findings):
        return save(obs.record, _interrupted(obs, rollout, now).with_wave(state=WaveState.Moving))
    left = _length(rollout) - rollout.waves[-1].soaked_until(now, obs.watching_since)
    if left > 0:
        return Step(requeue=min(left, QUIET))
    return save(obs.record, rollout.with_wave(state=WaveState.Judging, judged_since=now))


def _judge(obs: Observation, rollout: Rollout, findings: tuple[Finding, ...], now: float) -> Step:
    """Pass only when each node was heard from, and each check asked, after the soak's end."""
    since = rollout.waves[-1].judged_since or now
    missing = _missing(obs, rollout, findings, since, now)
    if not missing:
        passed = rollout.with_wave(state=WaveState.Passed, passed_at=now, soak_since=None)
        return save(obs.record, passed)
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
    nodes = judged_nodes(obs, rollout)
    silent = sorted(name for name in nodes if obs.leases.get(name, 0.0) < since)
    unsettled = exposure.measure(obs, rollout, now).in_flight
    if findings:
        return findings[0].message
    if not nodes:
        return "a node that could give evidence"
    if silent:
        return f"a sign of life from {len(silent)} of {len(nodes)} nodes ({silent[0]})"
    return f"{len(unsettled)} nodes to settle" if unsettled else ""


def _interrupted(obs: Observation, rollout: Rollout, now: float) -> Rollout:
    """End the running stretch of good time; what a dead node may have faked is not counted."""
    wave = rollout.waves[-1]
    running = wave.soaked_until(now, obs.watching_since) - wave.soaked
    good = max(0.0, running - LEASE_STALE_SECONDS)
    return rollout.with_wave(soaked=wave.soaked + good, soak_since=None, judged_since=None)


def _length(rollout: Rollout) -> float:
    planned = rollout.planned
    return planned.soak if planned else rollout.plan.waves[-1].soak
