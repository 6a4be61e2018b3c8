"""Suspects: nodes whose harm is not corroborated. They go back to stable, and the rest goes on.

All of it follows from the record. A suspect is set aside: nothing is asked of it and no wave takes
it, until a sweep at the end tries it once more. If it is harmed again it stays on the candidate,
which proved itself on all others, and is named: one node must not keep a release from its end.
"""

from wavegate.evidence import NodeView
from wavegate.rollout.observation import Observation
from wavegate.rollout.record import Rollout, Suspect
from wavegate.rollout.steps import UnlabelNodes

BRAKE_SECONDS = 60.0
"""Nothing moves for so long after harm: who died together with the first one is seen dead by then
(a node is NotReady 45 to 55 s after it died)."""


def aside(obs: Observation, rollout: Rollout) -> frozenset[str]:
    """Names of the suspects that nothing is asked of: those that were not taken again."""
    return obs.once(_aside, rollout)


def _aside(obs: Observation, rollout: Rollout) -> frozenset[str]:
    return frozenset(s.node for s in rollout.suspects if s.kept or not _is_retaken(obs, s))


def take_back(obs: Observation, rollout: Rollout) -> UnlabelNodes | None:
    """Give suspects back to stable, also those that are down: it is only a write. The controller
    ends the candidate's pod there, and a kubelet that returns does not start it again.
    """
    away = aside(obs, rollout) - {suspect.node for suspect in rollout.suspects if suspect.kept}
    if not away:
        return None
    nodes = [node for node in obs.moved(rollout.attempt) if node.name in away]
    if not nodes:
        return None
    return UnlabelNodes(tuple(sorted((n.name, n.uid) for n in nodes)), rollout.attempt)


def returning(obs: Observation, rollout: Rollout, now: float) -> tuple[str, ...]:
    """Suspects that still count as in flight: until node and agent are Ready again, or for
    `progressDeadline`. After that the node needs hands, and keeps nobody waiting.
    """
    away, deadline = aside(obs, rollout), rollout.plan.progress_deadline
    lately = (s.node for s in rollout.suspects if 0.0 <= now - s.at <= deadline)
    return tuple(name for name in lately if name in away and not _is_back(obs, obs.nodes.get(name)))


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


def _is_retaken(obs: Observation, suspect: Suspect) -> bool:
    newer = (ledger for number, ledger in obs.ledgers.items() if number > suspect.ledger)
    return any(entry.name == suspect.node for ledger in newer for entry in ledger.nodes)


def _is_back(obs: Observation, node: NodeView | None) -> bool:
    if node is None:
        return True  # there is nothing to wait for
    pods = (pod for pod in obs.pods if pod.node == node.name and not pod.terminating)
    return node.ready and any(pod.ready for pod in pods)
