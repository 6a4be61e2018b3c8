"""What people did by hand, and what of it still excuses a broken invariant: as little as possible.

A node is excused from when a person chose its side until the operator does, or the node is gone; a
DaemonSet from a person's edit until the controller has seen what the operator made of it; a record
of another time until the operator has written one.
"""

import math
from dataclasses import dataclass, field

from simulation.apiserver import Body, Change
from simulation.bodies import attempt_of, side
from wavegate.rollout.record import Record


@dataclass(slots=True)
class Hands:
    """See the module."""

    labelled: dict[str, str | None] = field(default_factory=dict)
    """Nodes whose side a person chose, and which."""
    labelled_at: dict[str, float] = field(default_factory=dict)
    """When: the operator can't know of it sooner."""
    sets: dict[str, float] = field(default_factory=dict)
    """Attempts whose DaemonSet a person edited or deleted, and the generation that the operator
    wrote since then (infinite: none).
    """
    record: bool = False
    """A person wrote the record that is stored now."""
    travelled: bool = False
    """A person wrote or deleted the record: what it forgot, nobody knows any more."""

    def note(self, now: float, change: Change, key: str) -> None:
        """Note a change of a node or a DaemonSet."""
        if change.plural == "nodes":
            self._note_node(now, change, key)
        elif change.plural == "daemonsets":
            self._note_set(change)

    def note_record(self, change: Change) -> None:
        """Note a change of the record."""
        self.record = change.actor == "people"
        self.travelled |= self.record

    def excuse(self, record: Record, node: Body, key: str) -> bool:
        """Whether the revision that should match the node, or its side, is a person's doing."""
        here, rollout = side(node, key), record.rollout
        attempt = record.stable.attempt if record.stable else ""
        if rollout is not None and here == rollout.attempt:
            attempt = rollout.attempt
        return attempt in self.sets or node["metadata"]["name"] in self.labelled

    def labelled_since(self, since: float, attempt: str) -> set[str]:
        """Nodes that a person put on the side of this attempt after `since`."""
        there = (name for name, chosen in self.labelled.items() if chosen == attempt)
        return {name for name in there if self.labelled_at[name] > since}

    def _note_node(self, now: float, change: Change, key: str) -> None:
        name, chosen = change.key[1], side(change.after, key)
        if change.after is None:
            self.labelled.pop(name, None)
        elif chosen != side(change.before, key):
            self.labelled.pop(name, None)
            if change.actor == "people":
                self.labelled[name], self.labelled_at[name] = chosen, now

    def _note_set(self, change: Change) -> None:
        body = change.after or change.before or {}
        attempt = attempt_of(body)
        if not attempt:
            return  # none of ours
        if change.actor == "people":
            self.sets[attempt] = math.inf
        if change.after is None or attempt not in self.sets:
            return
        if change.actor.startswith("operator"):
            self.sets[attempt] = body["metadata"]["generation"]
        if (body.get("status") or {}).get("observedGeneration", 0) >= self.sets[attempt]:
            del self.sets[attempt]


def drained(node: Body | None) -> bool:
    """Whether a person's taint ends agents there, whatever we do."""
    taints = (node or {"spec": {}})["spec"].get("taints") or []
    return any(t["effect"] == "NoExecute" and t["key"] == "by-people" for t in taints)
