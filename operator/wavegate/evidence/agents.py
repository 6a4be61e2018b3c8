"""The agent's pod on a moved node. Counts are absolute: the pod is new, so each restart is its own.

What keeps a pod from starting without the content having run (image, Secret, volume, room) is never
blamed on the content: it holds (see `rollout.stalls`). An agent that ran and is gone may have been
ended by what the content did: past the deadline that fails, without a block.
"""

from collections.abc import Iterator, Sequence

from wavegate.api import GateKind, Reason
from wavegate.evidence.findings import Finding, Verdict, how_often
from wavegate.evidence.observation import PodView

CANNOT_FETCH = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "ErrImageNeverPull",
        "InvalidImageName",
        "ImageInspectError",
        "RegistryUnavailable",
        "CreateContainerConfigError",
    }
)
CANNOT_START = frozenset({"CrashLoopBackOff", "CreateContainerError", "RunContainerError"})


def standing(pods: Sequence[PodView]) -> PodView | None:
    """The pod that counts of those on a node: the one that is not going. None when all are."""
    for pod in pods:
        if not pod.terminating:
            return pod
    return None


def judge_agent(
    node: str, pods: Sequence[PodView], *, overdue: bool, who: str = "the agent"
) -> Iterator[Finding]:
    """Judge the candidate's pods on one moved node; `overdue`: its progress deadline has passed.
    `who` is what people call it.
    """
    pod = standing(pods)
    if pod is None:
        message = f"no agent pod runs on node {node} yet"
        yield late(node, Reason.Unschedulable, message, overdue=overdue)
    elif pod.restarts > 0 or pod.waiting in CANNOT_START:
        yield _harm(node, pod, who)
    elif pod.waiting in CANNOT_FETCH:
        message = f"{who} on node {node} can't start: {pod.waiting}"
        yield Finding(Verdict.HOLD, Reason.CannotFetch, message, node, gate=GateKind.Agents)
    elif pod.node is None or pod.phase == "Pending":
        verdict = Verdict.HOLD if overdue else Verdict.WAIT
        message = f"agent pod {pod.name} on node {node} has not started yet"
        yield Finding(verdict, Reason.Unschedulable, message, node, gate=GateKind.Agents)
    elif pod.phase != "Running":
        # Failed without a restart: evicted, or refused by the kubelet; the content never ran.
        message = f"agent pod {pod.name} on node {node} is {pod.phase}"
        yield late(node, Reason.Unschedulable, message, overdue=overdue)
    elif not pod.ready:
        verdict = Verdict.FAIL if overdue else Verdict.WAIT
        message = f"{who} on node {node} runs but is not Ready"
        yield Finding(
            verdict, Reason.AgentNotReady, message, node, blocks=overdue, gate=GateKind.Agents
        )


def _harm(node: str, pod: PodView, who: str) -> Finding:
    oom = "OOMKilled" in pod.last_exit
    reason = Reason.AgentOOMKilled if oom else Reason.AgentRestarted
    detail = pod.last_exit or pod.waiting or pod.phase
    did = f"restarted {how_often(pod.restarts)}" if pod.restarts else "does not start"
    message = f"{who} on node {node} {did} ({detail})"
    return Finding(Verdict.FAIL, reason, message, node, blocks=True, gate=GateKind.Agents)


def late(node: str, reason: Reason, message: str, *, overdue: bool) -> Finding:
    """A missing pod waits; past the deadline the node goes back and nothing is blocked."""
    verdict = Verdict.FAIL if overdue else Verdict.WAIT
    return Finding(verdict, reason, message, node, gate=GateKind.Agents)
