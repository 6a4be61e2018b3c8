"""What the pure core tells the rest to do. Each action is idempotent; a step's are in order."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from wavegate.evidence import Finding, Ledger
from wavegate.rollout.attempt import Revision, Rollout
from wavegate.rollout.record import Record


class Target(Enum):
    """The nodes that a revision's DaemonSet matches."""

    NOTHING = "nothing"
    ALL = "all"
    IN = "in"
    """Only nodes labelled with the attempt."""
    NOT_IN = "not-in"
    """All nodes but those labelled with the attempt."""


@dataclass(frozen=True, slots=True)
class Retarget:
    """Point a revision's DaemonSet at other nodes. A `fence` is unconditional; any other change is
    tested against the version that was observed, so that a stale leader can't make it.
    """

    revision: str
    target: Target
    attempt: str = ""
    fence: bool = False


@dataclass(frozen=True, slots=True)
class CreateRevision:
    """Create the candidate's DaemonSet from this finished pod template, in `IN` its attempt."""

    revision: Revision
    template: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CopyContent:
    """Copy a ConfigMap's content into our own immutable one, if it still has this digest."""

    source: str
    name: str
    digest: str


@dataclass(frozen=True, slots=True)
class StoreLedger:
    """Store the frozen list of a wave's nodes, before any of them is labelled."""

    ledger: Ledger


@dataclass(frozen=True, slots=True)
class MoveNodes:
    """Label these nodes (name, UID) with the attempt: a bounded batch."""

    nodes: tuple[tuple[str, str], ...]
    attempt: str


@dataclass(frozen=True, slots=True)
class UnlabelNodes:
    """Take this attempt's label from these nodes (name, UID), which are suspects or were not
    labelled by us: a bounded batch. A node that is another one by now, or has another label, is
    left alone.
    """

    nodes: tuple[tuple[str, str], ...]
    attempt: str


@dataclass(frozen=True, slots=True)
class DeletePods:
    """Delete an attempt's pods: those on `node`, or not `bound` to any, or all when neither."""

    attempt: str
    node: str | None = None
    unbound: bool = False


@dataclass(frozen=True, slots=True)
class Forget:
    """Delete what retention no longer keeps: a retired revision's DaemonSet, or old ledgers."""

    revision: str | None = None
    ledgers_of: str | None = None


Action = (
    Retarget
    | CreateRevision
    | CopyContent
    | StoreLedger
    | MoveNodes
    | UnlabelNodes
    | DeletePods
    | Forget
)


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a channel or a release can't be acted on: reason, the exact field, and what to do."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Step:
    """The decision of one pass: store this record, or else do these actions, or else wait."""

    record: Record | None = None
    """The record to store before anything is done under it; None = unchanged."""
    actions: tuple[Action, ...] = ()
    findings: tuple[Finding, ...] = ()
    judged: bool = False
    """The findings are all that the evidence says, so that none means that all is well."""
    waiting: str = ""
    """In words, what is awaited."""
    requeue: float | None = None
    """Seconds until the next pass is due even if nothing happens."""
    look: float | None = None
    """All nodes and pods are to be read anew, unless all before this time is known."""


TICK = 1.0
"""Seconds until the next pass while something is under way and no event comes."""
QUIET = 5.0
"""The same while a wave only soaks, or its nodes settle. Harm is an event and wakes at once, as do
answers of checks and each look at the leases; a lease goes stale after 25 s."""


def save(record: Record, rollout: Rollout) -> Step:
    """Store the changed rollout before anything is done under it."""
    return Step(record=replace(record, rollout=rollout))


def act(action: Action) -> Step:
    """Do one thing, and look again."""
    return Step(actions=(action,), requeue=TICK)


def wait(what: str) -> Step:
    """Do nothing until `what` has come; look again in a second."""
    return Step(waiting=what, requeue=TICK)


def describe(action: Action) -> str:
    """One line for the log, whatever the number of nodes."""
    match action:
        case Retarget():
            kind = "fence" if action.fence else "retarget"
            return f"{kind} revision {action.revision} to {action.target.value} {action.attempt}"
        case CreateRevision():
            return f"create DaemonSet {action.revision.daemon_set}"
        case CopyContent():
            return f"copy ConfigMap {action.source} to {action.name}"
        case StoreLedger():
            return f"store the ledger of {len(action.ledger.nodes)} nodes"
        case MoveNodes():
            return f"move {len(action.nodes)} nodes, from {action.nodes[0][0]}"
        case UnlabelNodes():
            return f"take the label from {len(action.nodes)} nodes, from {action.nodes[0][0]}"
        case DeletePods():
            which = "unbound" if action.unbound else action.node or "all"
            return f"delete pods of {action.attempt}: {which}"
        case Forget():
            return f"forget revision {action.revision}, ledgers of {action.ledgers_of}"
