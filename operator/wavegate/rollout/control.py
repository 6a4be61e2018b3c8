"""The control: the nodes of the same pools that do not have the content. There is one definition.

What also happens to them is not the content's. With them are compared lost nodes and agents that
are not Ready (`disturbance`), nodes that a check knows nothing of and values above its `max`; and
own queries name them as `$control_nodes`.
"""

from wavegate.evidence import NodeView
from wavegate.rollout.attempt import Rollout
from wavegate.rollout.movable import fleet
from wavegate.rollout.observation import Observation
from wavegate.rollout.placement import membership


def control_group(obs: Observation, rollout: Rollout) -> list[NodeView]:
    """The nodes of the agent's that are in the pools of the waves so far (in any, once these are
    swept), that have neither the candidate's label nor a pod of it, and never came to harm with it.
    They may be ill themselves. Of a release that is completed there are none: it is stable, and so
    on nodes without the label too.
    """
    return obs.once(_control_group, rollout)


def _control_group(obs: Observation, rollout: Rollout) -> list[NodeView]:
    if rollout.completed_at is not None:
        return []
    plan, holders = rollout.plan, obs.pods_on(rollout.attempt)
    suspects = {suspect.node for suspect in rollout.suspects}
    names = {name for wave in plan.waves[: rollout.wave + 1] for name in wave.pools}
    pools_of = membership(pool for pool in plan.pools if pool.name in names)
    return [
        node
        for node in fleet(obs, rollout).values()
        if node.attempt(obs.key) != rollout.attempt
        and node.name not in holders
        and node.name not in suspects
        and (rollout.planned is None or pools_of(node))
    ]
