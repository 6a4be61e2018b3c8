"""What nodes lack that went back to stable: after a revert, and as suspects of a rollout.

Each is to be Ready, with a Ready stable agent; the agents that agentSelector selects are to be as
well there as they were; and where the channel asks for a proof of what is loaded, stable's is to be
reported, as content may outlive its pod. Nothing waits for it longer than `progressDeadline`: what
is lacking then is told with the nodes that lack it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from wavegate.api import Reason
from wavegate.evidence import is_well_again
from wavegate.rollout import loaded
from wavegate.rollout.attempt import Rollout
from wavegate.rollout.observation import Observation


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


def lacks(
    obs: Observation, rollout: Rollout, down: Iterable[str], back: frozenset[str], now: float
) -> tuple[Lack, ...]:
    """What they lack, the worst first; empty when nothing. `down` are not Ready, or their stable
    agent is not; `back` are the others.
    """
    return tuple(lack for lack in _lacks(obs, rollout, sorted(down), back, now) if lack.nodes)


def _lacks(
    obs: Observation, rollout: Rollout, down: list[str], back: frozenset[str], now: float
) -> Iterator[Lack]:
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


def _unwell(obs: Observation, rollout: Rollout, back: frozenset[str], now: float) -> list[str]:
    """Nodes whose selected agents were well when a wave of theirs opened, and are not known to be
    so again. Where these can't be seen, it is all of them.
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
    """Nodes of which nothing proves that stable's content is loaded. Where nothing is stable, only
    an agent that is gone could tell what is left on its host.
    """
    stable = obs.record.stable
    if stable is not None:
        return loaded.not_taken_back(obs, rollout, stable, back)
    return sorted(back) if rollout.plan.outlives_pod else []
