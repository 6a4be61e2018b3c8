"""Other ways to bind content, a parked DaemonSet as template, an apiserver that goes away."""

from typing import Any

from support.operator_process import OperatorProcess
from support.story import Story, channel_spec, digest
from wavegate_sandbox.cluster import Sandbox

AGENT = f"registry.example/agent@{digest('agent')}"


def test_content_by_config_map_is_copied_under_its_hash_and_mounted(
    story: Story, sandbox: Sandbox, operators: list[OperatorProcess]
) -> None:
    path = f"/api/v1/namespaces/{story.namespace}/configmaps"
    source = {"metadata": {"name": "rules-1"}, "immutable": True, "data": {"rules": "deny all"}}
    sandbox.request("POST", path, source)
    story.begin(
        {
            "content": {"configMap": {"volumeName": "content"}},
            **agent(story, volumes=[{"name": "content", "configMap": {"defaultMode": 256}}]),
        }
    )
    story.publish("a", content={"configMap": {"name": "rules-1"}})
    status = story.until_phase("a", "Completed")

    pod = story.pods()[0]["spec"]
    mounted = next(v["configMap"] for v in pod["volumes"] if v["name"] == "content")
    assert mounted["defaultMode"] == 256
    assert mounted["name"] == f"wavegate-content-{status['digest'].removeprefix('sha256:')[:32]}"
    copy = sandbox.request("GET", f"{path}/{mounted['name']}")
    assert copy["data"] == source["data"]
    assert copy["immutable"] is True


def test_content_by_container_image_binds_the_named_init_container(
    story: Story, operators: list[OperatorProcess]
) -> None:
    init = [{"name": "rules", "image": "set-by-wavegate"}]
    # What the apiserver drops when it stores it must not make us write it again and again.
    affinity = {
        "nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []},
        "podAffinity": None,
    }
    story.begin(
        {
            "content": {"containerImage": {"containerName": "rules"}},
            **agent(story, initContainers=init, volumes=[], affinity=affinity),
        }
    )
    story.publish("a")
    story.until_phase("a", "Completed")

    for pod in story.pods():
        assert pod["spec"]["initContainers"][0]["image"].endswith(digest("a"))
        assert pod["spec"]["containers"][0]["image"] == AGENT


def test_a_parked_daemon_set_is_the_template_and_stays_untouched(
    story: Story, sandbox: Sandbox, operators: list[OperatorProcess]
) -> None:
    labels = {"app": "agent", "tier": "security"}
    pod = channel_spec(story.namespace)["agent"]["template"]["spec"]
    selector = {**pod["nodeSelector"], "wavegate.dev/parked": "true"}
    volumes = [{"name": "content", "emptyDir": {}}]
    body = {
        "metadata": {"name": "vendor-agent"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {**pod, "volumes": volumes, "nodeSelector": selector},
            },
        },
    }
    path = f"/apis/apps/v1/namespaces/{story.namespace}/daemonsets"
    sandbox.request("POST", path, body)
    story.begin({"agent": {"daemonSetRef": {"name": "vendor-agent"}}})
    story.publish("a")
    story.until_phase("a", "Completed")

    assert story.agents() == story.everywhere_digest("a")
    assert story.pods()[0]["metadata"]["labels"]["tier"] == "security"
    assert sandbox.request("GET", f"{path}/vendor-agent")["metadata"]["generation"] == 1


def test_a_node_whose_new_taint_the_agent_does_not_tolerate_keeps_its_agent(
    story: Story, sandbox: Sandbox, operators: list[OperatorProcess]
) -> None:
    story.begin()
    story.publish("a")
    story.until_phase("a", "Completed")
    node = f"/api/v1/nodes/{story.worker_names[0]}"
    merge = "application/merge-patch+json"
    taints = [{"key": "example.com/drained", "effect": "NoSchedule"}]
    sandbox.request("PATCH", node, {"spec": {"taints": taints}}, content_type=merge)
    story.publish("b")
    status = story.until("b", "held", lambda status: status.get("reason") == "NotMovable")
    assert f"{story.worker_names[0]}: the new template neither selects nor" in status["message"]

    assert story.agents() == {**story.everywhere_digest("b"), story.worker_names[0]: digest("a")}
    sandbox.request("PATCH", node, {"spec": {"taints": None}}, content_type=merge)
    story.until_phase("b", "Completed")
    assert story.agents() == story.everywhere_digest("b")


def test_an_apiserver_that_goes_away_loses_no_rollout(
    story: Story, sandbox: Sandbox, operators: list[OperatorProcess]
) -> None:
    story.begin()
    story.publish("a")
    story.until("a", "on its way", lambda status: status.get("wave", {}).get("number") == 1)
    # Who judges nodes is away as well: no node can be heard, on a busy machine for too long.
    sandbox.stop_component("kube-controller-manager")
    sandbox.restart_component("kube-apiserver")
    sandbox.start_component("kube-controller-manager")
    story.until_phase("a", "Completed")
    assert story.agents() == story.everywhere_digest("a")


def agent(story: Story, **spec: Any) -> dict[str, Any]:
    """The story's agent with another pod spec."""
    own = channel_spec(story.namespace)["agent"]["template"]["spec"]
    return {"agent": {"template": {"spec": {**own, **spec}}}}
