"""How far the rollout is that is under way: of a release, or of a change of the agent."""

from collections.abc import Iterator, Mapping
from typing import Any

from wavegate.api import (
    Duration,
    Phase,
    Reason,
    WaitingFor,
    WaveState,
)
from wavegate.evidence import Gate, NodeView, Verdict, worst
from wavegate.rollout import (
    breakglass,
    busy,
    edits,
    excerpts,
    exposure,
    loaded,
    lost,
    movable,
    prefetch,
    soak,
    suspect_report,
)
from wavegate.rollout.attempt import Rollout
from wavegate.rollout.decide import pause_reason
from wavegate.rollout.observation import Observation
from wavegate.rollout.steps import Step


def running(
    obs: Observation, rollout: Rollout, step: Step, now: float, gates: tuple[Gate, ...]
) -> dict[str, Any]:
    """All that is told of it. `gates`: what each gate said when that changed last."""
    measured = exposure.measure(obs, rollout, now)
    failed = sorted({f.node for f in step.findings if f.node and f.verdict.name == "FAIL"})
    phase, reason, waiting = _phase(obs, rollout, step, now)
    status: dict[str, Any] = {
        "phase": phase.value,
        "reason": reason.value,
        "message": _message(obs, rollout, (phase, reason), step, now),
        "waitingFor": waiting.value,
        "attempt": rollout.attempt,
        "startedAt": excerpts.timestamp(rollout.started_at),
        "waves": excerpts.waves(rollout.waves, rollout.attempt),
        "nodes": {
            "total": node_counts(obs)["total"],
            "moved": len(obs.moved(rollout.attempt)),
            "settled": len(measured.settled),
            "failed": len(failed),
        },
    }
    if rollout.excused:
        status["nodes"]["excused"] = len(rollout.excused)
    if rollout.plan.loaded_proof is not None:
        status["nodes"]["loaded"] = loaded.count(obs, rollout)
    if rollout.waves:
        status["wave"] = _wave(obs, rollout, measured, now)
    status |= suspect_report.status(obs, rollout)
    if rollout.incident:
        status["incident"] = excerpts.incident(rollout.incident, rollout.attempt)
    ours = not lost.is_lost(obs) or lost.in_position(obs)
    views = obs.revision(rollout.candidate), obs.revision(obs.record.stable)
    lines = breakglass.lines(obs, *views) if ours else []
    live = rollout.incident is None and rollout.phase is Phase.Rolling and gates
    status |= excerpts.gates(gates if live else rollout.gates)
    return status | ({"breakGlass": lines} if lines else {})


def _phase(
    obs: Observation, rollout: Rollout, step: Step, now: float
) -> tuple[Phase, Reason, WaitingFor]:
    paused = pause_reason(obs, now)
    if rollout.phase is Phase.Reverting:
        if obs.hands_off or (lost.is_lost(obs) and not lost.in_position(obs)):
            return Phase.Reverting, paused or Reason.Reverting, WaitingFor.Person
        reason = rollout.incident.reason if rollout.incident else Reason.Reverting
        return Phase.Reverting, reason, WaitingFor.Person if obs.forbidden else WaitingFor.Node
    if paused:
        return Phase.Paused, paused, WaitingFor.Person
    if obs.forbidden:
        return Phase.Rolling, Reason.NamespaceNotBound, WaitingFor.Person
    if rollout.waves and rollout.waves[-1].state is WaveState.AwaitingApproval:
        alone = rollout.planned is not None and rollout.planned.no_canary
        asks = Reason.NoCanary if alone else Reason.AwaitingApproval
        return Phase.Rolling, asks, WaitingFor.Person
    if worst(step.findings) is Verdict.HOLD:
        return Phase.Rolling, step.findings[0].reason, WaitingFor.Evidence
    if busy.waits(step):
        return Phase.Rolling, Reason.NodeBusy, WaitingFor.Node
    if rollout.promoting:
        return Phase.Rolling, Reason.Promoting, WaitingFor.Node
    if not rollout.waves:
        return Phase.Rolling, Reason.RolloutStarted, WaitingFor.Node
    return Phase.Rolling, *_WAVE_STATES[rollout.waves[-1].state]


_WAVE_STATES = {
    WaveState.Pending: (Reason.WaveOpened, WaitingFor.Node),
    WaveState.AwaitingApproval: (Reason.AwaitingApproval, WaitingFor.Person),
    WaveState.Moving: (Reason.WaveMoving, WaitingFor.Node),
    WaveState.Soaking: (Reason.WaveSoaking, WaitingFor.Evidence),
    WaveState.Judging: (Reason.WaveJudging, WaitingFor.Evidence),
    WaveState.Held: (Reason.WaveHeld, WaitingFor.Evidence),
    WaveState.Passed: (Reason.WavePassed, WaitingFor.Nothing),
    WaveState.Failed: (Reason.Reverting, WaitingFor.Node),
    WaveState.Excused: (Reason.NodeExcused, WaitingFor.Node),
}


def _message(
    obs: Observation, rollout: Rollout, is_in: tuple[Phase, Reason], step: Step, now: float
) -> str:
    """One line for the person on call. Seconds that tick are left out: no write per second."""
    phase, reason = is_in
    if rollout.incident:
        waiting = (obs.forbidden or step.waiting) if phase is Phase.Reverting else ""
        left = suspect_report.left_out_clause(obs, rollout, now) if phase is Phase.Paused else ""
        also = (f"waiting for {waiting}" if waiting else "", left)
        return "; ".join(part for part in (rollout.incident.message, *also) if part)
    if not rollout.waves:
        why = obs.forbidden or next((finding.message for finding in step.findings), "")
        preparing = "The candidate's DaemonSet is being prepared" + (f"; {why}" if why else "")
        return reason.meaning if phase is Phase.Paused else preparing
    stuck = movable.describe(movable.not_movable(obs, rollout))
    if rollout.promoting:
        whole = "Every node carries it; it becomes the stable revision"
        head = f"All waves have passed, but {stuck}" if stuck else whole
        return f"{head}; waiting: {step.waiting}" if step.waiting and not stuck else head
    wave = rollout.waves[-1]
    why = step.findings[0].message if step.findings else step.waiting and f"for {step.waiting}"
    state, moved = wave.state.value.lower(), len(obs.moved(rollout.attempt))
    if wave.state is WaveState.AwaitingApproval:
        state = "not open yet"
    head = f"Wave {wave.name} ({len(rollout.waves)}): {state}, on {moved} node" + "s"[: moved != 1]
    if phase is Phase.Paused:
        head = f"{reason.meaning} {head}"
        why = why if step.findings else ""
    more = (part for part in (obs.forbidden, stuck) if part not in why)
    parts = (head, why, *more, suspect_report.clause(obs, rollout, now), prefetch.clause(obs, now))
    return "; ".join(part for part in parts if part)


def plan_current(obs: Observation) -> Iterator[dict[str, Any]]:
    """Whether all that the channel says acts on the release that rolls out; nothing without one."""
    if obs.record.rollout is not None and obs.channel is not None:
        current = "All that the channel says acts on the running release"
        yield excerpts.condition("PlanCurrent", edits.outdated(obs), current)


def node_counts(obs: Observation) -> dict[str, int]:
    """How many nodes could run it, and how many of them are on each side."""
    record = obs.record
    view = obs.revision(record.rollout.candidate if record.rollout else record.stable)
    fleet = obs.carriers(view.template) if view else {}
    attempt = record.rollout.attempt if record.rollout else ""
    candidate = obs.kept.of(_count, obs.moved(attempt), fleet)
    stable = len(fleet) - candidate if record.stable else 0
    return {"total": len(fleet), "stable": stable, "candidate": candidate}


def _count(moved: tuple[NodeView, ...], fleet: Mapping[str, NodeView]) -> int:
    return sum(1 for node in moved if node.name in fleet)


def _wave(
    obs: Observation, rollout: Rollout, measured: exposure.Exposure, now: float
) -> dict[str, Any]:
    """The current wave. Time soaked is rounded down to whole minutes: no write per second."""
    wave = rollout.waves[-1]
    soaked = soak.collected(obs, rollout, now)
    return {
        "number": len(rollout.waves),
        "of": max(len(rollout.plan.waves), len(rollout.waves)),
        "name": wave.name,
        "state": wave.state.value,
        "nodes": wave.nodes,
        "settled": len(measured.settled),
        "soaked": str(Duration(soaked - soaked % 60)),
    }
