"""What node_exporter, the Node Problem Detector and cAdvisor would tell of simulated machines."""

import time
from collections.abc import Iterable, Mapping
from typing import Any

from wavegate_sandbox.exporter import Exporter


class NodeExporters:
    """Series of machines without trouble on one exporter, and the trouble that a test wants."""

    def __init__(self, exporter: Exporter) -> None:
        self._exporter = exporter

    def add(self, nodes: Iterable[str]) -> None:
        """These machines run since yesterday, and nothing ever happened to them."""
        for node in nodes:
            machine = _machine(node)
            self._exporter.set("node_boot_time_seconds", machine, time.time() - 86_400)
            self._exporter.set("node_vmstat_oom_kill", machine, 0)
            self._exporter.set("node_load1", machine, 0.5)
            self._exporter.set("problem_counter", _oops(node), 0)

    def load(self, nodes: Iterable[str], value: float) -> None:
        """So many processes run or wait on each of these machines."""
        for node in nodes:
            self._exporter.set("node_load1", _machine(node), value)

    def oops(self, node: str, count: int) -> None:
        """The kernel of a machine reported so many errors since its start."""
        self._exporter.set("problem_counter", _oops(node), count)

    def runs(self, pod: Mapping[str, Any]) -> None:
        """cAdvisor tells of the containers of a pod that they take next to nothing."""
        for container in pod["spec"]["containers"]:
            labels = {
                "namespace": pod["metadata"]["namespace"],
                "pod": pod["metadata"]["name"],
                "container": container["name"],
            }
            self._exporter.set("container_cpu_usage_seconds_total", labels, 1)
            self._exporter.set("container_memory_working_set_bytes", labels, 50e6)


def _machine(node: str) -> dict[str, str]:
    return {"node": node, "job": "node-exporter", "instance": f"{node}:9100"}


def _oops(node: str) -> dict[str, str]:
    return {"node": node, "job": "node-problem-detector", "reason": "KernelOops"}
