"""Back: what nodes lack after a fence, until a revert has ended well.

Each node that may have had the content is to be Ready, with a Ready stable agent; the agents that
agentSelector selects are to be as well there as they were; and where content outlives its pod, the
agent is to report stable's. The fence itself waits for none of it, and the end of a revert for
`progressDeadline` at most: what is lacking then is said with the nodes that lack it.
"""

from collections.abc import Container, Iterator
from dataclasses import dataclass

from wavegate.api import Reason
from wavegate.evidence import is_well_again
from wavegate.rollout import loaded
from wavegate.rollout.judge import may_have_moved
from wavegate.rollout.observation import Observation
from wavegate.rollout.record import Rollout
from wavegate.rollout.waves import baseline_of


@dataclass(frozen=True, slots=True)
class Lack:
    """What some nodes lack, and the reason for which a revert ends if it stays so. In the words for
    it `{}` stands for how many nodes they are.
    """

    reason: Reason
    nodes: list[str]
    awaited: str
    told: str

    @property
    def waiting(self) -> str:
        """What is waited for, for people."""
        return f"{self.awaited.format(len(self.nodes))} ({self.nodes[0]})"

    @property
    def clause(self) -> str:
        """What was not seen in time, for people."""
        return f"{self.told.format(len(self.nodes))} ({', '.join(self.nodes[:5])})"


def lacking(obs: Observation, rollout: Rollout, now: float) -> tuple[Lack, ...]:
    """What nodes lack of being back, the worst first; empty when a revert has ended well."""
    return tuple(lack for lack in _lacks(obs, rollout, now) if lack.nodes)


def _lacks(obs: Observation, rollout: Rollout, now: float) -> Iterator[Lack]:
    down = _not_back(obs, rollout)
    back = obs.once(taken_back, rollout) - set(down)
    yield Lack(
        Reason.RevertedWithNodesDown,
        down,
        "{} nodes to be back on stable",
        "{} nodes are not back on stable and need hands",
    )
    yield Lack(
        Reason.RevertedAgentsUnwell,
        _unwell(obs, rollout, back, now),
        "the selected agents on {} nodes to be well again",
        "nothing shows that the selected agents on {} nodes are well again",
    )
    yield Lack(
        Reason.RevertedNotProven,
        _unproven(obs, rollout, back),
        "{} nodes to report stable's content",
        "nothing proves that {} nodes are rid of its content",
    )


def waits_since(obs: Observation, rollout: Rollout, lacks: tuple[Lack, ...], now: float) -> float:
    """Since when the nodes had time. For how long an agent that restarted is Ready, a new leader
    does not know, so it gives these the whole time to show.
    """
    since = rollout.reverting_since or now
    if any(lack.reason is Reason.RevertedAgentsUnwell for lack in lacks):
        since = max(since, obs.watching_since)
    return min(now, since)


def _not_back(obs: Observation, rollout: Rollout) -> list[str]:
    """Nodes that had it and are not proven healthy again: Ready, with a Ready stable agent."""
    stable = obs.revision(obs.record.stable)
    carriers = obs.carriers(stable.template) if stable else {}
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
    stable = obs.revision(obs.record.stable)
    carriers = obs.carriers(stable.template) if stable else {}
    had = _had_it(obs, rollout, carriers) & obs.nodes.keys()
    if rollout.completed_at is None:
        had &= {entry.name for entry in obs.once(may_have_moved, rollout)}
    return frozenset(had)


def _unwell(obs: Observation, rollout: Rollout, back: frozenset[str], now: float) -> list[str]:
    """Nodes that are back, and whose selected agents were well when a wave of theirs opened and are
    not known to be so again. Where these can't be seen, it is all of them.
    """
    if not rollout.plan.agents:
        return []
    theirs, since, blind = obs.agents_on(), now - rollout.plan.settle, bool(obs.agents.blind)
    ledgers = (obs.ledgers[number] for number in sorted(obs.ledgers))
    # A suspect that was tried again with an agent that was ill by then was well before.
    judged = {e.name: e for led in ledgers for e in led.nodes if e.agents and e.name in back}
    return sorted(
        name
        for name, entry in judged.items()
        if blind or not is_well_again(entry, theirs.get(name, ()), since)
    )


def _unproven(obs: Observation, rollout: Rollout, back: frozenset[str]) -> list[str]:
    """Nodes that are back, and of which nothing proves that stable's content is loaded. Where
    nothing is stable, only an agent that is gone could tell what is left on its host.
    """
    stable = obs.record.stable
    if stable is not None:
        return loaded.not_taken_back(obs, rollout, stable, back)
    return sorted(back) if rollout.plan.outlives_pod else []


def _had_it(obs: Observation, rollout: Rollout, carriers: Container[str]) -> set[str]:
    """Nodes of the ledgers that were healthy before. Of content that was stable already also those
    that joined since, and those that were ill then and are well now.
    """
    entries = baseline_of(obs)
    found = {name for name, entry in entries.items() if entry.healthy}
    if rollout.completed_at is not None:
        nodes = obs.nodes.items()
        found |= {n for n, node in nodes if n in carriers and (node.ready or n not in entries)}
    return found
