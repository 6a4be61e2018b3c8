"""The main job on the real control plane, under the chart's ServiceAccount, never as admin.

Two operators run, as the chart has it; each story has nodes and a channel of its own.
"""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import pytest
import requests

from support.builders import layers
from support.operator_process import OperatorProcess, leader_of
from support.story import ON_ITS_CANARY, Story, digest
from wavegate_sandbox.cluster import Sandbox
from wavegate_sandbox.exporter import Exporter
from wavegate_sandbox.faults import AgentCrashLoop, Faults, NodeCrash

NAMES = (
    "good",
    "node-crash",
    "crash-loop",
    "metrics",
    "outage",
    "killed",
    "leader",
    "joins",
    "evicted",
    "blocked",
    "replaced",
)


@pytest.fixture(scope="module")
def stories(sandbox: Sandbox, operators: list[OperatorProcess]) -> dict[str, Story]:
    """All stories with content `a` on all of their nodes. They begin side by side."""
    for name in NAMES:
        sandbox.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})

    def begin(name: str) -> Story:
        story = Story(sandbox, name).begin()
        story.publish("a")
        story.until_phase("a", "Completed")
        return story

    with ThreadPoolExecutor(len(NAMES)) as threads:
        return dict(zip(NAMES, threads.map(begin, NAMES), strict=True))


def test_a_good_release_goes_wave_by_wave_and_becomes_stable(stories: dict[str, Story]) -> None:
    story = stories["good"]
    before = {pod["metadata"]["uid"] for pod in story.pods()}

    story.publish("b")
    story.until("b", "canary only", lambda status: status.get("wave", {}).get("number") == 1)
    story.until_agents("the canary has it", {**story.everywhere("a"), story.nodes[0]: "b"})
    status = story.until_phase("b", "Completed")

    assert [wave["state"] for wave in status["waves"]] == ["Passed", "Passed"]
    assert [wave["nodes"] for wave in status["waves"]] == [1, 3]
    assert story.agents() == story.everywhere_digest("b")
    assert before.isdisjoint({pod["metadata"]["uid"] for pod in story.pods()})
    assert story.channel_status()["stable"]["version"] == "b"
    story.until_events("b", "RolloutStarted", "WaveOpened", "WavePassed", "Completed")


def test_the_first_release_went_wave_by_wave_too(stories: dict[str, Story]) -> None:
    waves = stories["good"].status("a")["waves"]
    assert [(wave["name"], wave["nodes"]) for wave in waves] == [("canary", 1), ("all", 3)]
    assert waves[0]["passedAt"] <= waves[1]["openedAt"]


def test_the_crash_of_a_canary_reverts(stories: dict[str, Story], sandbox: Sandbox) -> None:
    story = stories["node-crash"]
    canary = story.nodes[0]
    with Faults(sandbox, {digest("bad"): NodeCrash(after_seconds=1)}) as faults:
        story.publish("bad")
        story.until_phase("bad", "Reverting")
        assert {event.node for event in faults.timeline if event.kind == "loaded"} == {canary}
        reboot = sandbox.boot(canary)
        status = story.until_phase("bad", "Reverted")

    assert status["incident"]["reason"] in {"NodeNotReady", "NodeRebooted"}
    assert status["incident"]["nodes"] == [canary]
    assert story.agents() == story.everywhere_digest("a")
    assert (
        sandbox.request("GET", f"/api/v1/nodes/{canary}")["status"]["nodeInfo"]["bootID"] == reboot
    )
    assert [entry["digest"] for entry in story.channel_status()["blocked"]] == [digest("bad")]


def test_a_crash_loop_of_the_agent_reverts(stories: dict[str, Story], sandbox: Sandbox) -> None:
    story = stories["crash-loop"]
    with Faults(sandbox, {digest("loop"): AgentCrashLoop(every_seconds=1)}):
        story.publish("loop")
        status = story.until_phase("loop", "Reverted")

    assert status["incident"]["reason"] == "AgentRestarted"
    assert "exit code 1" in status["incident"]["message"]
    story.until_agents("all are back", story.everywhere("a"))


def test_a_check_above_its_threshold_reverts(
    stories: dict[str, Story], sandbox: Sandbox, session_exporter: Exporter
) -> None:
    story = stories["metrics"]
    watch_metrics(story, sandbox, session_exporter, waves=ON_ITS_CANARY)
    story.publish("slow")
    story.until_agents("the canary has it", {**story.everywhere("a"), story.nodes[0]: "slow"})
    session_exporter.set("story_crashes", {"node": story.nodes[0]}, 1)
    status = story.until_phase("slow", "Reverted")

    assert status["incident"]["reason"] == "CheckAboveMax"
    assert status["incident"]["wave"] == {"number": 1, "name": "canary"}
    assert story.nodes[0] in status["incident"]["message"]
    stopped, *others = status["gates"]
    assert (stopped["check"], stopped["verdict"]) == ("crashes", "Fail")
    assert (stopped["value"], stopped["threshold"]) == ("1", "<= 0")
    name = story.nodes[0].replace("-", r"\\-")
    assert stopped["query"] == f'max by (node) (story_crashes{{node=~"{name}"}})'
    assert stopped["worst"] == [{"node": story.nodes[0], "what": "1"}]
    assert abs(seconds_of(stopped["sampledAt"]) - seconds_of(stopped["at"])) < 10
    assert {gate["gate"] for gate in others} == {"Nodes", "Agents"}
    assert story.channel_status()["blocked"] == []
    story.until_agents("all are back", story.everywhere("a"))


def test_without_prometheus_the_rollout_holds_and_then_resumes(
    stories: dict[str, Story], sandbox: Sandbox, session_exporter: Exporter
) -> None:
    story = stories["outage"]
    watch_metrics(story, sandbox, session_exporter)
    sandbox.stop_component("prometheus")
    try:
        story.publish("b")
        status = story.until(
            "b", "held", lambda status: status.get("wave", {}).get("state") == "Held"
        )
        assert status["phase"] == "Rolling"
        assert status["waitingFor"] == "Evidence"
        assert "crashes" in status["message"]
        holding = status["gates"][0]
        assert (holding["verdict"], holding["reason"]) == ("Hold", "CheckUnreachable")
        assert set(story.agents()) <= set(story.nodes)
        assert list(story.agents().values()).count(digest("b")) <= 1
    finally:
        sandbox.start_component("prometheus")
    story.until_phase("b", "Completed")


def test_an_operator_killed_in_the_middle_of_a_wave_finishes_it_after_its_restart(
    stories: dict[str, Story], operators: list[OperatorProcess]
) -> None:
    story = stories["killed"]
    story.publish("b")
    story.until_agents("the canary has it", {**story.everywhere("a"), story.nodes[0]: "b"})
    for operator in operators:
        operator.kill()
    assert story.status("b")["phase"] == "Rolling"
    for operator in operators:
        operator.start()
    status = story.until_phase("b", "Completed")

    assert [wave["nodes"] for wave in status["waves"]] == [1, 3]
    assert story.agents() == story.everywhere_digest("b")


def test_when_the_leader_is_killed_the_other_goes_on(
    stories: dict[str, Story], operators: list[OperatorProcess], sandbox: Sandbox
) -> None:
    story = stories["leader"]
    leader = leader_of(operators)
    story.publish("b")
    story.until("b", "on its way", lambda status: status.get("phase") == "Rolling")
    leader.kill()
    other = next(operator for operator in operators if operator is not leader)
    sandbox.wait_for("the other replica leads", lambda: other.leads, 30)
    story.until_phase("b", "Completed")
    leader.start().wait_ready()

    assert leader_of(operators) is other


def test_a_node_that_joins_in_the_middle_gets_stable_and_is_swept_at_the_end(
    stories: dict[str, Story],
) -> None:
    story = stories["joins"]
    joined = f"{story.namespace}-worker-9"
    story.publish("b")
    story.until_agents("the canary has it", {**story.everywhere("a"), story.nodes[0]: "b"})
    story.patch("releases", "b", {"suspend": True})
    story.until_phase("b", "Paused")
    story.join(joined)
    story.until_agents(
        "it runs stable", {**story.everywhere("a"), story.nodes[0]: "b", joined: "a"}
    )
    story.patch("releases", "b", {"suspend": False})
    story.until_phase("b", "Completed")

    assert story.agents() == dict.fromkeys([*story.nodes, joined], digest("b"))


def test_a_pod_of_a_stable_node_that_is_deleted_comes_back_stable(
    stories: dict[str, Story], sandbox: Sandbox
) -> None:
    story = stories["evicted"]
    story.publish("b")
    story.until_agents("the canary has it", {**story.everywhere("a"), story.nodes[0]: "b"})
    story.patch("releases", "b", {"suspend": True})
    story.until_phase("b", "Paused")
    mixed = story.agents()
    victim = story.nodes[1]
    deleted = delete_pod_on(story, victim, sandbox)
    sandbox.wait_for(
        "another pod runs there", lambda: deleted not in uids_on(story, victim) != set(), 30
    )
    sandbox.wait_for("the same contents run", lambda: story.agents() == mixed, 30)
    story.patch("releases", "b", {"suspend": False})
    story.until_phase("b", "Completed")


def test_what_failed_is_refused_when_it_is_applied_again_or_built_into_another_image(
    stories: dict[str, Story], sandbox: Sandbox
) -> None:
    story = stories["blocked"]
    with Faults(sandbox, {digest("loop-again"): AgentCrashLoop(every_seconds=1)}):
        story.publish("first-try", letter="loop-again", layers=["fault"])
        story.until_phase("first-try", "Reverted")
    story.publish("second-try", letter="loop-again")
    status = story.until_phase("second-try", "Rejected")

    assert status["reason"] == "DigestBlocked"
    assert "first-try" in status["message"]
    assert "attempt" not in status
    story.publish("rebuilt", layers=["base", "fault"])
    status = story.until_phase("rebuilt", "Rejected")
    [entry] = story.channel_status()["blocked"]

    assert entry["layers"] == list(layers("fault"))
    assert status["reason"] == "DigestBlocked"
    assert f"its layer {layers('fault')[0]}" in status["message"]
    assert f"incident: {entry['incident']}" in status["message"]
    story.until_agents("nothing moved", story.everywhere("a"))
    story.publish("repaired", layers=["base", "mended"])
    story.until_phase("repaired", "Completed")


def test_a_newer_release_takes_the_place_of_one_in_its_first_wave(
    stories: dict[str, Story],
) -> None:
    story = stories["replaced"]
    rollout = {"maxUnavailable": "100%", "settle": "1s", "coolDown": "30m"}
    # The first wave of b would last until the end of the test; its plan is frozen, c has another.
    story.apply_channel({"rollout": {**rollout, "soak": "30m"}})
    story.publish("b")
    story.until_agents("the canary has it", {**story.everywhere("a"), story.nodes[0]: "b"})
    story.apply_channel({"rollout": {**rollout, "soak": "2s"}})
    story.publish("c")
    status = story.until_phase("b", "Superseded")

    assert status["reason"] == "Replaced"
    assert "release c is newer and takes its place" in status["message"]
    assert [wave["name"] for wave in status["waves"]] == ["canary"]
    assert digest("b") not in story.agents().values()
    assert story.channel_status()["blocked"] == []
    story.until_phase("c", "Completed")
    assert story.agents() == story.everywhere_digest("c")
    assert story.status("b")["phase"] == "Superseded"


def watch_metrics(story: Story, sandbox: Sandbox, exporter: Exporter, **spec: Any) -> None:
    """Give the story's nodes a series of zeros and its channel a check on it, and this spec."""
    for node in story.nodes:
        exporter.set("story_crashes", {"node": node}, 0)
    check = {
        "name": "crashes",
        "query": 'max by (node) (story_crashes{node=~"$nodes"})',
        "max": 0,
        "interval": "1s",
        "timeout": "1s",
    }
    prometheus = {"url": sandbox.prometheus_url}
    story.apply_channel({"checks": [check], "prometheus": prometheus, **spec})

    def scraped() -> bool:
        answer: dict[str, Any] = query(sandbox, f'story_crashes{{node="{story.nodes[0]}"}}')
        return bool(answer["data"]["result"])

    sandbox.wait_for("the series to be scraped", scraped, 30)


def seconds_of(timestamp: str) -> float:
    """Seconds since 1970."""
    return datetime.fromisoformat(timestamp).timestamp()


def query(sandbox: Sandbox, promql: str) -> dict[str, Any]:
    """Ask the sandbox's Prometheus."""
    answer = requests.get(
        f"{sandbox.prometheus_url}/api/v1/query", params={"query": promql}, timeout=5
    )
    found: dict[str, Any] = answer.json()
    return found


def delete_pod_on(story: Story, node: str, sandbox: Sandbox) -> str:
    """Delete the agent's pod on a node, as an eviction would; returns its UID."""
    pod = next(p for p in story.pods() if p["spec"].get("nodeName") == node)
    name = pod["metadata"]["name"]
    sandbox.request("DELETE", f"/api/v1/namespaces/{story.namespace}/pods/{name}")
    return str(pod["metadata"]["uid"])


def uids_on(story: Story, node: str) -> set[str]:
    """UIDs of the pods on a node."""
    pods = story.pods()
    return {p["metadata"]["uid"] for p in pods if p["spec"].get("nodeName") == node}
