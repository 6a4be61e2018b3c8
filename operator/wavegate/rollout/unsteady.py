"""Which single nodes keep a wave from its end without any harm: silent, without data, restless.

None of that is harm, however many nodes show it: it holds, and in the end a person is asked. But a
few nodes must not be able to hold a release. So past its deadline, what is about so few nodes that
chance explains them makes these suspects.
"""

from wavegate.api import GateKind, Reason, WaveState
from wavegate.evidence import Finding, Verdict, silent_nodes
from wavegate.rollout import exposure, soak, stalls, suspects
from wavegate.rollout.attempt import Rollout
from wavegate.rollout.judge import judged_nodes
from wavegate.rollout.observation import Observation

_SILENCE = (Reason.LeaseStale, Reason.NotHeardFrom, Reason.LoadedNotReported)
_STALLED = (Reason.CannotFetch, Reason.Unschedulable)


def overdue(
    obs: Observation, rollout: Rollout, findings: tuple[Finding, ...], now: float
) -> dict[str, Finding]:
    """By name, the nodes that kept the wave too long, each with what is to be said of it."""
    if not rollout.waves or rollout.promoting:
        return {}
    found = [f for f in findings if f.reason in _SILENCE and f.verdict is Verdict.HOLD]
    found += stalls.overdue(obs, rollout, now)
    found += _without_data(obs, rollout, now) + _restless(obs, rollout, findings, now)
    away, late = suspects.aside(obs, rollout), dict[str, Finding]()
    for finding in found:  # what is known best comes first
        if finding.node is not None and finding.node not in away:
            late.setdefault(finding.node, finding)
    return late


def alike(findings: tuple[Finding, ...]) -> set[str]:
    """The nodes that are silent or stalled now, also those that are not overdue yet."""
    stalled = {f.node for f in findings if f.reason in _STALLED and f.verdict is Verdict.HOLD}
    silent = {f.node for f in findings if f.reason in _SILENCE}
    return {name for name in silent | stalled if name is not None}


def _without_data(obs: Observation, rollout: Rollout, now: float) -> list[Finding]:
    """Nodes that a check `per: Node` has no fresh number for."""
    held, nodes = rollout.waves[-1].held_since, judged_nodes(obs, rollout)
    if held is None or now - held <= rollout.plan.progress_deadline:
        return []
    lacking: set[str] = set()
    for check in rollout.plan.checks:
        answer = obs.checks.get(check.name)
        if answer is not None and not check.dry_run:
            lacking |= nodes & silent_nodes(check, answer)
    return [_of(name, Reason.CheckNoData) for name in sorted(lacking)]


def _restless(
    obs: Observation, rollout: Rollout, findings: tuple[Finding, ...], now: float
) -> list[Finding]:
    """Nodes that interrupted a soak until its bound, or that never settle. Not one that is silent,
    or whose agent is unwell, just now: that has a deadline of its own, and a name that says more.
    """
    wave, plan, restless = rollout.waves[-1], rollout.plan, tuple[str, ...]()
    patience = plan.progress_deadline + soak.BOUND * plan.settle
    moved_at = wave.moved_at if wave.state is WaveState.Moving else None
    if soak.is_over_bound(obs, rollout, now):
        restless = wave.unsteady
    elif moved_at is not None and now - moved_at > patience:
        restless = exposure.measure(obs, rollout, now).in_flight
    own = {f.node for f in findings if f.gate is GateKind.Agents or f.reason in _SILENCE}
    return [_of(name, Reason.Unsteady) for name in restless if name not in own]


def _of(node: str, reason: Reason) -> Finding:
    return Finding(Verdict.HOLD, reason, reason.meaning, node)
