"""After completion on the real control plane: a good release is baked, a time bomb is taken back.

Two operators run, as the chart has it; each story has nodes and a channel of its own.
"""

from support.operator_process import OperatorProcess
from support.story import Story, digest
from wavegate_sandbox.cluster import Sandbox

BAKE_SECONDS = 15


def channel(bake: str) -> dict[str, object]:
    """The channel's pace, with a bake of this length."""
    return {"rollout": {"maxUnavailable": "100%", "settle": "1s", "soak": "2s", "bake": bake}}


def test_a_completed_release_is_baked_after_its_time(
    story: Story, sandbox: Sandbox, operators: list[OperatorProcess]
) -> None:
    assert operators
    story.begin(channel(f"{BAKE_SECONDS}s"))
    story.publish("a")
    status = story.until_phase("a", "Completed")
    assert (status["reason"], "it bakes until" in status["message"]) == ("Baking", True)
    assert "lastBaked" not in story.channel_status()

    status = story.until("a", "baked", lambda status: status.get("reason") == "Baked")
    assert status["phase"] == "Completed"
    conditions = {c["type"]: (c["status"], c["reason"]) for c in status["conditions"]}
    assert conditions["Baked"] == ("True", "Baked")
    assert conditions["Complete"] == ("True", "Completed")
    assert story.channel_status()["lastBaked"]["version"] == "a"
    story.until_events("a", "Baked")


def test_harm_on_two_nodes_while_it_bakes_goes_back_everywhere_and_blocks(
    story: Story, sandbox: Sandbox, operators: list[OperatorProcess]
) -> None:
    story.begin(channel("1h"))
    story.publish("a")
    story.until_phase("a", "Completed")
    story.publish("bomb")
    story.until_phase("bomb", "Completed")
    joined = f"{story.namespace}-worker-9"
    story.join(joined)
    story.until_agents("one that joins has it", {**story.everywhere("bomb"), joined: "bomb"})
    restart_all(operators)

    first, second, *_ = story.worker_names
    sandbox.crash(first)
    shown = story.until("bomb", "one is noted", lambda status: first in status["message"])
    assert (shown["phase"], shown["reason"]) == ("Completed", "Baking")
    sandbox.crash(second)
    story.until("bomb", "reverting", lambda status: status.get("phase") == "Reverting")
    for name in (first, second):
        sandbox.boot(name)
    status = story.until("bomb", "reverted", lambda status: status.get("phase") == "Reverted")

    assert status["reason"] == "Reverted"
    assert set(status["incident"]["nodes"]) == {first, second}
    assert status["incident"]["reason"] in {"NodeNotReady", "NodeRebooted"}
    story.until_agents("all are back", {**story.everywhere("a"), joined: "a"})
    shown = story.channel_status()
    assert shown["stable"]["version"] == "a"
    assert [entry["digest"] for entry in shown["blocked"]] == [digest("bomb")]


def restart_all(operators: list[OperatorProcess]) -> None:
    """What a bake remembers is in the record, not in a process."""
    for operator in operators:
        operator.kill()
    for operator in operators:
        operator.start()
    for operator in operators:
        operator.wait_ready()
