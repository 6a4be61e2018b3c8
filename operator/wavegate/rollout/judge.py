"""Gathers every finding about the running attempt: all moved nodes of all waves so far."""

import math
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from wavegate.api import Reason
from wavegate.evidence import (
    LEASE_STALE_SECONDS,
    CheckResult,
    CheckSpec,
    Finding,
    LedgerNode,
    NodeView,
    PodView,
    Verdict,
    agents_since,
    is_well,
    judge_agent,
    judge_check,
    judge_node,
    judge_selected,
    standing,
)
from wavegate.rollout import drill, labels, loaded, stalls, suspects
from wavegate.rollout.attempt import Rollout
from wavegate.rollout.marks import anew, is_away, or_reboot, softened
from wavegate.rollout.observation import Observation
from wavegate.rollout.periods import evidence_since
from wavegate.rollout.waves import PodsOn, baseline_of
from wavegate.rollout.whereabouts import Whereabouts, had_it, whereabouts

Agents = tuple[tuple[PodView, ...], tuple[PodView, ...]]
"""The candidate's pods on a node, and those that agentSelector selects."""
Looked = dict[str, tuple[LedgerNode, NodeView, Agents]]
NEVER = -math.inf


def judge(obs: Observation, rollout: Rollout, now: float) -> tuple[Finding, ...]:
    """All findings about nodes that carry the candidate, were healthy before and are no suspects;
    worst first.
    """
    found = [*_sight(obs, rollout), *_nodes(obs, rollout, now), *_checks(obs, rollout)]
    found += _stalled(obs, rollout, {f.node for f in found if f.verdict is Verdict.HOLD})
    found += drill.judge(obs, rollout, now)
    found += loaded.judge(obs, rollout, witnesses(obs, rollout), now)
    return tuple(sorted(found, key=lambda finding: -finding.verdict))


def _stalled(obs: Observation, rollout: Rollout, told: Container[str | None]) -> Iterator[Finding]:
    """What holds as its nodes went back. One that is tried just now may say so itself."""
    if rollout.stalls:
        yield from (f for f in stalls.judge(obs, rollout) if f.node not in told)


def judged_nodes(obs: Observation, rollout: Rollout) -> frozenset[str]:
    """Names of the nodes whose health the content answers for."""
    return obs.once(_judged_nodes, rollout)


def _judged_nodes(obs: Observation, rollout: Rollout) -> frozenset[str]:
    known, holders = whereabouts(obs, rollout), obs.pods_on(rollout.attempt)
    there = obs.kept.of(_there, known, holders)
    missing = {e.name for e in known.missing if e.healthy and had_it(obs, rollout, e)}
    names, marks = there | missing if missing else there, rollout.excused
    away = suspects.aside(obs, rollout)
    if marks:
        away |= {n for n in marks if n in names and is_away(obs, marks, n, has_agent=n in holders)}
    return names - away if away else names


def _there(known: Whereabouts, holders: Container[str | None]) -> frozenset[str]:
    """Those that have the content of the machines that are still there. A label that someone took
    away hides no harm while a pod is there.
    """
    carrying = {e.name for e, node in known.carrying if e.healthy and node.uid == e.uid}
    left = {e.name for e, _ in known.lacking if e.healthy and e.name in holders}
    return frozenset(carrying | left)


def witnesses(obs: Observation, rollout: Rollout) -> frozenset[str]:
    """Names of the judged nodes that can prove that no harm was done: not those that were drained
    or rebooted as announced, whose agents and counters began anew.
    """
    judged, marks = judged_nodes(obs, rollout), rollout.excused
    return judged.difference(marks) if marks else judged


def baselines(obs: Observation, rollout: Rollout) -> Mapping[str, LedgerNode]:
    """The baseline of each judged node by now: of an excused one, what it was then. In the order
    of the ledgers.
    """
    judged, marks = judged_nodes(obs, rollout), rollout.excused
    return {
        name: anew(name, obs.nodes.get(name), marks[name]) if name in marks else entry
        for name, entry in baseline_of(obs).items()
        if name in judged
    }


def _sight(obs: Observation, rollout: Rollout) -> Iterator[Finding]:
    """What we can't see can't be judged: a broken watch, a ledger that is gone."""
    if obs.blind:
        yield Finding(Verdict.WAIT, Reason.ViewStale, obs.blind)
    for wave in rollout.waves:
        if wave.nodes and wave.ledger not in obs.ledgers:
            message = f"the ledger of wave {wave.name} is gone or can't be read"
            yield Finding(Verdict.HOLD, Reason.LedgerLost, message)
    yield from labels.all_removed(obs, rollout)


def _nodes(obs: Observation, rollout: Rollout, now: float) -> Iterator[Finding]:
    entries = obs.kept.of(_picked, baseline_of(obs), judged_nodes(obs, rollout))
    marks = rollout.excused
    if not marks:
        yield from judge_nodes(obs, rollout, entries, now)
        return
    seen = replace(obs, pods=softened(obs.pods, marks))
    for finding in judge_nodes(seen, rollout, baselines(obs, rollout), now):
        # What is slow on an excused node keeps nobody waiting: it proves nothing.
        if finding.verdict is Verdict.FAIL or finding.node not in marks:
            yield finding


def _picked(entries: Mapping[str, LedgerNode], names: frozenset[str]) -> dict[str, LedgerNode]:
    return {name: entry for name, entry in entries.items() if name in names}


def judge_nodes(
    obs: Observation, rollout: Rollout, entries: Mapping[str, LedgerNode], now: float
) -> Iterator[Finding]:
    """Compare nodes that carry the candidate, and their agents, with their baseline by name."""
    on_node, theirs = obs.pods_on(rollout.attempt), obs.agents_on()
    last = obs.kept.of(_Last, rollout.attempt)
    well = obs.kept.of(_well, entries, obs.nodes, on_node, theirs, last)
    for name in _doubtful(obs, entries, well, now):
        entry, node, pods = entries[name], obs.nodes.get(name), on_node.get(name, ())
        overdue = _unwell_for(obs, node, pods, obs.pods_lost, now) > rollout.plan.progress_deadline
        lease_seen = obs.leases.get(name)
        yield from judge_node(entry, node, lease_seen, now, overdue=overdue)
        if node is not None:
            for finding in judge_agent(name, pods, overdue=overdue):
                yield or_reboot(obs, entry, standing(pods), finding, now)
            yield from _selected(obs, rollout, entry, theirs.get(name, ()), now)


def _selected(
    obs: Observation, rollout: Rollout, entry: LedgerNode, pods: tuple[PodView, ...], now: float
) -> Iterator[Finding]:
    """Judge the selected agents on a node that had some when its wave opened."""
    if not entry.agents:
        return
    node, leaving = obs.nodes.get(entry.name), [pod for pod in pods if pod.terminating]
    for pod in agents_since(entry, pods) or (None,):
        unwell_for = _unwell_for(obs, node, [pod] if pod else leaving, obs.agents.lost, now)
        overdue = unwell_for > rollout.plan.progress_deadline
        for finding in judge_selected(entry.name, pod, overdue=overdue):
            yield or_reboot(obs, entry, pod, finding, now)


def _doubtful(
    obs: Observation, entries: Mapping[str, LedgerNode], well: Looked, now: float
) -> Iterable[str]:
    """The nodes about which there is anything to find now. The others were heard from lately, and
    neither node nor agent shows a thing; what these show is looked at when it changes.
    """
    heard = obs.leases.get
    silent = [name for name in well if now - heard(name, NEVER) > LEASE_STALE_SECONDS]
    if len(well) == len(entries) and not silent:
        return ()
    fine = well.keys() - silent
    return [name for name in entries if name not in fine]


class _Last:
    """What was found well of an attempt last: what is the same is not looked at again."""

    def __init__(self, _attempt: str) -> None:
        self.well: Looked = {}


def _well(
    entries: Mapping[str, LedgerNode],
    nodes: Mapping[str, NodeView],
    on_node: PodsOn,
    theirs: PodsOn,
    last: _Last,
) -> Looked:
    """The nodes of which the judges say nothing, whatever the time, if they are heard from."""
    before, found = last.well.get, Looked()
    for name, entry in entries.items():
        node, pods = nodes.get(name), (on_node.get(name, ()), theirs.get(name, ()))
        known = before(name)
        if known is not None and known[0] is entry and known[1] is node and known[2] == pods:
            found[name] = known
        elif node is not None and _is_well(entry, node, pods):
            found[name] = entry, node, pods
    last.well = found
    return found


def _is_well(entry: LedgerNode, node: NodeView, pods: Agents) -> bool:
    ill, (own, theirs) = any(judge_node(entry, node, 0.0, 0.0, overdue=False)), pods
    if ill or any(judge_agent(entry.name, own, overdue=False)):
        return False
    plainly = all(pod.ready and pod.phase == "Running" and not pod.waiting for pod in theirs)
    if plainly and is_well(entry, theirs):
        return True  # of these the judges say nothing, and most are
    judged = agents_since(entry, theirs)
    lost = bool(entry.agents) and not judged
    return not lost and not any(any(judge_selected(entry.name, p, overdue=False)) for p in judged)


def _unwell_for(
    obs: Observation,
    node: NodeView | None,
    pods: Sequence[PodView],
    lost: Mapping[str, float],
    now: float,
) -> float:
    """Seconds since the node was moved, or since it was last seen well, whatever came later: an
    agent that is evicted days after its move has the whole deadline to come back.
    """
    side = node.sides.get(obs.key) if node else None
    if node is None or side is None:
        return 0.0
    pod = standing(pods)
    if pod is None:  # one that is still going is not lost yet
        last_well = now if pods else lost.get(node.name, 0.0)
    elif pod.ready:
        last_well = obs.leases.get(node.name, 0.0)
    else:
        last_well = pod.unready_since or now
    return now - max(side.since, last_well)


def _checks(obs: Observation, rollout: Rollout) -> Iterator[Finding]:
    if not rollout.plan.checks:
        return
    moved = witnesses(obs, rollout)
    if not moved:
        return
    since = evidence_since(rollout)
    for check in rollout.plan.checks:
        result = obs.checks.get(check.name)
        yield from obs.kept.of(_check, check, result, moved, since)


def _check(
    check: CheckSpec, result: CheckResult | None, moved: frozenset[str], since: float
) -> tuple[Finding, ...]:
    return tuple(judge_check(check, result, moved, since))
