"""Agents that report which content they have loaded, in an annotation of their own pod."""

import asyncio

from simulation.apiserver import Body
from simulation.cluster import content_of
from simulation.machines import Machines
from wavegate.rollout.names import LOADED_DIGEST_ANNOTATION


class Reporter:
    """What each agent does a moment after its start."""

    def __init__(self, after: float = 1.0) -> None:
        self.after = after
        self.says: dict[str, str] = {}
        """By machine: what is reported there instead; empty: nothing."""
        self.sticks: set[str] = set()
        """Contents that stay loaded until the machine is booted, whatever agent runs."""
        self._kept: dict[str, tuple[int, str]] = {}
        """By machine: on which boot which of them was loaded."""

    def __call__(self, machines: Machines, name: str, pod: Body) -> None:
        """The agent has started."""
        asyncio.get_running_loop().call_later(self.after, self.report, machines, name, pod)

    def report(self, machines: Machines, name: str, pod: Body) -> None:
        """It writes what is loaded on its pod, if both are still there."""
        machine, metadata = machines.machines[name], pod["metadata"]
        stored = machines.server.find("pods", metadata["name"], metadata["namespace"])
        if stored is None or stored["metadata"]["uid"] != metadata["uid"] or not machine.alive:
            return
        content = content_of(stored)
        boots, kept = self._kept.get(name, (0, ""))
        if boots == machine.boots:
            content = kept
        elif content in self.sticks:
            self._kept[name] = (machine.boots, content)
        said = self.says.get(name, content)
        if said:
            known = {**(stored["metadata"].get("annotations") or {})}
            written = {
                **stored["metadata"],
                "annotations": known | {LOADED_DIGEST_ANNOTATION: said},
            }
            machines.server.update(f"agent {name}", "pods", stored, metadata=written)
