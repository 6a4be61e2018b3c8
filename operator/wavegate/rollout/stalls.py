"""Stalls: nodes on which the candidate's agent could not start, so that its content never ran.

An image, Secret or ConfigMap that can't be fetched is nobody's harm: it holds the wave, and neither
fails nor blocks. But such a node runs no agent at all, so it goes back to stable after a while, and
is tried again: one node at a time, ever more seldom. When it starts there, the others follow. The
wave is held until all have started; `holdTimeout` asks a person, and a pause ends the tries. So a
node is without an agent for `GIVE_BACK_SECONDS` in each try, of which four fit into half an hour.

Where nothing is stable yet there is nothing to go back to: the node waits for what it lacks.
"""

from collections.abc import Iterator
from dataclasses import replace

from wavegate.api import GateKind, Reason
from wavegate.evidence import Finding, NodeView, Verdict, how_often, standing
from wavegate.rollout import exposure, suspects, way_back
from wavegate.rollout.attempt import Rollout, Stall
from wavegate.rollout.movable import fleet, not_movable
from wavegate.rollout.observation import Observation
from wavegate.rollout.steps import MoveNodes, Step, act, save
from wavegate.rollout.waves import baseline_of, has_moved_any

GIVE_BACK_SECONDS = 120.0
"""A node whose kubelet says that it can't fetch goes back after so long. One that says nothing (it
may still be pulling a large image) has `progressDeadline`."""
BACK_OFF_SECONDS = 120.0
"""From going back to the next try; twice as long each time."""
MAX_BACK_OFF_SECONDS = 3_600.0


def judge(obs: Observation, rollout: Rollout) -> Iterator[Finding]:
    """A Hold for each node that went back and did not start the candidate since."""
    for stall in _open(obs, rollout):
        away = "is tried again just now" if stall.retrying else "is back on stable, to be retried"
        message = f"{stall.message}; the node {away} ({how_often(stall.tries)} so far)"
        yield Finding(Verdict.HOLD, stall.reason, message, stall.node, gate=GateKind.Agents)


def note(obs: Observation, rollout: Rollout, findings: tuple[Finding, ...], now: float) -> Rollout:
    """The rollout with the nodes that are to go back now, and without those that have started."""
    if rollout.promoting or obs.blind or obs.revision(obs.record.stable) is None:
        return rollout
    old = [s for s in rollout.stalls if not suspects.is_retaken(obs, s.node, s.ledger)]
    known = {s.node: s for s in old}
    kept = {s.node: s for s in old if not _has_started(obs, rollout, s)}
    for finding in findings:
        was = known.get(finding.node or "")
        if was is not None and not was.retrying:
            continue  # it is on its way back
        if finding.node is None or not _is_late(obs, rollout, finding, now):
            continue
        since, tries = (was.since, was.tries) if was else (now, 0)
        kept[finding.node] = Stall(
            finding.node,
            finding.reason,
            finding.message,
            since,
            now,
            tries + 1,
            rollout.ledgers - 1,
        )
    stalls = tuple(kept.values())
    return rollout if stalls == rollout.stalls else replace(rollout, stalls=stalls)


def retry(obs: Observation, rollout: Rollout, now: float) -> Step | None:
    """Try one node again whose time has come; None when there is none, or it may not be moved. That
    it is tried is stored before its label is.
    """
    stalls = _open(obs, rollout)
    if not stalls:
        return None
    trying = next((s for s in stalls if s.retrying), None)
    if trying is not None and _attempt_of(obs, trying) == rollout.attempt:
        return None
    if not _may_move(obs, rollout, now):
        return None
    if trying is not None and _is_fit(obs, rollout, trying):
        node = obs.nodes[trying.node]
        return act(MoveNodes(((node.name, node.uid),), rollout.attempt))
    # A new leader may have to give it back first.
    past = [s for s in stalls if now - max(s.at, obs.watching_since) >= _back_off(s)]
    due = [s for s in past if _is_fit(obs, rollout, s) and s.node not in obs.busy]
    if trying is not None or not due:
        return None
    first = min(due, key=lambda stall: stall.tries)
    tried = (replace(s, retrying=True) if s is first else s for s in rollout.stalls)
    return save(obs.record, replace(rollout, stalls=tuple(tried)))


def overdue(obs: Observation, rollout: Rollout, now: float) -> list[Finding]:
    """What keeps the wave for longer than `progressDeadline`: so few may not hold it for ever."""
    late = {s.node for s in rollout.stalls if now - s.since > rollout.plan.progress_deadline}
    return [finding for finding in judge(obs, rollout) if finding.node in late]


def _open(obs: Observation, rollout: Rollout) -> list[Stall]:
    """Those that still hold: the same machine is there, was not rebooted since, and no later ledger
    has taken it.
    """
    if not rollout.stalls:
        return []
    entries, away = baseline_of(obs), {s.node for s in rollout.suspects}
    away |= suspects.booted_anew(obs, rollout)
    return [
        stall
        for stall in rollout.stalls
        if (node := obs.nodes.get(stall.node)) is not None
        and (entry := entries.get(stall.node)) is not None
        and node.uid == entry.uid
        and stall.node not in away
        and not suspects.is_retaken(obs, stall.node, stall.ledger)
    ]


def _is_late(obs: Observation, rollout: Rollout, finding: Finding, now: float) -> bool:
    """Whether this says that an agent could not start, for long enough."""
    node = obs.nodes.get(finding.node or "")
    side = node.sides.get(obs.key) if node is not None else None
    if node is None or side is None or side.attempt != rollout.attempt:
        return False
    if finding.verdict is not Verdict.HOLD or finding.gate is not GateKind.Agents:
        return False
    pod = standing(obs.pods_on(rollout.attempt).get(node.name, ()))
    if pod is None or pod.phase != "Pending":
        return False
    if finding.reason is Reason.Unschedulable:
        return True  # it is a Hold after `progressDeadline` only
    began = max(side.since, pod.unready_since or now)
    return finding.reason is Reason.CannotFetch and now - began >= GIVE_BACK_SECONDS


def _has_started(obs: Observation, rollout: Rollout, stall: Stall) -> bool:
    if not stall.retrying or _attempt_of(obs, stall) != rollout.attempt:
        return False
    pod = standing(obs.pods_on(rollout.attempt).get(stall.node, ()))
    return pod is not None and pod.phase == "Running"


def _may_move(obs: Observation, rollout: Rollout, now: float) -> bool:
    """As for any other node: with a slot and a way back."""
    if exposure.measure(obs, rollout, now).room < 1:
        return False
    return has_moved_any(obs, rollout) or way_back.is_proven(obs, rollout, now)


def _is_fit(obs: Observation, rollout: Rollout, stall: Stall) -> bool:
    node = obs.nodes.get(stall.node)
    if node is None or node.name not in fleet(obs, rollout):
        return False
    return _same_boot(obs, node) and node.ready and node.name not in not_movable(obs, rollout)


def _same_boot(obs: Observation, node: NodeView) -> bool:
    """One that was rebooted since its baseline would be misjudged: a new ledger takes it."""
    return baseline_of(obs)[node.name].boot_id == node.boot_id


def _attempt_of(obs: Observation, stall: Stall) -> str | None:
    node = obs.nodes.get(stall.node)
    return node.attempt(obs.key) if node is not None else None


def _back_off(stall: Stall) -> float:
    return float(min(MAX_BACK_OFF_SECONDS, BACK_OFF_SECONDS * 2.0 ** (stall.tries - 1)))
