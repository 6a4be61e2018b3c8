"""Presets with real metrics: kube-state-metrics and Prometheus scrape the cluster, an exporter
plays node_exporter, the Node Problem Detector and cAdvisor. One sandbox for all stories.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from support.node_exporters import NodeExporters
from support.operator_process import Kubelet, OperatorProcess
from support.story import Story, digest
from wavegate.api import PresetName
from wavegate.telemetry.prometheus import THREADS_EACH
from wavegate_sandbox.client import STRATEGIC
from wavegate_sandbox.cluster import Options, Sandbox
from wavegate_sandbox.exporter import Exporter

WORKERS = {"machines": 1, "workload": 1, "load": 6}
"""The stories, and how many nodes besides the canary. A control has five at least."""
SHOP = "shop"
"""Namespace of someone's workload."""
OWN = {
    "name": "load",
    "query": (
        "sum by (node) (node_load1) * on (node) group_left () wavegate_candidate_node_info"
        '{namespace="$namespace", channel="$channel", release="$release"}'
    ),
    "max": 10,
}
"""A query of one's own that is joined with what the operator itself exports."""
COMPARED = {
    "name": "load",
    "query": 'node_load1{node=~"$nodes"}',
    "max": 10,
    "control": {"maxRatio": 3},
}
"""The only check of story `load`."""


@pytest.fixture(scope="module")
def measured(sandbox_options: Options, apply_crds: Callable[[Sandbox], None]) -> Iterator[Sandbox]:
    """A control plane with kube-state-metrics."""
    with Sandbox.start(replace(sandbox_options, audit=False, state_metrics=True)) as sandbox:
        apply_crds(sandbox)
        yield sandbox


@pytest.fixture(scope="module")
def operator(measured: Sandbox) -> Iterator[OperatorProcess]:
    """One replica, whose metrics are scraped too."""
    pace = {"WAVEGATE_SOAK_FLOOR": "1s", "WAVEGATE_LEASE_DURATION": "6s"}
    process = OperatorProcess.from_chart(measured, "wavegate-metrics", pace)
    with Kubelet([process]), process:
        process.wait_ready()
        measured.scrape(process.address)
        yield process


@pytest.fixture(scope="module")
def machines(measured: Sandbox) -> Iterator[NodeExporters]:
    """The exporters of all machines."""
    with Exporter() as exporter:
        measured.scrape(exporter.address)
        yield NodeExporters(exporter)


@pytest.fixture(scope="module")
def stories(
    measured: Sandbox, operator: OperatorProcess, machines: NodeExporters
) -> Iterator[dict[str, Story]]:
    """All presets, and content `a` on all nodes, which was judged by them."""
    made = {name: Story(measured, name, workers) for name, workers in WORKERS.items()}
    for name in (*WORKERS, SHOP):
        measured.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    for story in made.values():
        machines.add(story.nodes)
    stop = threading.Event()
    watcher = threading.Thread(target=tell_of_agents, args=(made, machines, stop))

    def begin(story: Story) -> None:
        story.begin(checks(measured, compared=story.namespace == "load"))
        for node in story.nodes:
            report_pressure(measured, node)
        story.publish("a")
        story.until_phase("a", "Completed")

    watcher.start()
    try:
        with ThreadPoolExecutor(len(WORKERS)) as threads:
            list(threads.map(begin, made.values()))
        yield made
    finally:
        stop.set()
        watcher.join()


def tell_of_agents(
    stories: dict[str, Story], machines: NodeExporters, stop: threading.Event
) -> None:
    """As cAdvisor does, a moment after a pod was started."""
    while not stop.wait(0.5):
        for story in stories.values():
            for pod in story.pods():
                machines.runs(pod)


def report_pressure(sandbox: Sandbox, node: str) -> None:
    """What each kubelet reports besides Ready: here, that nothing is short."""
    short = ("MemoryPressure", "DiskPressure", "PIDPressure")
    conditions = [{"type": kind, "status": "False"} for kind in short]
    body = {"status": {"conditions": conditions}}
    sandbox.request("PATCH", f"/api/v1/nodes/{node}/status", body, content_type=STRATEGIC)


def checks(sandbox: Sandbox, *, compared: bool = False) -> dict[str, Any]:
    """A channel's checks (all presets, or the one that is `compared` with the control), and a pace
    that fits them.
    """
    often = {"interval": "2s", "timeout": "2s"}
    presets = [{"name": name, "preset": name, **often} for name in PresetName]
    rollout = {"maxUnavailable": "100%", "settle": "1s", "soak": "3s", "bake": "0s"}
    rollout |= {"coolDown": "0s", "breaker": {"reverts": 0}}  # bad ones follow each other
    prometheus = {"url": sandbox.prometheus_url}
    waves = [  # a canary's harm must be scraped before its wave ends, also on a slow machine
        {"name": "canary", "pools": ["canary"], "upTo": "100%", "soak": "12s"},
        {"name": "all", "upTo": "100%"},
    ]
    spec = {"prometheus": prometheus, "rollout": rollout, "waves": waves}
    if not compared:
        return {"checks": [*presets, {**OWN, **often}], **spec}
    # The control is in the pools of the waves so far, so the first one takes a part of its pool.
    # Here trouble is there before the wave opens, or comes at once.
    waves[0] |= {"pools": ["all"], "upTo": 1, "soak": "8s"}
    pools = [{"name": "all", "selector": {"matchLabels": {"story": "load"}}}]
    return {"checks": [{**COMPARED, **often}], "pools": pools, **spec}


def test_a_kernel_oops_on_the_canary_reverts_what_all_presets_let_pass_before(
    stories: dict[str, Story], machines: NodeExporters
) -> None:
    story = stories["machines"]
    assert wave_states(story.status("a")) == ["Passed", "Passed"]
    story.publish("oops")
    story.until_agents("the canary has it", {**story.everywhere("a"), story.nodes[0]: "oops"})
    machines.oops(story.nodes[0], 1)
    status = story.until_phase("oops", "Reverted")

    assert status["incident"]["reason"] == "CheckAboveMax"
    assert "check kernel-oops saw 1 on node machines-canary" in status["incident"]["message"]
    assert story.channel_status()["blocked"] == []
    story.until_agents("all are back", story.everywhere("a"))


def test_restarts_of_someone_s_workload_on_the_canary_revert(
    stories: dict[str, Story], measured: Sandbox
) -> None:
    story = stories["workload"]
    pods = [run_pod(measured, story, f"web-{number}") for number in range(2)]
    story.publish("harmful")
    story.until_agents("the canary has it", {**story.everywhere("a"), story.nodes[0]: "harmful"})
    for pod in pods:
        restart(measured, pod)
    status = story.until_phase("harmful", "Reverted")

    assert status["incident"]["reason"] == "CheckAboveMax"
    assert "check workload-restarts saw 2 on node workload-canary" in status["incident"]["message"]
    story.until_agents("all are back", story.everywhere("a"))


def test_load_that_rises_on_the_canary_alone_reverts(
    stories: dict[str, Story], machines: NodeExporters
) -> None:
    story = stories["load"]
    story.publish("heavy")
    canary = story.sandbox.wait_for("the canary", lambda: running(story, "heavy"))
    machines.load([canary], 20)
    status = story.until_phase("heavy", "Reverted")
    machines.load([canary], 0.5)

    said = f"check load saw 20 on node {canary}, more than 10 (control: 3 times the median 0.5)"
    assert (status["incident"]["reason"], said) == ("CheckAboveMax", status["incident"]["message"])
    assert story.channel_status()["blocked"] == []
    story.until_agents("all are back", story.everywhere("a"))


def test_load_that_rises_on_all_nodes_does_not_stop_a_wave(
    stories: dict[str, Story], measured: Sandbox, machines: NodeExporters
) -> None:
    story = stories["load"]
    raise_load(measured, machines, story, 20)
    story.publish("busy")
    story.until("busy", "soaking", lambda status: status.get("wave", {}).get("state") == "Soaking")
    story.patch("releases", "busy", {"suspend": True})  # the last wave has no control
    status = story.until("busy", "passed", lambda status: wave_states(status) == ["Passed"])

    (gate,) = (gate for gate in status["gates"] if gate.get("check") == "load")
    assert (gate["verdict"], gate["value"]) == ("Pass", "20")
    assert gate["threshold"] == "<= 10 or 3 x control (20)"
    raise_load(measured, machines, story, 0.5)
    story.patch("releases", "busy", {"suspend": False})
    story.until_phase("busy", "Completed")


def test_prometheus_may_stop_in_a_soak_and_nothing_leaks(
    stories: dict[str, Story],
    measured: Sandbox,
    operator: OperatorProcess,
    report_figure: Callable[[str], None],
) -> None:
    story = stories["machines"]
    story.publish("b")
    story.until("b", "soaking", lambda status: status.get("wave", {}).get("state") == "Soaking")
    before = threads_and_sockets(operator)
    measured.stop_component("prometheus")
    try:
        held = story.until(
            "b", "held", lambda status: status.get("wave", {}).get("state") == "Held"
        )
        during = [threads_and_sockets(operator)]
        failed = operator.metrics()
        measured.wait_for("ten more passes", lambda: passed(operator) > passed_in(failed) + 10)
        during.append(threads_and_sockets(operator))
        assert story.status("b")["phase"] == "Rolling"
        assert list(story.agents().values()).count(digest("b")) == 1, "nothing moves meanwhile"
    finally:
        measured.start_component("prometheus")
    story.until("b", "the canary passed", lambda status: wave_states(status)[:1] == ["Passed"])
    after = threads_and_sockets(operator)

    assert (held["waitingFor"], held["reason"]) == ("Evidence", "CheckUnreachable")
    assert "could not be asked" in held["message"]
    for threads, sockets in (*during, after):
        assert threads <= before[0] + THREADS_EACH
        assert sockets <= before[1] + THREADS_EACH
    report_figure(
        f"Prometheus stopped in a soak: threads and sockets of the operator {before} before, "
        f"{during[0]} when held, {during[1]} after 10 more passes, {after} when the wave passed"
    )


def raise_load(sandbox: Sandbox, machines: NodeExporters, story: Story, value: float) -> None:
    """Give all machines of a story this load, and have Prometheus know it of all of them."""
    machines.load(story.nodes, value)
    asked = {"query": f'count(node_load1{{node=~"{story.namespace}-.*"}} == {value})'}
    url = f"{sandbox.prometheus_url}/api/v1/query"

    def scraped() -> bool:
        found = requests.get(url, params=asked, timeout=5).json()["data"]["result"]
        return bool(found) and found[0]["value"][1] == str(len(story.nodes))

    sandbox.wait_for(f"a load of {value} to be scraped", scraped)


def running(story: Story, content: str) -> str:
    """A node on which this content runs; empty while there is none."""
    return next((node for node, seen in story.agents().items() if seen == digest(content)), "")


def wave_states(status: dict[str, Any]) -> list[str]:
    """The state of each wave so far."""
    return [wave["state"] for wave in status.get("waves", [])]


def passed(operator: OperatorProcess) -> float:
    """How many passes the operator made."""
    return passed_in(operator.metrics())


def passed_in(metrics: dict[str, float]) -> float:
    return metrics["wavegate_pass_seconds_count"]


def threads_and_sockets(operator: OperatorProcess) -> tuple[int, int]:
    """Of the operator's process, as the kernel counts them."""
    folder = Path("/proc") / str(operator.pid)
    sockets = 0
    for link in (folder / "fd").iterdir():
        try:
            sockets += str(link.readlink()).startswith("socket:")
        except FileNotFoundError:
            continue  # closed meanwhile
    return len(list((folder / "task").iterdir())), sockets


def run_pod(sandbox: Sandbox, story: Story, name: str) -> str:
    """A pod of someone's workload on the canary; returns its path once it is Ready."""
    path = f"/api/v1/namespaces/{SHOP}/pods"
    container = {"name": "app", "image": "registry.example/app:1"}
    spec = {"nodeName": story.nodes[0], "containers": [container]}
    sandbox.request("POST", path, {"metadata": {"name": name}, "spec": spec})

    def ready() -> bool:
        status = sandbox.request("GET", f"{path}/{name}")["status"]
        return any(entry["ready"] for entry in status.get("containerStatuses", []))

    sandbox.wait_for(f"pod {name} to be Ready", ready)
    return f"{path}/{name}"


def restart(sandbox: Sandbox, path: str) -> None:
    """The pod's container ended and runs again."""
    (container,) = sandbox.request("GET", path)["status"]["containerStatuses"]
    again = {**container, "restartCount": container["restartCount"] + 1}
    body = {"status": {"containerStatuses": [again]}}
    sandbox.request("PATCH", f"{path}/status", body, content_type=STRATEGIC)
