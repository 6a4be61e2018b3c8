"""Why a wave stopped or went on: each gate's evidence, stored with the decision that it led to.

The record is written by compare-and-swap anyway when a wave passes, fails or is held, so what its
gates said costs no write of its own, survives whatever comes after, and is what was decided by.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from wavegate.api import GateKind, WaveState
from wavegate.evidence import LEASE_STALE_SECONDS, Finding, Gate, assess_check, standing
from wavegate.evidence.gates import bounded, built_in, of_check
from wavegate.rollout.attempt import Rollout, WaveRun
from wavegate.rollout.judge import judged_nodes
from wavegate.rollout.observation import Observation
from wavegate.rollout.periods import evidence_since
from wavegate.rollout.steps import Step
from wavegate.rollout.waves import baseline_of, changed_agents

MAX_WAVES, MAX_LINES = 15, 8
"""So many of the newest waves keep their gates, so many lines each: a record must always fit."""
_DECIDED = (WaveState.Passed, WaveState.Held)


def look(
    obs: Observation, rollout: Rollout, findings: Iterable[Finding], now: float
) -> tuple[Gate, ...]:
    """What each gate of the current wave says now, by all `findings` about it; the worst first."""
    since = evidence_since(rollout)
    return look_at(obs, rollout, judged_nodes(obs, rollout), findings, since=since, now=now)


def look_at(  # noqa: PLR0913 (what a bake judges is not what its waves did)
    obs: Observation,
    rollout: Rollout,
    judged: frozenset[str],
    findings: Iterable[Finding],
    *,
    since: float,
    now: float,
) -> tuple[Gate, ...]:
    """The same of these nodes; an answer of a check from before `since` proves nothing."""
    of = defaultdict[tuple[GateKind, str], list[Finding]](list)
    for finding in findings:
        of[finding.gate, finding.check].append(finding)
    sight = of[GateKind.Sight, ""]
    found = [built_in(GateKind.Sight, sight, 0, 0, now)] if sight else []
    counts = {
        GateKind.Nodes: _heard(obs, judged, now),
        GateKind.Agents: _with_agent(obs, rollout, judged),
    }
    for kind, reporting in counts.items():
        found.append(built_in(kind, of[kind, ""], reporting, len(judged), now))
    for check in rollout.plan.checks if judged else ():
        result, said = obs.checks.get(check.name), of[GateKind.Check, check.name]
        if check.dry_run:
            said = list(assess_check(check, result, judged, since))
        found.append(of_check(check, result, judged, said, now))
    return bounded(found)


def note(obs: Observation, step: Step, findings: tuple[Finding, ...], now: float) -> Step:
    """The step, its record with what the gates said if it passes, fails or holds a wave."""
    before = obs.record.rollout
    after = step.record.rollout if step.record else None
    if step.record is None or before is None or after is None or not after.waves:
        return step
    if not _is_decision(before, after):
        return step
    gates = look(obs, before, findings, now)
    if after.waves[-1].ledger == before.waves[-1].ledger:
        after = replace(after, waves=with_lines(after.waves, gates))
    return replace(step, record=replace(step.record, rollout=replace(after, gates=gates)))


def _is_decision(before: Rollout, after: Rollout) -> bool:
    """Whether a wave is passed, held or paused now, or failed."""
    if after.incident is not before.incident and after.incident is not None:
        return True
    if after.paused is not None and before.paused is None:
        return True
    was, wave = before.waves[-1], after.waves[-1]
    decided = wave.state is not was.state and wave.state in _DECIDED
    return decided or (wave.held_since is not None and was.held_since is None)


def with_lines(waves: tuple[WaveRun, ...], gates: tuple[Gate, ...]) -> tuple[WaveRun, ...]:
    """The waves with what the gates of the newest one said; old ones say no more."""
    lines = [gate.line for gate in gates]
    if len(lines) > MAX_LINES:
        lines[MAX_LINES - 1 :] = [f"and {len(lines) - MAX_LINES + 1} more"]
    *earlier, newest = waves
    kept = [
        replace(wave, gates=()) if place < len(waves) - MAX_WAVES else wave
        for place, wave in enumerate(earlier)
    ]
    return (*kept, replace(newest, gates=tuple(lines)))


def _heard(obs: Observation, judged: frozenset[str], now: float) -> int:
    """Nodes that are Ready and renew their lease."""
    nodes, leases, since = obs.nodes, obs.leases, now - LEASE_STALE_SECONDS
    return sum(1 for n in judged if leases.get(n, 0.0) >= since and n in nodes and nodes[n].ready)


def _with_agent(obs: Observation, rollout: Rollout, judged: frozenset[str]) -> int:
    """Nodes with a Ready agent of this attempt, and selected agents as good as they were."""
    on_node, count = obs.pods_on(rollout.attempt), 0
    for name in judged - changed_agents(obs, baseline_of(obs)):
        pod = standing(on_node.get(name, ()))
        count += pod is not None and pod.ready
    return count
