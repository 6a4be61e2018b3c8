"""Gathers every finding about the running attempt: all moved nodes of all waves so far."""

from collections.abc import Container, Iterator, Mapping, Sequence

from wavegate.api import Reason
from wavegate.evidence import (
    Finding,
    LedgerNode,
    NodeView,
    PodView,
    Verdict,
    judge_agent,
    judge_check,
    judge_node,
    standing,
)
from wavegate.rollout import labels, suspects
from wavegate.rollout.observation import Observation
from wavegate.rollout.record import Rollout
from wavegate.rollout.waves import baseline_of


def judge(obs: Observation, rollout: Rollout, now: float) -> tuple[Finding, ...]:
    """All findings about nodes that carry the candidate, were healthy before and are no suspects;
    worst first.
    """
    found = [*_sight(obs, rollout), *_nodes(obs, rollout, now), *_checks(obs, rollout)]
    return tuple(sorted(found, key=lambda finding: -finding.verdict))


def judged_nodes(obs: Observation, rollout: Rollout) -> frozenset[str]:
    """Names of the nodes whose health the content answers for."""
    return obs.once(_judged_nodes, rollout)


def _judged_nodes(obs: Observation, rollout: Rollout) -> frozenset[str]:
    holders, aside = obs.pods_on(rollout.attempt), suspects.aside(obs, rollout)
    return frozenset(
        name
        for name, entry in baseline_of(obs).items()
        if entry.healthy and name not in aside and _has_it(obs, rollout, entry, holders)
    )


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
    judged = judged_nodes(obs, rollout)
    entries = {n: entry for n, entry in baseline_of(obs).items() if n in judged}
    yield from judge_nodes(obs, rollout, entries, now)


def judge_nodes(
    obs: Observation, rollout: Rollout, entries: Mapping[str, LedgerNode], now: float
) -> Iterator[Finding]:
    """Compare nodes that carry the candidate, and their agents, with their baseline by name."""
    on_node = obs.pods_on(rollout.attempt)
    for name, entry in entries.items():
        node, pods = obs.nodes.get(name), on_node.get(name, ())
        overdue = _unwell_for(obs, node, pods, now) > rollout.plan.progress_deadline
        lease_seen = obs.leases.get(name)
        yield from judge_node(entry, node, lease_seen, now, overdue=overdue)
        if node is not None:
            yield from judge_agent(name, pods, overdue=overdue)


def _unwell_for(
    obs: Observation, node: NodeView | None, pods: Sequence[PodView], now: float
) -> float:
    """Seconds since the node was moved, or since it was last seen well, whatever came later: an
    agent that is evicted days after its move has the whole deadline to come back.
    """
    side = node.sides.get(obs.key) if node else None
    if node is None or side is None:
        return 0.0
    pod = standing(pods)
    if pod is None:  # one that is still going is not lost yet
        last_well = now if pods else obs.pods_lost.get(node.name, 0.0)
    elif pod.ready:
        last_well = obs.leases.get(node.name, 0.0)
    else:
        last_well = pod.unready_since or now
    return now - max(side.since, last_well)


def _has_it(
    obs: Observation, rollout: Rollout, entry: LedgerNode, holders: Container[str | None]
) -> bool:
    """Whether this node of a ledger got the content. A label that someone took away hides no harm
    while a pod is there. Of a machine that is gone and that we never saw, the record says how far
    its wave was moved.
    """
    node = obs.nodes.get(entry.name)
    if node is None or node.uid != entry.uid:
        node = obs.gone.get(entry.name)
    if node is None or node.uid != entry.uid:
        return entry in obs.once(_may_have_moved, rollout)
    return node.attempt(obs.key) == rollout.attempt or entry.name in holders


def _may_have_moved(obs: Observation, rollout: Rollout) -> frozenset[LedgerNode]:
    """The first nodes of each ledger, as far as the record says that they may carry the label."""
    opened = ((obs.ledgers.get(wave.ledger), wave.moved) for wave in rollout.waves)
    return frozenset(entry for led, moved in opened if led for entry in led.nodes[:moved])


def _checks(obs: Observation, rollout: Rollout) -> Iterator[Finding]:
    if not rollout.plan.checks:
        return
    moved = judged_nodes(obs, rollout)
    if not moved:
        return
    since = rollout.waves[-1].judged_since or 0.0
    for check in rollout.plan.checks:
        yield from judge_check(check, obs.checks.get(check.name), moved, since)
