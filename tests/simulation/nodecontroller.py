"""The node controller, as in Kubernetes 1.37 (source; recorded in recordings/).

It looks at all nodes every five seconds: one whose lease was not renewed for the grace period gets
Ready=Unknown, and its pods Ready=False. Its taints follow the Ready condition a little later, in
both directions: a node that is Ready again (or new) still refuses pods for a moment.
"""

import asyncio
import random

from simulation.apiserver import Apiserver, Body, Change

ACTOR = "node-controller"
PREFIX = "node.kubernetes.io/"
TAINTS = {
    "True": (),
    "False": (("not-ready", "NoSchedule"), ("not-ready", "NoExecute")),
    "Unknown": (("unreachable", "NoSchedule"), ("unreachable", "NoExecute")),
}
"""By the Ready condition. In reality NoExecute follows by itself; agents tolerate that one."""
OWN = ("not-ready", "unreachable", "unschedulable")
NEW = {"key": f"{PREFIX}not-ready", "effect": "NoSchedule"}
"""The taint that admission puts on each new node."""


class NodeController:
    """See the module. `taint` and `monitor` are seconds, as in `Speeds`."""

    def __init__(
        self, server: Apiserver, rng: random.Random, taint: tuple[float, float], monitor: float
    ) -> None:
        self._server, self._rng = server, rng
        self._taint, self._monitor = taint, monitor
        self._at = rng.uniform(0.0, monitor)
        """Its place in the seconds between two looks."""
        server.after.append(self._changed)

    def next_look(self, at: float) -> float:
        """When it looks next, at or after that time."""
        return at + (self._at - at) % self._monitor

    def lose(self, name: str, pods: list[Body]) -> None:
        """The node was silent for too long."""
        node = self._server.find("nodes", name)
        if node is None:
            return
        status = {**node["status"], "conditions": [{"type": "Ready", "status": "Unknown"}]}
        self._server.update(ACTOR, "nodes", node, status=status)
        for pod in pods:
            status = {**pod["status"], "conditions": [{"type": "Ready", "status": "False"}]}
            self._server.update(ACTOR, "pods", pod, status=status)

    def _changed(self, change: Change) -> None:
        if change.plural != "nodes" or change.after is None or _wanted(change.after) is None:
            return
        pause = self._rng.uniform(*self._taint)
        asyncio.get_running_loop().call_later(pause, self._follow, change.key[1])

    def _follow(self, name: str) -> None:
        """Taint the node as its Ready condition wants it now."""
        node = self._server.find("nodes", name)
        wanted = _wanted(node) if node is not None else None
        if node is not None and wanted is not None:
            self._server.update(ACTOR, "nodes", node, spec={**node["spec"], "taints": wanted})


def _wanted(node: Body) -> list[Body] | None:
    """The taints that the node should have; None when it has them."""
    taints = node["spec"].get("taints") or []
    ready = node["status"]["conditions"][0]["status"]
    cordoned = (("unschedulable", "NoSchedule"),) if node["spec"].get("unschedulable") else ()
    own = [
        {"key": f"{PREFIX}{key}", "effect": effect} for key, effect in (*TAINTS[ready], *cordoned)
    ]
    others = [t for t in taints if t["key"].removeprefix(PREFIX) not in OWN]
    wanted = [*others, *own]
    return None if wanted == taints or (not wanted and not taints) else wanted
