"""Back: block the content, fence the candidate, give every node its stable agent again.

The fence needs two DaemonSet writes and collection deletes, whatever the number of nodes, and
waits for no node, registry or Prometheus. Un-labelling is never a fence. Each pass writes only
what is not yet so, so that a new leader finishes a half-done revert.
"""

from collections.abc import Container, Iterable
from dataclasses import replace

from wavegate.api import OnFailure, Phase, Reason, WaveState
from wavegate.evidence import LEASE_STALE_SECONDS, Finding, PodView
from wavegate.rollout import loaded, soak
from wavegate.rollout.judge import may_have_moved
from wavegate.rollout.observation import Observation
from wavegate.rollout.record import (
    MAX_BLOCKED,
    Blocked,
    Incident,
    Record,
    Rollout,
)
from wavegate.rollout.steps import TICK, Action, DeletePods, Retarget, Step, Target
from wavegate.rollout.waves import baseline_of

BAD_NODES_FIRST = 20
"""Nodes whose pods are deleted one by one before the rest: those that are down or just rebooted."""


def fail(
    obs: Observation, rollout: Rollout, findings: tuple[Finding, ...], now: float, *, blocks: bool
) -> Step:
    """A wave failed: revert (or pause, as the channel says), and block content that did harm."""
    first = findings[0]
    nodes = tuple(dict.fromkeys(f.node for f in findings if f.node))
    incident = Incident(first.reason, _summary(findings, nodes), nodes[:5], now, *_wave(rollout))
    failed = (
        rollout.with_wave(state=WaveState.Failed, soak_since=None) if rollout.waves else rollout
    )
    if rollout.plan.on_failure is OnFailure.Pause:
        return _ask(obs, rollout, findings, incident)
    record = obs.record
    if blocks:
        record = block(record, rollout, first.reason, now)
    reverting = replace(failed, phase=Phase.Reverting, incident=incident, reverting_since=now)
    return Step(record=replace(record, rollout=reverting), findings=findings)


def _ask(
    obs: Observation, rollout: Rollout, findings: tuple[Finding, ...], incident: Incident
) -> Step:
    """Pause for a person. Time in which there was harm is no soak, also if the harm goes away."""
    stopped = soak.again(rollout, incident.message)
    if rollout.incident is None:
        stopped = replace(stopped, paused=incident.reason, incident=incident)
    elif rollout.waves and rollout.waves[-1].soak_since is None:
        return Step(findings=findings, waiting="a person: the wave failed", requeue=TICK)
    return Step(record=replace(obs.record, rollout=stopped), findings=findings)


def begin(obs: Observation, rollout: Rollout, reason: Reason, message: str, now: float) -> Step:
    """Revert for another cause than harm: a person, a deletion. Nothing is blocked."""
    incident = Incident(reason, message, (), now, *_wave(rollout))
    reverting = replace(rollout, phase=Phase.Reverting, incident=incident, reverting_since=now)
    return Step(record=replace(obs.record, rollout=reverting))


def advance(obs: Observation, rollout: Rollout, now: float) -> Step:
    """One step of a revert: fence until it is seen to hold, then wait for the nodes."""
    actions = tuple(_fence(obs, rollout, now))
    if actions:
        return Step(actions=actions, requeue=0.2)
    view = obs.revision(rollout.candidate)
    if view is not None and not view.observed:
        return Step(waiting=f"the controller to see DaemonSet {view.name}", requeue=0.2)
    if obs.blind:
        return Step(waiting=f"a sight of the nodes: {obs.blind}", requeue=TICK)
    since = min(now, rollout.reverting_since or now)
    down = _not_back(obs, rollout)
    unproven = _unproven(obs, rollout, down)
    if (down or unproven) and now - since <= rollout.plan.progress_deadline:
        what = f"{len(down)} nodes to be back on stable ({down[0]})" if down else ""
        report = f"{len(unproven)} nodes to report stable's content ({', '.join(unproven[:1])})"
        return Step(waiting=what or report, requeue=TICK)
    return Step(record=_reverted(obs.record, rollout, down, unproven, now))


def _fence(obs: Observation, rollout: Rollout, now: float) -> Iterable[Action]:
    """The order matters: no new pods, then pods that are not bound yet (they do not carry the
    label rule), then stable everywhere, then nodes that are down, then all the rest.
    """
    view, stable = obs.revision(rollout.candidate), obs.revision(obs.record.stable)
    pods = [pod for pod in obs.pods_of(rollout.attempt) if not pod.terminating]
    if view is not None and not view.targets(obs.key, Target.NOTHING):
        yield Retarget(rollout.attempt, Target.NOTHING, fence=True)
    if any(pod.node is None for pod in pods):
        yield DeletePods(rollout.attempt, unbound=True)
    if stable is not None and not stable.targets(obs.key, Target.ALL):
        yield Retarget(stable.attempt, Target.ALL, fence=True)
    for node in _bad_nodes(obs, pods, now)[:BAD_NODES_FIRST]:
        yield DeletePods(rollout.attempt, node=node)
    if pods:
        yield DeletePods(rollout.attempt)


def _bad_nodes(obs: Observation, pods: list[PodView], now: float) -> list[str]:
    """Nodes on which the content may run again as soon as they are back."""
    entries = baseline_of(obs)
    bad = []
    for name in {pod.node for pod in pods if pod.node}:
        node, entry = obs.nodes.get(name), entries.get(name)
        silent = now - obs.leases.get(name, 0.0) > LEASE_STALE_SECONDS
        rebooted = node is not None and entry is not None and node.boot_id != entry.boot_id
        down = node is None or not node.ready or rebooted
        if down or silent:  # silent may be all: leases are not watched during a bake
            bad.append((not down, name))
    return [name for _, name in sorted(bad)]


def _not_back(obs: Observation, rollout: Rollout) -> list[str]:
    """Nodes that had it and are not proven healthy again: Ready, with a Ready stable agent."""
    stable = obs.revision(obs.record.stable)
    carriers = obs.carriers(stable.template) if stable else {}
    attempt = obs.record.stable.attempt if obs.record.stable else ""
    back = {pod.node for pod in obs.pods_of(attempt) if pod.ready and not pod.terminating}
    left = {pod.node for pod in obs.pods_of(rollout.attempt)}
    recorded = obs.record.stable is not None
    missing = []
    for name in _had_it(obs, rollout, carriers):
        node = obs.nodes.get(name)
        if node is None:
            continue
        lacks = name not in back and (name in carriers or (recorded and stable is None))
        if not node.ready or name in left or lacks:
            missing.append(name)
    return sorted(missing)


def taken_back(obs: Observation, rollout: Rollout) -> frozenset[str]:
    """The nodes that may have had the content and are there: what they load now is to be proven."""
    stable = obs.revision(obs.record.stable)
    carriers = obs.carriers(stable.template) if stable else {}
    had = _had_it(obs, rollout, carriers) & obs.nodes.keys()
    if rollout.completed_at is None:
        had &= {entry.name for entry in obs.once(may_have_moved, rollout)}
    return frozenset(had)


def _unproven(obs: Observation, rollout: Rollout, down: list[str]) -> list[str]:
    """Nodes that are back, and of which nothing proves that stable's content is loaded. Where
    nothing is stable, only an agent that is gone could tell what is left on its host.
    """
    stable = obs.record.stable
    back = taken_back(obs, rollout) - set(down)
    if stable is not None:
        return loaded.not_taken_back(obs, rollout, stable, back)
    return sorted(back) if rollout.plan.outlives_pod else []


def _had_it(obs: Observation, rollout: Rollout, carriers: Container[str]) -> set[str]:
    """Nodes of the ledgers that were healthy before. Of content that was stable already also those
    that joined since, and those that were ill then and are well now.
    """
    entries = baseline_of(obs)
    found = {name for name, entry in entries.items() if entry.healthy}
    if rollout.completed_at is not None:
        nodes = obs.nodes.items()
        found |= {n for n, node in nodes if n in carriers and (node.ready or n not in entries)}
    return found


def _reverted(
    record: Record, rollout: Rollout, down: list[str], unproven: list[str], now: float
) -> Record:
    why = rollout.incident.message if rollout.incident else "reverted"
    reason = Reason.Reverted
    if unproven:
        reason = Reason.RevertedNotProven
        names = ", ".join(unproven[:5])
        why += f"; nothing proves that {len(unproven)} nodes are rid of its content ({names})"
    if down:
        reason, names = Reason.RevertedWithNodesDown, ", ".join(down[:5])
        why += f"; {len(down)} nodes are not back on stable and need hands ({names})"
    return record.ended(Phase.Reverted, reason, why, now)


def block(record: Record, rollout: Rollout, reason: Reason, now: float) -> Record:
    """The content of this rollout may not return on the channel."""
    digest, release = rollout.candidate.digest, rollout.candidate.release
    if record.block_of(digest):
        return record
    entry = Blocked(digest, release, reason, now, rollout.attempt)
    return replace(record, blocked=(entry, *record.blocked)[:MAX_BLOCKED])


def _wave(rollout: Rollout) -> tuple[int, str]:
    """Number and name of the wave that was under way."""
    return len(rollout.waves), rollout.waves[-1].name if rollout.waves else ""


def _summary(findings: tuple[Finding, ...], nodes: tuple[str, ...]) -> str:
    more = f" (and {len(nodes) - 1} more nodes)" if len(nodes) > 1 else ""
    return f"{findings[0].message}{more}"
