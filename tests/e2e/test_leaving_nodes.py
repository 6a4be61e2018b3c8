"""Nodes that leave a wave on the real control plane, marked as real tools mark them.

Two operators run, as the chart has it. The stories are told side by side, each on nodes and a
channel of its own, so that the module takes as long as the longest of them. What each tool writes
is in docs/autoscalers.md, with the source that says so.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from support.operator_process import OperatorProcess
from support.story import Story, channel_spec, digest
from support.tools import Tool
from support.workloads import node_of, until_lost
from wavegate.rollout.names import HANDS_OFF_ANNOTATION
from wavegate_sandbox.cluster import Sandbox

Told = tuple[Story, dict[str, Any]]
"""A story, and the last status of release `b`."""
WAVES = [  # the tool needs the time to take the first node while its wave soaks
    {"name": "one", "upTo": 1, "soak": "6s"},
    {"name": "all", "upTo": "100%"},
]
ROLLOUT = {"maxUnavailable": "100%", "settle": "1s", "soak": "1s", "bake": "0s"}
DONE_AGAIN = ["Excused", "Passed", "Passed"]


def first_node(story: Story) -> str:
    """Publish `b`, and wait for the node that gets it first."""
    story.publish("b")

    def having() -> list[str]:
        return [node for node, content in story.agents().items() if content == digest("b")]

    return str(story.sandbox.wait_for(f"{story.namespace}: b runs on a node", having, 60)[0])


def taint(story: Story, node: str, key: str, value: str = "") -> None:
    """Add a NoSchedule taint, as all of the tools do."""
    there = node_of(story.sandbox, node)["spec"].get("taints", [])
    spec = {"taints": [*there, {"key": key, "value": value, "effect": "NoSchedule"}]}
    story.sandbox.request("PATCH", f"/api/v1/nodes/{node}", {"spec": spec})


def by_cluster_autoscaler(story: Story, node: str) -> None:
    """With --cordon-node-before-terminating=false, which was the default for long."""
    seconds = str(int(datetime.now(UTC).timestamp()))
    taint(story, node, "ToBeDeletedByClusterAutoscaler", seconds)


def drained(story: Story, home: Path) -> None:
    """An administrator drains the first node and deletes it."""
    node = first_node(story)
    kubectl = Tool(story.sandbox, "kubectl", home)
    kubectl("drain", node, "--ignore-daemonsets", "--delete-emptydir-data")
    story.sandbox.remove_node(node)
    story.until_phase("b", "Completed")


def scaled_down(story: Story, _home: Path) -> None:
    """Cluster Autoscaler takes the first node."""
    node = first_node(story)
    by_cluster_autoscaler(story, node)
    story.sandbox.remove_node(node)
    story.until_phase("b", "Completed")


def consolidated(story: Story, _home: Path) -> None:
    """Karpenter has marked one of the two nodes when the release comes, and removes it then. It
    does not cordon, and the agent tolerates anything.
    """
    leaving, left = story.nodes
    taint(story, leaving, "karpenter.sh/disrupted")
    assert first_node(story) == left
    story.sandbox.remove_node(leaving)
    story.until_phase("b", "Completed")


def vanished(story: Story, _home: Path) -> None:
    """The first node goes without a word."""
    story.sandbox.remove_node(first_node(story))
    story.until_phase("b", "Reverted")


def cleaned_up(story: Story, _home: Path) -> None:
    """The first node crashes. When it is lost Cluster Autoscaler removes it. A person keeps the
    operator from acting meanwhile, so that it judges with all of that before its eyes.
    """
    node = first_node(story)
    hands_off(story, "true")
    story.until("b", "hands off", lambda status: status.get("reason") == "HandsOff")
    story.sandbox.crash(node)
    until_lost(story.sandbox, node)
    by_cluster_autoscaler(story, node)
    story.sandbox.cordon(node)
    story.sandbox.remove_node(node)
    hands_off(story, None)
    story.until_phase("b", "Reverted")


def repaired(story: Story, _home: Path) -> None:
    """Self Node Remediation takes the first node, which is cordoned as well."""
    node = first_node(story)
    taint(story, node, "remediation.medik8s.io/self-node-remediation")
    story.sandbox.cordon(node)
    story.sandbox.remove_node(node)
    story.until_phase("b", "Reverted")


def crashed_while_due(story: Story, _home: Path) -> None:
    """kured would like to reboot all nodes and waits, as rollouts are to end first. The content
    makes the first one boot.
    """
    for node in story.nodes:
        due(story, node)
    node = first_node(story)
    story.sandbox.crash(node)
    story.sandbox.boot(node)
    story.until_phase("b", "Reverted")


def contents(story: Story) -> set[str]:
    """What runs on the nodes that are there. Pods of others stay until the pod collector comes."""
    found = story.sandbox.request(
        "GET", "/api/v1/nodes", params={"labelSelector": f"story={story.namespace}"}
    )
    there = {node["metadata"]["name"] for node in found["items"]}
    return {content for node, content in story.agents().items() if node in there}


def due(story: Story, node: str) -> None:
    """What kured --annotate-nodes writes when a node asks for a reboot."""
    at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    names = ("weave.works/kured-reboot-in-progress", "weave.works/kured-most-recent-reboot-needed")
    metadata = {"annotations": dict.fromkeys(names, at)}
    story.sandbox.request("PATCH", f"/api/v1/nodes/{node}", {"metadata": metadata})


def hands_off(story: Story, value: str | None) -> None:
    """A person keeps the operator from writing anything but status, or lets it go on."""
    path = f"/apis/wavegate.dev/v1alpha1/namespaces/{story.namespace}/securitycontentchannels"
    metadata = {"annotations": {HANDS_OFF_ANNOTATION: value}}
    story.sandbox.request("PATCH", f"{path}/{story.channel}", {"metadata": metadata})


EXCUSED = (drained, scaled_down)
HARM = (vanished, cleaned_up, repaired, crashed_while_due)
PLAYS = (*EXCUSED, consolidated, *HARM)


@pytest.fixture(scope="module")
def told(
    sandbox: Sandbox,
    operators: list[OperatorProcess],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, Future[Told]]]:
    """The stories by name, told side by side. In each content `a` is on all nodes at first."""
    sandbox.tool("kubectl")

    names = {play: play.__name__.replace("_", "-") for play in PLAYS}
    homes = {play: tmp_path_factory.mktemp(name) for play, name in names.items()}  # no thread's

    def tell(play: Callable[[Story, Path], None]) -> Told:
        name = names[play]
        sandbox.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        story = Story(sandbox, name, workers=1)
        agent = channel_spec(name)["agent"]
        agent["template"]["spec"]["tolerations"] = [{"operator": "Exists"}]
        story.begin({"agent": agent, "rollout": ROLLOUT, "waves": WAVES})
        story.publish("a")
        story.until_phase("a", "Completed")
        if play in HARM:  # however slow the test is, it comes in the first wave
            story.patch(
                "channels", story.channel, {"waves": [{**WAVES[0], "soak": "1h"}, WAVES[1]]}
            )
        play(story, homes[play])
        return story, story.status("b")

    with ThreadPoolExecutor(len(PLAYS)) as threads:
        yield {play.__name__: threads.submit(tell, play) for play in PLAYS}


@pytest.mark.parametrize("name", [play.__name__ for play in EXCUSED])
def test_the_first_wave_is_done_again_without_a_node_that_left_as_announced(
    told: dict[str, Future[Told]], name: str
) -> None:
    story, status = told[name].result()
    assert [wave["state"] for wave in status["waves"]][:3] == DONE_AGAIN
    first, second = (wave["name"] for wave in status["waves"][:2])
    assert first == second == "one"
    assert "NodeExcused" in story.events("b")
    assert contents(story) == {digest("b")}


def test_the_first_wave_takes_no_node_that_is_announced_to_leave_already(
    told: dict[str, Future[Told]],
) -> None:
    story, status = told["consolidated"].result()
    assert [wave["state"] for wave in status["waves"]] == ["Passed", "Passed"]
    assert contents(story) == {digest("b")}


@pytest.mark.parametrize(
    ("name", "reasons"),
    [
        ("vanished", {"NodeVanished"}),
        ("cleaned_up", {"NodeVanished"}),  # the announcement came after the crash
        ("repaired", {"NodeVanished"}),
        ("crashed_while_due", {"NodeRebooted", "NodeNotReady", "AgentRestarted"}),
    ],
)
def test_the_first_wave_fails_by_a_node_that_left_in_any_other_way(
    told: dict[str, Future[Told]], name: str, reasons: set[str]
) -> None:
    story, status = told[name].result()
    assert status["incident"]["reason"] in reasons
    assert [entry["digest"] for entry in story.channel_status()["blocked"]] == [digest("b")]
    assert contents(story) == {digest("a")}
