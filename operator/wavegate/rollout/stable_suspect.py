"""Stable in doubt: nodes that went back to it fail on it, too.

Going back once more by itself could go on for ever, and what fails may be the machines. So the
revert ends (the candidate is fenced), nothing starts on the channel, and a person decides: `Resume`
lets releases start again, `Revert` of the stable release goes back to the last baked revision.
"""

import math
from collections.abc import Sequence

from wavegate.api import Reason
from wavegate.evidence import NodeView, PodView, standing
from wavegate.rollout.attempt import Rollout
from wavegate.rollout.lacks import Lack
from wavegate.rollout.observation import Observation

SHARE = 0.1
"""From this share of the nodes that went back on, but from two on, stable is in doubt (DESIGN §5).
"""


def doubt(obs: Observation, rollout: Rollout) -> Lack | None:
    """The nodes that fail on stable after they went back to it, if they are enough."""
    stable, went_back = obs.record.stable, obs.moved(rollout.attempt)
    if stable is None or rollout.reverting_since is None:
        return None
    since = max(rollout.reverting_since, obs.watching_since)
    pods = obs.pods_on(stable.attempt)
    failing = sorted(n.name for n in went_back if fails(pods.get(n.name, ()), n, since))
    if len(failing) < max(2, math.ceil(SHARE * len(went_back))):
        return None
    told = f"{{}} of {len(went_back)} nodes fail on stable release {stable.release} as well"
    return Lack(Reason.StableSuspect, failing, told, told)


def fails(pods: Sequence[PodView], node: NodeView, since: float) -> bool:
    """Whether stable's agent (`pods`: stable's on the node) crashed there since it went back, or
    the node was lost while that ran. A machine that died before starts no agent: its pod stays
    Pending.
    """
    pod = standing(pods)
    if pod is None:
        return False
    lost = not node.ready and node.lost_at is not None and node.lost_at > since
    crashed = pod.restarts > 0 and pod.restarted_at is not None and pod.restarted_at > since
    return crashed or (lost and pod.phase == "Running")
