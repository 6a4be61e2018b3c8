"""Invariant 14: every change of state carries reason, evidence and actor, stored."""

from collections.abc import Iterator
from typing import Any

from simulation.apiserver import Body, Change
from simulation.stored import stored_in
from wavegate.api import PLURALS, Phase, Reason
from wavegate.rollout.attempt import Incident, Rollout
from wavegate.rollout.record import Record
from wavegate.rollout.transitions import HARM
from wavegate.rollout.wording import MAX_MESSAGE

RELEASES = PLURALS["SecurityContentRelease"]
PEOPLE = {Reason.RevertDecided: "decision ", Reason.ReleaseDeleted: "release "}
"""What an incident's message begins with when people caused it: whose act it was."""
ON_NODES = {
    Reason.NodeNotReady,
    Reason.NodeRebooted,
    Reason.NodeCondition,
    Reason.NodeVanished,
    Reason.NodeReplaced,
    Reason.AgentRestarted,
    Reason.AgentNotReady,
    Reason.AgentOOMKilled,
}
"""Reasons whose evidence is a node."""


def changes_carry_reasons(guard: Any, sim: Any, change: Change) -> Iterator[str]:
    """14: records, status and Events say why, on what evidence, and who."""
    del sim
    if not change.actor.startswith("operator") or change.after is None:
        return
    if change.plural == "configmaps":
        after = stored_in(change.after).record
        if after is not None:
            guard.counted[14] += 1
            yield from _record(guard.books.record, after)
    elif change.plural == RELEASES:
        yield from _status(change.after)
    elif change.plural == "events":
        yield from _event(change.after)


def _record(before: Record, after: Record) -> Iterator[str]:
    old, new = before.rollout, after.rollout
    if new is not None and new.phase is Phase.Reverting:
        yield from _incident(new.incident)
        yield from _forgotten(old, new)
    if new is None and old is not None:
        yield from _end(old, after)
    for block in after.blocked:
        if not block.digest or not block.release or not block.since:
            yield "a digest is blocked without saying since when and by which release"
    for note in after.decisions:
        if not note.uid or not note.release_uid or not note.at:
            yield "a decision is noted without saying whose, on what, and when"


def _forgotten(old: Rollout | None, new: Rollout) -> Iterator[str]:
    """What harm was seen before a person decided; the message of that may be cut."""
    before = old.incident if old is not None and old.attempt == new.attempt else None
    if before is None or new.incident is None or new.incident.reason in HARM:
        return
    said = before.message[:100]
    if said not in new.incident.message and len(new.incident.message) < MAX_MESSAGE // 2:
        yield f"a revert forgets what was seen before: {said}"


def _end(old: Rollout, after: Record) -> Iterator[str]:
    release, start = old.candidate.release, after.given_up_start(old.attempt)
    if start is not None:
        if not start.message or not start.at or old.phase is not Phase.Pending:
            yield f"the start of {release} is given up without a reason, or too late"
        return
    outcome = after.outcomes[0]
    if not outcome.message or not outcome.finished_at or outcome.attempt != old.attempt:
        yield f"the end of {release} is stored without reason, time or attempt"
    if outcome.phase is Phase.Reverted and outcome.reason is not Reason.StateLost:
        yield from _incident(outcome.incident)


def _incident(incident: Incident | None) -> Iterator[str]:
    if incident is None or not incident.message or not incident.at:
        yield "a revert is stored without reason, message and time"
    elif incident.reason in ON_NODES and not incident.nodes:
        yield f"a revert for {incident.reason} is stored without a node as evidence"
    elif not incident.message.startswith(PEOPLE.get(incident.reason, "")):
        yield f"a revert for {incident.reason} does not say whose act it was: {incident.message}"


def _status(body: Body) -> Iterator[str]:
    status = body.get("status") or {}
    if status and (not status.get("message") or status.get("reason") not in set(Reason)):
        yield f"status of {body['metadata']['name']} says {status.get('phase')} without a reason"


def _event(event: Body) -> Iterator[str]:
    if event["reason"] not in set(Reason) or not event["note"] or not event["reportingInstance"]:
        yield f"an Event says {event['reason']} without reason, note or actor"
