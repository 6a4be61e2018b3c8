"""What only the operator can know: a condition with reason and exact field, nothing touched."""

from pathlib import Path
from typing import Any

import pytest

from support.operator_process import OperatorProcess
from support.story import Story, bind_operators, channel_spec, digest, label_for_agents
from support.tools import paste
from wavegate_sandbox.cluster import Sandbox
from wavegate_sandbox.nodes import NodeSpec

MAP = {"configMap": {"volumeName": "content"}}


def template(**spec: Any) -> dict[str, Any]:
    """An agent of its own template."""
    agent = channel_spec("nobody")["agent"]["template"]["spec"]
    return {"agent": {"template": {"spec": {**agent, **spec}}}}


CHANNELS = {
    "missing volume": (
        {
            "content": {"imageVolume": {"volumeName": "contents"}},
            **template(volumes=[{"name": "content", "emptyDir": {}}]),
        },
        "MissingVolume",
        "spec.content.imageVolume.volumeName",
    ),
    "missing container": (
        {"content": {"containerImage": {"containerName": "rules"}}, **template(volumes=[])},
        "MissingContainer",
        "spec.content.containerImage.containerName",
    ),
    "pool without nodes": (
        {
            "pools": [{"name": "p", "selector": {"matchLabels": {"no": "node"}}}],
            "waves": [{"name": "all", "upTo": "100%"}],
        },
        "PoolMatchesNoNode",
        "spec.pools: pool 'p'",
    ),
    "soak below the floor": (
        {"waves": [{"name": "w", "upTo": 1, "soak": "1s"}]},
        "SoakBelowFloor",
        "spec.waves[0].soak",
    ),
    "a template that the apiserver refuses": (
        template(
            volumes=[
                {"name": "content", "emptyDir": {}},
                {"name": "two", "emptyDir": {}, "hostPath": {"path": "/"}},
            ]
        ),
        "InvalidTemplate",
        "spec.agent: the apiserver refuses a DaemonSet with this template",
    ),
    "no such DaemonSet": (
        {"agent": {"daemonSetRef": {"name": "parked"}}},
        "AgentTemplateNotFound",
        "spec.agent.daemonSetRef.name",
    ),
}


@pytest.fixture(scope="module")
def pace() -> dict[str, str]:
    """A floor that one of the channels is below."""
    return {"WAVEGATE_SOAK_FLOOR": "2s", "WAVEGATE_LEASE_DURATION": "6s"}


@pytest.mark.parametrize("name", CHANNELS)
def test_a_channel_that_cannot_work_says_which_field_and_nothing_is_touched(
    name: str, story: Story, sandbox: Sandbox, operators: list[OperatorProcess]
) -> None:
    changes, reason, field = CHANNELS[name]
    story.begin(changes)
    condition = until_not_ready(story, "channels", story.channel)
    assert condition["reason"] == reason
    assert condition["message"].startswith(field)

    story.publish("a")
    status = story.until_phase("a", "Pending")
    assert status["reason"] == reason
    assert status["waitingFor"] == "Person"
    nothing_is_touched(story, sandbox)


def test_a_channel_in_a_namespace_that_is_not_for_agents_says_so_and_nothing_is_touched(
    story: Story, sandbox: Sandbox, operators: list[OperatorProcess]
) -> None:
    bind_operators(sandbox, story.namespace)
    story.apply_channel({})
    condition = until_not_ready(story, "channels", story.channel)
    assert condition["reason"] == "InvalidTemplate"
    assert f"kubectl label namespace {story.namespace} wavegate.dev/agents" in condition["message"]
    story.publish("a")
    assert story.until_phase("a", "Pending")["reason"] == "InvalidTemplate"
    sets = f"/apis/apps/v1/namespaces/{story.namespace}/daemonsets"
    assert sandbox.request("GET", sets)["items"] == []


def test_a_channel_in_a_namespace_without_the_rolebinding_names_the_command_that_lets_it_go_on(
    story: Story, sandbox: Sandbox, operators: list[OperatorProcess], tmp_path: Path
) -> None:
    """Content and template are things that only the binding lets the operator read."""
    story.workers = 0
    label_for_agents(sandbox, story.namespace)
    path = f"/api/v1/namespaces/{story.namespace}/configmaps"
    content = {"metadata": {"name": "rules"}, "immutable": True, "data": {"rules": "1"}}
    sandbox.request("POST", path, content)
    sandbox.add_nodes([NodeSpec(story.nodes[0], {"story": story.namespace, "pool": "canary"})])
    story.apply_channel(
        {
            "content": MAP,
            "waves": [{"name": "canary", "pools": ["canary"], "upTo": "100%"}],
            "pools": channel_spec(story.namespace)["pools"][:1],
            **template(
                nodeSelector={"story": story.namespace},
                volumes=[{"name": "content", "configMap": {}}],
            ),
        }
    )
    story.publish("a", content={"configMap": {"name": "rules"}})
    condition = until_not_ready(story, "channels", story.channel)
    assert condition["reason"] == "NamespaceNotBound"
    said = story.until("a", "why it waits", lambda s: s.get("reason") == "NamespaceNotBound")
    assert (said["phase"], said["waitingFor"]) == ("Pending", "Person")
    assert condition["message"] in said["message"]
    nothing_is_touched(story, sandbox)

    paste(sandbox, condition["message"].partition("makes one by: ")[2], tmp_path)
    story.until("a", "its start", lambda s: s.get("phase") == "Rolling", patience=60)
    story.until_phase("a", "Completed")


def test_a_release_for_an_unknown_channel_says_so_and_starts_when_it_is_there(
    story: Story, operators: list[OperatorProcess]
) -> None:
    story.publish("a")
    condition = until_not_ready(story, "releases", "a")
    assert condition["reason"] == "UnknownChannel"
    assert condition["message"].startswith("spec.channel: there is no SecurityContentChannel")
    story.begin()
    story.until_phase("a", "Rolling")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"image": f"registry.example/content@{digest('x')}"}, "ContentMismatch"),
        ({"configMap": {"name": "nowhere"}}, "ContentNotFound"),
        ({"configMap": {"name": "mutable"}}, "ContentMutable"),
    ],
)
def test_content_that_cannot_be_used_says_which_field_and_nothing_is_touched(
    content: dict[str, Any],
    reason: str,
    story: Story,
    sandbox: Sandbox,
    operators: list[OperatorProcess],
) -> None:
    path = f"/api/v1/namespaces/{story.namespace}/configmaps"
    sandbox.request("POST", path, {"metadata": {"name": "mutable"}, "data": {"rules": "1"}})
    story.begin({"content": MAP, **template(volumes=[{"name": "content", "configMap": {}}])})
    story.until_channel_seen()
    story.publish("a", content=content)
    condition = until_not_ready(story, "releases", "a")

    assert condition["reason"] == reason
    assert condition["message"].startswith("spec.content")
    nothing_is_touched(story, sandbox)


def test_a_parked_daemon_set_that_runs_pods_is_refused(
    story: Story, sandbox: Sandbox, operators: list[OperatorProcess]
) -> None:
    pod = channel_spec(story.namespace)["agent"]["template"]["spec"]
    labels = {"app": "agent"}
    body = {
        "metadata": {"name": "running"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {**pod, "volumes": [{"name": "content", "emptyDir": {}}]},
            },
        },
    }
    story.begin({"agent": {"daemonSetRef": {"name": "running"}}})
    path = f"/apis/apps/v1/namespaces/{story.namespace}/daemonsets"
    sandbox.request("POST", path, body)
    sandbox.wait_for(
        "the DaemonSet to run",
        lambda: sandbox.request("GET", f"{path}/running")["status"]["currentNumberScheduled"] > 0,
    )
    story.publish("a")
    sandbox.wait_for(
        "the channel to refuse it",
        lambda: ready(story.channel_status()).get("reason") == "AgentAlreadyRunning",
    )
    assert [d["metadata"]["name"] for d in sandbox.request("GET", path)["items"]] == ["running"]


def test_what_an_agent_reads_past_the_waves_is_named_and_holds_nothing_up(
    story: Story, sandbox: Sandbox, operators: list[OperatorProcess]
) -> None:
    path = f"/api/v1/namespaces/{story.namespace}/configmaps"
    for name, immutable in (("fixed", True), ("loose", False)):
        body = {"metadata": {"name": name}, "data": {"x": "1"}, "immutable": immutable}
        sandbox.request("POST", path, body)
    spec = channel_spec(story.namespace)["agent"]["template"]["spec"]
    (container,) = spec["containers"]
    maps = [{"configMapRef": {"name": name}} for name in ("fixed", "loose")]
    secret = {"secretRef": {"name": "token", "optional": True}}
    agent = {**spec, "containers": [{**container, "envFrom": [*maps, secret]}]}
    story.begin({"agent": {"template": {"spec": agent}}})
    story.publish("a")
    story.until_phase("a", "Completed")
    conditions = {c["type"]: c for c in story.channel_status()["conditions"]}

    assert conditions["Ready"]["status"] == "True"
    gated = conditions["InputsGated"]
    assert (gated["status"], gated["reason"]) == ("False", "UngatedInput")
    assert gated["message"].startswith("The agent reads ConfigMap loose, Secret token: ")


def until_not_ready(story: Story, kind: str, name: str) -> dict[str, Any]:
    """Wait for the condition Ready=False of one of our objects."""
    path = f"/apis/wavegate.dev/v1alpha1/namespaces/{story.namespace}/securitycontent{kind}/{name}"

    def found() -> dict[str, Any]:
        condition = ready(story.sandbox.request("GET", path).get("status") or {})
        return condition if condition.get("status") == "False" else {}

    return story.sandbox.wait_for(f"{kind} {name} to be not Ready", found)


def ready(status: dict[str, Any]) -> dict[str, Any]:
    """The condition Ready."""
    return next((c for c in status.get("conditions", []) if c["type"] == "Ready"), {})


def nothing_is_touched(story: Story, sandbox: Sandbox) -> None:
    """No DaemonSet was made and no node was labelled."""
    path = f"/apis/apps/v1/namespaces/{story.namespace}/daemonsets"
    assert sandbox.request("GET", path)["items"] == []
    for name in story.nodes:
        labels = sandbox.request("GET", f"/api/v1/nodes/{name}")["metadata"]["labels"]
        assert not [label for label in labels if label.startswith("wavegate")]
