"""Parts of a status that mirror the record as it is: revisions, waves, incidents and gates."""

from datetime import UTC, datetime
from typing import Any

from wavegate.api import Reason, WaitingFor
from wavegate.evidence import Gate
from wavegate.rollout import suspect_report
from wavegate.rollout.attempt import Incident, Revision, WaveRun
from wavegate.rollout.names import ledger_name
from wavegate.rollout.record import Outcome
from wavegate.rollout.steps import Problem

MAX_WAVES = 60


def timestamp(seconds: float) -> str:
    """RFC 3339 in UTC, whole seconds, as Kubernetes writes it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def condition(
    kind: str, problem: Problem | None, message: str, reason: Reason = Reason.Accepted
) -> dict[str, Any]:
    """A condition that is true unless there is a problem; without its transition time."""
    return {
        "type": kind,
        "status": "False" if problem else "True",
        "reason": str(problem.reason) if problem else reason.value,
        "message": problem.message if problem else message,
    }


def revision(of: Revision) -> dict[str, Any]:
    """A revision that is, or was, or may become stable."""
    kind = "Agent" if of.is_agent else "Content"
    return {
        "kind": kind,
        "agent": of.agent,
        "attempt": of.attempt,
        "release": of.release,
        "version": of.version,
        "digest": of.digest,
        "daemonSet": of.daemon_set,
        "since": timestamp(of.since),
    }


def waves(opened: tuple[WaveRun, ...], attempt: str) -> list[dict[str, Any]]:
    """All waves that were opened, in order."""
    shown = []
    for index, wave in list(enumerate(opened))[-MAX_WAVES:]:
        entry: dict[str, Any] = {"name": wave.name, "state": wave.state.value, "nodes": wave.nodes}
        entry |= suspect_report.sees(opened, index)
        if wave.nodes:
            entry["ledger"] = ledger_name(attempt, wave.ledger)
        if wave.opened_at:
            entry["openedAt"] = timestamp(wave.opened_at)
        if wave.passed_at:
            entry["passedAt"] = timestamp(wave.passed_at)
        if wave.gates:
            entry["gates"] = list(wave.gates)
        shown.append(entry)
    return shown


def ended(outcome: Outcome) -> dict[str, Any]:
    """How a rollout ended, of whatever kind."""
    return {
        "phase": outcome.phase.value,
        "reason": outcome.reason.value,
        "message": outcome.message,
        "waitingFor": WaitingFor.Nothing.value,
        "attempt": outcome.attempt,
        "startedAt": timestamp(outcome.started_at),
        "finishedAt": timestamp(outcome.finished_at),
    }


def incident(of: Incident, attempt: str) -> dict[str, Any]:
    """Why a release failed, and in which wave. It is named by the attempt that came to it."""
    return {
        "id": attempt,
        "reason": of.reason.value,
        "message": of.message,
        "nodes": list(of.nodes),
        "at": timestamp(of.at),
    } | ({"wave": {"number": of.wave, "name": of.wave_name}} if of.wave else {})


def gates(said: tuple[Gate, ...]) -> dict[str, Any]:
    """The part of a status that says what each gate said; empty when none did yet."""
    return {"gates": [_gate(gate) for gate in said]} if said else {}


def _gate(gate: Gate) -> dict[str, Any]:
    """One gate; what it does not have is left out."""
    entry = {
        "gate": gate.kind.value,
        "check": gate.check,
        "verdict": gate.verdict.name.title(),
        "reason": gate.reason.value if gate.reason else "",
        "message": gate.message,
        "query": gate.query,
        "value": gate.value,
        "threshold": gate.threshold,
        "sampledAt": "" if gate.sampled_at is None else timestamp(gate.sampled_at),
        "at": timestamp(gate.at),
    }
    found: dict[str, Any] = {name: text for name, text in entry.items() if text}
    if gate.expected:
        found |= {"reporting": gate.reporting, "expected": gate.expected}
    if gate.worst:
        found["worst"] = [{"node": bad.node, "what": bad.what} for bad in gate.worst]
    return found | ({"dryRun": True} if gate.dry_run else {})
