"""What each gate of a running rollout says now, worked out anew only when it says something new.

Values and counts change with each answer; a status that followed them would be written all the
time. So they are taken when a verdict or its reason changes, with each minute of a soak (the
status is written then anyway), and every ten minutes otherwise, if anything but the time is new.
`Gate.at` says when that was.
"""

from collections.abc import Iterator
from dataclasses import replace

from wavegate.api import GateKind, Phase, Reason
from wavegate.controller.work import Key
from wavegate.evidence import Gate, Verdict
from wavegate.rollout import gates, soak
from wavegate.rollout.attempt import Rollout
from wavegate.rollout.observation import Observation
from wavegate.rollout.steps import Step
from wavegate.telemetry.metrics import Metrics

REFRESH_SECONDS = 600.0

_BUILT_IN = (GateKind.Sight, GateKind.Nodes, GateKind.Agents)
Said = tuple[object, ...]


class LiveGates:
    """Remembers by channel what its gates said last, and shows it as a metric."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._known: dict[Key, tuple[Said, float, tuple[Gate, ...]]] = {}

    def look(self, key: Key, obs: Observation, step: Step, now: float) -> tuple[Gate, ...]:
        """What the status is to say of the gates; nothing while no wave is judged."""
        rollout = obs.record.rollout
        if rollout is None or not rollout.waves or rollout.phase is not Phase.Rolling:
            self._known.pop(key, None)
            self._show(key, rollout.gates if rollout else None)
            return ()
        known = self._known.get(key)
        if not step.judged:
            return known[2] if known and known[0][0] == rollout.attempt else ()
        said = _said(obs, rollout, step, now)
        if known is None or known[0] != said or not 0 <= now - known[1] < REFRESH_SECONDS:
            found = gates.look(obs, rollout, step.findings, now)
            if known is not None and known[0] == said and _timeless(known[2]) == _timeless(found):
                found = known[2]  # a rollout that waits for a person for days costs no write
            known = (said, now, found)
            self._known[key] = known
            self._show(key, known[2])
        return known[2]

    def _show(self, key: Key, found: tuple[Gate, ...] | None) -> None:
        """Set the metric of the built-in gates; None: there is no rollout to speak of."""
        verdicts = {gate.kind: gate.verdict for gate in found or ()}
        for kind in _BUILT_IN:
            if found is None:
                self._metrics.gate_verdict.remove(*key, kind.value)
            else:
                self._metrics.gate_verdict.labels(*key, kind.value).set(verdicts.get(kind, 0))


def _timeless(found: tuple[Gate, ...]) -> list[Gate]:
    """The gates, whenever that was."""
    return [replace(gate, at=0.0, sampled_at=None) for gate in found]


def _said(obs: Observation, rollout: Rollout, step: Step, now: float) -> Said:
    """What is new if it differs: where the wave is, and verdict and reason of each gate."""
    worst: dict[tuple[GateKind, str], tuple[Verdict, Reason]] = {}
    for finding in step.findings:  # the worst first
        worst.setdefault((finding.gate, finding.check), (finding.verdict, finding.reason))
    minutes = int(soak.collected(obs, rollout, now) // 60)
    wave = (len(rollout.waves), rollout.waves[-1].state, minutes)
    return (rollout.attempt, wave, worst, *_dry_runs(obs, rollout))


def _dry_runs(obs: Observation, rollout: Rollout) -> Iterator[tuple[str, bool, str]]:
    """What dry runs say, which has no part in the findings."""
    for check in rollout.plan.checks:
        result = obs.checks.get(check.name)
        if check.dry_run and result is not None:
            yield check.name, result.passes > 0, result.error
