"""Tries by dry run whether a forged decision is refused: then decisions prove who made them.

RBAC grants the operator this one name only, by server-side apply, and no decision of this name is
ever obeyed: the right to try gives it no decision.
"""

from wavegate.api import API_VERSION, Decision, DecisionAction
from wavegate.cluster import paths
from wavegate.cluster.client import ApiError, Client

FORGED = "wavegate-probe"
REFUSED = "Wavegate decisions: "
"""How each message of the chart's policy begins."""
MAX_SAID = 300


async def try_forged(client: Client, namespace: str) -> str:
    """Try it; returns what is missing, in words, empty when it was refused as it should be. Raises
    ApiError when that is not known.
    """
    spec = {
        "release": FORGED,
        "digest": "sha256:" + "0" * 64,
        "action": DecisionAction.Resume.value,
        "reason": "Wavegate looks whether this is refused; it is a dry run",
        "decidedBy": FORGED,
    }
    metadata = {"name": FORGED, "namespace": namespace}
    body = {"apiVersion": API_VERSION, "kind": Decision.kind, "metadata": metadata, "spec": spec}
    try:
        await client.try_apply(paths.ours(Decision.plural, namespace, FORGED), body)
    except ApiError as error:
        if error.status not in (400, 403, 422):
            raise
        said = str(error)
        return "" if REFUSED in said else f"a dry run was refused otherwise: {said[:MAX_SAID]}"
    return f"a dry run of a forged decision in namespace {namespace} was not refused"
