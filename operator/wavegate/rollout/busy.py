"""Nodes that another channel has in an active wave: they are not moved until it is done with them.

Harm on a node to which two channels gave something new at once could be told to neither. So the
nodes of a stored ledger are claimed from then on, until its wave has passed, or has failed and its
revert is proven. Who has moved a node, or has stored that it is about to, keeps it; of others that
claim it the one whose ledger was stored first has it. That is a total order, so two waves do not
wait for each other, whatever their ledgers have in common. A wave that is held or paused for
`FREE_AFTER_SECONDS`, or waits so long itself, frees its nodes, and claims them anew, all at once,
before it moves another. So a circle ends, too: one may come of a wave that is done again on other
nodes, as those that it moved before stay claimed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from wavegate.api import Phase, Reason, WaveState
from wavegate.evidence import Finding, Ledger, NodeView, Verdict
from wavegate.rollout.attempt import Rollout, WaveRun
from wavegate.rollout.observation import Observation
from wavegate.rollout.record import Record
from wavegate.rollout.steps import TICK, Step, save
from wavegate.rollout.wording import some

FREE_AFTER_SECONDS = 1_800.0
"""A wave that is held or paused, or a revert that is not proven, for so long keeps no other channel
from its nodes."""
_BEFORE_ITS_MOVES = (WaveState.Pending, WaveState.AwaitingApproval, WaveState.Moving)

Ledgers = Mapping[int, tuple[Ledger, int]]
"""The stored ledgers of one attempt by number, each with its resourceVersion."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The nodes that a channel has in its active wave."""

    channel: str
    """Namespace and name."""
    version: int
    """The ledger's resourceVersion: none ever changes, so the one stored first has the lowest."""
    nodes: Mapping[str, bool]
    """By name: whether it was moved, or may have been."""


def claim(record: Record, ledgers: Ledgers, now: float) -> Claim | None:
    """What the running attempt of this channel claims; None when it claims nothing."""
    rollout, channel = record.rollout, f"{record.namespace}/{record.channel}"
    if rollout is None or not rollout.waves:
        return None
    if rollout.phase is Phase.Reverting:
        since = rollout.reverting_since
        late = since is not None and now - since >= FREE_AFTER_SECONDS
        return None if late else _to_take_back(rollout, channel, ledgers)
    waves, wave = rollout.in_hand, rollout.waves[-1]
    stored = [(w, *ledgers[w.ledger]) for w in waves if w.ledger in ledgers]
    if not stored:
        return None
    if wave.freed_at is not None:
        # A wave that is held for what could not be fetched has freed its nodes, and tries these.
        tried = rollout.retried
        return Claim(channel, stored[-1][2], dict.fromkeys(tried, True)) if tried else None
    back = {s.node for s in rollout.suspects if s.ledger >= waves[0].ledger and not s.kept}
    back |= rollout.excused.keys()
    nodes: dict[str, bool] = {}
    for one, ledger, _ in stored:
        places = enumerate(entry.name for entry in ledger.nodes)
        own = {name: place < one.moved for place, name in places if name not in back}
        nodes |= {name: moved for name, moved in own.items() if moved or one is wave}
    return Claim(channel, stored[-1][2], nodes)


def _to_take_back(rollout: Rollout, channel: str, ledgers: Ledgers) -> Claim:
    """Of an attempt that is taken back: all nodes of its ledgers. A record that was restored from a
    backup says too little of what was moved.
    """
    stored = [ledgers[wave.ledger] for wave in rollout.waves if wave.ledger in ledgers]
    names = (entry.name for ledger, _ in stored for entry in ledger.nodes)
    first = min((version for _, version in stored), default=0)
    return Claim(channel, first, dict.fromkeys(names, True))


def taken(others: Iterable[Claim], mine: Claim | None) -> dict[str, str]:
    """The nodes that other channels keep from the one whose claim is `mine`, and which does."""
    found: dict[str, str] = {}
    own = mine.nodes if mine is not None else {}
    version = mine.version if mine is not None else 0
    for other in others:
        for name, moved in other.nodes.items():
            if name not in own or (not moved, other.version) < (not own[name], version):
                found.setdefault(name, other.channel)
    return found


def last(obs: Observation, nodes: Iterable[NodeView]) -> list[NodeView]:
    """These nodes in their order, but busy ones after all others."""
    return sorted(nodes, key=lambda node: node.name in obs.busy) if obs.busy else list(nodes)


def movable_now(
    obs: Observation, rollout: Rollout, unmoved: tuple[NodeView, ...]
) -> tuple[NodeView, ...]:
    """The first of these, up to one that is busy: how far a wave has moved is stored as a place in
    its ledger, so none is passed over.
    """
    if rollout.waves[-1].freed_at is not None:
        return ()
    if not obs.busy:
        return unmoved
    return tuple(takewhile(lambda node: node.name not in obs.busy, unmoved))


def awaited(obs: Observation, nodes: Sequence[NodeView]) -> Step:
    """Wait for other channels. It is no lack of evidence, so nothing is held and nobody is asked:
    the other wave passes, fails, or frees its nodes.
    """
    busy = [node.name for node in nodes if node.name in obs.busy]
    whose = sorted({obs.busy[name] for name in busy})
    verb = "is" if len(busy) == 1 else "are"
    message = f"{some(busy)} {verb} in an active wave of channel {some(whose)}, which comes first"
    found = Finding(Verdict.WAIT, Reason.NodeBusy, message)
    return Step(waiting=f"channel {some(whose)}", findings=(found,), requeue=TICK)


def waits(step: Step) -> bool:
    """Whether this step is to wait for another channel."""
    return any(finding.reason is Reason.NodeBusy for finding in step.findings)


def freed(obs: Observation, rollout: Rollout, paused: Reason | None, now: float) -> Rollout:
    """The rollout, whose nodes are free for other channels if it has stopped for long enough."""
    wave = rollout.waves[-1] if rollout.waves else None
    if wave is None or not obs.others or wave.freed_at is not None:
        return rollout
    since = _stopped_since(obs, rollout, wave, paused)
    if not _claimed(obs, rollout) or since is None or now - since < FREE_AFTER_SECONDS:
        return rollout
    return rollout.with_wave(freed_at=now)


def _claimed(obs: Observation, rollout: Rollout) -> list[str]:
    """Names of the nodes in the ledgers that it has in hand."""
    ledgers = (obs.ledgers.get(wave.ledger) for wave in rollout.in_hand)
    return [entry.name for ledger in ledgers if ledger for entry in ledger.nodes]


def returned(obs: Observation, rollout: Rollout) -> Step | None:
    """What a wave does first that had freed its nodes, and is held no more: it claims them anew
    when no other channel claims one of them. None when there is nothing to do about it. One that
    has yet to choose its nodes does so first: to claim what it had, and not what it needs, would
    be half of a circle again.
    """
    wave = rollout.waves[-1]
    if wave.freed_at is None or wave.held_since is not None or wave.ledger not in obs.ledgers:
        return None
    names = (name for name in _claimed(obs, rollout) if name in obs.busy)
    theirs = [obs.nodes[name] for name in names if name in obs.nodes]
    if not theirs:
        return save(obs.record, rollout.with_wave(freed_at=None))
    return awaited(obs, theirs) if wave.state in _BEFORE_ITS_MOVES else None


def claimed_by(obs: Observation, after: Rollout | None) -> set[str]:
    """The nodes that a new record is about to claim for good: those that are to be moved next, or
    all that had been free.
    """
    before = obs.record.rollout
    if before is None or after is None or not (before.waves and after.waves):
        return set()
    old, new = before.waves[-1], after.waves[-1]
    if old.ledger != new.ledger:
        return set()
    if old.freed_at is not None and new.freed_at is None:
        return set(_claimed(obs, after))
    ledger, tried = obs.ledgers.get(new.ledger), after.retried - before.retried
    nodes = ledger.nodes[old.moved : new.moved] if ledger else ()
    return tried | {entry.name for entry in nodes}


def _stopped_since(
    obs: Observation, rollout: Rollout, wave: WaveRun, paused: Reason | None
) -> float | None:
    """Since when it is held, paused, or waits for another channel; None when it does none of that.
    What pauses it from outside is in no record, nor is what it waits for: these count from when
    this operator saw it first.
    """
    times = [wave.held_since, obs.busy_since]
    if rollout.paused is not None:
        times.append(rollout.paused_at)
    if paused is not None:
        times.append(obs.paused_since)
    return min((at for at in times if at is not None), default=None)
