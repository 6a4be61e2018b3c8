"""Invariant 2 where it is about the rollback drill: what a release promised to try was tried.

The guard keeps its own books of the nodes from which the operator took a label, and of stable's
agents on them; of the record it believes only that a drill is wanted.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from simulation.apiserver import Change
from simulation.bodies import attempt_of, is_agent, record_in, side
from simulation.cluster import is_ready
from simulation.daemonsets import target_of
from wavegate.api import DrillMode, WaveState


class Drills:
    """By attempt: nodes that went back, those on which stable was Ready, and those that have it
    again.
    """

    def __init__(self) -> None:
        self.away: dict[str, set[str]] = defaultdict(set)
        self.well: set[tuple[str, str]] = set()
        """Node and attempt of the agents that are Ready."""
        self.drilled: dict[str, set[str]] = defaultdict(set)

    def note(self, sim: Any, change: Change) -> None:
        """Note a change of a node's label, or of an agent."""
        if change.plural == "pods":
            pod = change.after or change.before
            if pod is not None and is_agent(pod):
                at = (target_of(pod), attempt_of(pod))
                ready = change.after is not None and is_ready(change.after)
                (self.well.add if ready else self.well.discard)(at)
        if change.plural != "nodes" or change.after is None or change.before is None:
            return
        was, now, node = side(change.before, sim.key), side(change.after, sim.key), change.key[1]
        if was is not None and was != now and change.actor.startswith("operator"):
            self.away[was].add(node)
        if now is not None and was != now and node in self.away[now]:
            self.drilled[now].add(node)


def what_is_drilled_was_back(guard: Any, sim: Any, change: Change) -> Iterator[str]:
    """2: the node of a drill gets the candidate again only when stable's agent was Ready there."""
    rollout, after, node = guard.rollout, change.after, change.key[1]
    if change.plural != "nodes" or after is None or rollout is None or guard.two_leaders:
        return
    attempt, drill = side(after, sim.key), rollout.drilling
    given = attempt == rollout.attempt and attempt != side(change.before or {}, sim.key)
    if not given or drill is None or drill.node != node or not change.actor.startswith("operator"):
        return
    if guard.books.hands.travelled or guard.books.record.stable is None:
        return
    guard.counted[2] += 1
    if (node, guard.books.record.stable.attempt) not in guard.books.drills.well:
        yield f"{node} gets {rollout.candidate.release} again, and was not back on stable"


def no_soak_without_its_drill(guard: Any, sim: Any, change: Change) -> Iterator[str]:
    """2: the first wave of a release that is to be drilled soaks after a node went back and came
    again.
    """
    del sim
    record, old = record_in(change), guard.rollout
    rollout = record.rollout if record else None
    if record is None or record.stable is None or rollout is None or old is None:
        return
    if not change.actor.startswith("operator") or guard.books.hands.travelled:
        return
    soaks = bool(rollout.waves) and rollout.waves[-1].state is WaveState.Soaking
    if not soaks or rollout.wave != 0 or rollout.plan.drill is not DrillMode.Always:
        return
    guard.counted[2] += 1
    if not guard.books.drills.drilled[rollout.attempt]:
        yield f"the first wave of {rollout.candidate.release} soaks, and no node was drilled"
