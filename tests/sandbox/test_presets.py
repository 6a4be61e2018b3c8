"""Each preset asked of a real Prometheus that recorded a fleet: who is calm, who came to harm.

The series have the names and labels that the exporters give them. A wave opened ten minutes ago.
Each node but the calm ones has one trouble; what it had before the wave is not the content's.
"""

import importlib.util
import time
from pathlib import Path

import pytest

from support.recorded import RecordedPrometheus, Recording
from wavegate.api import Check, PresetName
from wavegate.controller.queries import nodes_pattern, substitute
from wavegate.evidence import Verdict, assess_check
from wavegate.evidence.presets import PRESETS, resolve
from wavegate.telemetry.connections import Source
from wavegate.telemetry.prometheus import PrometheusReader

GENERATOR = Path(__file__).parents[2] / "docs" / "generate.py"
OPENED_AGO = 600.0
AGENT = "rules-a1b2c"
LINUX = (
    "calm",
    "chronic",
    "rebooted",
    "not-ready",
    "oops",
    "oops-after-restart",
    "oops-late",
    "oom",
    "agent-loops",
    "one-restarts",
    "pods-restart",
    "one-unready",
    "pods-unready",
    "new-unready",
    "unready-just-before",
    "pressed",
    "busy",
    "fat",
    "fat-node",
)
WINDOWS = ("win-calm", "win-rebooted", "win-busy")
NODES = frozenset((*LINUX, *WINDOWS))

HARM = {
    PresetName.NodeReboot: {"rebooted": 1, "win-rebooted": 1},
    PresetName.NodeNotReady: {"not-ready": 1},
    PresetName.KernelOops: {"oops": 1, "oops-after-restart": 2, "oops-late": 1},
    PresetName.OomKill: {"oom": 3},
    PresetName.AgentRestarts: {"agent-loops": 4},
    PresetName.WorkloadRestarts: {"pods-restart": 2},
    PresetName.WorkloadNotReady: {"pods-unready": 2, "new-unready": 2, "unready-just-before": 2},
    PresetName.NodePressure: {"pressed": 1},
    PresetName.AgentCpuMemory: {"busy": 1.0, "fat": 0.95, "fat-node": 0.95, "win-busy": 1.0},
}
"""The nodes that each preset fails, and the values that it sees there."""
LINUX_ONLY = {PresetName.KernelOops, PresetName.OomKill}


def from_opening(before, after, delay=120.0):
    """A course that changes some time after the wave opened."""
    return lambda t: after if t >= delay else before


def appears(course, at=60.0):
    """A course that begins after the wave opened."""
    return lambda t: course(t) if t >= at else None


def counting(per_hour, more=0, delay=120.0):
    """A counter that grows all the time, and at once by `more` after the wave opened."""
    return lambda t: 50 + int((t + 7200) * per_hour / 3600) + (more if t >= delay else 0)


def since_its_start(course, start=30.0):
    """A series of the new agent's pod: there is none before."""
    return lambda t: course(t - start) if t >= start else None


def record(recording, name):
    """All series of one node and its pods."""
    windows = name.startswith("win-")
    address = f"{name}:9182" if windows else f"{name}:9100"
    if windows:
        boot, labels = "windows_system_boot_time_timestamp", {"job": "windows-exporter"}
    else:
        boot, labels = "node_boot_time_seconds", {"job": "node-exporter"}
    labels |= {"node": name, "instance": address}
    booted = recording.t0 - 86_400
    rebooted = from_opening(booted, recording.t0 + 120)
    recording.add(boot, labels, rebooted if name.endswith("rebooted") else booted)
    if not windows:
        record_kernel(recording, name, labels)
    record_node(recording, name)
    record_agent(recording, name, windows)
    for number in range(3):
        record_pod(recording, name, number)
    # A DaemonSet's pod of the release before: gone since the wave opened, and none's fault.
    gone = {"namespace": "agents", "pod": f"rules-00000-{name}", "uid": f"old-{name}"}
    before = lambda t: 1 if t < 0 else None  # noqa: E731
    recording.add("kube_pod_info", {**gone, "node": name}, before)
    recording.add("kube_pod_status_ready", {**gone, "condition": "true"}, before)


def record_kernel(recording, name, labels):
    oom = counting(2) if name == "chronic" else counting(0, 3 if name == "oom" else 0)
    recording.add("node_vmstat_oom_kill", labels, oom)
    npd = {"job": "node-problem-detector", "node": name, "instance": f"{name}:20257"}
    for reason in ("KernelOops", "TaskHung"):
        course = counting(0, 1 if (name, reason) == ("oops", "KernelOops") else 0)
        if (name, reason) == ("chronic", "KernelOops"):
            course = lambda t: 3 if t > -3600 else 2  # noqa: E731
        if (name, reason) == ("oops-after-restart", "KernelOops"):
            course = from_opening(7, 2)  # the detector began anew, and saw two at once
        if (name, reason) == ("oops-late", "KernelOops"):
            course = appears(lambda t: 2 if t < 240 else 3)  # the detector came after the opening
        recording.add("problem_counter", {**npd, "reason": reason}, course)


def record_node(recording, name):
    recording.add("latency_seconds", {"node": name}, {"busy": 3, "oops": 0, "oom": 0}.get(name, 1))
    recording.add("kube_node_info", {"node": name, "kernel_version": "6.12"}, 1)
    for condition in ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure"):
        good = 1 if condition == "Ready" else 0
        course = good
        if (name, condition) in (("not-ready", "Ready"), ("pressed", "DiskPressure")):
            course = from_opening(good, 1 - good)
        if (name, condition) == ("chronic", "MemoryPressure"):
            course = 1
        labels = {"node": name, "condition": condition, "status": "true"}
        recording.add("kube_node_status_condition", labels, course)
    for resource, value in {"cpu": 8, "memory": 32e9}.items():
        labels = {"node": name, "resource": resource, "unit": "core"}
        recording.add("kube_node_status_allocatable", labels, value)


def record_agent(recording, name, windows):
    pod = {"namespace": "agents", "pod": f"{AGENT}-{name}", "uid": f"agent-{name}"}
    owner = {"created_by_kind": "DaemonSet", "created_by_name": AGENT, "node": name}
    container = {**pod, "container": "sensor"}
    alive = since_its_start(lambda _: 1)
    recording.add("kube_pod_info", pod | owner, alive)
    recording.add("kube_pod_container_info", container, alive)
    recording.add("kube_pod_status_ready", {**pod, "condition": "true"}, alive)
    loops = (lambda age: min(4, int(age / 60))) if name == "agent-loops" else lambda _: 0
    restarts = "kube_pod_container_status_restarts_total"
    recording.add(restarts, container, since_its_start(loops))
    recording.add(
        "kube_pod_init_container_status_restarts_total",
        {**pod, "container": "loader"},
        since_its_start(lambda _: 0),
    )
    limits = {"cpu": 2, "memory": 4e9}
    if name != "fat-node":  # it has no limit, so what it takes counts against the node
        for resource, value in limits.items():
            labels = {**container, "node": name, "resource": resource}
            recording.add("kube_pod_container_resource_limits", labels, alive)
            recording.add("kube_pod_container_resource_limits", labels, _constant(value))
    used = {"fat": 0.95 * 4e9, "fat-node": 0.95 * 32e9}.get(name, 1e9)
    # At first it takes all it may, for 60 s: it loads the content.
    load = (lambda age: 2 * age) if name.endswith("busy") else lambda age: min(2 * age, 120)
    cadvisor = {key: container[key] for key in ("namespace", "pod", "container")}
    if windows:
        cpu, memory = (
            "windows_container_cpu_usage_seconds_total",
            ("windows_container_memory_usage_private_working_set_bytes"),
        )
    else:
        cpu, memory = "container_cpu_usage_seconds_total", "container_memory_working_set_bytes"
        whole = {**cadvisor, "container": "", "id": f"/kubepods/{name}"}
        recording.add(memory, whole, since_its_start(lambda _: 1e12))
    cadvisor |= {"id": f"/kubepods/{name}/sensor"}
    recording.add(cpu, cadvisor, since_its_start(load))
    recording.add(memory, cadvisor, since_its_start(_constant(used)))


def _constant(value):
    return lambda _age: value


def record_pod(recording, name, number):
    """A pod of someone's workload. The last one is ill all the time, everywhere."""
    pod = {"namespace": "shop", "pod": f"web-{name}-{number}", "uid": f"{name}-{number}"}
    recording.add("kube_pod_info", {**pod, "node": name, "created_by_kind": "ReplicaSet"}, 1)
    affected = {"one-restarts": 1, "pods-restart": 2}.get(name, 0)
    restarts = counting(6) if number == 2 else counting(0, 1 if number < affected else 0)
    recording.add("kube_pod_container_status_restarts_total", {**pod, "container": "app"}, restarts)
    affected = {"one-unready": 1, "pods-unready": 2}.get(name, 0)
    ready = from_opening(1, 0) if number < affected else 0 if number == 2 else 1
    if name == "new-unready" and number < 2:
        ready = appears(lambda t: 1 if t < 240 else 0)
    if name == "unready-just-before" and number < 2:  # no wave before it could find this yet
        ready = from_opening(1, 0, delay=-60.0)
    if name == "chronic":  # it was not Ready at the opening either: it comes and goes
        ready = lambda t: 1 if 60 <= t < 240 else 0  # noqa: E731
    recording.add("kube_pod_status_ready", {**pod, "condition": "true"}, ready)
    done = {"namespace": "shop", "pod": f"job-{name}-{number}", "uid": f"job-{name}-{number}"}
    recording.add("kube_pod_info", {**done, "node": name, "created_by_kind": "Job"}, 1)
    recording.add("kube_pod_status_ready", {**done, "condition": "true"}, from_opening(1, 0))
    phase = {**done, "phase": "Succeeded"}
    recording.add("kube_pod_status_phase", phase, from_opening(0, 1))
    going = {"namespace": "shop", "pod": f"old-{name}-{number}", "uid": f"going-{name}-{number}"}
    recording.add("kube_pod_info", {**going, "node": name, "created_by_kind": "ReplicaSet"}, 1)
    recording.add("kube_pod_status_ready", {**going, "condition": "true"}, from_opening(1, 0))
    deleted = lambda t: recording.t0 + 120 if t >= 120 else None  # noqa: E731
    recording.add("kube_pod_deletion_timestamp", going, deleted)


def record_half(recording, name):
    """A node of whose agent the memory is known, and not the processor time."""
    record(recording, name)
    sensor = {"namespace": "agents", "pod": f"{AGENT}-{name}", "container": "sensor"}
    labels = {**sensor, "id": f"/kubepods/{name}/sensor"}
    recording.add("container_cpu_usage_seconds_total", labels, lambda _t: None)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    recording = Recording(time.time() - OPENED_AGO, before=4500)
    for name in (*LINUX, *WINDOWS):
        record(recording, name)
    record_half(recording, "half-known")
    with RecordedPrometheus(recording, tmp_path_factory.mktemp("recorded")) as prometheus:
        yield prometheus.url, recording.t0


@pytest.fixture
def ask(recorded):
    """Ask a preset about some nodes; returns the check and its answer."""
    url, t0 = recorded
    reader = PrometheusReader()

    async def run(preset, nodes=NODES, **options):
        values = {
            "nodes": nodes_pattern(nodes),
            "namespace": "agents",
            "agent": AGENT,
            "elapsed": f"{time.time() - t0:.0f}s",
            "t0": str(int(t0)),  # rounded down, as the operator does
        }
        spec = resolve(Check.model_validate({"name": "c", "preset": preset, **options}))
        check = substitute(spec, values)
        source, now = Source(url), time.time()
        return check, await reader.ask(source, check, check.query, frozenset(nodes), now)

    yield run
    reader.close()


def generator():
    """The maker of the reference, which has the query that it prints."""
    spec = importlib.util.spec_from_file_location("generate", GENERATOR)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def seen(check, result):
    return {sample.labels[check.node_label]: sample.value for sample in result.samples}


@pytest.mark.parametrize("preset", PresetName)
async def test_a_preset_sees_its_harm_and_no_other(ask, preset):
    nodes = frozenset(LINUX) if preset in LINUX_ONLY else NODES
    check, result = await ask(preset, nodes)
    assert (result.error, result.warnings) == ("", ())
    values = seen(check, result)
    assert set(values) == nodes, "each node has a series, also one without trouble"
    above = {node: value for node, value in values.items() if value > PRESETS[preset].max}
    assert above == pytest.approx(HARM[preset])
    findings = list(assess_check(check, result, nodes, 0.0))
    assert {finding.node for finding in findings} == set(HARM[preset])
    assert {finding.verdict for finding in findings} == {Verdict.FAIL}


@pytest.mark.parametrize("preset", PresetName)
async def test_a_node_without_trouble_proves_it(ask, preset):
    calm = frozenset({"calm", "chronic", "one-restarts", "one-unready"})
    check, result = await ask(preset, calm)
    assert list(assess_check(check, result, calm, 0.0)) == []


@pytest.mark.parametrize("preset", PresetName)
async def test_a_node_that_no_exporter_tells_of_holds(ask, preset):
    nodes = frozenset({"calm", "unknown"})
    check, result = await ask(preset, nodes)
    (finding,) = assess_check(check, result, nodes, 0.0)
    assert (finding.verdict, finding.reason) == (Verdict.HOLD, "CheckNoData")
    assert "unknown" in finding.message


@pytest.mark.parametrize("preset", PresetName)
async def test_samples_that_are_too_old_hold(ask, preset):
    nodes = frozenset({"calm"})
    check, result = await ask(preset, nodes, freshness={"maxAge": "1s"})
    time_has_passed = all(age.value > 1.0 for age in result.ages)
    assert time_has_passed
    (finding,) = assess_check(check, result, nodes, 0.0)
    assert (finding.verdict, finding.reason) == (Verdict.HOLD, "CheckStale")


@pytest.mark.parametrize(
    "preset", [PresetName.NodeReboot, PresetName.KernelOops, PresetName.OomKill]
)
async def test_the_label_with_the_node_s_name_may_be_another_and_have_a_port(ask, preset):
    nodes = frozenset({"calm", *HARM[preset]})
    check, result = await ask(preset, nodes, nodeLabel="instance")
    harmed = {finding.node for finding in assess_check(check, result, nodes, 0.0)}
    assert harmed == set(HARM[preset])


@pytest.mark.parametrize(
    ("nodes", "control", "ratio"),
    [
        (["calm"], ["chronic", "fat"], 1.0),
        (["busy"], ["chronic", "fat"], 3.0),
        (["busy"], [], 1.0),
        (["busy"], ["oom"], 1.0),
        (["oops"], ["oom"], 0.0),
    ],
)
async def test_the_documented_ratio_to_control_nodes(recorded, nodes, control, ratio):
    reader, query = PrometheusReader(), "\n".join(generator().RATIO)
    spec = resolve(Check.model_validate({"name": "c", "query": query, "max": 2, "per": "Wave"}))
    values = {"nodes": nodes_pattern(nodes), "control_nodes": nodes_pattern(control)}
    asked = substitute(spec, values)
    result = await reader.ask(Source(recorded[0]), asked, asked.query, frozenset(nodes), 1.0)
    reader.close()
    assert [sample.value for sample in result.samples] == [ratio]
    failed = [f.verdict for f in assess_check(asked, result, result.nodes, 0.0)]
    assert failed == ([Verdict.FAIL] if ratio > 2 else [])


async def test_half_of_what_a_preset_asks_is_no_evidence(ask):
    nodes = frozenset({"calm", "half-known"})
    check, result = await ask(PresetName.AgentCpuMemory, nodes)
    assert set(seen(check, result)) == {"calm"}


async def test_a_limit_of_one_s_own_counts(ask):
    nodes = frozenset({"calm", "one-restarts"})
    check, result = await ask(PresetName.WorkloadRestarts, nodes, max=0)
    (finding,) = assess_check(check, result, nodes, 0.0)
    assert (finding.verdict, finding.node) == (Verdict.FAIL, "one-restarts")
