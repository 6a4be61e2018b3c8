"""The rollback drill on the real control plane: the canary goes back before its wave soaks.

What a drill does lasts for seconds, so it is not waited for, but recorded by watches.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from fidelity.sandboxed import Recorder
from fidelity.trace import Change
from support.operator_process import OperatorProcess
from support.reporting_agents import ReportingAgents
from support.story import Story, content_of, digest, is_running
from wavegate_sandbox.cluster import Sandbox

Told = dict[str, Any]
DRILL = {
    "rollout": {
        "maxUnavailable": "100%",
        "settle": "3s",
        "soak": "2s",
        "bake": "0s",
        "drill": "Always",
    },
    "loadedProof": {"annotation": {}},
}


def statuses(changes: Iterable[Change]) -> list[Mapping[str, Any]]:
    """Each status that releases had, in their order."""
    bodies = (c.body for c in changes if c.plural == "securitycontentreleases")
    return [body.get("status", {}) for body in bodies]


def lives(changes: Iterable[Change]) -> dict[str, list[str]]:
    """By node, the contents of the agents that became Ready there, one after the other."""
    found, seen = defaultdict[str, list[str]](list), set[str]()
    for pod in (change.body for change in changes if change.plural == "pods"):
        uid = pod["metadata"]["uid"]
        if is_running(dict(pod)) and uid not in seen:
            seen.add(uid)
            found[pod["spec"]["nodeName"]].append(content_of(dict(pod)))
    return dict(found)


def goes_well(story: Story, _agents: ReportingAgents) -> Told:
    """The canary has it, is back, and has it again."""
    with Recorder(story.sandbox) as recorder:
        story.publish("b")
        done = story.until_phase("b", "Completed")
        changes = recorder.changes(story.namespace)
    said = [status for status in statuses(changes) if "rollback drill" in status.get("message", "")]
    return {"said": said, "done": done, "lives": lives(changes)}


def stays_on_the_host(story: Story, agents: ReportingAgents) -> Told:
    """Its host does not let go what it has loaded, so stable's agent reports that as well."""
    deadline = {"rollout": {"progressDeadline": "10s"}}  # the default is 10m
    story.patch("channels", story.channel, deadline)
    agents.says[story.nodes[0]] = digest("b")
    story.publish("b")
    return {"status": story.until_phase("b", "Reverted")}


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
    assert {(s["phase"], s["reason"]) for s in well["said"]} == {("Rolling", "WaveMoving")}
    a, b = digest("a"), digest("b")
    wanted = {node: [a, b] for node in story.nodes} | {story.nodes[0]: [a, b, a, b]}
    assert well["lives"] == wanted, "the canary's agent was another one each time, and no other"
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
