"""A stage in the simulation, set as the sandbox of the tests is."""

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from fidelity.fleet import GRACE, RENEWAL, Fleet
from fidelity.stage import HARMS, Stage
from fidelity.trace import KINDS, Body, Change, Trace
from simulation import apiserver
from simulation.cluster import SPACE, Simulation
from simulation.machines import Speeds, crash_loops, kills
from wavegate.rollout.steps import Target
from wavegate.rollout.templates import targeted

AS_THE_SANDBOX = Speeds(
    start=(0.02, 0.3), end=(0.02, 0.3), bind=(0.01, 0.1), grace=8.0, renewal=2.0
)
"""kwok starts and ends pods at once; leases and node controller as in tests/conftest.py."""
DEEDS = {"kills": kills(8.0), "crash-loops": crash_loops(1.0)}
INFO = {"kernel": "kernelVersion", "arch": "architecture", "os_image": "osImage"}
"""What `nodeInfo` calls the facts of a machine."""
PACE = {"soak_floor": 1.0, "lease_duration": 6.0}
"""As the operators of tests/e2e/conftest.py."""


class SimulatedStage(Stage):
    """See the module."""

    patience = 300.0
    """Virtual seconds that a story may take until its next turn."""

    def __init__(self, sim: Simulation, workers: int = 3) -> None:
        super().__init__(SPACE, workers)
        self.sim = sim
        self._trace = Trace(sim.key)
        sim.server.after.append(self._changed)
        for content, how in HARMS.items():
            sim.harm(content, DEEDS[how])

    def create(self, kind: str, name: str, spec: Mapping[str, Any]) -> None:
        self.sim._apply(f"SecurityContent{kind}", name, spec)

    def change(self, kind: str, name: str, spec: Mapping[str, Any]) -> None:
        self.sim.patch(kind, name, **spec)

    def delete(self, kind: str, name: str) -> None:
        self.sim.delete(kind, name)

    def join(self, *nodes: str) -> None:
        for node in nodes:
            looks = self.looks(node)
            kind = {INFO[fact]: value for fact, value in looks.facts.items()}
            add = functools.partial(self.sim.machines.add, node, dict(looks.labels), **kind)
            self.sim.act(add)
        for node in nodes:
            self.until_ready(node, "True")

    def crash(self, node: str) -> None:
        self.sim.crash(node)

    def boot(self, node: str) -> None:
        self.sim.boot(node)

    def remove(self, node: str) -> None:
        self.sim.remove_node(node)

    def crash_agent(self, node: str) -> None:
        pod = self.pod_on(node)
        assert pod is not None
        self.sim.act(lambda: self.sim.machines.restart_container(node, dict(pod)))

    def taint(self, node: str, key: str) -> None:
        taint = {"key": key, "effect": "NoSchedule"}
        self._change_node(node, lambda spec: {"taints": [*(spec.get("taints") or []), taint]})

    def cordon(self, node: str) -> None:
        self._change_node(node, lambda _spec: {"unschedulable": True})

    def delete_pod(self, pod: Body) -> None:
        self.sim.act(lambda: self.sim.server.delete("people", "pods", dict(pod)))

    def fence(self, daemon_set: Body) -> None:
        spec, template = daemon_set["spec"], daemon_set["spec"]["template"]
        affinity = targeted({}, self.sim.key, Target.NOTHING)
        own = {**template["spec"]["affinity"], **affinity}
        metadata = {**daemon_set["metadata"], "annotations": {"by-hand": "true"}}
        fenced = {**spec, "template": {**template, "spec": {**template["spec"], "affinity": own}}}
        parts = {"metadata": metadata, "spec": fenced}
        server = self.sim.server
        self.sim.act(lambda: server.update("people", "daemonsets", dict(daemon_set), **parts))

    def kill_leader(self) -> None:
        leading = [o for o in self.sim.operators if o.leader is not None]
        assert len(leading) == 1
        self.sim.act(leading[0].kill)

    def bodies(self, plural: str) -> Iterable[Body]:
        return self.sim.server.all(plural)

    def until(self, what: str, test: Callable[[], object]) -> None:
        self.sim.until(what, test, self.patience)

    def trace(self) -> Trace:
        return self._trace

    def _change_node(self, node: str, change: Callable[[Body], Body]) -> None:
        body = self.sim.server.find("nodes", node)
        assert body is not None
        spec = {**body["spec"], **change(body["spec"])}
        self.sim.act(lambda: self.sim.server.update("people", "nodes", body, spec=spec))

    def _changed(self, change: apiserver.Change) -> None:
        if change.plural in KINDS:
            self._trace.feed(Change(change.plural, change.before, change.after))


class SimulatedFleet(Fleet, SimulatedStage):
    """Two hundred nodes in the simulation."""

    def cut(self) -> None:
        self._trace.cut()


def simulation(seed: int) -> Simulation:
    """The chart's two operators on a cluster that is set as the tests' sandbox."""
    return Simulation(seed, speeds=AS_THE_SANDBOX, operators=2, **PACE)


def large_simulation(seed: int) -> Simulation:
    """The same, as the sandbox of 200 nodes is set."""
    speeds = replace(AS_THE_SANDBOX, grace=float(GRACE), renewal=float(RENEWAL))
    return Simulation(seed, speeds=speeds, operators=2, soak_floor=3.0)
