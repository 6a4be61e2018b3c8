"""The examples as a user applies them: by kubectl, as they stand, on a real apiserver."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.chart import CHART, IMAGE, REPOSITORY, parse
from support.operator_process import OperatorProcess
from support.served import has_image_volumes
from support.tools import Tool
from wavegate.api import Channel
from wavegate.rollout.templates import bind, find_problem, revision_template
from wavegate_sandbox.cluster import Options, Sandbox
from wavegate_sandbox.nodes import NodeSpec

EXAMPLES = REPOSITORY / "examples"
QUICKSTART = "wavegate-quickstart"
MANIFESTS = sorted(path.relative_to(EXAMPLES) for path in EXAMPLES.rglob("*.yaml"))


@pytest.fixture(scope="module")
def kubectl(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Tool:
    """kubectl of the sandbox, with the CRDs and the namespaces of the examples on the server."""
    run = Tool(sandbox, "kubectl", tmp_path_factory.mktemp("kubectl"))
    crds = str(REPOSITORY / "crds")
    run("apply", "--server-side", "--force-conflicts", "-f", crds)
    run("wait", "--for=condition=Established", "--timeout=30s", "-f", crds)
    for path in MANIFESTS:
        if path.name == "namespace.yaml":
            run("apply", "-f", str(EXAMPLES / path))
    return run


def documents(path: str) -> list[Any]:
    return [item for item in yaml.safe_load_all((EXAMPLES / path).read_text()) if item]


def test_there_are_examples() -> None:
    assert len({path.parts[0] for path in MANIFESTS}) == 3
    assert len(MANIFESTS) >= 7


@pytest.mark.parametrize("path", MANIFESTS, ids=str)
@pytest.mark.parametrize("way", [[], ["--server-side"]], ids=["client", "server"])
def test_the_apiserver_accepts_an_example_as_it_stands(
    kubectl: Tool, path: Path, way: list[str]
) -> None:
    said = kubectl("apply", "--dry-run=server", *way, "-f", str(EXAMPLES / path))
    objects = documents(str(path))
    assert said.count("(server dry run)") + said.count("serverside-applied") >= len(objects)


@pytest.mark.parametrize(
    ("folder", "release"),
    [("quickstart", "release-1.yaml"), ("imagevolume", "release.yaml")],
    ids=["quickstart", "imagevolume"],
)
def test_the_agent_of_an_example_is_a_pod_that_its_namespace_admits(
    kubectl: Tool, sandbox: Sandbox, folder: str, release: str
) -> None:
    channel = Channel.model_validate(documents(f"{folder}/channel.yaml")[0])
    if folder == "imagevolume" and not has_image_volumes(sandbox):
        pytest.skip("no image volumes here; the example says from which version on")
    content = documents(f"{folder}/{release}")[-1]["spec"]["content"]
    reference = content["image"] if "image" in content else content["configMap"]["name"]
    template = channel.spec.agent.template
    assert template is not None
    assert find_problem(template, channel.spec) is None
    # Dry-run as a pod and not as a DaemonSet: only pods go through Pod Security admission.
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        **revision_template(bind(template, channel.spec, reference), "label", "attempt"),
    }
    pod["metadata"] = {**pod["metadata"], "name": "agent"}
    namespace = channel.metadata.namespace
    answer = sandbox.request(
        "POST", f"/api/v1/namespaces/{namespace}/pods", pod, params={"dryRun": "All"}
    )
    assert answer["spec"]["containers"][0]["image"] == template["spec"]["containers"][0]["image"]


def test_the_quick_starts_agent_loads_good_content_and_refuses_the_bad(tmp_path: Path) -> None:
    folder = EXAMPLES / "quickstart"
    (channel,) = documents("quickstart/channel.yaml")
    (container,) = channel["spec"]["agent"]["template"]["spec"]["containers"]
    # The loop that keeps the agent alive would not end; all before it is what judges content.
    script = container["command"][2].replace("/content/", f"{tmp_path}/").split("while :;")[0]
    codes = {}
    for release in sorted(folder.glob("release-*.yaml")):
        content = documents(f"quickstart/{release.name}")[0]
        for name, text in content["data"].items():
            (tmp_path / name).write_text(text)
        done = subprocess.run(["sh", "-c", script], check=False, capture_output=True)  # noqa: S607
        codes[release.name] = done.returncode
    assert codes == {"release-1.yaml": 0, "release-2.yaml": 0, "release-3-bad.yaml": 1}


def test_after_helm_install_on_an_empty_cluster_the_quick_start_gets_one_node_first(
    tmp_path: Path,
) -> None:
    """Every file as it stands; the soak of 3 minutes is not waited for."""
    name = "wavegate"
    with Sandbox.start(Options(prometheus=False)) as cluster:
        tainted = NodeSpec(
            "control-plane", taints=("node-role.kubernetes.io/control-plane=:NoSchedule",)
        )
        cluster.add_nodes([*(NodeSpec(f"node-{number}") for number in range(3)), tainted])
        helm, kubectl = (Tool(cluster, tool, tmp_path) for tool in ("helm", "kubectl"))
        helm("install", name, str(CHART), "-n", name, "--create-namespace", "--set", IMAGE)
        installed = parse(helm("get", "manifest", name, "-n", name), name, name)
        # Started at once, as a kubelet would: the CRDs may not be served yet.
        with OperatorProcess.from_rendered(cluster, installed, folder=tmp_path) as operator:
            operator.wait_ready()
            for file in ("namespace", "channel", "release-1"):
                kubectl("apply", "-f", str(EXAMPLES / "quickstart" / f"{file}.yaml"))
            seen = cluster.wait_for("the first node", lambda: first_node(cluster), 30)
            assert seen["nodes"]["total"] == 3, operator.log_tail()
            assert seen["nodes"]["candidate"] == 1
            pods = cluster.request("GET", f"/api/v1/namespaces/{QUICKSTART}/pods")["items"]
            assert len(pods) == 1


def first_node(cluster: Sandbox) -> dict[str, Any]:
    """Return the channel's status once a node is on the candidate."""
    path = f"/apis/wavegate.dev/v1alpha1/namespaces/{QUICKSTART}/securitycontentchannels/quickstart"
    status: dict[str, Any] = cluster.request("GET", path).get("status", {})
    return status if status.get("nodes", {}).get("candidate") else {}
