"""Invariant 4 where it is about the next release: after a revert that harm caused, nothing starts
in the cool-down, and nothing while the breaker is open, but by a person.
"""

from collections.abc import Iterator
from typing import Any

from simulation.apiserver import Body, Change
from simulation.bodies import attempt_of, record_in, side
from simulation.clock import START
from simulation.stored import stored_in
from wavegate.api import PLURALS, Channel, Phase, Reason
from wavegate.rollout.record import Outcome, Record
from wavegate.rollout.transitions import HARM

DECISIONS = PLURALS["SecurityContentDecision"]
LOOK_SECONDS = 5.0
"""A process that begins to lead has listed all after so long."""
NEVER_RAN = (Reason.CannotFetch, Reason.Unschedulable)


class Reverts:
    """Those that harm caused since a person let releases start again, the oldest first."""

    def __init__(self) -> None:
        self.seen: list[Outcome] = []
        self.doubtful: Outcome | None = None
        """The last revert after which nodes failed on stable too."""
        self.led_at = 0.0
        """When another process began to lead."""

    def note(self, guard: Any, sim: Any, change: Change) -> None:
        """Note a change of the record, a decision that a person makes, another leader."""
        if change.plural == "leases" and holder(change.before) != holder(change.after):
            self.led_at = sim.now
        if change.plural == DECISIONS and change.before is None and change.after:
            spec, last = change.after["spec"], self.seen[-1].release if self.seen else ""
            named = self.doubtful.release if self.doubtful else last
            if spec["action"] == "Resume" and spec["release"] == named:
                self._forget()
            return
        record = record_in(change)
        if change.actor == "people" and (record is not None or _is_lost(change)):
            self._forget()  # a backup: what was in the record before, nobody knows any more
        elif record is None:
            return
        elif guard.rollout is not None and record.given_up_start(guard.rollout.attempt):
            return  # it is as if it had not started
        elif guard.rollout is not None and record.rollout is None and record.outcomes:
            newest = record.outcomes[0]
            if newest.reason is Reason.StableSuspect:
                self.doubtful = newest
            why = newest.incident.reason if newest.incident else None
            if newest.phase is Phase.Reverted and why in HARM and why not in NEVER_RAN:
                self.seen.append(newest)

    def _forget(self) -> None:
        self.seen.clear()
        self.doubtful = None


def _is_lost(change: Change) -> bool:
    """Whether a record was deleted."""
    gone = change.plural == "configmaps" and change.after is None
    return gone and stored_in(change.before or {}).kind == "record"


def nothing_starts_too_soon(guard: Any, sim: Any, change: Change) -> Iterator[str]:
    """4: see the module."""
    record, reverts = record_in(change), guard.books.reverts.seen
    starts = record is not None and record.rollout is not None and guard.rollout is None
    if not starts or record.rollout.phase is not Phase.Pending or change.actor == "people":
        return
    doubtful = guard.books.reverts.doubtful
    if doubtful is not None and not _passed(record, doubtful):
        guard.counted[4] += 1
        yield f"{record.rollout.candidate.release} was started though nodes fail on stable"
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
    if (
        not _passed(record, last[-1])
        and last[-1].finished_at - last[0].finished_at <= policy.breaker.within
    ):
        yield f"{name} was started after {len(last)} reverts, and no person said so"


def holder(lease: Body | None) -> str:
    """Who leads."""
    return str(((lease or {}).get("spec") or {}).get("holderIdentity") or "")


def _passed(record: Record, revert: Outcome) -> bool:
    return any(outcome.started_at >= revert.finished_at for outcome in record.outcomes)


def nothing_moves_where_strata_were_left_out(guard: Any, sim: Any, change: Change) -> Iterator[str]:
    """4: after a part of its nodes went back, a release gets no further node."""
    rollout = guard.rollout
    if change.plural != "nodes" or not change.actor.startswith("operator") or rollout is None:
        return
    if not rollout.left_out or guard.two_leaders:
        return
    guard.counted[4] += 1
    now = side(change.after, sim.key)
    if now == rollout.attempt and side(change.before, sim.key) != now:
        yield f"{change.key[1]} was moved to {now}, of which a part went back"


def stable_is_doubted(guard: Any, sim: Any, change: Change) -> Iterator[str]:
    """6: a revert has not ended well where stable's agents crash on the nodes that went back: on
    two, and a tenth of them.
    """
    rollout, after = guard.rollout, record_in(change)
    if rollout is None or after is None or after.rollout is not None or change.actor == "people":
        return
    outcome = next((o for o in after.outcomes if o.attempt == rollout.attempt), None)
    if outcome is None or outcome.reason is not Reason.Reverted or after.stable is None:
        return
    if guard.two_leaders or guard.books.hands.travelled:
        return
    guard.counted[6] += 1
    went_back = guard.books.on_side[rollout.attempt]
    # What came before this process began to look, it can't tell from what came before the revert.
    since = max((rollout.reverting_since or 0.0) - START, guard.books.reverts.led_at + LOOK_SECONDS)
    until = sim.now - guard.lag
    crashed = {
        name
        for name in went_back
        for pod in sim.pods(name)
        if attempt_of(pod) == after.stable.attempt
        and since < guard.books.crashed_at.get(pod["metadata"]["uid"], 0.0) < until
    }
    if len(crashed) >= max(2, len(went_back) / 10):
        yield f"{outcome.release} is Reverted, though stable crashes on {sorted(crashed)}"
