"""Forward: prepare, open a wave, move its nodes, soak, judge, promote. One thing per pass.

Each function answers for one state and returns the step, so that the order of the checks in
`step` is the state machine. Nothing here advances on time alone: a wave passes on evidence that
is younger than its soak.
"""

from dataclasses import replace

from wavegate.api import Phase, Reason, WaveState
from wavegate.evidence import LEASE_STALE_SECONDS, Finding, Verdict, worst
from wavegate.rollout import exposure, queue, revert, waves
from wavegate.rollout.judge import judge, judged_nodes
from wavegate.rollout.observation import Observation
from wavegate.rollout.record import (
    MAX_HISTORY,
    Outcome,
    PlannedWave,
    Record,
    Rollout,
    WaveRun,
)
from wavegate.rollout.steps import (
    Action,
    CopyContent,
    CreateRevision,
    MoveNodes,
    Retarget,
    Step,
    StoreLedger,
    Target,
)
from wavegate.rollout.templates import bind, revision_template

TICK = 1.0
"""Seconds until the next pass while something is under way and no event comes."""

BATCH = 50
"""Most nodes that one pass labels: the lease is checked before each batch."""

_AWAITING_EVIDENCE = (WaveState.Soaking, WaveState.Judging, WaveState.Held)


def prepare(obs: Observation, rollout: Rollout, now: float) -> Step:
    """Bring candidate and stable into the position from which a node label moves a node."""
    view = obs.revision(rollout.candidate)
    stable = obs.record.stable
    if stable is not None:
        stable_view = obs.revision(stable)
        if stable_view is None:
            return revert.begin(obs, rollout, Reason.StateLost, _no_stable(stable.daemon_set), now)
        if not stable_view.targets(obs.key, Target.NOT_IN, rollout.attempt):
            return _act(Retarget(stable.attempt, Target.NOT_IN, rollout.attempt))
        if not stable_view.observed:
            return _wait(f"the controller to see DaemonSet {stable_view.name}")
    if view is None:
        return _create(obs, rollout, now)
    if not view.observed:
        return _wait(f"the controller to see DaemonSet {view.name}")
    return _save(obs, replace(rollout, phase=Phase.Rolling, waves=(_run(rollout, 0),)))


def advance(obs: Observation, rollout: Rollout, paused: Reason | None, now: float) -> Step:
    """One step of a rolling release."""
    view = obs.revision(rollout.candidate)
    if view is None or view.targets(obs.key, Target.NOTHING):
        why = f"someone fenced or deleted DaemonSet {rollout.candidate.daemon_set}"
        return revert.begin(obs, rollout, Reason.FencedByHand, why, now)
    findings = judge(obs, rollout, now)
    failed = tuple(finding for finding in findings if finding.verdict is Verdict.FAIL)
    if failed:
        return revert.fail(obs, rollout, failed, now)
    if paused:
        step = _soak_only(obs, rollout, findings, now)
    elif rollout.promoting:
        step = _promote(obs, rollout, now)
    else:
        step = _wave(obs, rollout, findings, now)
    return replace(step, findings=findings)


def _wave(obs: Observation, rollout: Rollout, findings: tuple[Finding, ...], now: float) -> Step:
    wave = rollout.waves[-1]
    if wave.state is WaveState.Pending:
        return _open(obs, rollout, now)
    if wave.state is WaveState.Passed:
        return _next(obs, rollout)
    return _evidence(obs, rollout, findings, now) or _move(obs, rollout, findings, now)


def _soak_only(
    obs: Observation, rollout: Rollout, findings: tuple[Finding, ...], now: float
) -> Step:
    """Paused: no node moves and no wave opens; evidence is collected all the same."""
    if rollout.waves[-1].state in _AWAITING_EVIDENCE:
        step = _evidence(obs, rollout, findings, now)
        if step is not None:
            return step
    return _wait("a person to resume")


# Opening a wave


def _open(obs: Observation, rollout: Rollout, now: float) -> Step:
    """Choose the wave's nodes and store them in its ledger; then it may move."""
    ledger = obs.ledgers.get(rollout.wave)
    if ledger is not None:
        opened = rollout.with_wave(
            state=WaveState.Moving, nodes=len(ledger.nodes), opened_at=now, held_since=None
        )
        return _save(obs, opened)
    plan = _planned(rollout)
    if plan is None:
        return _act(StoreLedger(waves.ledger_for(rollout, waves.rest(obs, rollout))))
    chosen, lacking = waves.choose(obs, rollout, plan)
    if lacking == 0:
        return _save(obs, rollout.with_wave(state=WaveState.Passed, opened_at=now, passed_at=now))
    if not chosen:
        return _hold(obs, rollout, f"no healthy node is left for wave {plan.name}", now)
    return _act(StoreLedger(waves.ledger_for(rollout, chosen)))


def _next(obs: Observation, rollout: Rollout) -> Step:
    """After a passed wave: the plan's next one, a sweep over the rest, or promotion."""
    if rollout.wave + 1 < len(rollout.plan.waves) or waves.rest(obs, rollout):
        return _save(obs, _with_next(rollout))
    return _save(obs, replace(rollout, promoting=True))


def _with_next(rollout: Rollout) -> Rollout:
    return replace(rollout, waves=(*rollout.waves, _run(rollout, rollout.wave + 1)))


def _run(rollout: Rollout, index: int) -> WaveRun:
    if index < len(rollout.plan.waves):
        return WaveRun(rollout.plan.waves[index].name)
    return WaveRun(f"rest-{index - len(rollout.plan.waves) + 1}")


def _planned(rollout: Rollout) -> PlannedWave | None:
    """The plan of the current wave; None for a sweep."""
    planned = rollout.plan.waves
    return planned[rollout.wave] if rollout.wave < len(planned) else None


# Evidence and soak


def _evidence(
    obs: Observation, rollout: Rollout, findings: tuple[Finding, ...], now: float
) -> Step | None:
    """What the evidence makes of the wave; None when nodes may be moved."""
    verdict = worst(findings)
    if verdict is Verdict.HOLD:
        return _hold(obs, rollout, findings[0].message, now)
    wave = rollout.waves[-1]
    if wave.state is WaveState.Moving:
        return None
    if wave.state is WaveState.Held:
        back = _interrupted(rollout, now).with_wave(state=WaveState.Moving, held_since=None)
        return _save(obs, back)
    if wave.state is WaveState.Soaking:
        return _soak(obs, rollout, findings, now)
    return _pass_or_wait(obs, rollout, findings, now)


def _soak(obs: Observation, rollout: Rollout, findings: tuple[Finding, ...], now: float) -> Step:
    """Collect good time; a gap ends the stretch and the wave looks at its nodes again. During a
    soak the first answers of the checks may still be on their way.
    """
    gap = any(finding.reason is not Reason.CheckNoData for finding in findings)
    if gap or exposure.measure(obs, rollout, now).in_flight:
        return _save(obs, _interrupted(rollout, now).with_wave(state=WaveState.Moving))
    left = _soak_of(rollout) - rollout.waves[-1].soaked_until(now)
    if left > 0:
        return _wait(f"{left:.0f} s more of soak", left)
    return _save(obs, rollout.with_wave(state=WaveState.Judging, judged_since=now))


def _pass_or_wait(
    obs: Observation, rollout: Rollout, findings: tuple[Finding, ...], now: float
) -> Step:
    """Pass only when each node was heard from, and each check asked, after the soak's end."""
    wave = rollout.waves[-1]
    since = wave.judged_since or now
    if exposure.measure(obs, rollout, now).in_flight:
        return _save(obs, _interrupted(rollout, now).with_wave(state=WaveState.Moving))
    nodes = judged_nodes(obs, rollout)
    silent = sorted(name for name in nodes if obs.leases.get(name, 0.0) < since)
    missing = findings[0].message if findings else ""
    if silent:
        missing = f"a sign of life from {len(silent)} of {len(nodes)} nodes ({silent[0]})"
    if not nodes:
        return _hold(obs, rollout, "the wave has no node that could give evidence", now)
    if missing and now - since > rollout.plan.hold_timeout:
        return _hold(obs, rollout, missing, now)
    if missing:
        return _wait(missing)
    return _save(obs, rollout.with_wave(state=WaveState.Passed, passed_at=now, soak_since=None))


def _interrupted(rollout: Rollout, now: float) -> Rollout:
    """End the running stretch of good time; what a dead node may have faked is not counted."""
    wave = rollout.waves[-1]
    running = wave.soaked_until(now) - wave.soaked
    good = max(0.0, running - LEASE_STALE_SECONDS)
    return rollout.with_wave(soaked=wave.soaked + good, soak_since=None, judged_since=None)


def _soak_of(rollout: Rollout) -> float:
    planned = _planned(rollout)
    return planned.soak if planned else rollout.plan.waves[-1].soak


def _hold(obs: Observation, rollout: Rollout, message: str, now: float) -> Step:
    """Evidence is missing: nothing moves, and after `holdTimeout` a person is asked."""
    wave = rollout.waves[-1]
    held_since = wave.held_since
    if held_since is None:
        held = _interrupted(rollout, now)
        state = WaveState.Pending if wave.state is WaveState.Pending else WaveState.Held
        return _save(obs, held.with_wave(state=state, held_since=now))
    left = rollout.plan.hold_timeout - (now - held_since)
    if left <= 0 and rollout.paused is None:
        return _save(obs, replace(rollout, paused=Reason.HoldTimeout))
    return _wait(message, max(left, TICK))


# Moving


def _move(obs: Observation, rollout: Rollout, findings: tuple[Finding, ...], now: float) -> Step:
    """Move the next batch that the exposure rule has room for; start the soak when all settled."""
    measured = exposure.measure(obs, rollout, now)
    if not measured.unmoved and not measured.in_flight:
        return _save(obs, rollout.with_wave(state=WaveState.Soaking, soak_since=now))
    stale = next((f for f in findings if f.reason is Reason.LeaseStale), None)
    if stale is not None:
        return _wait(stale.message)
    batch = measured.unmoved[: min(measured.room, BATCH)]
    if batch:
        return _act(MoveNodes(tuple((n.name, n.uid) for n in batch), rollout.attempt))
    return _wait(f"{len(measured.in_flight)} nodes to settle")


# Preparing and promoting


def _create(obs: Observation, rollout: Rollout, now: float) -> Step:
    candidate, channel = rollout.candidate, obs.channel
    release = obs.release(candidate.release_uid)
    problem = queue.channel_problem(obs)
    if channel is None or release is None or obs.agent.template is None or problem:
        why = problem.message if problem else "the channel or the release is gone"
        return revert.begin(obs, rollout, Reason.InvalidTemplate, why, now)
    reference = queue.content_reference(release, candidate.digest)
    if release.spec.content.config_map and reference not in obs.contents:
        source = release.spec.content.reference
        return _act(CopyContent(source, reference, candidate.digest))
    bound = bind(obs.agent.template, channel.spec, reference)
    return _act(CreateRevision(candidate, revision_template(bound, obs.name, candidate.attempt)))


def _promote(obs: Observation, rollout: Rollout, now: float) -> Step:
    """Make the candidate stable. No existing node may change side by it: all carry the label."""
    view, stable = obs.revision(rollout.candidate), obs.revision(obs.record.stable)
    if view is None:
        return _wait("the candidate's DaemonSet")
    if not view.targets(obs.key, Target.ALL):
        if waves.rest(obs, rollout):
            return _save(obs, replace(_with_next(rollout), promoting=False))
        left = waves.not_movable(obs, rollout)
        if left:
            return _wait(f"{len(left)} nodes that the new template would leave ({left[0]})")
        return _act(Retarget(rollout.attempt, Target.ALL))
    if not view.observed:
        return _wait(f"the controller to see DaemonSet {view.name}")
    if stable is not None and not stable.targets(obs.key, Target.NOTHING):
        return _act(Retarget(stable.attempt, Target.NOTHING))
    return Step(record=_completed(obs.record, rollout, now))


def _completed(record: Record, rollout: Rollout, now: float) -> Record:
    candidate = rollout.candidate
    before = (record.stable,) if record.stable else ()
    nodes = sum(wave.nodes for wave in rollout.waves)
    outcome = Outcome(
        release=candidate.release,
        release_uid=candidate.release_uid,
        sequence=candidate.sequence,
        attempt=candidate.attempt,
        digest=candidate.digest,
        phase=Phase.Completed,
        reason=Reason.Completed,
        message=f"{candidate.version} is stable on all nodes ({nodes} moved in waves)",
        started_at=rollout.started_at,
        finished_at=now,
        waves=rollout.waves,
    )
    history = (*before, *record.history)[: MAX_HISTORY + 1]
    return replace(record.ended(outcome), stable=replace(candidate, since=now), history=history)


def _no_stable(name: str) -> str:
    return f"DaemonSet {name}, the stable revision, does not exist"


def _save(obs: Observation, rollout: Rollout) -> Step:
    return Step(record=replace(obs.record, rollout=rollout))


def _act(action: Action) -> Step:
    return Step(actions=(action,), requeue=TICK)


def _wait(message: str, seconds: float = TICK) -> Step:
    return Step(waiting=message, requeue=min(seconds, TICK))
