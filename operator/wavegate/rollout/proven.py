"""Which strata have proved the content, and which can't: what a wave shows of its kinds of machine.

The record keeps them, so that neither a restart nor what becomes of a node later takes it back.
"""

from collections.abc import Iterable

from wavegate.rollout.attempt import Rollout, Suspect
from wavegate.rollout.judge import witnesses
from wavegate.rollout.observation import Observation
from wavegate.rollout.strata import code_then
from wavegate.rollout.waves import baseline_of

MAX_STRATA = 1_000
"""So many are remembered as proven; of more, each wave takes one node each."""


def by_now(obs: Observation, rollout: Rollout) -> tuple[str, ...]:
    """The strata that are proven when the current wave passes: of these a node that is no suspect
    and not excused has the content, and speaks for it.
    """
    if rollout.waves[-1].last:  # it did not soak
        return rollout.proven
    names, found = witnesses(obs, rollout), set(rollout.proven)
    for name, entry in baseline_of(obs).items():
        if name in names:
            found.add(code_then(entry, obs.nodes.get(name)))
    return tuple(sorted(found)[:MAX_STRATA])


def is_lost(obs: Observation, rollout: Rollout, suspects: Iterable[Suspect]) -> bool:
    """Whether two of these are of one stratum, of which no node has proved the content: its first
    one failed, and so did the one that took its place.
    """
    entries, seen = baseline_of(obs), set()
    for suspect in suspects:
        entry = entries.get(suspect.node)
        code = ""
        if entry is not None and not suspect.excused:
            code = code_then(entry, obs.nodes.get(entry.name))
        if code and code in seen:
            return True
        if code not in rollout.proven:
            seen.add(code)
    return False
