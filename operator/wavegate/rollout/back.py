"""Back: which nodes a revert takes back, and what they still lack before it has ended well.

The fence waits for none of it, and the end of a revert for `progressDeadline` at most.
"""

from collections.abc import Container, Mapping

from wavegate.api import Phase, Reason
from wavegate.evidence import NodeView
from wavegate.rollout import suspects
from wavegate.rollout.attempt import Rollout
from wavegate.rollout.lacks import Lack, lacks
from wavegate.rollout.observation import Observation
from wavegate.rollout.waves import baseline_of
from wavegate.rollout.whereabouts import may_have_moved


def lacking(obs: Observation, rollout: Rollout, now: float) -> tuple[Lack, ...]:
    """What nodes lack of being back, the worst first; empty when a revert has ended well."""
    down = _not_back(obs, rollout)
    return lacks(obs, rollout, down, obs.once(taken_back, rollout).difference(down), now)


def waits_since(obs: Observation, rollout: Rollout, left: tuple[Lack, ...], now: float) -> float:
    """Since when the nodes had time. For how long an agent that restarted is Ready, a new leader
    does not know, so it gives these the whole time to show. Nor had they any while RBAC kept us
    from giving stable back.
    """
    since = max(rollout.reverting_since or now, obs.allowed_since)
    if any(lack.reason is Reason.RevertedAgentsUnwell for lack in left):
        since = max(since, obs.watching_since)
    return min(now, since)


def _not_back(obs: Observation, rollout: Rollout) -> list[str]:
    """Nodes that had it and are not proven healthy again: Ready, with a Ready stable agent."""
    stable, carriers = obs.revision(obs.record.stable), _carriers(obs)
    attempt = obs.record.stable.attempt if obs.record.stable else ""
    back = {pod.node for pod in obs.pods_of(attempt) if pod.ready and not pod.terminating}
    left = {pod.node for pod in obs.pods_of(rollout.attempt)}
    recorded = obs.record.stable is not None
    missing = []
    for name in _had_it(obs, rollout, carriers):
        node = obs.nodes.get(name)
        if node is None:
            continue
        lacks = name not in back and (name in carriers or (recorded and stable is None))
        if not node.ready or name in left or lacks:
            missing.append(name)
    return sorted(missing)


def taken_back(obs: Observation, rollout: Rollout) -> frozenset[str]:
    """The nodes that may have had the content and are there: what they load now is to be proven."""
    had = _had_it(obs, rollout, _carriers(obs)) & obs.nodes.keys()
    if rollout.completed_at is None:
        had &= {entry.name for entry in obs.once(may_have_moved, rollout)}
    return frozenset(had)


def to_prove(obs: Observation, rollout: Rollout) -> frozenset[str]:
    """The nodes that went back and are to report that stable's content is loaded."""
    if rollout.plan.loaded_proof is None:
        return frozenset()
    reverting = rollout.phase is Phase.Reverting
    return (taken_back if reverting else suspects.given_back)(obs, rollout)


def _carriers(obs: Observation) -> Mapping[str, NodeView]:
    """The nodes on which stable's agent would run."""
    stable = obs.revision(obs.record.stable)
    return obs.carriers(stable.template) if stable else {}


def _had_it(obs: Observation, rollout: Rollout, carriers: Container[str]) -> set[str]:
    """Nodes of the ledgers that were healthy before they got it: of one that was taken again the
    first time counts too, as it may have been ill by then of the content. Of content that was
    stable already also those that joined since, and those that were ill then and are well now.
    """
    entries, moved = baseline_of(obs), obs.once(may_have_moved, rollout)
    known = (*entries.values(), *(e for e in moved if entries[e.name].uid == e.uid))
    found = {entry.name for entry in known if entry.healthy}
    if rollout.completed_at is not None:
        nodes = obs.nodes.items()
        found |= {n for n, node in nodes if n in carriers and (node.ready or n not in entries)}
    return found
