"""Tries the way back by server-side dry runs: nothing is stored, all admission takes part.

The apiserver asks the webhooks and policies as it would in a revert, with one difference: the pods
are asked for under our account, not the DaemonSet controller's.
"""

from collections.abc import Mapping
from typing import Any

from wavegate.cluster import paths
from wavegate.cluster.client import JSON_PATCH, ApiError, Client
from wavegate.rollout.observation import RevisionView
from wavegate.rollout.steps import Target
from wavegate.rollout.trial import agent_pod, changed_pod, changed_revision, retarget_patch

MAX_SAID = 400
"""Characters of the server's answer that a message quotes."""

_TO_DO = (
    "Nothing moves. Correct the webhook, policy, quota or object behind it; the release then goes "
    "on by itself"
)


async def try_revert(
    client: Client,
    namespace: str,
    key: str,
    revisions: tuple[RevisionView, RevisionView | None],
    node: str,
) -> str:
    """Try the revert of (candidate, stable) and one pod of each for `node`; `key` is the channel's
    node label. Returns what keeps it from working, for a person; empty when nothing does.
    """
    candidate, stable = revisions
    tried = [(candidate, Target.NOTHING, "candidate")]
    if stable is not None:
        tried.append((stable, Target.ALL, "stable"))
    for view, target, side in tried:
        problem = await _try_patch(client, namespace, key, view, target)
        if problem:
            return _sentence(f"point DaemonSet {view.name} ({side}) at {target.value}", problem)
    priorities = []
    for view, _, side in tried:
        answer, problem = await _try_pod(client, namespace, view, node)
        if problem:
            return _sentence(f"create a pod of DaemonSet {view.name} ({side})", problem)
        priorities.append((view.template["spec"].get("priorityClassName"), answer.get("priority")))
    if len({wanted for wanted, _ in priorities}) == 1 and len(set(priorities)) > 1:
        got = " and ".join(str(priority) for _, priority in priorities)
        return _sentence("create a pod of each side", f"gave them different priorities: {got}")
    return ""


async def _try_patch(
    client: Client, namespace: str, key: str, view: RevisionView, target: Target
) -> str:
    patch = retarget_patch(view, key, target)
    try:
        path = paths.daemon_sets(namespace, view.name)
        answer = await client.try_patch(path, patch, JSON_PATCH)
    except ApiError as error:
        return _refused(error)
    return _changed(changed_revision(view, patch, answer))


async def _try_pod(
    client: Client, namespace: str, view: RevisionView, node: str
) -> tuple[Mapping[str, Any], str]:
    """The spec of the pod as it would be stored, and what is wrong with it."""
    pod = agent_pod(view, namespace, node)
    try:
        answer = await client.try_create(paths.pods(namespace), pod)
    except ApiError as error:
        return {}, _refused(error)
    return answer["spec"], _changed(changed_pod(pod, answer))


def _refused(error: ApiError) -> str:
    said = str(error)
    return f"was refused: {said[:MAX_SAID]}{'…' if len(said) > MAX_SAID else ''}"


def _changed(fields: tuple[str, ...]) -> str:
    return f"came back with other fields than were sent: {', '.join(fields[:5])}" if fields else ""


def _sentence(what: str, problem: str) -> str:
    return f"the way back is blocked: a dry run to {what} {problem}. {_TO_DO}"
