"""What happens after a failure, on the real control plane: content that can't be fetched, one kind
of machine that goes back, and stable in doubt.

The stories are played side by side, as the first takes four minutes: a node that can't fetch goes
back after two, and is tried again two later. No setting shortens these.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from support.operator_process import OperatorProcess
from support.story import Story, digest
from support.workloads import restart_container
from wavegate.rollout.stalls import BACK_OFF_SECONDS, GIVE_BACK_SECONDS
from wavegate_sandbox.cluster import Sandbox
from wavegate_sandbox.components import OFFLINE
from wavegate_sandbox.nodes import NodeSpec

PACE = {"maxUnavailable": "100%", "settle": "1s", "soak": "2s"}
IN_ITS_LAST_WAVE = [
    {"name": "canary", "pools": ["canary"], "upTo": "100%"},
    {"name": "all", "upTo": "100%", "soak": "1h"},
]
"""Waves of which the last does not end by itself: all nodes have the content when harm is done."""
OLDER_KERNEL = "6.1.0"
Played = dict[str, Future[None]]


@pytest.fixture(scope="module")
def played(sandbox: Sandbox, operators: list[OperatorProcess]) -> Iterator[Played]:
    """Each story under way, by its name."""
    assert operators
    with ThreadPoolExecutor(len(STORIES)) as threads:
        yield {name: threads.submit(play, sandbox) for name, play in STORIES.items()}


@pytest.mark.parametrize("story", ["only-one-kernel", "stable-in-doubt", "not-fetched"])
def test_after_a_failure(story: str, played: Played) -> None:
    played[story].result()


def only_one_kernel(sandbox: Sandbox) -> None:
    """onFailure: RevertFailing. Nodes of one kernel go back, the others keep the content."""
    story = begun(sandbox, "only-one-kernel", workers=2)
    older = [f"{story.namespace}-older-{name}" for name in ("canary", "worker-0", "worker-1")]
    others = story.nodes
    join(story, older)
    rollout = {**PACE, "onFailure": "RevertFailing", "coolDown": "30m"}
    story.apply_channel({"rollout": rollout})
    completed(story, "a")
    story.apply_channel({"rollout": rollout, "waves": IN_ITS_LAST_WAVE})
    story.publish("bad")
    until_running(story, "bad", [*older, *others])
    for name in older[1:]:
        restart_agent(story, name)
    status = story.until_phase("bad", "Paused")

    assert status["reason"] == "AgentRestarted"
    assert set(status["incident"]["nodes"]) == set(older[1:])
    wanted = dict.fromkeys(older, "a") | dict.fromkeys(others, "bad")
    story.until_agents("the older kernel alone is back", wanted)
    assert OLDER_KERNEL in story.status("bad")["message"]
    assert story.channel_status()["blocked"] == []
    story.decide("go", "bad", "Resume")
    refused = story.settled("go")
    assert (refused["phase"], "RevertFailing" in refused["message"]) == ("Refused", True)
    assert story.agents() == {name: digest(letter) for name, letter in wanted.items()}
    story.decide("back", "bad", "Revert")
    story.until_phase("bad", "Reverted")
    story.until_agents("all are back", dict.fromkeys([*older, *others], "a"))


def stable_in_doubt(sandbox: Sandbox) -> None:
    """Nodes that went back fail on stable too; a person goes back to the last baked release."""
    story = begun(sandbox, "stable-in-doubt", workers=6)
    story.apply_channel({"rollout": {**PACE, "bake": "3s"}})
    completed(story, "old")
    story.until("old", "baked", lambda status: status.get("reason") == "Baked")
    rollout = {**PACE, "coolDown": "0s", "bake": "1h"}
    story.apply_channel({"rollout": rollout})
    completed(story, "a")
    story.apply_channel({"rollout": rollout, "waves": IN_ITS_LAST_WAVE})
    story.publish("bad")
    until_running(story, "bad", story.nodes)
    dead, first, second, *others = story.worker_names
    sandbox.crash(dead)  # so that the revert goes on until somebody has seen what else fails
    for name in (first, second):
        restart_agent(story, name)
    reverting = story.until("bad", "reverting", lambda seen: seen.get("phase") == "Reverting")
    until_running(story, "a", [name for name in story.nodes if name != dead])
    for name in others[:2]:
        restart_agent(story, name)
    status = story.until_phase("bad", "Reverted")

    assert status["reason"] == "StableSuspect"
    # The first that crashed may have gone back alone, as a suspect, before the second did.
    moved = reverting["nodes"]["moved"]
    assert moved in (len(story.nodes) - 1, len(story.nodes))
    assert f"2 of {moved} nodes fail on stable release a as well" in status["message"]
    assert all(name in status["message"] for name in (dead, *others[:2]))
    sandbox.boot(dead)
    assert "release: a" in not_ready(story)["message"]
    story.publish("next")
    waiting = story.until("next", "told why", lambda status: bool(status.get("message")))
    assert (waiting["phase"], waiting["reason"]) == ("Pending", "StableSuspect")
    story.decide("further", "a", "Revert")
    story.until("a", "taken back", lambda status: status.get("phase") == "Reverted")
    story.until_agents("all run what was baked", story.everywhere("old"))
    shown = story.channel_status()
    assert shown["stable"]["version"] == "old"
    assert [entry["digest"] for entry in shown["blocked"]] == [digest("bad")]
    assert story.status("next")["phase"] == "Pending"
    story.apply_channel({"rollout": rollout})
    story.decide("go", "bad", "Resume")
    story.until_phase("next", "Completed")
    assert story.agents() == story.everywhere_digest("next")


def not_fetched(sandbox: Sandbox) -> None:
    """An image that can't be pulled holds; the node goes back, and is tried again."""
    story = begun(sandbox, "not-fetched", workers=2)
    story.apply_channel({"rollout": PACE})
    completed(story, "a")
    canary = story.nodes[0]
    story.publish("late", content={"image": f"{OFFLINE}/content@{digest('late')}"})
    status = story.until("late", "held", lambda status: status.get("reason") == "CannotFetch")
    assert (status["phase"], status["wave"]["state"]) == ("Rolling", "Held")
    assert f"node {canary} can't start: ImagePullBackOff" in status["message"]
    first = pending(story)
    assert [pod["spec"]["nodeName"] for pod in first] == [canary]

    sandbox.wait_for(
        "the node is back on stable",
        lambda: story.agents() == story.everywhere_digest("a"),
        GIVE_BACK_SECONDS + 30,
    )
    away = "is back on stable, to be retried (once so far)"
    status = story.until("late", "told that it is back", lambda status: away in status["message"])
    assert (status["phase"], status["reason"]) == ("Rolling", "CannotFetch")
    sandbox.wait_for("it is tried again", lambda: pending(story), BACK_OFF_SECONDS + 30)
    second = pending(story)
    assert [pod["spec"]["nodeName"] for pod in second] == [canary]
    assert second[0]["metadata"]["uid"] != first[0]["metadata"]["uid"]

    def pulled(status: dict[str, Any]) -> bool:
        for pod in pending(story):
            sandbox.pull(story.namespace, pod["metadata"]["name"])
        return status.get("phase") == "Completed"

    story.until("late", "completed, now that the registry has it", pulled)
    assert story.agents() == story.everywhere_digest("late")
    assert story.channel_status()["blocked"] == []


STORIES = {
    "only-one-kernel": only_one_kernel,
    "stable-in-doubt": stable_in_doubt,
    "not-fetched": not_fetched,
}


def begun(sandbox: Sandbox, name: str, workers: int) -> Story:
    """A story with nodes and a channel, in a namespace of its name."""
    sandbox.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    return Story(sandbox, name, workers).begin()


def join(story: Story, names: list[str]) -> None:
    """Nodes of the older kernel join."""
    pools = {name: "canary" if name.endswith("canary") else "workers" for name in names}
    story.sandbox.add_nodes(
        NodeSpec(name, {"story": story.namespace, "pool": pool}, kernel=OLDER_KERNEL)
        for name, pool in pools.items()
    )


def completed(story: Story, release: str) -> None:
    """Publish it and wait until all nodes have it."""
    story.publish(release)
    story.until_phase(release, "Completed")


def until_running(story: Story, content: str, nodes: list[str]) -> None:
    """Wait until these nodes run this content."""
    story.sandbox.wait_for(
        f"{story.namespace}: {len(nodes)} nodes run {content}",
        lambda: all(story.agents().get(name) == digest(content) for name in nodes),
        60,
    )


def restart_agent(story: Story, node: str) -> None:
    """The agent that stays on a node ends with an error and is started anew."""
    on_node = (pod for pod in story.pods() if pod["spec"].get("nodeName") == node)
    restart_container(
        story.sandbox, next(p for p in on_node if "deletionTimestamp" not in p["metadata"])
    )


def pending(story: Story) -> list[dict[str, Any]]:
    """Agent pods whose image is waited for."""
    staying = (pod for pod in story.pods() if "deletionTimestamp" not in pod["metadata"])
    return [pod for pod in staying if waits(pod)]


def waits(pod: dict[str, Any]) -> bool:
    """Whether its containers wait for their image."""
    containers = pod["status"].get("containerStatuses", [])
    return any("waiting" in container["state"] for container in containers)


def not_ready(story: Story) -> dict[str, Any]:
    """The channel's condition Ready, once it is False."""
    found: dict[str, Any] = {}

    def told() -> bool:
        conditions = story.channel_status().get("conditions", [])
        found.update(next((c for c in conditions if c["type"] == "Ready"), {}))
        return found.get("status") == "False"

    story.sandbox.wait_for(f"{story.namespace}: the channel is not Ready", told)
    return found
