"""Checks that a channel asks for by name: what each one asks, of which exporter, and its limits.

What a preset must do, and a test with a real Prometheus holds each against it: a node without
trouble has a series with a value up to `max`, a node of which nothing is known has none (so it
holds), and what a node suffered from before its wave opened is not blamed on the content.

A counter is compared with its value when the wave opened, not by `increase()`, which needs two
samples and so misses a crash before the first scrape.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from wavegate.api import Check, PresetName
from wavegate.evidence.observation import EVERY_NODE, CheckSpec

MAX_AGE = 180.0
"""Seconds that samples may be old: three times the usual interval between two scrapes."""
_RECENT = "15m"
"""For so long back a series is read that was not known when the wave opened. Never `$elapsed`: in a
bake that is a day, and a day of all pods is more than Prometheus reads for one query.
"""

NODE_EXPORTERS = "node_exporter (Linux) or windows_exporter"
STATE_METRICS = "kube-state-metrics"


@dataclass(frozen=True, slots=True)
class Preset:
    """One kind of harm. `query` and `age_of` hold the variables of any query, and `$label`: the
    check's `nodeLabel`.
    """

    meaning: str
    """What the value is, for a person."""
    needs: str
    """The exporters that have the series."""
    query: str
    age_of: str
    """A plain selector of the series whose age counts; it carries `$label`."""
    max: float = 0.0
    """The highest good value of a node, unless the check has its own."""

    @property
    def texts(self) -> tuple[str, str]:
        """The query, and the series of its age."""
        return self.query, self.age_of


def resolve(check: Check) -> CheckSpec:
    """The check as it is frozen into a plan; what a preset leaves open is the check's own."""
    preset = PRESETS[check.preset] if check.preset else None
    query, series, max_age, most = (check.query or ""), "", 0.0, check.max
    if preset is not None:
        query, series = (text.replace("$label", check.node_label) for text in preset.texts)
        max_age, most = MAX_AGE, preset.max if check.max is None else check.max
    if check.freshness is not None:
        max_age = float(check.freshness.max_age)
        series = series or check.freshness.series or query
    return CheckSpec(
        name=check.name,
        query=query,
        per_node=check.per == "Node",
        node_label=check.node_label,
        max=most,
        min=check.min,
        max_ratio=check.control.max_ratio if check.control else None,
        interval=float(check.interval),
        timeout=float(check.timeout),
        max_age=max_age,
        age_of=series,
        coverage=check.coverage or EVERY_NODE,
        consecutive=check.consecutive,
        hold_timeout=None if check.hold_timeout is None else float(check.hold_timeout),
        dry_run=check.dry_run,
    )


# Building blocks. Names of nodes stand once in a query, as there may be thousands; its answer is
# cut to them at the end. A pod is told by `uid`, so that its successor of the same name is another.

_NODES = '$label=~"($nodes)(:[0-9]+)?"'
_POD = "namespace, pod, uid"
_CONTAINER = "namespace, pod, container"
_AGENT = 'namespace="$namespace", created_by_kind="DaemonSet", created_by_name="$agent"'
_AGENT_PODS = 'namespace="$namespace", pod=~"$agent-.*"'
_AGENT_ON_NODES = f"kube_pod_info{{{_AGENT}, {_NODES}}}"


def _on(series: str) -> str:
    """The series of the judged nodes only."""
    return f"{series[:-1]}, {_NODES}}}" if series.endswith("}") else f"{series}{{{_NODES}}}"


def _worst(value: str, series: str) -> str:
    """The largest value on each judged node that has the series."""
    return f"max by ($label) (\n  {value}\n) and on ($label) {_on(series)}"


def _growth(counter: str) -> str:
    """By how much a counter grew since the wave opened. One that is smaller now began anew, so all
    of it is new; of one that was not known then, what it grew by lately.
    """
    then = f"{counter} @ $t0"
    return (
        f"(({counter} - ({then} <= {counter}))\n"
        f"    or ({counter} < {then})\n"
        f"    or ({counter} - min_over_time({counter}[{_RECENT}])))"
    )


def _of_pods(value: str) -> str:
    """The sum over the pods of each node. The new agent's pod is one of them, so a node has no sum
    only when nothing is known of its pods.
    """
    info = f"max by ({_POD}, $label) ({_on('kube_pod_info')})"
    return f"sum by ($label) (\n  {value}\n  * on ({_POD}) group_left ($label) {info}\n)"


_BOOTED = '{__name__=~"node_boot_time_seconds|windows_system_boot_time_timestamp(_seconds)?"}'
_READY = 'kube_node_status_condition{condition="Ready", status="true"}'
_OOPS = 'problem_counter{reason="KernelOops"}'
_OOM = "node_vmstat_oom_kill"
_OOM_BEFORE = f"clamp_min({_OOM} @ $t0 - {_OOM} @ $t0 offset 1h, 0)"
_PRESSURE = (
    'kube_node_status_condition{condition=~"MemoryPressure|DiskPressure|PIDPressure", '
    'status="true"}'
)

_RESTARTS = "kube_pod_container_status_restarts_total"
_RESTARTS_THEN = f"sum by ({_POD}) ({_RESTARTS} @ $t0)"
_RESTARTED_BEFORE = (
    f"(({_RESTARTS_THEN} - sum by ({_POD}) ({_RESTARTS} @ $t0 offset 1h))\n    or {_RESTARTS_THEN})"
)
_NEWLY_RESTARTED = (
    f"((sum by ({_POD}) {_growth(_RESTARTS)} > bool 0)\n"
    f"  unless on ({_POD}) {_RESTARTED_BEFORE} > 0)"
)

_POD_READY = 'kube_pod_status_ready{condition="true"}'
# Nothing that is found only after two minutes may fall between two waves: what became not Ready
# shortly before the opening was not found yet in the time of the wave before.
_WAS_READY = (
    f"(max by ({_POD}) (max_over_time({_POD_READY}[2m] @ $t0))\n"
    f"    or max by ({_POD}) (max_over_time({_POD_READY}[{_RECENT}])))"
)
_NO_LONGER_READY = (
    f"(clamp_min({_WAS_READY}\n"
    f"    - max by ({_POD}) (max_over_time({_POD_READY}[2m])), 0)\n"
    f"  unless on ({_POD}) kube_pod_deletion_timestamp\n"
    f'  unless on ({_POD}) kube_pod_status_phase{{phase="Succeeded"}} == 1)'
)

_AGENT_RESTARTS = f'{{__name__=~"kube_pod(_init)?_container_status_restarts_total", {_AGENT_PODS}}}'

_AGENT_NODE = f"max by (namespace, pod, $label) ({_AGENT_ON_NODES})"


def _of_containers(names: str) -> str:
    return f'{{__name__=~"{names}", {_AGENT_PODS}, container!~"|POD"}}'


_CPU = _of_containers("(windows_)?container_cpu_usage_seconds_total")
_MEMORY = _of_containers(
    "container_memory_working_set_bytes|windows_container_memory_usage_private_working_set_bytes"
)
# Over five minutes also of a younger pod: what it takes to load content is no harm. Of what two
# exporters report, or a container before and after its restart, the larger.
_CPU_NOW = f"max by ({_CONTAINER}) ({_CPU})"
_CPU_USED = (
    f"clamp_min(({_CPU_NOW} - max by ({_CONTAINER}) ({_CPU} offset 5m)) or {_CPU_NOW}, 0) / 300"
)
_USED = (
    f'((label_replace({_CPU_USED}, "resource", "cpu", "", "")\n'
    f'      or label_replace(max by ({_CONTAINER}) ({_MEMORY}), "resource", "memory", "", ""))\n'
    f"    * on (namespace, pod) group_left ($label) {_AGENT_NODE})"
)
_OF_LIMIT = (
    f"{_USED}\n    / on ({_CONTAINER}, resource) group_left ()\n"
    f"    max by ({_CONTAINER}, resource) (kube_pod_container_resource_limits{{{_AGENT_PODS}}})"
)
_OF_NODE = (
    f"{_USED}\n    / on ($label, resource) group_left ()\n"
    "    max by ($label, resource) (kube_node_status_allocatable)"
)
_SHARE = f"max by ($label) (\n  ({_OF_LIMIT})\n  or ({_OF_NODE})\n)"


def _nodes_with(series: str) -> str:
    return f"({_AGENT_NODE} and on (namespace, pod) {series})"


PRESETS: Mapping[PresetName, Preset] = {
    PresetName.NodeReboot: Preset(
        "1 if the node booted after the wave opened, else 0",
        NODE_EXPORTERS,
        f"max by ($label) ({_on(_BOOTED)}) > bool $t0",
        _on(_BOOTED),
    ),
    PresetName.NodeNotReady: Preset(
        "1 if the node is not Ready, else 0",
        STATE_METRICS,
        f"max by ($label) (1 - {_on(_READY)})",
        _on(_READY),
    ),
    PresetName.KernelOops: Preset(
        "kernel oopses since the wave opened. Linux only: a Windows that stops reboots",
        "Node Problem Detector, with its kernel monitor",
        _worst(_growth(_OOPS), _OOPS),
        _on(_OOPS),
    ),
    PresetName.OomKill: Preset(
        "processes that the kernel killed for memory since the wave opened, less those of the "
        "hour before it. Linux only",
        "node_exporter, with its vmstat collector",
        _worst(f"({_growth(_OOM)} - {_OOM_BEFORE})\n  or {_growth(_OOM)}", _OOM),
        _on(_OOM),
    ),
    PresetName.AgentRestarts: Preset(
        "restarts of the new agent's containers, from the pod's start",
        STATE_METRICS,
        f"sum by ($label) (\n  {_AGENT_RESTARTS}\n  * on ({_POD}) group_left ($label) "
        f"max by ({_POD}, $label) ({_AGENT_ON_NODES})\n)",
        _AGENT_ON_NODES,
    ),
    PresetName.WorkloadRestarts: Preset(
        "pods on the node that restarted since the wave opened, but not in the hour before it. "
        "One may be ill by itself; two are too many",
        STATE_METRICS,
        _of_pods(_NEWLY_RESTARTED),
        _on("kube_node_info"),
        max=1.0,
    ),
    PresetName.WorkloadNotReady: Preset(
        "pods on the node that were Ready in the 2 minutes before the wave opened (of newer ones: "
        "in the last 15 minutes), and were not for the last 2 minutes; none that is deleted or "
        "done. One may be ill by itself; two are too many",
        STATE_METRICS,
        _of_pods(_NO_LONGER_READY),
        _on("kube_node_info"),
        max=1.0,
    ),
    PresetName.NodePressure: Preset(
        "1 if the node is short of memory, disk or process ids, and was not when the wave opened, "
        "else 0 or less",
        STATE_METRICS,
        _worst(
            f"({_PRESSURE} - {_PRESSURE} @ $t0)\n"
            f"  or ({_PRESSURE} - min_over_time({_PRESSURE}[{_RECENT}]))",
            _PRESSURE,
        ),
        _on(_PRESSURE),
    ),
    PresetName.AgentCpuMemory: Preset(
        "the largest share that a container of the new agent takes of its limit (without one, of "
        "its node): of memory now, of processor time over 5 minutes",
        "kube-state-metrics, and cAdvisor or the kubelet's /metrics/resource (Windows: that, or "
        "windows_exporter's container collector)",
        f"{_SHARE}\nand on ($label) {_nodes_with(_CPU)}\nand on ($label) {_nodes_with(_MEMORY)}",
        # The series of containers need not carry the node; those of kube-state-metrics do.
        _AGENT_ON_NODES,
        max=0.9,
    ),
}
