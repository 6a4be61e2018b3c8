"""Status of our kinds, computed from what is remembered and seen. It is written, never read.

Phase and message are computed once, here; kubectl, Argo CD and people only read them.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from wavegate.api import (
    Decision,
    DecisionPhase,
    Duration,
    Phase,
    Reason,
    Release,
    WaitingFor,
    WaveState,
)
from wavegate.evidence import Gate, NodeView, Verdict, worst
from wavegate.rollout import (
    agent_report,
    bake_report,
    breakglass,
    busy,
    cooldown,
    decisions,
    edits,
    excerpts,
    exposure,
    feed,
    forecast,
    loaded,
    lost,
    movable,
    queue,
    refused,
    soak,
    succession,
    suspect_report,
)
from wavegate.rollout.decide import pause_reason
from wavegate.rollout.observation import Observation
from wavegate.rollout.record import Outcome, Rollout, some
from wavegate.rollout.steps import Problem, Step


def channel_status(
    obs: Observation, step: Step | None = None, now: float = 0.0, gates: tuple[Gate, ...] = ()
) -> dict[str, Any]:
    """Status of the channel, without the transition times of its conditions. What was decided
    `now`, and what each gate said, is told of a change of its agent.
    """
    channel, record = obs.channel, obs.record
    problem = queue.channel_problem(obs) or cooldown.shut(channel, record)
    rollout = record.rollout
    running = f", {rollout.candidate.title} is rolling out" if rollout else ""
    stable = record.stable.version if record.stable else "nothing yet"
    message = problem.message if problem else f"{stable} is stable{running}"
    status: dict[str, Any] = {
        "observedGeneration": channel.generation if channel else 0,
        "nodes": _node_counts(obs),
        "blocked": [
            {
                "digest": b.digest,
                "release": b.release,
                "reason": b.reason.value,
                "incident": b.incident,
                "since": excerpts.timestamp(b.since),
            }
            for b in record.blocked
        ],
        "conditions": [
            excerpts.condition("Ready", problem, message),
            *_inputs(obs),
            *_proof(obs),
            *filter(None, [agent_report.condition(obs)]),
            *_plan(obs),
            *_feed(obs),
        ],
    }
    plan = forecast.plan(obs)
    if plan:
        status["plan"] = plan
    if record.stable:
        status["stable"] = excerpts.revision(record.stable)
    if record.last_baked:
        status["lastBaked"] = excerpts.revision(record.last_baked)
    if rollout:
        status["candidate"] = excerpts.revision(rollout.candidate)
    agent = rollout is not None and rollout.candidate.is_agent
    shown = _running(obs, rollout, step or Step(), now, gates) if rollout and agent else {}
    status |= agent_report.status(obs, shown)
    if lost.contradiction(obs) and not lost.in_position(obs):
        lines = breakglass.lines(obs, *lost.in_flight(obs), hands_off=False)
        status |= {"breakGlass": lines} if lines else {}
    return status


def _inputs(obs: Observation) -> Iterator[dict[str, Any]]:
    """Whether all that the agent reads goes through waves; nothing while that is not known."""
    ungated = obs.agent.ungated
    if ungated is None:
        return
    message = (
        f"The agent reads {some(ungated)}: whoever changes one changes it "
        "on all nodes at once, past the waves. Make ConfigMaps immutable, or publish it as content."
    )
    problem = Problem(Reason.UngatedInput, message) if ungated else None
    gated = "The agent reads nothing that can change without a wave"
    yield excerpts.condition("InputsGated", problem, gated)


def _feed(obs: Observation) -> Iterator[dict[str, Any]]:
    """Whether releases come no faster than one gets through; nothing while that is not known."""
    if obs.channel is not None and feed.is_known(obs):
        yield excerpts.condition(
            "KeepsUp", feed.slower(obs), "A rollout ends before the next release comes"
        )


def _proof(obs: Observation) -> Iterator[dict[str, Any]]:
    """Whether a wave passes only on nodes that say what they loaded."""
    if obs.channel is None:
        return
    lacks = obs.channel.spec.loaded_proof is None
    problem = Problem(Reason.NotProven, Reason.NotProven.meaning) if lacks else None
    yield excerpts.condition(
        "LoadedProof", problem, "Each node must report the content that it loaded"
    )


def _plan(obs: Observation) -> Iterator[dict[str, Any]]:
    """Whether all that the channel says acts on the release that rolls out; nothing without one."""
    if obs.record.rollout is not None and obs.channel is not None:
        current = "All that the channel says acts on the running release"
        yield excerpts.condition("PlanCurrent", edits.outdated(obs), current)


def release_status(
    obs: Observation, release: Release, step: Step, now: float, gates: tuple[Gate, ...] = ()
) -> dict[str, Any]:
    """Status of one release of this channel, without the transition times of its conditions.
    `gates`: what each gate of the rollout said when that changed last.
    """
    rollout = obs.record.rollout
    outcome = obs.record.outcome_of(release.uid)
    if rollout is not None and rollout.candidate.release_uid == release.uid:
        severity = rollout.plan.severity
        status = _running(obs, rollout, step, now, gates)
    elif outcome is not None:
        severity = outcome.severity
        status = _ended(obs, outcome, now)
    else:
        severity = queue.severity_of(obs.channel, release)
        status = _queued(obs, release, now)
    problem = None if outcome else _problem(obs, release)
    complete = Problem(status["reason"], status["message"])
    return {
        "observedGeneration": release.generation,
        "digest": queue.digest_of(obs, release),
        "severity": severity.value,
        **status,
        "conditions": [
            excerpts.condition("Ready", problem, "The release is valid"),
            excerpts.condition(
                "Complete",
                None if status["phase"] == Phase.Completed else complete,
                status["message"],
                Reason.Completed,
            ),
            _baked(outcome, status),
            *(_plan(obs) if rollout and rollout.candidate.release_uid == release.uid else ()),
        ],
    }


def decision_status(obs: Observation, decision: Decision, now: float) -> dict[str, Any] | None:
    """Status of a person's decision; None when there is nothing new to say about it."""
    note = decisions.note_of(obs, decision)
    if note is None:
        return _refused(obs, decision, now)
    phase, reason = DecisionPhase.Accepted, Reason.DecisionAccepted
    message = f"{decision.spec.action} of release {decision.spec.release}"
    if note.ended:
        phase, reason = DecisionPhase.Expired, Reason.DecisionExpired
        message = f"The pause was ended by decision {note.ended}"
    elif decision.spec.action == "Pause" and now >= decisions.expires_at(decision, note):
        phase, reason, message = DecisionPhase.Expired, Reason.DecisionExpired, "The pause is over"
    return {
        "phase": phase.value,
        "reason": reason.value,
        "message": message,
        "releaseUID": note.release_uid,
        "at": excerpts.timestamp(note.at),
    }


def _refused(obs: Observation, decision: Decision, now: float) -> dict[str, Any] | None:
    """A decision that was carried out on an earlier rollout keeps what was said of it then."""
    if decision.status.get("phase") or decisions.is_awaited(obs, decision):
        return None
    problem = decisions.refusal(obs, decision, now)
    if problem is None:
        return None
    return {
        "phase": DecisionPhase.Refused.value,
        "reason": problem.reason,
        "message": problem.message,
        "at": excerpts.timestamp(now),
    }


def _running(
    obs: Observation, rollout: Rollout, step: Step, now: float, gates: tuple[Gate, ...]
) -> dict[str, Any]:
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
            "total": _node_counts(obs)["total"],
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
    parts = (head, why, *more, suspect_report.clause(obs, rollout, now))
    return "; ".join(part for part in parts if part)


def _baked(outcome: Outcome | None, status: dict[str, Any]) -> dict[str, Any]:
    """Whether it ended its bake well."""
    if outcome is not None and outcome.baked_at is not None:
        return excerpts.condition("Baked", None, status["message"], Reason.Baked)
    problem = Problem(status["reason"], status["message"])
    if status["reason"] == Reason.Completed.value:
        problem = Problem(Reason.NotBaked, Reason.NotBaked.meaning)
    return excerpts.condition("Baked", problem, "")


def _ended(obs: Observation, outcome: Outcome, now: float) -> dict[str, Any]:
    status: dict[str, Any] = {
        "phase": outcome.phase.value,
        "reason": outcome.reason.value,
        "message": outcome.message,
        "waitingFor": WaitingFor.Nothing.value,
        "attempt": outcome.attempt,
        "digest": outcome.digest,
        "startedAt": excerpts.timestamp(outcome.started_at),
        "finishedAt": excerpts.timestamp(outcome.finished_at),
        "waves": excerpts.waves(outcome.waves, outcome.attempt),
        **excerpts.gates(bake_report.gates_of(obs, outcome)),
    } | bake_report.completed(obs, outcome, now)
    incident = bake_report.incident_of(obs, outcome)
    if incident:
        status["incident"] = excerpts.incident(incident, outcome.attempt)
    return status


def _queued(obs: Observation, release: Release, now: float) -> dict[str, Any]:
    phase, reason, message, waiting = _queue_place(obs, release, now)
    return {
        "phase": phase.value,
        "reason": reason,
        "message": message,
        "waitingFor": waiting.value,
    }


def _problem(obs: Observation, release: Release) -> Problem | None:
    """What is wrong with a release; its content is read only while it may still start."""
    return queue.release_problem(obs, release) if queue.is_open(obs, release) else None


def _queue_place(
    obs: Observation, release: Release, now: float
) -> tuple[Phase, str, str, WaitingFor]:
    problem = _problem(obs, release)
    if problem:
        return Phase.Pending, problem.reason, problem.message, WaitingFor.Person
    blocked = queue.block_of(obs, release)
    if blocked:
        message = refused.told(blocked, queue.digest_of(obs, release))
        return Phase.Rejected, Reason.DigestBlocked, message, WaitingFor.Nothing
    lowest = queue.floor(obs.record)
    running = obs.record.rollout
    if release.spec.sequence <= lowest or (
        running is not None and release.spec.sequence <= running.candidate.sequence
    ):
        newer = queue.overtaken_by(obs.record, release)
        late = f"sequence {release.spec.sequence} is not newer than what ran here before"
        message = f"release {newer} is newer" if newer else late
        reason = Reason.Superseded if newer else Reason.NotNewer
        return Phase.Superseded, reason, message, WaitingFor.Nothing
    if release.spec.suspend:
        return Phase.Pending, Reason.Suspended, Reason.Suspended.meaning, WaitingFor.Person
    return _turn(obs, release, now)


def _turn(obs: Observation, release: Release, now: float) -> tuple[Phase, str, str, WaitingFor]:
    channel_problem = queue.channel_problem(obs)
    if channel_problem:
        message = f"channel {obs.name} is not ready: {channel_problem.message}"
        return Phase.Pending, channel_problem.reason, message, WaitingFor.Person
    if obs.channel is not None and obs.channel.spec.suspend:
        meaning = Reason.ChannelSuspended.meaning
        return Phase.Pending, Reason.ChannelSuspended, meaning, WaitingFor.Person
    newest = next(iter(queue.eligible(obs)), None)
    if newest is not None and newest.uid != release.uid:
        message = f"release {newest.name} is newer"
        return Phase.Superseded, Reason.Superseded, message, WaitingFor.Nothing
    stop = cooldown.stop(obs, now) if obs.record.rollout is None else None
    if stop is not None:
        return Phase.Pending, stop[0].reason, stop[0].message, stop[1]
    message = succession.why_it_waits(obs, paused=pause_reason(obs, now) is not None)
    return Phase.Pending, Reason.Queued, message, WaitingFor.Nothing


def _node_counts(obs: Observation) -> dict[str, int]:
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
