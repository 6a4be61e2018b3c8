"""The rollback drill on the real control plane: the canary goes back before its wave soaks."""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from support.operator_process import OperatorProcess
from support.reporting_agents import ReportingAgents
from support.story import Story, digest
from wavegate_sandbox.cluster import Sandbox

Told = dict[str, Any]
DRILL = {
    "rollout": {
        "maxUnavailable": "100%",
        "settle": "3s",
        "soak": "2s",
        "bake": "0s",
        "progressDeadline": "10s",  # the default is 10m
        "drill": "Always",
    },
    "loadedProof": {"annotation": {}},
}


def is_drilling(status: Told) -> bool:
    return "rollback drill" in status.get("message", "")


def goes_well(story: Story, _agents: ReportingAgents) -> Told:
    """The canary has it, is back, and has it again."""
    canary = story.nodes[0]
    story.publish("b")
    story.until_agents("the canary has it", {**story.everywhere("a"), canary: "b"})
    first = {pod["metadata"]["uid"] for pod in story.pods()}
    status = story.until("b", "drills", is_drilling)
    story.until_agents("all run stable", story.everywhere("a"))
    story.until_agents("the canary has it again", {**story.everywhere("a"), canary: "b"})
    again = {pod["metadata"]["uid"] for pod in story.pods()}
    done = story.until_phase("b", "Completed")
    return {"status": status, "done": done, "new": len(again - first)}


def stays_on_the_host(story: Story, agents: ReportingAgents) -> Told:
    """Its host does not let go what it has loaded, so stable's agent reports that as well."""
    agents.says[story.nodes[0]] = digest("b")
    story.publish("b")
    status = story.until_phase("b", "Reverted")
    return {"status": status, "done": status, "new": 0}


@pytest.fixture(scope="module")
def told(sandbox: Sandbox, operators: list[OperatorProcess]) -> dict[str, Future[Told]]:
    """Both stories, side by side; each fails its own test only. Content `a` is on all nodes when
    they begin.
    """

    def tell(name: str) -> Told:
        sandbox.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        story = Story(sandbox, name, workers=2).begin(DRILL)
        with ReportingAgents(story, None) as agents:
            story.publish("a")
            first = story.until_phase("a", "Completed")
            play = goes_well if name.endswith("well") else stays_on_the_host
            return {"story": story, "first": first, **play(story, agents)}

    names = ("drill-well", "drill-stays")
    with ThreadPoolExecutor(len(names)) as threads:
        return {name: threads.submit(tell, name) for name in names}


def test_the_canary_goes_back_and_gets_the_release_again(told: dict[str, Future[Told]]) -> None:
    well = told["drill-well"].result()
    story = well["story"]
    assert (well["status"]["phase"], well["status"]["reason"]) == ("Rolling", "WaveMoving")
    assert well["new"] == 1, "the canary's agent is another one, and no other agent is"
    assert story.agents() == story.everywhere_digest("b")
    assert [wave["state"] for wave in well["done"]["waves"]] == ["Passed", "Passed"]
    assert story.events("b").count("RollbackDrill") >= 1
    assert "RollbackDrill" not in story.events("a"), "nothing was stable yet"


def test_content_that_a_host_does_not_let_go_is_found_on_one_node(
    told: dict[str, Future[Told]],
) -> None:
    stays = told["drill-stays"].result()
    story, incident = stays["story"], stays["status"]["incident"]
    assert incident["reason"] == "DrillFailed"
    assert incident["nodes"] == [story.nodes[0]]
    assert "nothing proves that 1 nodes are rid of its content" in incident["message"]
    assert [wave["nodes"] for wave in stays["status"]["waves"]] == [1]
    assert story.channel_status()["blocked"] == []
