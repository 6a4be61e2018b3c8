"""A new binary of the agent on the real control plane: wave by wave, with stable's content.

Two operators run, as the chart has it; each story has nodes and a channel of its own.
"""

from collections.abc import Callable
from typing import Any

from support.operator_process import OperatorProcess
from support.served import as_served
from support.story import Story, asks_before_its_last, channel_spec, content_of, digest, is_running
from wavegate_sandbox.cluster import Sandbox
from wavegate_sandbox.faults import AgentCrashLoop, Faults

BAKE = {"rollout": {"maxUnavailable": "100%", "settle": "1s", "soak": "2s", "bake": "3s"}}


def agent(story: Story, name: str) -> dict[str, Any]:
    """The story's agent with another binary."""
    spec = as_served(story.sandbox, channel_spec(story.namespace))
    spec["agent"]["template"]["spec"]["containers"][0]["image"] = image(name)
    return {"agent": spec["agent"]}


def image(name: str) -> str:
    return f"registry.example/agent@{digest(name)}"


def running(story: Story) -> dict[str, tuple[str, str]]:
    """Binary and content of the agents that run, by node."""
    return {
        pod["spec"]["nodeName"]: (pod["spec"]["containers"][0]["image"], content_of(pod))
        for pod in story.pods()
        if is_running(pod)
    }


def everywhere(story: Story, binary: str, content: str) -> dict[str, tuple[str, str]]:
    return dict.fromkeys(story.nodes, (image(binary), digest(content)))


def until_agent(story: Story, what: str, test: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Wait until the newest change of the agent is so; returns its status."""
    seen: dict[str, Any] = {}

    def reached() -> bool:
        seen.clear()
        seen.update(story.channel_status().get("agentRollout") or {})
        return test(seen)

    try:
        story.sandbox.wait_for(f"{story.namespace}: the agent {what}", reached, 180)
    except Exception as error:
        raise AssertionError(f"{error}\nstatus: {seen or story.channel_status()}") from error
    return dict(seen)


def current(story: Story) -> tuple[str, str]:
    """Status and reason of the condition that stable runs the channel's template."""
    conditions = story.channel_status()["conditions"]
    found = next(c for c in conditions if c["type"] == "AgentCurrent")
    return found["status"], found["reason"]


def test_a_new_binary_goes_wave_by_wave_with_the_content_that_is_stable(
    story: Story, sandbox: Sandbox, operators: list[OperatorProcess]
) -> None:
    assert operators
    story.begin(BAKE)
    story.publish("a")
    story.until("a", "baked", lambda status: status.get("reason") == "Baked")
    waves = asks_before_its_last(story.namespace)
    story.patch("channels", story.channel, {**agent(story, "agent 2"), "waves": waves})

    shown = until_agent(story, "asks", lambda now: now.get("reason") == "AwaitingApproval")
    assert (shown["phase"], shown["wave"]["name"]) == ("Rolling", "all")
    candidate = story.channel_status()["candidate"]
    assert (candidate["kind"], candidate["version"]) == ("Agent", "a")
    before = everywhere(story, "agent", "a")
    assert running(story) == {**before, story.nodes[0]: (image("agent 2"), digest("a"))}
    assert story.status("a")["phase"] == "Completed"

    story.decide("go", "a", "Approve", wave="all", digest=shown["template"])
    until_agent(story, "is complete", lambda now: now.get("phase") == "Completed")
    assert running(story) == everywhere(story, "agent 2", "a")
    assert current(story) == ("True", "Accepted")
    assert story.channel_status()["stable"]["kind"] == "Agent"

    story.publish("b")
    story.until("b", "asks", lambda status: status.get("reason") == "AwaitingApproval")
    story.decide("go-b", "b", "Approve", wave="all")
    story.until_phase("b", "Completed")
    assert running(story) == everywhere(story, "agent 2", "b")


def test_a_bad_binary_is_taken_back_and_the_content_is_not_blocked(
    story: Story, sandbox: Sandbox, operators: list[OperatorProcess]
) -> None:
    assert operators
    pace = channel_spec(story.namespace)["rollout"]
    story.begin({"rollout": {**pace, "bake": "1h", "breaker": {"reverts": 0}}})
    story.publish("a")
    story.until_phase("a", "Completed")
    with Faults(sandbox, {digest("bad agent"): AgentCrashLoop(every_seconds=1)}):
        story.patch("channels", story.channel, agent(story, "bad agent"))
        shown = until_agent(story, "is back", lambda now: now.get("phase") == "Reverted")

    assert shown["incident"]["reason"] == "AgentRestarted"
    assert shown["incident"]["nodes"] == [story.nodes[0]]
    assert running(story) == everywhere(story, "agent", "a")
    assert story.channel_status()["blocked"] == []
    sandbox.wait_for("it says so", lambda: current(story) == ("False", "AgentTemplateFailed"), 20)

    story.publish("b")
    story.until_phase("b", "Completed")
    assert running(story) == everywhere(story, "agent", "b")
    story.publish("again", "a")
    story.until_phase("again", "Completed")
    assert running(story) == everywhere(story, "agent", "a")


def test_a_parked_daemon_set_that_is_edited_rolls_out_unless_nothing_of_the_agent_changes(
    story: Story, sandbox: Sandbox, operators: list[OperatorProcess]
) -> None:
    assert operators
    pod = channel_spec(story.namespace)["agent"]["template"]["spec"]
    pod["nodeSelector"]["wavegate.dev/parked"] = "true"
    pod["volumes"] = [{"name": "content", "emptyDir": {}}]
    labels = {"app": "agent"}
    template = {"metadata": {"labels": labels}, "spec": pod}
    parked = {"selector": {"matchLabels": labels}, "template": template}
    path = f"/apis/apps/v1/namespaces/{story.namespace}/daemonsets"
    sandbox.request("POST", path, {"metadata": {"name": "vendor"}, "spec": parked})
    story.begin({"agent": {"daemonSetRef": {"name": "vendor"}}})
    story.publish("a")
    story.until_phase("a", "Completed")
    stable = story.channel_status()["stable"]

    # Another placeholder for the content: what agents get is the same.
    pod["volumes"] = [{"name": "content", "emptyDir": {"medium": "Memory"}}]
    edited = {"metadata": {"name": "vendor"}, "spec": parked}
    sandbox.request("PUT", f"{path}/vendor", edited)

    def renamed() -> bool:
        return bool(story.channel_status()["stable"]["agent"] != stable["agent"])

    sandbox.wait_for("the edit to be seen", renamed, 90)
    assert story.channel_status()["stable"]["attempt"] == stable["attempt"]
    assert current(story) == ("True", "Accepted")
    pod["containers"][0]["image"] = image("agent 2")
    sandbox.request("PUT", f"{path}/vendor", edited)
    until_agent(story, "is complete", lambda now: now.get("phase") == "Completed")
    assert running(story) == everywhere(story, "agent 2", "a")


def test_defaults_that_are_written_out_inline_move_no_agent_and_another_value_does(
    story: Story, sandbox: Sandbox, operators: list[OperatorProcess]
) -> None:
    assert operators
    story.begin()
    story.publish("a")
    story.until_phase("a", "Completed")
    stable, before = story.channel_status()["stable"], agents_of(story)
    spec = as_served(sandbox, channel_spec(story.namespace))["agent"]
    pod = spec["template"]["spec"]
    defaults = {"restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "securityContext": {}}
    pod |= {**defaults, "terminationGracePeriodSeconds": 30}
    pod["containers"][0] |= {"terminationMessagePath": "/dev/termination-log"}
    story.patch("channels", story.channel, {"agent": spec})

    def renamed() -> bool:
        return bool(story.channel_status()["stable"]["agent"] != stable["agent"])

    sandbox.wait_for("the edit to be seen", renamed, 60)
    assert story.channel_status()["stable"]["attempt"] == stable["attempt"]
    assert current(story) == ("True", "Accepted")
    assert agents_of(story) == before
    pod["terminationGracePeriodSeconds"] = 31
    story.patch("channels", story.channel, {"agent": spec})
    until_agent(story, "is complete", lambda now: now.get("phase") == "Completed")
    assert not agents_of(story) & before


def agents_of(story: Story) -> set[str]:
    """UIDs of the agents that run."""
    return {pod["metadata"]["uid"] for pod in story.pods() if is_running(pod)}
