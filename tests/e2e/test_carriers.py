"""Content that our pods only carry, on the real control plane: agentSelector names who loads it."""

import pytest

from support.operator_process import OperatorProcess
from support.story import ON_ITS_CANARY, Story, digest
from support.workloads import is_ready, restart_container
from wavegate_sandbox.cluster import Sandbox

SELECTED = {
    "agentSelector": {
        "matchLabels": {"app": "edr"},
        "matchExpressions": [{"key": "track", "operator": "NotIn", "values": ["old", "older"]}],
    }
}


def agents(story: Story) -> dict[str, dict]:
    """The pods of the other agent by node."""
    mine = (p for p in story.pods() if p["metadata"]["labels"].get("app") == "edr")
    return {pod["spec"].get("nodeName", ""): pod for pod in mine}


@pytest.fixture
def carried(story: Story, sandbox: Sandbox, operators: list[OperatorProcess]) -> Story:
    """A story in which someone else's agent runs on all nodes; release a is on all of them."""
    story.begin(SELECTED)
    labels = {"app": "edr"}
    container = {"name": "edr", "image": f"registry.example/edr@{digest('edr')}"}
    spec = {"nodeSelector": {"story": story.namespace}, "containers": [container]}
    body = {
        "metadata": {"name": "edr"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }
    sandbox.request("POST", f"/apis/apps/v1/namespaces/{story.namespace}/daemonsets", body)
    sandbox.wait_for(
        "the other agent runs on all nodes",
        lambda: sum(is_ready(pod) for pod in agents(story).values()) == len(story.nodes),
        60,
    )
    crash(story, story.nodes[0])  # before: no news
    story.publish("a")
    story.until_phase("a", "Completed")
    return story


def crash(story: Story, node: str) -> None:
    """The other agent's container was restarted once more, and is Ready again."""
    restart_container(story.sandbox, agents(story)[node])


def test_a_restart_of_the_selected_agent_takes_the_release_back(carried: Story) -> None:
    carried.apply_channel({**SELECTED, "waves": ON_ITS_CANARY})
    carried.publish("bad")
    carried.until("bad", "moved", lambda status: status.get("nodes", {}).get("moved") == 1)
    crash(carried, carried.nodes[0])
    status = carried.until_phase("bad", "Reverted")
    assert status["incident"]["reason"] == "AgentRestarted"
    assert "selected agent edr-" in status["incident"]["message"]
    assert status["incident"]["nodes"] == [carried.nodes[0]]
    assert [entry["digest"] for entry in carried.channel_status()["blocked"]] == [digest("bad")]
