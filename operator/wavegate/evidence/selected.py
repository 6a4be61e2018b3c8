"""Selected agents: where our pods only carry content to nodes, someone else's pods load it.

`agentSelector` names those. Unlike ours they were there before the content, so each is compared
with what it was when the wave opened: how often it had restarted by then is no news, and one that
was not Ready is not judged. One that came later counts from its start, as ours do.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

from wavegate.api import Reason
from wavegate.evidence.agents import judge_agent, late
from wavegate.evidence.findings import Finding
from wavegate.evidence.observation import LedgerNode, PodView

MAX_PODS = 4
"""A node with more selected pods than this is not judged by them: a ledger must fit, and an agent
has one pod on a node."""
UNWELL = -1
"""In place of its restarts: a pod that was not Ready when the wave opened."""

Baseline = tuple[tuple[str, int], ...]
"""Of each pod on a node a short hash of its UID, and its restarts, or UNWELL."""


def agents_then(pods: Sequence[PodView]) -> Baseline:
    """What the ledger keeps of the selected pods on a node; empty when none of them is Ready."""
    there = _there(pods)
    if len(there) > MAX_PODS or not any(pod.ready for pod in there):
        return ()
    return tuple(sorted((_short(pod), pod.restarts if pod.ready else UNWELL) for pod in there))


def agents_since(entry: LedgerNode, pods: Sequence[PodView]) -> list[PodView]:
    """The pods that are judged on a node, each with its restarts since its wave opened."""
    return [
        pod if pod.restarts == count else replace(pod, restarts=count)
        for pod, count in _judged(entry, pods)
    ]


def is_well(entry: LedgerNode, pods: Sequence[PodView]) -> bool:
    """Whether the selected agents on a node are as good as they were; also where none is judged."""
    if not entry.agents:
        return True
    judged = _judged(entry, pods)
    return bool(judged) and all(pod.ready and count == 0 for pod, count in judged)


def _judged(entry: LedgerNode, pods: Sequence[PodView]) -> list[tuple[PodView, int]]:
    """The pods that are judged, and how often each restarted since: a copy of each takes longer
    than all else that a pass does about a node.
    """
    then = dict(entry.agents)
    if not then:
        return []
    there = [(pod, then.get(_short(pod), 0)) for pod in _there(pods)]
    return [(pod, max(0, pod.restarts - was)) for pod, was in there if was != UNWELL]


def is_well_again(entry: LedgerNode, pods: Sequence[PodView], since: float) -> bool:
    """Whether the selected agents on a node got over what the content did to them: all are Ready,
    and one that restarted since its wave opened is so since `since`, or before. In a crash loop it
    is Ready between two crashes, too.
    """
    if not entry.agents:
        return True
    judged = _judged(entry, pods)
    return bool(judged) and all(_is_steady(pod, count, since) for pod, count in judged)


def _is_steady(pod: PodView, restarts: int, since: float) -> bool:
    steady = pod.ready_since is not None and pod.ready_since <= since
    return pod.ready and (steady or restarts == 0)


def judge_selected(node: str, pod: PodView | None, *, overdue: bool) -> Iterator[Finding]:
    """Judge one pod of `agents_since`; None: there was one, and none is left."""
    if pod is None:
        message = f"no pod that agentSelector selects is left on node {node}"
        yield late(node, Reason.Unschedulable, message, overdue=overdue)
        return
    yield from judge_agent(node, (pod,), overdue=overdue, who=f"selected agent {pod.name}")


def _there(pods: Sequence[PodView]) -> list[PodView]:
    """Those that are not going, nor a Job's that is done."""
    return [pod for pod in pods if not pod.terminating and pod.phase != "Succeeded"]


def _short(pod: PodView) -> str:
    return hashlib.sha256(pod.uid.encode()).hexdigest()[:8]
