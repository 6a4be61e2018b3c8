"""One node is real: a kubelet pulls images, starts processes and counts their ends.

Everywhere else kwok plays the kubelets. Here what they are said to do is seen: content in an image
volume, a program that ends on it, a registry that is away, and a machine that is switched off.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from support import real_images
from support.operator_process import OperatorProcess
from support.story import Story, let_agents_run
from wavegate_sandbox import build, real_node
from wavegate_sandbox.cluster import Sandbox
from wavegate_sandbox.nodes import NodeSpec
from wavegate_sandbox.real_node import RealNode
from wavegate_sandbox.registry import Registry

SPACE = "real-node"
FIELDS = {"nodeLeaseDurationSeconds": 8, "nodeStatusUpdateFrequency": "2s"}
PATIENCE = 300.0


@dataclass(frozen=True, slots=True)
class Real:
    """A channel whose canary is real; its other nodes are kwok's."""

    story: Story
    node: RealNode
    registry: Registry

    def publish(self, name: str, rules: str) -> str:
        """A release of these rules; returns their digest."""
        image = real_images.content(self.registry, rules)
        self.story.publish(name, content={"image": image})
        return image.partition("@")[2]

    def pod(self) -> dict[str, Any]:
        """The agent that runs on the real node and stays."""
        (pod,) = [
            pod
            for pod in self.story.pods()
            if pod["spec"].get("nodeName") == self.node.name
            and "deletionTimestamp" not in pod["metadata"]
        ]
        return pod

    def runs(self, digest: str) -> bool:
        """Whether the real node runs this content and nothing else."""
        return self.story.agents().get(self.node.name) == digest

    def said(self, pod: dict[str, Any]) -> str:
        """What the program in a pod printed, of all its lives."""
        files = sorted((self.node.folder / "logs").glob(f"*_{pod['metadata']['uid']}/agent/*.log"))
        return "\n".join(file.read_text() for file in files)


@pytest.fixture(scope="module")
def real(
    sandbox: Sandbox,
    operators: list[OperatorProcess],
    tmp_path_factory: pytest.TempPathFactory,
    report_settings: Callable[[str, dict[str, str]], None],
    report_figure: Callable[[str], None],
) -> Iterator[Real]:
    if why := real_node.reason_not_here() or ("" if sandbox.ours else "the cluster is not ours"):
        report_figure(f"real node: NOT tested: {why}")
        pytest.skip(why)
    report_figure(f"real node: tested with kubelet {build.kubernetes_version()} and containerd")
    sandbox.request("POST", "/api/v1/namespaces", {"metadata": {"name": SPACE}})
    let_agents_run(sandbox, SPACE)
    story = Story(sandbox, SPACE)
    labels = {"story": SPACE, "pool": "workers"}
    sandbox.add_nodes([NodeSpec(name, labels) for name in story.worker_names])
    report_settings("kubelet", {key: str(value) for key, value in FIELDS.items()})
    with Registry() as registry:
        image = real_images.agent(registry, tmp_path_factory.mktemp("agent"))
        canary = {"story": SPACE, "pool": "canary"}
        with real_node.joined(
            sandbox,
            story.nodes[0],
            canary,
            registry_url=registry.url,
            pause=image,
            kubelet=FIELDS,
        ) as node:
            story.apply_channel({"agent": {"template": {"spec": agent_spec(image)}}})
            story.patch("channels", "rules", {"rollout": {"breaker": {"reverts": 0}}})
            real = Real(story, node, registry)
            real.publish("first", "rules of yesterday")  # so that each chapter can be run alone
            story.until_phase("first", "Completed", PATIENCE)
            yield real


def agent_spec(image: str) -> dict[str, Any]:
    return {
        "nodeSelector": {"story": SPACE},
        "hostNetwork": True,
        "terminationGracePeriodSeconds": 5,
        "containers": [
            {
                "name": "agent",
                "image": image,
                # As most security agents.
                "securityContext": {"privileged": True},
                "readinessProbe": {"exec": {"command": ["/agent", "ready"]}, "periodSeconds": 1},
                "volumeMounts": [
                    {"name": "content", "mountPath": "/content"},
                    {"name": "state", "mountPath": "/state"},
                ],
            }
        ],
        "volumes": [
            {"name": "content", "image": {"reference": "set-by-wavegate"}},
            {"name": "state", "emptyDir": {}},
        ],
    }


def test_content_is_pulled_by_its_digest_and_loaded(real: Real) -> None:
    good = real.publish("good", "rules of today")
    real.story.until_phase("good", "Completed", PATIENCE)
    assert real.runs(good)
    assert "loaded rules of today" in real.said(real.pod())
    assert good in real.registry.pulled


def test_a_program_that_ends_on_its_content_is_taken_back(real: Real) -> None:
    stable = real.story.agents()[real.node.name]
    bad = real.publish("bad", "bad rules")
    status = real.story.until_phase("bad", "Reverted", PATIENCE)
    assert status["incident"]["reason"] == "AgentRestarted"
    assert "(Error, exit code 3)" in status["incident"]["message"]
    real.story.sandbox.wait_for("the node to be back", lambda: real.runs(stable))
    assert bad in real.registry.pulled
    assert [blocked["digest"] for blocked in real.story.channel_status()["blocked"]] == [bad]


def test_while_its_image_can_t_be_pulled_a_node_goes_back_and_is_tried_again(real: Real) -> None:
    stable = real.story.agents()[real.node.name]
    real.registry.away = True
    late = real.publish("late", "rules of tomorrow")
    status = real.story.until(
        "late", "held", lambda status: status.get("reason") == "CannotFetch", PATIENCE
    )
    assert status["phase"] == "Rolling"
    real.story.sandbox.wait_for("the node to go back", lambda: real.runs(stable), PATIENCE)
    real.registry.away = False
    real.story.until_phase("late", "Completed", PATIENCE)
    assert real.runs(late)


def test_a_machine_that_is_switched_off_in_a_soak_fails_the_wave_and_is_back_on_stable(
    real: Real,
) -> None:
    stable = real.story.agents()[real.node.name]
    real.story.patch("channels", "rules", {"rollout": {"soak": "1h"}})
    deadly = real.publish("deadly", "rules that stop machines")
    real.story.sandbox.wait_for("the real node to have it", lambda: real.runs(deadly), PATIENCE)
    real.node.stop()
    status = real.story.until_phase("deadly", "Reverting", PATIENCE)
    assert status["incident"]["reason"] == "NodeNotReady"
    real.node.start()
    real.story.until_phase("deadly", "Reverted", PATIENCE)
    real.story.sandbox.wait_for("the node to be on stable", lambda: real.runs(stable), PATIENCE)


def pullers(story: Story) -> list[dict[str, Any]]:
    """The pods that pull images ahead."""
    path = f"/api/v1/namespaces/{SPACE}/pods"
    kind = {"labelSelector": "wavegate.dev/kind=prefetch"}
    return list(story.sandbox.request("GET", path, params=kind)["items"])


def second_wave(real: Real) -> str:
    """The real node comes in the second wave from now on; returns what it runs."""
    waves = [
        {"name": "first", "pools": ["workers"], "upTo": 1},
        {"name": "all", "upTo": "100%"},
    ]
    ahead = {"soak": "15s", "prefetch": "NextWave"}
    real.story.patch("channels", "rules", {"rollout": ahead, "waves": waves})
    return str(real.story.agents()[real.node.name])


def test_images_are_pulled_ahead_by_a_pod_that_runs_nothing(
    real: Real, report_figure: Callable[[str], None]
) -> None:
    story, stable = real.story, second_wave(real)
    ahead = real.publish("ahead", "rules that are pulled ahead")

    def ended() -> dict[str, Any] | None:
        mine = (p for p in pullers(story) if p["spec"]["nodeName"] == real.node.name)
        return next((pod for pod in mine if pod["status"]["phase"] == "Failed"), None)

    pod = story.sandbox.wait_for("the node to have pulled", ended, PATIENCE)
    (container,) = pod["status"]["containerStatuses"]
    why = container["state"]["terminated"]
    report_figure(f"prefetch on a real node ends as {why['reason']}: …{why['message'][-90:]}")
    assert "no such file" in why["message"]
    assert real.runs(stable)
    pulled = real.registry.pulled.count(ahead)
    assert pulled
    story.until_phase("ahead", "Completed", PATIENCE)
    assert real.runs(ahead)
    assert real.registry.pulled.count(ahead) == pulled
    story.sandbox.wait_for("what pulled to be gone", lambda: not pullers(story))


def test_a_node_that_can_t_pull_ahead_is_named_while_its_agent_runs(real: Real) -> None:
    story, stable = real.story, second_wave(real)
    real.registry.away = True
    real.publish("remote", "rules behind a registry that is away")

    def named(status: dict[str, Any]) -> bool:
        said = str(status.get("message", "")).partition("not on ")[2]
        return said.startswith(f"{real.node.name} (")

    story.until("remote", "named", named, PATIENCE)
    assert real.runs(stable)
    real.registry.away = False
    story.until_phase("remote", "Completed", PATIENCE)
