"""Invariant 13: two channels never have a node in active waves at once.

The books are made from the changes of all channels, and know nothing of what the operator makes of
them. A node is in a wave when it stands in the wave's ledger and carries the attempt's label. A
wave is active from its opening until it has passed, or until its revert is proven; and not when it
has been held or paused for half an hour, or has done nothing for so long and says that it is free.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from simulation.apiserver import Change
from simulation.bodies import channel_of, side
from simulation.stored import stored_in
from wavegate.api import Phase, WaveState
from wavegate.evidence import Ledger
from wavegate.rollout.attempt import Rollout
from wavegate.rollout.names import node_label
from wavegate.rollout.record import Record

FREE_AFTER_SECONDS = 1_800.0
KINDS = ("securitycontentchannels", "securitycontentreleases")


@dataclass(slots=True)
class Apart:
    """What is stored of each channel, by its name."""

    records: dict[str, Record] = field(default_factory=dict)
    ledgers: dict[tuple[str, int], Ledger] = field(default_factory=dict)
    suspended: dict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))
    """By channel: since when it, or a release of it, is suspended, in seconds of the loop."""
    stood: dict[str, tuple[object, float]] = field(default_factory=dict)
    """By channel: its current wave and that wave's state, and since when nothing of it moved."""

    def note(self, sim: Any, change: Change) -> None:
        """Note what was stored, and what was moved."""
        channel = channel_of(change)
        self._note_steps(sim, change)
        if change.plural == "configmaps":
            stored = stored_in(change.after or change.before or {})
            if stored.kind == "record":
                empty = Record("agents", channel)
                self.records[channel] = (stored.record if change.after else None) or empty
            elif stored.ledger is not None:
                self.ledgers[stored.ledger.attempt, stored.ledger.number] = stored.ledger
        elif change.plural in KINDS:
            if ((change.after or {}).get("spec") or {}).get("suspend"):
                self.suspended[channel].setdefault(change.key[1], sim.loop.time())
            else:
                self.suspended[channel].pop(change.key[1], None)

    def _note_steps(self, sim: Any, change: Change) -> None:
        """Note when the current wave of each channel did anything."""
        for channel, record in self.records.items():
            rollout, key = record.rollout, node_label(record.namespace, channel)
            wave = rollout.waves[-1] if rollout and rollout.waves else None
            now = (wave.ledger, wave.state) if wave is not None else None
            moved = change.plural == "nodes" and change.after is not None
            if moved and side(change.after, key) != side(change.before, key):
                self.stood.pop(channel, None)
            if channel not in self.stood or self.stood[channel][0] != now:
                self.stood[channel] = now, sim.loop.time()

    def in_active_wave(self, channel: str, name: str, now: float) -> bool:
        """Whether the ledger of an active wave of this channel names the node."""
        rollout = self.records[channel].rollout
        if rollout is None or not rollout.waves or name in rollout.excused:
            return False
        if self._stopped(channel, rollout, now):
            return False
        for wave in reversed(rollout.waves):
            if wave.state is WaveState.Passed and rollout.phase is not Phase.Reverting:
                return False
            ledger = self.ledgers.get((rollout.attempt, wave.ledger))
            if ledger is not None and any(entry.name == name for entry in ledger.nodes):
                return wave.state not in (WaveState.Pending, WaveState.AwaitingApproval)
        return False

    def _stopped(self, channel: str, rollout: Rollout, now: float) -> bool:
        wave = rollout.waves[-1]
        times = [*self.suspended[channel].values()]
        times += [at for at in (wave.held_since, rollout.reverting_since) if at is not None]
        times += [rollout.paused_at] if rollout.paused is not None else []
        if wave.freed_at is not None and wave.state in (WaveState.Pending, WaveState.Moving):
            times.append(self.stood[channel][1])  # it has waited for another channel
        return any(now - at >= FREE_AFTER_SECONDS for at in times)


def two_channels_keep_apart(guard: Any, sim: Any, change: Change) -> Iterator[str]:
    """13: no node is moved that another channel has in an active wave."""
    if change.plural != "nodes" or not change.actor.startswith("operator") or change.after is None:
        return
    books, name = guard.books.apart, change.key[1]
    for channel, record in books.records.items():
        key, rollout = node_label(record.namespace, channel), record.rollout
        now = side(change.after, key)
        if rollout is None or now != rollout.attempt or now == side(change.before, key):
            continue
        for other, theirs in books.records.items():
            if other == channel or theirs.rollout is None:
                continue
            guard.counted[13] += 1
            there = side(change.after, node_label(theirs.namespace, other))
            active = books.in_active_wave(other, name, sim.loop.time())
            if there == theirs.rollout.attempt and active:
                yield f"{name} was moved by {channel}, and is in an active wave of {other}"
