"""Which wave's time a check is asked about: that of one ends only after that of the next has begun.

Queries compare with what was when a wave opened. So until a node of a new wave may have the content
(the record says so before the first label is written), they compare with the opening of the wave
before; and no node is moved until each check has passed once more by a query that was asked after
the new opening. What happens in between is seen by that answer, or counts for the new wave. All of
it follows from the record: an operator that restarts asks again.
"""

from dataclasses import replace

from wavegate.api import WaveState
from wavegate.rollout.attempt import Rollout

_OPENED = (WaveState.Moving, WaveState.Held)


def asked_of(rollout: Rollout) -> Rollout:
    """The rollout as it was in the newest wave that may have moved a node: with the opening of that
    wave queries compare. As it is, before any was moved.
    """
    moved = [number for number, wave in enumerate(rollout.waves, start=1) if wave.moved]
    return replace(rollout, waves=rollout.waves[: moved[-1]]) if moved else rollout


def evidence_since(rollout: Rollout) -> float:
    """An answer that was asked before this time proves nothing. It is the end of the wave's soak;
    before its first node is moved, its opening; 0 in between, and while it is pending.
    """
    wave = rollout.waves[-1]
    if wave.state in _OPENED and not wave.moved:
        return wave.opened_at
    return wave.judged_since or 0.0
