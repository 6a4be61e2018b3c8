"""Invariant 4 where it is about the next release: after a revert that harm caused, nothing starts
in the cool-down, and nothing while the breaker is open, but by a person.
"""

from collections.abc import Iterator
from typing import Any

from simulation.apiserver import Change
from simulation.bodies import record_in
from wavegate.api import PLURALS, Channel, Phase, Reason
from wavegate.rollout.record import Outcome
from wavegate.rollout.transitions import HARM

DECISIONS = PLURALS["SecurityContentDecision"]
NEVER_RAN = (Reason.CannotFetch, Reason.Unschedulable)


class Reverts:
    """Those that harm caused since a person let releases start again, the oldest first."""

    def __init__(self) -> None:
        self.seen: list[Outcome] = []

    def note(self, guard: Any, change: Change) -> None:
        """Note a change of the record, or a decision that a person makes."""
        if change.plural == DECISIONS and change.before is None and change.after:
            spec, last = change.after["spec"], self.seen[-1].release if self.seen else ""
            if spec["action"] == "Resume" and spec["release"] == last:
                self.seen.clear()
            return
        record = record_in(change)
        if record is None:
            return
        if change.actor == "people":
            self.seen.clear()  # a backup: what it forgot, nobody knows any more
        elif guard.rollout is not None and record.rollout is None and record.outcomes:
            newest = record.outcomes[0]
            why = newest.incident.reason if newest.incident else None
            if newest.phase is Phase.Reverted and why in HARM and why not in NEVER_RAN:
                self.seen.append(newest)


def nothing_starts_too_soon(guard: Any, sim: Any, change: Change) -> Iterator[str]:
    """4: see the module."""
    record, reverts = record_in(change), guard.books.reverts.seen
    starts = record is not None and record.rollout is not None and guard.rollout is None
    if not starts or record.rollout.phase is not Phase.Pending or change.actor == "people":
        return
    body = sim.server.find(PLURALS["SecurityContentChannel"], "rules", "agents")
    if body is None or not reverts:
        return
    guard.counted[4] += 1
    policy = Channel.parse(body).spec.rollout
    name, since = record.rollout.candidate.release, record.rollout.started_at
    if since - reverts[-1].finished_at < policy.cool_down:
        yield f"{name} was started in the cool-down after {reverts[-1].release}"
    last = reverts[-policy.breaker.reverts :] if policy.breaker.reverts else []
    if len(last) < policy.breaker.reverts or not last:
        return
    passed = any(o.started_at >= last[-1].finished_at for o in record.outcomes)
    if not passed and last[-1].finished_at - last[0].finished_at <= policy.breaker.within:
        yield f"{name} was started after {len(last)} reverts, and no person said so"
