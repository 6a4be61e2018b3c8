"""Suspects: nodes whose harm is not corroborated. They go back to stable, and the rest goes on.

All of it follows from the record. A suspect is set aside: nothing is asked of it and no wave takes
it, until a sweep at the end tries it once more. If it is harmed again it stays on the candidate,
which proved itself on all others, and is named: one node must not keep a release from its end.
"""

from collections.abc import Iterable

from wavegate.evidence import NodeView
from wavegate.rollout import left_out
from wavegate.rollout.attempt import Rollout
from wavegate.rollout.lacks import Lack, lacks
from wavegate.rollout.observation import Observation
from wavegate.rollout.steps import UnlabelNodes

BATCH = 50
"""Most nodes that one pass gives back: the lease is checked before each batch."""

BRAKE_SECONDS = 60.0
"""Nothing moves for so long after harm: who died together with the first one is seen dead by then
(a node is NotReady 45 to 55 s after it died)."""


def aside(obs: Observation, rollout: Rollout) -> frozenset[str]:
    """Names of the suspects and stalled nodes that nothing is asked of: those that were not taken
    again; and of one that is back for a drill.
    """
    return obs.once(_aside, rollout)


def _aside(obs: Observation, rollout: Rollout) -> frozenset[str]:
    away = {s.node for s in rollout.suspects if s.kept or not is_retaken(obs, s.node, s.ledger)}
    drill = rollout.drilling
    if drill is not None and drill.is_away:
        away.add(drill.node)
    stalled = (s for s in rollout.stalls if not s.retrying)
    away |= {s.node for s in stalled if not is_retaken(obs, s.node, s.ledger)}
    return frozenset(away) | left_out.names(obs, rollout)


def take_back(obs: Observation, rollout: Rollout) -> UnlabelNodes | None:
    """Give suspects back to stable, also those that are down: it is only a write. The controller
    ends the candidate's pod there, and a kubelet that returns does not start it again.
    """
    away = _given_back(obs, rollout)
    if not away:
        return None
    nodes = [node for node in obs.moved(rollout.attempt) if node.name in away]
    if not nodes:
        return None
    first = sorted((node.name, node.uid) for node in nodes)[:BATCH]
    return UnlabelNodes(tuple(first), rollout.attempt)


def given_back(obs: Observation, rollout: Rollout) -> frozenset[str]:
    """Names of the nodes that were given back to stable, or are about to be, and are there."""
    return frozenset(_given_back(obs, rollout) & obs.nodes.keys())


def _given_back(obs: Observation, rollout: Rollout) -> frozenset[str]:
    kept = {suspect.node for suspect in rollout.suspects if suspect.kept}
    return (aside(obs, rollout) - kept) | left_out.names(obs, rollout)


def returning(obs: Observation, rollout: Rollout, now: float) -> tuple[str, ...]:
    """Suspects that still count as in flight: as long as they lack anything of being back, but at
    most for `progressDeadline`. After that the node needs hands, and keeps nobody waiting.
    """
    deadline, away = rollout.plan.progress_deadline, aside(obs, rollout)
    times = [(s.node, s.at) for s in rollout.suspects]
    times += [(s.node, s.at) for s in rollout.stalls]
    times += [(rollout.drilling.node, rollout.drilling.began)] if rollout.drilling else []
    lately = {name for name, at in times if 0.0 <= now - at <= deadline} & away
    if not lately:
        return ()
    lacking = {name for lack in _lacks(obs, rollout, lately, now) for name in lack.nodes}
    return tuple(dict.fromkeys(name for name, _ in times if name in lacking))


def needing_hands(obs: Observation, rollout: Rollout, now: float) -> tuple[Lack, ...]:
    """What those lack that were given back and had `progressDeadline` to be back on stable."""
    deadline = rollout.plan.progress_deadline
    late = {s.node for s in rollout.suspects if now - s.at > deadline}
    late &= given_back(obs, rollout)
    return _lacks(obs, rollout, late, now) if late else ()


def _lacks(
    obs: Observation, rollout: Rollout, names: Iterable[str], now: float
) -> tuple[Lack, ...]:
    """What these suspects lack. One that stays on the candidate need only be well."""
    down = {name for name in names if not _is_back(obs, obs.nodes.get(name))}
    back = given_back(obs, rollout).intersection(names) - down
    return lacks(obs, rollout, down, back, now)


def brake(rollout: Rollout, now: float) -> str:
    """What keeps nodes from being moved so soon after harm, in words; empty when nothing does."""
    for suspect in rollout.suspects:
        if 0.0 <= now - suspect.at < BRAKE_SECONDS:
            return f"{BRAKE_SECONDS:.0f} s without more harm, after that on node {suspect.node}"
    return ""


def none_is_left(obs: Observation, rollout: Rollout) -> bool:
    """Whether all that the current wave moved are suspects: it has nobody to speak for it."""
    ledger = obs.ledgers.get(rollout.waves[-1].ledger)
    names = {entry.name for entry in ledger.nodes} if ledger else set()
    return bool(names) and names <= aside(obs, rollout)


def is_retaken(obs: Observation, node: str, ledger: int) -> bool:
    """Whether a ledger that is newer than this one has taken the node again."""
    newer = (found for number, found in obs.ledgers.items() if number > ledger)
    return any(entry.name == node for found in newer for entry in found.nodes)


def _is_back(obs: Observation, node: NodeView | None) -> bool:
    if node is None:
        return True  # there is nothing to wait for
    pods = (pod for pod in obs.pods if pod.node == node.name and not pod.terminating)
    return node.ready and any(pod.ready for pod in pods)
