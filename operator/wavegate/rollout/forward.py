"""Forward: open a wave, move its nodes. Before it is prepare.py; after it soak.py and promote.py.

One thing per pass. Each function answers for one state and returns the step, so that the order of
the checks in `advance` is the state machine.
"""

from collections.abc import Iterator
from dataclasses import replace

from wavegate.api import GateKind, Reason, WaveState
from wavegate.evidence import Finding, NodeView, Verdict
from wavegate.rollout import (
    busy,
    choice,
    corroborate,
    decisions,
    drill,
    excused,
    exposure,
    gates,
    labels,
    movable,
    prepare,
    promote,
    revert,
    soak,
    stalls,
    suspects,
    waves,
    way_back,
    workloads,
)
from wavegate.rollout.attempt import UNOPENED, PlannedWave, Rollout
from wavegate.rollout.judge import judge
from wavegate.rollout.observation import Observation
from wavegate.rollout.steps import (
    QUIET,
    MoveNodes,
    Retarget,
    Step,
    StoreLedger,
    Target,
    UnlabelNodes,
    act,
    save,
    wait,
)

_BRAKES = (Reason.LeaseStale, Reason.RebootAwaited, Reason.ViewStale)

BATCH = 50
"""Most nodes that one pass labels: the lease is checked before each batch."""


def advance(obs: Observation, rollout: Rollout, paused: Reason | None, now: float) -> Step:
    """One step of a rolling release: harm first, then whether it may move, then its state."""
    view, stable = obs.revision(rollout.candidate), obs.record.stable
    if view is None or view.targets(obs.key, Target.NOTHING):
        return revert.fenced_by_hand(obs, rollout, now)
    findings = judge(obs, rollout, now)
    harm = tuple(finding for finding in findings if finding.verdict is Verdict.FAIL)
    marks, harm = excused.note(obs, rollout, harm)
    findings = (*harm, *(f for f in findings if f.verdict is not Verdict.FAIL))
    without_stable = stable is not None and obs.revision(stable) is None
    may_repair = paused is not Reason.StateLost and not without_stable
    repair = _repair(obs, rollout) if may_repair else None
    weighed = corroborate.weigh(obs, rollout, findings, now, strict=not may_repair)
    if not weighed.failed and (weighed.rollout is not rollout or marks != rollout.excused):
        return save(obs.record, replace(weighed.rollout, excused=marks))
    if weighed.held is not None:
        others = (f for f in findings if f.verdict is not Verdict.FAIL)
        findings = (weighed.held, *others)
    if weighed.failed:
        step = revert.fail(obs, rollout, weighed.failed, now, blocks=weighed.blocks)
        if step.record is not None or repair is None:
            return gates.note(obs, step, findings, now)
    if stable is not None and without_stable:
        step = wait(f"a person: {prepare.stable_gone(stable)}; nothing moves")
    elif repair is not None:  # also while a failed wave waits for a person
        step = act(repair)
    elif paused:
        step = _paused(obs, rollout, findings, now)
    elif rollout.promoting:
        step = promote.advance(obs, rollout, now)
    else:
        step = _wave(obs, rollout, findings, now)
    known = (*step.findings, *findings, *soak.bound(rollout))
    said = tuple(sorted(known, key=lambda f: -f.verdict))
    return gates.note(obs, replace(step, findings=said, judged=True), said, now)


def _wave(obs: Observation, rollout: Rollout, findings: tuple[Finding, ...], now: float) -> Step:
    state, brake = rollout.waves[-1].state, suspects.brake(rollout, now)
    if state in (WaveState.Passed, *UNOPENED):
        if findings and findings[0].reason is Reason.ClusterWideDisturbance:
            return soak.hold(obs, rollout, findings[0].message, now)
        if brake:
            return wait(brake)
    before = _next(obs, rollout, now) if state is WaveState.Passed else _approval(obs, rollout)
    if before is not None:
        return before
    retries = not _stopped_by(rollout, findings, now)
    first = busy.returned(obs, rollout) or (stalls.retry(obs, rollout, now) if retries else None)
    if first is not None:
        return first
    again = excused.again(obs, rollout)
    if isinstance(again, Rollout):
        return save(obs.record, again)
    if again is not None:
        return replace(soak.hold(obs, rollout, again.message, now), findings=(again,))
    blocked = way_back.blocked(obs, rollout) or workloads.unseen(obs, rollout)
    if blocked is not None:
        return replace(soak.hold(obs, rollout, blocked.message, now), findings=(blocked,))
    if state is WaveState.Pending:
        return _open(obs, rollout, now)
    return soak.advance(obs, rollout, findings, now) or _move(obs, rollout, findings, now)


def _approval(obs: Observation, rollout: Rollout) -> Step | None:
    """Wait for a person before this wave opens; None when nobody has to approve it (any more)."""
    wave, planned = rollout.waves[-1], rollout.planned
    if wave.state not in UNOPENED or planned is None or not planned.approval:
        return None
    if wave.approved and wave.state is WaveState.Pending:
        return None
    approved = wave.approved or decisions.approval(obs, rollout)
    if approved:
        return save(obs.record, rollout.with_wave(state=WaveState.Pending, approved=approved))
    if wave.state is WaveState.Pending:
        awaiting = rollout.with_wave(state=WaveState.AwaitingApproval, held_since=None)
        return save(obs.record, awaiting)
    return wait(f"a person to decide Approve, with wave: {wave.name}")


def _paused(obs: Observation, rollout: Rollout, findings: tuple[Finding, ...], now: float) -> Step:
    """No node moves and no wave opens; evidence is collected all the same. A soak that runs goes
    on. None begins: till then the wave is not done, so that any harm in the first one still fails.
    """
    collected = soak.advance(obs, rollout, findings, now)
    return collected or wait("a person to resume")


def _open(obs: Observation, rollout: Rollout, now: float) -> Step:
    """Choose the wave's nodes and store them in its ledger; then it may move. Neither is done
    without a fresh proof of the way back.
    """
    wave, planned = rollout.waves[-1], rollout.planned
    ledger = obs.ledgers.get(wave.ledger)
    if ledger is None and obs.refused:
        return _held(obs, rollout, f"wave {wave.name} can't open: {obs.refused}", now)
    if ledger is None and workloads.is_unread(obs, rollout, now):
        return wait(workloads.READING)
    chosen = waves.sweep(obs, rollout) if ledger is None and planned is None else []
    if ledger is None and planned is not None:
        chosen, lacking = waves.choose(obs, rollout, planned)
        if lacking == 0:
            passed = rollout.with_wave(state=WaveState.Passed, opened_at=now, passed_at=now)
            return save(obs.record, passed)
        if not chosen:
            return _held(obs, rollout, _nobody(obs, rollout, planned), now)
    if chosen and all(node.name in obs.busy for node in chosen):
        return busy.awaited(obs, chosen)
    if not way_back.is_proven(obs, rollout, now):
        return wait(way_back.TRYING)
    if ledger is None:
        return _freeze(obs, rollout, chosen, now)
    opened = rollout.with_wave(
        state=WaveState.Moving, nodes=len(ledger.nodes), opened_at=now, held_since=None
    )
    return save(obs.record, replace(opened, excused=excused.opened(obs, rollout)))


def _freeze(obs: Observation, rollout: Rollout, chosen: list[NodeView], now: float) -> Step:
    """Store the ledger, if there is something that its nodes can be judged by."""
    if rollout.plan.agents and obs.blind:
        return wait(f"a sight of the agents: {obs.blind}")
    if waves.without_agents(obs, rollout, chosen):
        message = (
            f"spec.agentSelector ({rollout.plan.agents}) selects no pod that is Ready on a node of "
            f"wave {rollout.waves[-1].name}, so its agents prove nothing; correct the selector in "
            "the channel, and publish a new release"
        )
        return _held(obs, rollout, message, now)
    return act(StoreLedger(waves.ledger_for(obs, rollout, busy.last(obs, chosen))))


def _held(obs: Observation, rollout: Rollout, message: str, now: float) -> Step:
    found = Finding(Verdict.HOLD, Reason.WaveHeld, message)
    return replace(soak.hold(obs, rollout, message, now), findings=(found,))


def _nobody(obs: Observation, rollout: Rollout, wave: PlannedWave) -> str:
    unselected = waves.unselected(obs, rollout, wave)
    if unselected:
        return unselected
    stuck = movable.describe(movable.not_movable(obs, rollout))
    spared = choice.spared(rollout, wave, movable.fleet(obs, rollout).values())
    full = workloads.full(obs, rollout)
    why = "; ".join(part for part in (stuck, spared, full) if part)
    return f"no healthy node is there for wave {wave.name}" + (f"; {why}" if why else "")


def _next(obs: Observation, rollout: Rollout, now: float) -> Step:
    """After a passed wave: the plan's next one, a sweep over the rest, or promotion."""
    if workloads.is_unread(obs, rollout, now):
        return wait(workloads.READING)
    return save(obs.record, waves.next_wave(obs, rollout) or replace(rollout, promoting=True))


def _move(obs: Observation, rollout: Rollout, findings: tuple[Finding, ...], now: float) -> Step:
    """Move the next batch that the exposure rule has room for; start the soak when all settled."""
    measured = exposure.measure(obs, rollout, now)
    stopped = _stopped_by(rollout, findings, now)
    if stopped:  # before a soak begins, too: it would end at once, and begin again
        return wait(stopped)
    drilled = drill.advance(obs, rollout, measured, soak.gap(findings), now)
    if drilled is not None:
        return drilled
    left = measured.unmoved or measured.awaited
    if not left and not measured.in_flight:
        return _complete(obs, rollout, findings, now)
    batch = measured.unmoved[: min(measured.room, BATCH)]
    seen = labels.seen(obs, rollout, measured.unmoved + measured.awaited)
    if batch and len(batch) >= measured.worthwhile and rollout.waves[-1].overrun_since is None:
        if not (way_back.is_proven(obs, rollout, now) or waves.has_moved_any(obs, rollout)):
            return wait(way_back.TRYING)
        return _label(obs, rollout, batch, seen, now)
    if seen > rollout.waves[-1].labelled:
        return save(obs.record, rollout.with_wave(labelled=seen))
    if measured.awaited and not measured.unmoved and not measured.in_flight:
        return busy.awaited(obs, measured.awaited)
    # An agent that is Ready, and a node that is heard from, are events.
    return Step(waiting=f"{len(measured.in_flight)} nodes to settle", requeue=QUIET)


def _complete(
    obs: Observation, rollout: Rollout, findings: tuple[Finding, ...], now: float
) -> Step:
    """All nodes of the wave are moved and settled: its soak begins, if they can speak for it."""
    if suspects.none_is_left(obs, rollout):
        # It takes others instead; where there are none, it passes without.
        return save(obs.record, rollout.with_new_ledger())
    if rollout.planned is not None and not waves.has_moved_any(obs, rollout):
        # Its nodes changed before they were moved: the wave chooses others.
        return save(obs.record, rollout.with_new_ledger())
    gap = soak.gap(findings)
    if gap is not None:  # a soak that it would end at once is not begun
        return wait(gap.message)
    if drill.is_due(obs, rollout):
        return wait(drill.A_NODE)
    return save(obs.record, soak.begin(rollout, now))


def _stopped_by(rollout: Rollout, findings: tuple[Finding, ...], now: float) -> str:
    """What keeps all nodes of the wave from being moved, in words; empty when nothing does. Of one
    that has moved none yet, each check must have passed since its opening: see `periods`.
    """
    brake = next((f for f in findings if f.reason in _BRAKES), None)
    first = not rollout.waves[-1].moved
    unasked = next((f for f in findings if first and f.gate is GateKind.Check), None)
    if brake is not None:
        return brake.message
    return suspects.brake(rollout, now) or (unasked.message if unasked else "")


def _label(
    obs: Observation, rollout: Rollout, batch: tuple[NodeView, ...], seen: int, now: float
) -> Step:
    """Move a batch. How far the ledger may have been moved is stored first, so that a new leader
    knows of machines that vanish before it sees them; and with it how far it was seen labelled, or
    passed over as not movable. Another leader may see better, and have moved who is passed over:
    as long as that is in doubt nothing is moved.
    """
    doubt = labels.doubtful_since(obs, rollout)
    if doubt is not None:
        return replace(wait("a look at nodes that another process may have moved"), look=doubt)
    places = labels.places(obs, obs.ledgers[rollout.waves[-1].ledger])
    mark = 1 + max(places[node.name] for node in batch)
    if mark > rollout.waves[-1].moved:
        return save(obs.record, rollout.with_wave(moved=mark, moved_at=now, labelled=seen))
    if seen > rollout.waves[-1].labelled:
        return save(obs.record, rollout.with_wave(labelled=seen))
    return act(MoveNodes(tuple((n.name, n.uid) for n in batch), rollout.attempt))


def _repair(obs: Observation, rollout: Rollout) -> Retarget | UnlabelNodes | None:
    """What others changed of ours is put right, towards stable. Where the candidate is for all
    nodes already, promotion goes on.
    """
    if rollout.promoting:
        view = obs.revision(rollout.candidate)
        for_all = view is not None and view.targets(obs.key, Target.ALL)
        return None if for_all else _drift(obs, rollout)
    return _drift(obs, rollout) or suspects.take_back(obs, rollout) or labels.repair(obs, rollout)


def _drift(obs: Observation, rollout: Rollout) -> Retarget | None:
    """A DaemonSet that someone pointed elsewhere is pointed back; both ways only tighten."""
    view, stable = obs.revision(rollout.candidate), obs.revision(obs.record.stable)
    if stable is not None and not stable.targets(obs.key, Target.NOT_IN, rollout.attempt):
        return Retarget(stable.attempt, Target.NOT_IN, rollout.attempt)
    if view is not None and not view.targets(obs.key, Target.IN, rollout.attempt):
        return Retarget(rollout.attempt, Target.IN, rollout.attempt)
    return next(retired(obs), None)


def retired(obs: Observation) -> Iterator[Retarget]:
    """Revisions of the past that someone pointed at nodes again: they match none, as soon as the
    controller has seen where stable points, so that no node is without an agent. Where nothing is
    stable yet, they are what was reverted.
    """
    record, stable = obs.record, obs.revision(obs.record.stable)
    if record.stable is not None and (stable is None or not stable.observed):
        return
    past = {revision.attempt for revision in record.history}
    past |= {outcome.attempt for outcome in record.outcomes}
    past -= {r.attempt for r in (record.stable, record.rollout) if r is not None}
    for attempt in sorted(past & set(obs.revisions)):
        if not obs.revisions[attempt].targets(obs.key, Target.NOTHING):
            yield Retarget(attempt, Target.NOTHING)
