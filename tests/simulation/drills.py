"""Invariant 2 where it is about the rollback drill: what a release promised to try was tried.

The guard keeps its own books of the nodes from which the operator took a label, and of stable's
agents on them; of the record it believes only that a drill is wanted.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from simulation.apiserver import Change
from simulation.bodies import attempt_of, is_agent, record_in, side
from simulation.clock import START
from simulation.cluster import is_ready
from simulation.daemonsets import target_of
from wavegate.api import DrillMode, Reason, WaveState
from wavegate.rollout.attempt import Drill, Rollout


class Drills:
    """By attempt: nodes that went back, those on which stable was Ready, and those that have it
    again.
    """

    def __init__(self) -> None:
        self.away: dict[str, set[str]] = defaultdict(set)
        self.well: set[tuple[str, str]] = set()
        """Node and attempt of the agents that are Ready."""
        self.drilled: dict[str, set[str]] = defaultdict(set)
        self.taken_at: dict[tuple[str, str], float] = {}
        """By attempt and node: when its label was taken from it."""

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
        if was is not None and was != now:
            self.taken_at[was, node] = sim.now
            if change.actor.startswith("operator"):
                self.away[was].add(node)
        if now is not None and was != now and node in self.away[now]:
            self.drilled[now].add(node)


def _has_passed(rollout: Rollout) -> bool:
    """Whether a wave that had nodes has passed: what comes after it needs no drill."""
    return any(wave.nodes and wave.state is WaveState.Passed for wave in rollout.waves)


def what_is_drilled_was_back(guard: Any, sim: Any, change: Change) -> Iterator[str]:
    """2: the node of a drill gets the candidate again only when stable's agent was Ready there, as
    far as the operator can know.
    """
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
    at = (node, guard.books.record.stable.attempt)
    if at not in guard.books.drills.well and not guard.was_well(sim, *at):
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
    if not soaks or _has_passed(rollout) or rollout.plan.drill is not DrillMode.Always:
        return
    guard.counted[2] += 1
    if not guard.books.drills.drilled[rollout.attempt]:
        yield f"the first wave of {rollout.candidate.release} soaks, and no node was drilled"


def nothing_else_moves_before_a_drill(guard: Any, sim: Any, change: Change) -> Iterator[str]:
    """2: as long as no node was drilled, there is one that has the release, and no second one."""
    rollout, after, node, hands = guard.rollout, change.after, change.key[1], guard.books.hands
    if change.plural != "nodes" or after is None or rollout is None or guard.two_leaders:
        return
    if not change.actor.startswith("operator") or hands.travelled:
        return
    attempt, stable = side(after, sim.key), guard.books.record.stable
    if attempt != rollout.attempt or attempt == side(change.before or {}, sim.key):
        return
    wanted = rollout.plan.drill is DrillMode.Always and stable is not None
    if not wanted or _has_passed(rollout) or guard.books.drills.drilled[attempt]:
        return
    guard.counted[2] += 1
    others = guard.books.on_side[attempt] - {node} - set(hands.labelled) - set(rollout.excused)
    if others:
        yield f"{node} gets {rollout.candidate.release} before {sorted(others)} is drilled"


def a_drill_fails_for_a_cause(guard: Any, sim: Any, change: Change) -> Iterator[str]:
    """14: what a failed drill says of its node is so."""
    record, old = record_in(change), guard.rollout
    new = record.rollout if record else None
    if old is None or new is None or new.incident is None or change.actor == "people":
        return
    if new.incident.reason is not Reason.DrillFailed or old.incident == new.incident:
        return
    if guard.books.hands.travelled:
        return
    guard.counted[14] += 1
    if old.drilling is None or old.drilling.node not in new.incident.nodes:
        yield f"a drill failed that was none: {new.incident.message}"
    elif not _went_wrong(guard, sim, old, old.drilling):
        yield f"nothing is wrong: {new.incident.message}"


def _went_wrong(guard: Any, sim: Any, rollout: Rollout, drill: Drill) -> bool:
    """Whether the machine went down or is another one, stable's agent crashed on it, or it was not
    well there when its time was over.
    """
    machine = sim.machines.machines.get(drill.node)
    ledger = guard.books.ledgers.get((rollout.attempt, drill.ledger))
    entry = next((e for e in ledger.nodes if e.name == drill.node), None) if ledger else None
    node = sim.server.find("nodes", drill.node)
    if machine is None or node is None or entry is None or node["metadata"]["uid"] != entry.uid:
        return True
    if not machine.alive or entry.boot_id != f"{drill.node}-boot-{machine.boots}":
        return True
    stable = guard.books.record.stable
    pods = [pod for pod in sim.pods(drill.node) if attempt_of(pod) == stable.attempt]
    since = guard.books.drills.taken_at.get((rollout.attempt, drill.node), drill.began - START)
    if any(guard.books.crashed_at.get(pod["metadata"]["uid"], -1.0) >= since for pod in pods):
        return True
    ready = (guard.books.ready_since.get(pod["metadata"]["uid"], sim.now) for pod in pods)
    well = any(sim.now - at > rollout.plan.settle + guard.lag for at in ready)
    late = sim.now - since >= rollout.plan.progress_deadline
    return late and (not well or bool(rollout.plan.agents))
