"""Invariants 2 and 18 where they are about fences: proven before they are needed, never undone."""

from collections.abc import Iterator
from typing import Any

from simulation.apiserver import Change
from simulation.bodies import NOTHING, attempt_of, side
from simulation.log import rules_of
from wavegate.rollout.way_back import FRESH_SECONDS


def the_way_back_is_proven(guard: Any, sim: Any, change: Change) -> Iterator[str]:
    """2: before a wave's first label both PATCHes of a revert, and a pod, passed a dry run."""
    rollout = guard.rollout
    if change.plural != "nodes" or not change.actor.startswith("operator") or rollout is None:
        return
    wave = (rollout.attempt, rollout.waves[-1].ledger) if rollout.waves else ("", 0)
    if side(change.after, sim.key) != rollout.attempt or wave in guard.books.begun:
        return
    guard.counted[2] += 1
    guard.books.begun.add(wave)
    stable = guard.books.record.stable
    names = [rollout.candidate.daemon_set, *([stable.daemon_set] if stable else [])]
    for plural, name in [("pods", ""), *(("daemonsets", name) for name in names)]:
        if sim.server.tried.get((plural, name), 0.0) < sim.loop.time() - FRESH_SECONDS:
            yield f"a wave began though {plural} {name} passed no dry run in {FRESH_SECONDS:.0f} s"


def a_fence_stays(guard: Any, sim: Any, change: Change) -> Iterator[str]:
    """18: what was pointed at no node, by whomever, is not pointed at nodes again while it runs."""
    before, after, rollout = change.before, change.after, guard.rollout
    if change.plural != "daemonsets" or not change.actor.startswith("operator"):
        return
    guard.counted[18] += 1
    if before is None or after is None or rules_of(before, sim.key) != NOTHING:
        return
    attempt = attempt_of(before)
    running = rollout is not None and rollout.attempt == attempt
    if (running or attempt in guard.books.fenced) and rules_of(after, sim.key) != NOTHING:
        yield f"the fence of {change.key[1]} was taken back"
