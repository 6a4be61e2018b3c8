"""A small cluster with an agent that is someone else's: `agentSelector` selects its pods."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from support.builders import SPACE
from support.world import SimCluster
from wavegate.api import Phase
from wavegate.evidence import PodView
from wavegate.rollout.observation import AgentPods, Observation

SELECTED = {"agentSelector": {"matchLabels": {"app": "edr"}}}


def pod_on(node: str, uid: str = "", restarts: int = 0, **changes: Any) -> PodView:
    """A pod of the other agent, Ready."""
    view = PodView(
        name=f"edr-{uid or node}",
        namespace=SPACE,
        uid=uid or f"edr-{node}",
        channel="",
        attempt="",
        node=node,
        phase="Running",
        ready=True,
        ready_since=0.0,
        terminating=False,
        restarts=restarts,
    )
    return replace(view, **changes)


@dataclass(slots=True)
class Carrying(SimCluster):
    """A cluster with other agents, which a test changes in `theirs`, by pod UID."""

    theirs: dict[str, PodView] | None = None
    lost: dict[str, float] | None = None
    hidden: str = ""

    def observe(self) -> Observation:
        """All that the operator would gather now."""
        if self.theirs is None:
            self.theirs = {f"edr-{name}": pod_on(name, restarts=7) for name in self.nodes}
        pods = AgentPods(tuple(self.theirs.values()), dict(self.lost or {}), self.hidden)
        seen = SimCluster.observe(self)
        rollout = self.record.rollout
        rolling = rollout is not None and rollout.phase is Phase.Rolling
        blind = self.hidden if rolling else ""  # as gather has it: a revert waits for no sight
        return replace(seen, agents=pods, bake_agents=pods, blind=blind)

    def change(self, node: str, **changes: Any) -> None:
        """The pod of the other agent on a node changes."""
        uid = f"edr-{node}"
        self.theirs[uid] = replace(self.theirs[uid], **changes)


def carrying(make_sim: Callable[..., SimCluster], **spec: Any) -> Carrying:
    """What `make_sim` makes, with such an agent on all nodes."""
    plain = make_sim(**SELECTED, **spec)
    made = Carrying(channel=plain.channel, nodes=plain.nodes, watchers=plain.watchers)
    made.ids = plain.ids
    return made
