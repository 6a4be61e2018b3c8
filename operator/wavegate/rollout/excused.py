"""Excused nodes of a rollout: they are no harm, and no evidence either.

So a wave that lost all of its nodes that way, or more than a tenth of them, is done again on
others. What excuses a node, `marks` says.
"""

from collections.abc import Iterable, Mapping

from wavegate.api import IntOrPercent, Reason, WaveState
from wavegate.evidence import Finding, Verdict
from wavegate.rollout import suspects, waves
from wavegate.rollout.attempt import PlannedWave, Rollout
from wavegate.rollout.judge import baselines
from wavegate.rollout.marks import excuse
from wavegate.rollout.observation import Observation
from wavegate.rollout.soak import NEVER

MAX_MARKS = 100_000
"""Characters that excused nodes may take of a rollout's record: some 1,600 nodes. Of more that are
drained while one release rolls out, a reboot counts as harm."""
_TENTH = IntOrPercent(10, is_percent=True)
_UNDER_WAY = (WaveState.Moving, WaveState.Soaking, WaveState.Judging, WaveState.Held)


def note(
    obs: Observation, rollout: Rollout, failed: tuple[Finding, ...]
) -> tuple[Mapping[str, str], tuple[Finding, ...]]:
    """Marks with what of this harm is excused now, and the harm that is not."""
    if not failed:
        return rollout.excused, failed
    entries, marks, left = baselines(obs, rollout), dict(rollout.excused), []
    for finding in failed:
        entry = entries.get(finding.node or "")
        mark = excuse(obs, rollout.excused, entry, finding) if entry is not None else None
        if entry is None or mark is None or not _fits({**marks, entry.name: mark}):
            left.append(finding)
        else:
            marks[entry.name] = mark
    return marks, tuple(left)


def opened(obs: Observation, rollout: Rollout) -> Mapping[str, str]:
    """The marks that are left when the current wave opens: its ledger is a baseline of its own."""
    ledger = obs.ledgers.get(rollout.waves[-1].ledger)
    names = {entry.name for entry in ledger.nodes} if ledger else set()
    return {name: mark for name, mark in rollout.excused.items() if name not in names}


def again(obs: Observation, rollout: Rollout) -> Rollout | Finding | None:
    """The rollout with its current wave begun anew on other nodes, or what is to hold as there are
    none; None while the wave's own nodes can speak for it, and for one that takes what was left.
    """
    wave, planned = rollout.waves[-1], rollout.planned
    if planned is None or planned.again or wave.state not in _UNDER_WAY or not rollout.excused:
        return None
    ledger = obs.ledgers.get(wave.ledger)
    own = [entry.name for entry in ledger.nodes if entry.healthy] if ledger else []
    lost = [name for name in own if name in rollout.excused]
    if not lost:
        return None
    left = _left(obs, rollout, own)
    if left and len(lost) <= _TENTH.resolve(len(own)):
        return None
    return _substitutes(obs, rollout, planned, lost, left)


def _substitutes(
    obs: Observation, rollout: Rollout, planned: PlannedWave, lost: list[str], left: list[str]
) -> Rollout | Finding | None:
    chosen, lacking = waves.choose(obs, rollout, planned)
    if chosen:
        over = rollout.with_wave(state=WaveState.Excused, **NEVER)
        approved = rollout.waves[-1].approved  # it is the same step, on other nodes
        return over.with_next_wave().with_wave(approved=approved)
    if left or not lacking:
        return None
    message = (
        f"all nodes of wave {planned.name} were drained, removed or rebooted as announced "
        f"({', '.join(lost[:5])}), and no other healthy node can take their place"
    )
    return Finding(Verdict.HOLD, Reason.NoWitness, message)


def _left(obs: Observation, rollout: Rollout, own: Iterable[str]) -> list[str]:
    """Those of a wave's nodes that speak for it, or may still be moved."""
    silent = rollout.excused.keys() | suspects.aside(obs, rollout)
    silent -= {rollout.drilling.node} if rollout.drilling else set()  # it comes again
    return [name for name in own if name not in silent and name in obs.nodes]


def _fits(marks: Mapping[str, str]) -> bool:
    return sum(len(name) + 16 for name in marks) <= MAX_MARKS
