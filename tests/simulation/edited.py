"""Invariants about people who edit a channel, or block content, while a release rolls out."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from simulation.apiserver import Change
from simulation.bodies import record_in, side
from wavegate.api import OnFailure
from wavegate.rollout.attempt import Plan

FLEETS = (1, 3, 12, 200)


def a_running_plan_never_loosens(guard: Any, sim: Any, change: Change) -> Iterator[str]:
    """2: whatever people edit, the plan of a rollout asks for no less than it did before."""
    del sim
    record, old = record_in(change), guard.rollout
    if record is None or old is None or record.rollout is None or change.actor == "people":
        return
    if record.rollout.attempt != old.attempt:
        return
    guard.counted[2] += 1
    for what in _looser(old.plan, record.rollout.plan):
        yield f"the plan of {old.candidate.release} has {what} under way"


def _looser(old: Plan, new: Plan) -> Iterator[str]:
    """Held against fleets and by field, and not by the order of the operator itself. A wave that
    comes again is one more, and no other one.
    """
    if any(old.max_unavailable.resolve(n) < new.max_unavailable.resolve(n) for n in FLEETS):
        yield "a higher maxUnavailable"
    if new.settle < old.settle or new.bake < old.bake:
        yield "a shorter settle or bake"
    if (old.on_failure, new.on_failure) == (OnFailure.Revert, OnFailure.Pause):
        yield "another onFailure"
    known = {wave.name for wave in old.waves}
    new = replace(new, waves=tuple(w for w in new.waves if w.name in known or not w.again))
    same = [
        (p.pools, p.agents, p.loaded_proof, p.drill, [w.name for w in p.waves]) for p in (old, new)
    ]
    if same[0] != same[1]:
        yield "other pools, waves or evidence"
    limits = {check.name: check for check in new.checks}
    for check in old.checks:
        now = limits.get(check.name)
        if now is None or now.query != check.query or (now.max or 0.0) > (check.max or 0.0):
            yield f"less of check {check.name}"
    yield from _looser_waves(old, new)


def _looser_waves(old: Plan, new: Plan) -> Iterator[str]:
    for was, wave in zip(old.waves, new.waves, strict=False):
        if any(was.up_to.resolve(n) < wave.up_to.resolve(n) for n in FLEETS):
            yield f"more nodes in {wave.name}"
        if wave.soak < was.soak or (was.approval and not wave.approval):
            yield f"a shorter soak, or no approval, in {wave.name}"


def nothing_moves_to_what_is_blocked(guard: Any, sim: Any, change: Change) -> Iterator[str]:
    """4: from the moment a digest is on the block list, no node gets it, nor another image of which
    agents would report the same as loaded, or whose release lists a layer that nothing had which
    was ever stable.
    """
    rollout = guard.rollout
    if change.plural != "nodes" or not change.actor.startswith("operator") or rollout is None:
        return
    if side(change.after, sim.key) != rollout.attempt or guard.two_leaders:
        return
    guard.counted[4] += 1
    its = rollout.candidate
    entries = guard.books.record.blocked
    if any(b.digest == its.digest or its.loaded == b.loaded != "" for b in entries):
        yield f"{change.key[1]} gets {its.release}, whose content is blocked"
    images = guard.books.images
    listed = images.layers.get(its.digest, frozenset())
    if any(images.is_kept_out(listed, entry) for entry in entries):
        yield f"{change.key[1]} gets {its.release}, which has a layer that is blocked"
