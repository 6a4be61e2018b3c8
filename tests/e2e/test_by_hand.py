"""People revert with the lines of the status, and a record is lost: with the real kubectl."""

from pathlib import Path

from support.operator_process import OperatorProcess
from support.story import ON_ITS_CANARY, Story
from support.tools import Tool, paste
from wavegate_sandbox.cluster import Sandbox

SYSTEM = "wavegate-e2e"
"""Namespace and release of the fixture `operators`."""


def on_its_canary(story: Story) -> None:
    """Release `a` is stable, and release `b` on the canary, where it stays."""
    story.begin()
    story.publish("a")
    story.until_phase("a", "Completed")
    story.apply_channel({"waves": ON_ITS_CANARY})
    story.publish("b")
    story.until_agents("the canary has it", {**story.everywhere("a"), story.nodes[0]: "b"})
    story.patch("releases", "b", {"suspend": True})
    story.until_phase("b", "Paused")


def on_call_in(sandbox: Sandbox, namespace: str, home: Path) -> Path:
    """A member of the break-glass group, whose rights are those of the chart's role in this
    namespace; returns the kubeconfig.
    """
    group = "wavegate:break-glass"
    role = f"--clusterrole={SYSTEM}-break-glass"
    kubectl = Tool(sandbox, "kubectl", home)
    kubectl("-n", namespace, "create", "rolebinding", "on-call", role, f"--group={group}")
    return sandbox.user_kubeconfig("on-call", (group,))


def test_the_lines_of_the_status_revert_while_no_operator_runs(
    story: Story, operators: list[OperatorProcess], sandbox: Sandbox, tmp_path: Path
) -> None:
    on_its_canary(story)
    lines = story.status("b")["breakGlass"]
    assert len(lines) == 5
    for operator in operators:
        operator.stop()
    on_call = on_call_in(sandbox, story.namespace, tmp_path)
    for line in lines:
        paste(sandbox, line, tmp_path, on_call)
    story.until_agents("all run stable, without an operator", story.everywhere("a"))
    before = {pod["metadata"]["uid"] for pod in story.pods()}

    for operator in operators:
        operator.start()
    status = story.until("b", "hands off", lambda status: status.get("reason") == "HandsOff")
    assert status["waitingFor"] == "Person"
    ready = next(c for c in story.channel_status()["conditions"] if c["type"] == "Ready")
    assert ready["reason"] == "HandsOff"

    kubectl = Tool(sandbox, "kubectl", tmp_path)
    kubectl("-n", story.namespace, "annotate", "wgc", story.channel, "wavegate.dev/hands-off-")
    status = story.until_phase("b", "Reverted")
    assert status["incident"]["reason"] == "FencedByHand"
    assert story.channel_status()["blocked"] == []
    assert story.agents() == story.everywhere_digest("a")
    assert {pod["metadata"]["uid"] for pod in story.pods()} == before


def test_a_record_that_is_lost_in_the_middle_waits_for_people_and_goes_on_from_what_runs(
    story: Story, operators: list[OperatorProcess], sandbox: Sandbox, tmp_path: Path
) -> None:
    on_its_canary(story)
    mixed = story.agents()
    kubectl = Tool(sandbox, "kubectl", tmp_path)
    record = f"wavegate-record-{story.channel}"
    kubectl("-n", story.namespace, "delete", "configmap", record)

    def ready() -> dict[str, str]:
        conditions = story.channel_status().get("conditions") or [{}]
        return dict(conditions[0])

    sandbox.wait_for("the channel says so", lambda: ready().get("reason") == "StateLost", 30)
    lines = story.channel_status()["breakGlass"]
    assert len(lines) == 4
    assert story.agents() == mixed
    for line in lines:
        paste(sandbox, line, tmp_path)
    story.until_agents("all run stable", story.everywhere("a"))
    sandbox.wait_for("it is adopted", lambda: "was adopted as stable" in ready()["message"], 30)
    assert story.channel_status()["stable"]["release"] == "a"
    assert "breakGlass" not in story.channel_status()

    story.apply_channel({})
    story.publish("c")
    story.until("c", "waits", lambda status: status.get("reason") == "StateLost")
    story.patch("channels", story.channel, {"suspend": True})
    sandbox.wait_for("it is taken over", lambda: "to false to go on" in ready()["message"], 30)
    story.patch("channels", story.channel, {"suspend": False})
    story.until_phase("c", "Completed")
    assert story.agents() == story.everywhere_digest("c")
    assert story.status("b")["phase"] == "Superseded"
