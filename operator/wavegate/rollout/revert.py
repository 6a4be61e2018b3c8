"""Back: block the content, fence the candidate, give every node its stable agent again.

The fence needs two DaemonSet writes and collection deletes, whatever the number of nodes, and
waits for no node, registry or Prometheus. Un-labelling is never a fence. Each pass writes only
what is not yet so, so that a new leader finishes a half-done revert.
"""

from collections.abc import Iterable
from dataclasses import replace

from wavegate.api import OnFailure, Phase, Reason, WaveState
from wavegate.evidence import LEASE_STALE_SECONDS, Finding, PodView
from wavegate.rollout import blocks, left_out, soak, stable_suspect
from wavegate.rollout.attempt import Incident, Rollout
from wavegate.rollout.back import lacking, waits_since
from wavegate.rollout.lacks import Lack
from wavegate.rollout.observation import Observation
from wavegate.rollout.record import Blocked, Record
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
    left = left_out.failing(obs, rollout, findings)
    if left:
        part = replace(rollout, left_out=left, paused=incident.reason, incident=incident)
        return Step(record=replace(obs.record, rollout=soak.again(part, incident.message)))
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
    if rollout.incident is not None:  # as with onFailure: Pause; else nobody could read it again
        message = f"{message}; before that: {rollout.incident.message}"
    incident = Incident(reason, message, (), now, *_wave(rollout))
    reverting = replace(rollout, phase=Phase.Reverting, incident=incident, reverting_since=now)
    return Step(record=replace(obs.record, rollout=reverting))


def fenced_by_hand(obs: Observation, rollout: Rollout, now: float) -> Step:
    """A person's edit of the candidate's DaemonSet, or its deletion, counts as a revert."""
    message = f"someone fenced or deleted DaemonSet {rollout.candidate.daemon_set}"
    return begin(obs, rollout, Reason.FencedByHand, message, now)


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
    left = lacking(obs, rollout, now)
    doubt = stable_suspect.doubt(obs, rollout)
    if doubt is not None:  # who waits for the rest waits for what may never come
        return Step(record=_reverted(obs.record, rollout, (doubt, *left), now))
    if left and now - waits_since(obs, rollout, left, now) <= rollout.plan.progress_deadline:
        return Step(waiting=left[0].waiting, requeue=TICK)
    return Step(record=_reverted(obs.record, rollout, left, now))


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


def _reverted(record: Record, rollout: Rollout, left: tuple[Lack, ...], now: float) -> Record:
    why = rollout.incident.message if rollout.incident else "reverted"
    reason = left[0].reason if left else Reason.Reverted
    message = "; ".join((why, *(lack.clause for lack in left)))
    if rollout.incident and rollout.incident.reason is Reason.Replaced:
        why_ended = left[0].reason if left else Reason.Replaced
        return record.ended(Phase.Superseded, why_ended, message, now)
    return record.ended(Phase.Reverted, reason, message, now)


def block(record: Record, rollout: Rollout, reason: Reason, now: float) -> Record:
    """The content of this rollout may not return on the channel. Of an agent's change it is not the
    content that failed: when it ends, its template is kept from being tried again.
    """
    bad = rollout.candidate
    if bad.is_agent or record.block_of(bad.digest):
        return record
    what = (bad.loaded, bad.layers)
    return blocks.add(record, Blocked(bad.digest, bad.release, reason, now, rollout.attempt, *what))


def _wave(rollout: Rollout) -> tuple[int, str]:
    """Number and name of the wave that was under way."""
    return len(rollout.waves), rollout.waves[-1].name if rollout.waves else ""


def _summary(findings: tuple[Finding, ...], nodes: tuple[str, ...]) -> str:
    more = f" (and {len(nodes) - 1} more nodes)" if len(nodes) > 1 else ""
    return f"{findings[0].message}{more}"
