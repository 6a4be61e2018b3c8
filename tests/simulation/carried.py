"""An agent that is someone else's DaemonSet: it loads what our pods carry to its node."""

import asyncio
from collections.abc import Callable

from simulation.apiserver import Body
from simulation.cluster import SPACE, Simulation, is_ready
from simulation.machines import Machines
from support.builders import digest

LABELS = {"app": "edr"}
SELECTED = {"agentSelector": {"matchLabels": LABELS}}


def install(sim: Simulation) -> None:
    """Its DaemonSet is created, and its pods run on all nodes."""
    container = {"name": "edr", "image": f"registry.example/edr@{digest('edr')}"}
    spec = {"template": {"metadata": {"labels": LABELS}, "spec": {"containers": [container]}}}
    metadata = {"name": "edr", "namespace": SPACE, "labels": LABELS}
    body = {"metadata": metadata, "spec": {**spec, "updateStrategy": {"type": "OnDelete"}}}
    sim.act(lambda: sim.server.add("people", "daemonsets", body))
    nodes = len(sim.server.objects["nodes"])
    sim.until("the other agent runs", lambda: sum(is_ready(pod) for pod in pods(sim)) == nodes)


def pods(sim: Simulation, node: str = "") -> list[Body]:
    """Its pods, on one node or on all."""
    return [
        pod
        for pod in sim.server.all("pods")
        if (pod["metadata"].get("labels") or {}).get("app") == LABELS["app"]
        and node in ("", pod["spec"].get("nodeName"))
    ]


def crash(sim: Simulation, node: str) -> None:
    """It crashes, and waits in its back-off."""
    sim.act(lambda: crash_now(sim, node))


def recover(sim: Simulation, node: str) -> None:
    """It is Ready again, with what it counts of restarts."""
    sim.act(lambda: recover_now(sim, node))


def crash_now(sim: Simulation, node: str) -> None:
    """The same, from inside the loop."""
    for pod in pods(sim, node):
        sim.machines.restart_container(node, pod)


def recover_now(sim: Simulation, node: str) -> None:
    """The same, from inside the loop."""
    for pod in pods(sim, node):
        sim.machines.recover(node, pod)


def unready(sim: Simulation, node: str) -> None:
    """Its probe fails; its container runs on."""
    for pod in pods(sim, node):
        sim.act(lambda pod=pod: sim.machines.fail_probe(node, pod))


def replace(sim: Simulation, node: str) -> None:
    """Its pod is deleted, and its DaemonSet makes another."""
    for pod in pods(sim, node):
        sim.act(lambda pod=pod: sim.server.delete("people", "pods", pod))


def crashes_it(after: float = 3.0) -> Callable[[Machines, str, Body], None]:
    """What content does: the other agent reads it some seconds after our pod runs, and crashes."""

    def harm(machines: Machines, name: str, pod: Body) -> None:
        loop = asyncio.get_running_loop()
        for other in machines.pods_on[name].values():
            if (other["metadata"].get("labels") or {}).get("app") == LABELS["app"]:
                loop.call_later(after, machines.restart_container, name, other)
        del pod

    return harm
