"""Invariant 19 where it is about a feed: what rolls out is replaced only in its first wave, or by a
more urgent release, so that some release ends however many are published.
"""

from collections.abc import Iterator
from typing import Any

from simulation.apiserver import Change
from simulation.bodies import record_in
from wavegate.api import PLURALS, Channel, Phase, Reason, Severity, WaveState

RELEASES = PLURALS["SecurityContentRelease"]


class Published:
    """By sequence, what every release ever claimed to be."""

    def __init__(self) -> None:
        self.claims: dict[int, Severity] = {}

    def note(self, change: Change) -> None:
        if change.plural == RELEASES and change.after:
            spec = change.after["spec"]
            self.claims[spec["sequence"]] = Severity(spec.get("severity", "Routine"))


def replaced_only_when_it_may_be(guard: Any, sim: Any, change: Change) -> Iterator[str]:
    """19: see the module."""
    before, after = guard.rollout, record_in(change)
    new = after.rollout if after else None
    if before is None or new is None or change.actor == "people":
        return
    begun = before.phase is not Phase.Reverting and new.phase is Phase.Reverting
    if not begun or new.incident is None or new.incident.reason is not Reason.Replaced:
        return
    guard.counted[19] += 1
    name = new.candidate.release
    body = sim.server.find(PLURALS["SecurityContentChannel"], "rules", "agents")
    newer = [
        claim
        for sequence, claim in guard.books.published.claims.items()
        if sequence > new.candidate.sequence
    ]
    most = Channel.parse(body).spec.rollout.max_severity if body else Severity.Routine
    urgent = any(claim.capped(most).rank > new.plan.severity.rank for claim in newer)
    passed = any(wave.state is WaveState.Passed for wave in new.waves)
    last = next((outcome.phase for outcome in after.outcomes if not outcome.agent), None)
    if new.candidate.is_agent:
        yield f"a change of the agent with {name} was replaced"
    if not newer:
        yield f"{name} was replaced, and none is newer"
    if passed and not urgent:
        yield f"{name} was replaced after its first wave by one that is no more urgent"
    if last is Phase.Superseded and not urgent:
        yield f"{name} had replaced another, and was replaced by one that is no more urgent"
    if before.paused is not None:
        yield f"{name} was replaced while it waited for a person"
    if len(after.blocked) > len(guard.books.record.blocked):
        yield f"{name} was replaced, and its content is blocked"
