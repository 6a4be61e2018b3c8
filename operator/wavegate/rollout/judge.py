"""Gathers every finding about the running attempt: all moved nodes of all waves so far."""

from collections import defaultdict
from collections.abc import Iterator

from wavegate.evidence import (
    Finding,
    LedgerNode,
    NodeView,
    PodView,
    judge_agent,
    judge_check,
    judge_node,
)
from wavegate.rollout.observation import Observation
from wavegate.rollout.record import Rollout
from wavegate.rollout.waves import baseline


def judge(obs: Observation, rollout: Rollout, now: float) -> tuple[Finding, ...]:
    """All findings about nodes that carry the candidate and were healthy before; worst first."""
    found = [*_nodes(obs, rollout, now), *_checks(obs, rollout)]
    return tuple(sorted(found, key=lambda finding: -finding.verdict))


def judged_nodes(obs: Observation, rollout: Rollout) -> frozenset[str]:
    """Names of the nodes whose health the content answers for."""
    return frozenset(
        name
        for name, entry in baseline(obs.ledgers).items()
        if entry.healthy and _has_it(obs, rollout, entry)
    )


def _nodes(obs: Observation, rollout: Rollout, now: float) -> Iterator[Finding]:
    pods: dict[str | None, list[PodView]] = defaultdict(list)
    for pod in obs.pods_of(rollout.attempt):
        pods[pod.node].append(pod)
    for name, entry in baseline(obs.ledgers).items():
        if not entry.healthy or not _has_it(obs, rollout, entry):
            continue
        node = obs.nodes.get(name)
        overdue = _unwell_for(obs, node, pods[name], now) > rollout.plan.progress_deadline
        yield from judge_node(entry, node, obs.leases.get(name), now, overdue=overdue)
        if node is not None:
            yield from judge_agent(name, pods[name], overdue=overdue)


def _unwell_for(obs: Observation, node: NodeView | None, pods: list[PodView], now: float) -> float:
    """Seconds since the node was moved, or since it was last seen well, whatever came later: an
    agent that is evicted days after its move has the whole deadline to come back.
    """
    side = node.sides.get(obs.key) if node else None
    if node is None or side is None:
        return 0.0
    pod = next((pod for pod in pods if not pod.terminating), None)
    if pod is None:
        last_well = obs.pods_lost.get(node.name, 0.0)
    elif pod.ready:
        last_well = obs.leases.get(node.name, 0.0)
    else:
        last_well = pod.unready_since or now
    return now - max(side.since, last_well)


def _has_it(obs: Observation, rollout: Rollout, entry: LedgerNode) -> bool:
    """Whether this node of a ledger got the content. A label that someone took away hides no harm
    while a pod is there; a machine that is gone and that we never saw counts as one that got it.
    """
    seen = (obs.nodes.get(entry.name), obs.gone.get(entry.name))
    node = next((n for n in seen if n is not None and n.uid == entry.uid), None)
    if node is None or node.attempt(obs.key) == rollout.attempt:
        return True
    return any(pod.node == entry.name for pod in obs.pods_of(rollout.attempt))


def _checks(obs: Observation, rollout: Rollout) -> Iterator[Finding]:
    moved = judged_nodes(obs, rollout)
    if not moved:
        return
    since = rollout.waves[-1].judged_since or 0.0
    for check in rollout.plan.checks:
        yield from judge_check(check, obs.checks.get(check.name), moved, since)
