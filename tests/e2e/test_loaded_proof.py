"""Loaded proof on the real control plane: agents say which content they have loaded, or do not.

Two operators run, as the chart has it. The stories are told side by side, each on nodes and a
channel of its own, so that the module takes as long as the longest of them.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from support.operator_process import OperatorProcess
from support.reporting_agents import SERIES, ReportingAgents
from support.story import ON_ITS_CANARY, Story, digest
from wavegate_sandbox.cluster import Sandbox
from wavegate_sandbox.exporter import Exporter

Told = dict[str, Any]
"""What a story has to show."""
ROLLOUT = {"maxUnavailable": "100%", "settle": "1s", "soak": "1s", "bake": "0s"}
DEADLINE = {"progressDeadline": "10s"}  # the default is 10m
ANNOTATION = {"loadedProof": {"annotation": {}}}
CACHED = {"content": {"imageVolume": {"volumeName": "content"}, "hostState": "Cache"}}


def metric(sandbox: Sandbox) -> dict[str, Any]:
    """The proof by series of the sandbox's Prometheus."""
    series = f'{SERIES}{{node=~"$nodes"}}'
    often = {"interval": "1s", "timeout": "1s"}
    prometheus = {"url": sandbox.prometheus_url}
    return {"loadedProof": {"metric": {"series": series, **often}}, "prometheus": prometheus}


def silent(story: Story, agents: ReportingAgents) -> Told:
    """The canary's agent is Ready, and says nothing for a while."""
    agents.says[story.nodes[0]] = ""
    story.publish("b")
    held = story.until("b", "held", lambda status: status.get("wave", {}).get("state") == "Held")
    running = story.agents()
    del agents.says[story.nodes[0]]
    return {"held": held, "running": running, "completed": story.until_phase("b", "Completed")}


def other(story: Story, agents: ReportingAgents) -> Told:
    """The canary's agent can't load it, and says honestly that it goes on with what it had."""
    agents.says[story.nodes[0]] = digest("a")
    story.publish("b")
    status = story.until_phase("b", "Reverted")
    story.until_agents("all are back", story.everywhere("a"))
    return {"reverted": status}


def back(story: Story, agents: ReportingAgents) -> None:
    """The content is taken back by a person, and stays loaded on the canary's host."""
    agents.says[story.nodes[0]] = digest("b")
    story.patch("channels", story.channel, {"waves": ON_ITS_CANARY})
    story.publish("b")
    story.until("b", "moved", lambda status: status.get("nodes", {}).get("moved") == 1)
    story.decide("stop", "b", "Revert")
    story.until_agents("all are back", story.everywhere("a"))


def cleaned(story: Story, agents: ReportingAgents) -> Told:
    """It stays loaded until somebody cleans the host, and then stable's is."""
    back(story, agents)
    waits = story.until("b", "waits", lambda status: "report stable's" in status.get("message", ""))
    del agents.says[story.nodes[0]]
    return {"waits": waits, "reverted": story.until_phase("b", "Reverted")}


def kept(story: Story, agents: ReportingAgents) -> Told:
    """It stays loaded."""
    back(story, agents)
    return {"reverted": story.until_phase("b", "Reverted")}


@pytest.fixture(scope="module")
def told(
    sandbox: Sandbox, operators: list[OperatorProcess], session_exporter: Exporter
) -> Iterator[dict[str, Future[Told]]]:
    """The stories by name, told side by side. Content `a` is on all nodes of each when it begins,
    so a release whose agents all report it has completed.
    """
    by_metric = metric(sandbox)

    def tell(
        name: str, play: Callable[[Story, ReportingAgents], Told], changes: dict[str, Any]
    ) -> Told:
        story = Story(sandbox, name, workers=1)
        sandbox.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        story.begin({"rollout": ROLLOUT, **changes})
        exporter = session_exporter if "prometheus" in changes else None
        with ReportingAgents(story, exporter) as agents:
            story.publish("a")
            story.until_phase("a", "Completed")
            story.patch("channels", story.channel, {"rollout": DEADLINE})
            return {"story": story, **play(story, agents)}

    plays = {
        "silent": (silent, ANNOTATION),
        "other": (other, ANNOTATION),
        "cleaned": (cleaned, ANNOTATION | CACHED),
        "kept": (kept, by_metric | CACHED),
    }
    with ThreadPoolExecutor(len(plays)) as threads:
        yield {
            name: threads.submit(tell, f"loaded-{name}", play, changes)
            for name, (play, changes) in plays.items()
        }


def test_a_node_that_does_not_report_holds_the_first_wave_until_it_does(
    told: dict[str, Future[Told]],
) -> None:
    silent = told["silent"].result()
    story, held = silent["story"], silent["held"]
    canary = story.nodes[0]
    assert (held["phase"], held["waitingFor"]) == ("Rolling", "Evidence")
    assert held["reason"] == "LoadedNotReported"
    said = f"the agent on node {canary} does not report which content it loaded"
    assert said in held["message"]
    assert silent["running"] == {**story.everywhere_digest("a"), canary: digest("b")}
    assert [wave["state"] for wave in silent["completed"]["waves"]] == ["Passed", "Passed"]
    assert story.agents() == story.everywhere_digest("b")


def test_an_agent_that_reports_other_content_takes_the_release_back_without_a_block(
    told: dict[str, Future[Told]],
) -> None:
    other = told["other"].result()
    story, incident = other["story"], other["reverted"]["incident"]
    assert incident["reason"] == "OtherContentLoaded"
    assert incident["nodes"] == [story.nodes[0]]
    old, new = (digest(content).removeprefix("sha256:")[:16] for content in "ab")
    said = f"the agent on node {story.nodes[0]} reports content {old}, not {new}"
    assert said in incident["message"]
    assert story.channel_status()["blocked"] == []


def test_a_revert_waits_until_a_host_that_keeps_content_reports_stable_s(
    told: dict[str, Future[Told]],
) -> None:
    cleaned = told["cleaned"].result()
    waits, canary = cleaned["waits"], cleaned["story"].nodes[0]
    assert (waits["phase"], canary in waits["message"]) == ("Reverting", True)
    assert cleaned["reverted"]["reason"] == "Reverted"


def test_a_revert_names_the_nodes_that_nothing_proves_to_be_rid_of_the_content(
    told: dict[str, Future[Told]],
) -> None:
    kept = told["kept"].result()
    story, status = kept["story"], kept["reverted"]
    assert status["reason"] == "RevertedNotProven"
    assert f"({story.nodes[0]})" in status["message"]
    assert story.channel_status()["stable"]["version"] == "a"
