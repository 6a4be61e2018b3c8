"""Node labels that others wrote. All that is done about them moves nodes towards stable.

A label of the running attempt on a node that stands in no ledger of an opened wave is taken back.
A label that someone took from a moved node, or changed, is respected: the node is stable's again,
and no wave but a sweep at the end takes it. How that is known for sure: `moved` is stored before
labels are written, so it proves nothing; `labelled` is stored after they were seen.
"""

from collections.abc import Iterator, Mapping

from wavegate.api import Reason, WaveState
from wavegate.evidence import Finding, Ledger, LedgerNode, NodeView, Verdict
from wavegate.rollout import suspects
from wavegate.rollout.attempt import UNOPENED, Rollout, WaveRun
from wavegate.rollout.observation import Observation
from wavegate.rollout.steps import UnlabelNodes

BATCH = 50
"""Most labels that one pass takes back."""


def repair(obs: Observation, rollout: Rollout) -> UnlabelNodes | None:
    """Take back a batch of foreign labels; None when there is none, or when we can't be sure, as a
    ledger is gone or a watch is interrupted. Not for a promotion, whose nodes all have it. Nor
    where nothing is stable yet: the node would be left without an agent. A sweep takes it.
    """
    if obs.blind or obs.record.stable is None:
        return None
    opened = [wave for wave in rollout.waves if wave.state not in UNOPENED]
    if any(wave.nodes and wave.ledger not in obs.ledgers for wave in opened):
        return None
    ledgers = (obs.ledgers.get(wave.ledger) for wave in opened)
    known = [ledger for ledger in ledgers if ledger is not None]
    foreign = obs.kept.of(_foreign, obs.moved(rollout.attempt), *known)
    return UnlabelNodes(foreign[:BATCH], rollout.attempt) if foreign else None


def _foreign(moved: tuple[NodeView, ...], *known: Ledger) -> tuple[tuple[str, str], ...]:
    """Names and UIDs of the nodes that stand in none of these ledgers."""
    entries = {(entry.name, entry.uid) for ledger in known for entry in ledger.nodes}
    return tuple(sorted((n.name, n.uid) for n in moved if (n.name, n.uid) not in entries))


def set_aside(obs: Observation, rollout: Rollout) -> frozenset[str]:
    """Names of nodes from which someone took the label, and of suspects: no wave takes them again
    but a sweep.
    """
    names = set(suspects.aside(obs, rollout))
    for wave in rollout.waves:
        ledger = obs.ledgers.get(wave.ledger)
        if ledger is not None and wave.labelled:
            found = obs.kept.of(_unlabelled, ledger, obs.nodes, rollout.attempt, obs.key)
            names |= {name for place, name in found if place < wave.labelled}
    # One that is tried again lacks it for a moment, until it is labelled anew.
    again = rollout.retried | ({rollout.drilling.node} if rollout.drilling else set())
    return frozenset(names - again)


def doubtful_since(obs: Observation, rollout: Rollout) -> float | None:
    """Since when a node is in doubt; None when none is. The record says that it was labelled, and
    we see it without: someone took the label, or another process set it and our watch is late. Only
    a look at all nodes that began after we had read so tells which; till then it may be in flight.
    """
    newest = 0.0
    for wave in rollout.waves:
        ledger = obs.ledgers.get(wave.ledger)
        if ledger is None or not wave.labelled:
            continue
        lacking = obs.kept.of(_unlabelled, ledger, obs.nodes, rollout.attempt, obs.key)
        last = max((place for place, _ in lacking if place < wave.labelled), default=None)
        if last is not None:  # of those before it we have read so no later
            newest = max(newest, _read_at(obs, wave.ledger, last))
    return newest if newest > obs.seen_at else None


def _read_at(obs: Observation, ledger: int, place: int) -> float:
    """When we first read in the record that the node at this place was labelled."""
    marks = obs.labelled_at.items()
    return next((at for (number, mark), at in marks if number == ledger and mark > place), 0.0)


def _unlabelled(
    ledger: Ledger, nodes: Mapping[str, NodeView], attempt: str, key: str
) -> list[tuple[int, str]]:
    """Places and names of a ledger's nodes that are the same machines and lack the label."""
    found = []
    for place, entry in enumerate(ledger.nodes):
        node = nodes.get(entry.name)
        if node is not None and node.attempt(key) != attempt and _same(node, entry):
            found.append((place, entry.name))
    return found


def places(obs: Observation, ledger: Ledger) -> Mapping[str, int]:
    """The place of each node in a ledger, from 0."""
    return obs.kept.of(_places, ledger)


def _places(ledger: Ledger) -> dict[str, int]:
    return {entry.name: place for place, entry in enumerate(ledger.nodes)}


def seen(obs: Observation, rollout: Rollout, unmoved: tuple[NodeView, ...]) -> int:
    """How far the current ledger is seen to be labelled: up to the first node still to be moved."""
    wave = rollout.waves[-1]
    ledger = obs.ledgers.get(wave.ledger)
    place = places(obs, ledger) if ledger is not None else {}
    first = min((place[node.name] for node in unmoved), default=wave.moved)
    return max(wave.labelled, min(wave.moved, first))


def all_removed(obs: Observation, rollout: Rollout) -> Iterator[Finding]:
    """A wave from whose every node the label was taken has nothing left that speaks for it."""
    wave = rollout.waves[-1] if rollout.waves else None
    if wave is None or wave.state is WaveState.Passed or not wave.labelled:
        return
    aside, ours = set_aside(obs, rollout), suspects.aside(obs, rollout)
    entries = _entries(obs, wave)
    others = aside | ours
    if any(entry.name not in others and _is_left(obs, entry) for entry in entries):
        return  # it has the label, or may still be moved
    if any(entry.name in aside and entry.name not in ours for entry in entries):
        message = f"someone took the candidate's label from all nodes of wave {wave.name}"
        yield Finding(Verdict.HOLD, Reason.LabelRemoved, message)


def _is_left(obs: Observation, entry: LedgerNode) -> bool:
    node = obs.nodes.get(entry.name)
    return node is not None and _same(node, entry)


def _entries(obs: Observation, wave: WaveRun) -> tuple[LedgerNode, ...]:
    ledger = obs.ledgers.get(wave.ledger)
    return ledger.nodes if ledger is not None else ()


def _same(node: NodeView, entry: LedgerNode) -> bool:
    return (node.uid, node.boot_id) == (entry.uid, entry.boot_id)
