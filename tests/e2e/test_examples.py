"""The examples as a user applies them: by kubectl, as they stand, on a real apiserver."""

import hashlib
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.chart import CHART, IMAGE, REPOSITORY, parse
from support.operator_process import OperatorProcess
from support.served import has_image_volumes
from support.tools import Tool
from support.workloads import is_ready, restart_container
from wavegate.api import Channel
from wavegate.rollout.templates import bind, find_problem, revision_template
from wavegate_sandbox.cluster import Options, Sandbox
from wavegate_sandbox.errors import TimedOut
from wavegate_sandbox.nodes import NodeSpec

EXAMPLES = REPOSITORY / "examples"
QUICKSTART = "wavegate-quickstart"
CARRIER = "wavegate-carrier"
# What is for Argo CD itself is checked with Argo CD, in tests/gitops.
FOR_ARGO_CD = ("gitops/argocd/", "gitops/application.yaml")
MANIFESTS = sorted(
    path.relative_to(EXAMPLES)
    for path in EXAMPLES.rglob("*.yaml")
    if not str(path.relative_to(EXAMPLES)).startswith(FOR_ARGO_CD)
)


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
    assert len({path.parts[0] for path in MANIFESTS}) == 7
    assert len(MANIFESTS) >= 24


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
    [
        ("quickstart", "release-1.yaml"),
        ("imagevolume", "release.yaml"),
        ("carrier", "release-1.yaml"),
        ("falco", "release.yaml"),
        ("windows", "release.yaml"),
        ("gitops/content", "releases/2026-11-21.yaml"),
    ],
    ids=["quickstart", "imagevolume", "carrier", "falco", "windows", "gitops"],
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


ZEROS = "@sha256:" + "0" * 64
BUSYBOX = "@sha256:73aaf090f3d85aa34ee199857f03fa3a95c8ede2ffd4cc2cdb5b94e566b11662"
"""What other public projects pin for busybox 1.36.1, as the quick start's README says."""


def test_no_digest_of_an_image_is_made_up() -> None:
    """A placeholder is zeros, is called one beside it, and the README says what to put there."""
    for path in MANIFESTS:
        text = (EXAMPLES / path).read_text()
        for found in re.findall(r"@sha256:[0-9a-f]{64}", text):
            assert found in (ZEROS, BUSYBOX), path
        if ZEROS in text:
            assert text.count("# Placeholder: 64 zeros") == text.count(ZEROS), path
            readme = (EXAMPLES / path.parts[0] / "README.md").read_text()
            assert re.search(rf"`{path.name}` \| [^|]*64 zeros", readme), path


def test_falco_has_to_report_the_checksum_of_the_rules_in_the_release() -> None:
    content, release = documents("falco/release.yaml")
    [(name, rules)] = content["data"].items()
    digest = hashlib.sha256(rules.encode()).hexdigest()
    assert release["spec"]["content"]["loadedDigest"] == digest
    (channel,) = documents("falco/channel.yaml")
    assert f'file_name="{name}"' in channel["spec"]["loadedProof"]["metric"]["series"]
    (config,) = documents("falco/config.yaml")
    falco = yaml.safe_load(config["data"]["falco.yaml"])
    assert falco["watch_config_files"] is False
    (container,) = channel["spec"]["agent"]["template"]["spec"]["containers"]
    (mount,) = (m for m in container["volumeMounts"] if m["name"] == "content")
    assert falco["rules_files"] == [f"{mount['mountPath']}/{name}"]


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


def test_the_carriers_agent_loads_content_while_it_runs_and_ends_on_the_bad(
    tmp_path: Path,
) -> None:
    """The scripts of both pods, as they stand but for their folders and the wait between looks."""
    host = tmp_path / "host"
    host.mkdir()
    (agent,) = documents("carrier/agent.yaml")
    (channel,) = documents("carrier/channel.yaml")
    scripts = {}
    for name, pod in (
        ("agent", agent["spec"]["template"]),
        ("carrier", channel["spec"]["agent"]["template"]),
    ):
        scripts[name] = pod["spec"]["containers"][0]["command"][2]
    assert "sleep 5 " in scripts["agent"]
    judging = scripts["agent"].replace("/content/", f"{host}/").replace("sleep 5 ", "sleep 0.05 ")
    with shell(judging) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "loading content: none\n"
        for number, rules in enumerate(("block nothing", "block something"), 1):
            with carrier(scripts["carrier"], host, f"release-{number}.yaml"):
                assert running.stdout.readline() == f"loading content: version: 1.{number - 1}.0\n"
                assert running.stdout.readline() == f"rules: {rules}\n"
            assert list(host.iterdir()) == []
            assert running.stdout.readline() == "loading content: none\n"
        with carrier(scripts["carrier"], host, "release-3-bad.yaml"):
            assert running.wait(10) == 1
        assert running.stdout.read().endswith("\nru\nthese rules are broken\n")


@contextmanager
def carrier(script: str, host: Path, release: str) -> Iterator[None]:
    """A carrier of a release runs; at the end it is told to stop, as a kubelet would."""
    # No container ends what the shell has started: an hour's sleep would outlive the test.
    script = script.replace("sleep 3600 ", "sleep 0.05 ")
    folder = host.with_name(release)
    folder.mkdir()
    for name, text in documents(f"carrier/{release}")[0]["data"].items():
        (folder / name).write_text(text)
    with shell(script.replace("/content/", f"{folder}/").replace("/host/", f"{host}/")) as running:
        yield
        running.terminate()
        assert running.wait(10) == 0


@contextmanager
def shell(script: str) -> Iterator[subprocess.Popen[str]]:
    """A shell that runs a script, killed at the end if it still runs."""
    argv = ["sh", "-c", script]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as running:
        try:
            yield running
        finally:
            running.kill()


def test_after_helm_install_on_an_empty_cluster_the_quick_start_gets_one_node_first(
    tmp_path: Path,
) -> None:
    """Every file as it stands; the soak of 3 minutes is not waited for."""
    with Sandbox.start(Options(prometheus=False)) as cluster:
        tainted = NodeSpec(
            "control-plane", taints=("node-role.kubernetes.io/control-plane=:NoSchedule",)
        )
        cluster.add_nodes([*(NodeSpec(f"node-{number}") for number in range(3)), tainted])
        kubectl = Tool(cluster, "kubectl", tmp_path)
        with installed(cluster, tmp_path) as operator:
            for file in ("namespace", "channel", "release-1"):
                kubectl("apply", "-f", str(EXAMPLES / "quickstart" / f"{file}.yaml"))
            seen = cluster.wait_for("the first node", lambda: first_node(cluster), 30)
            assert seen["nodes"]["total"] == 3, operator.log_tail()
            assert seen["nodes"]["candidate"] == 1
            path = f"/api/v1/namespaces/{QUICKSTART}/pods"
            pods = cluster.wait_for("its agent", lambda: cluster.request("GET", path)["items"])
            assert len(pods) == 1


@contextmanager
def installed(
    cluster: Sandbox, folder: Path, settings: dict[str, str] | None = None
) -> Iterator[OperatorProcess]:
    """An operator, ready, after `helm install` as the examples want it."""
    name = "wavegate"
    helm = Tool(cluster, "helm", folder)
    helm("install", name, str(CHART), "-n", name, "--create-namespace", "--set", IMAGE)
    manifest = parse(helm("get", "manifest", name, "-n", name), name, name)
    # Started at once, as a kubelet would: the CRDs may not be served yet.
    with OperatorProcess.from_rendered(cluster, manifest, settings, folder) as operator:
        operator.wait_ready()
        yield operator


def first_node(cluster: Sandbox) -> dict[str, Any]:
    """Return the channel's status once a node is on the candidate."""
    path = f"/apis/wavegate.dev/v1alpha1/namespaces/{QUICKSTART}/securitycontentchannels/quickstart"
    status: dict[str, Any] = cluster.request("GET", path).get("status", {})
    return status if status.get("nodes", {}).get("candidate") else {}


def test_the_carriers_good_releases_complete_and_the_bad_one_is_taken_back(
    tmp_path: Path, sandbox_options: Options
) -> None:
    """Every file as it stands, but for the pace. The crash is played: no containers run here."""
    with Sandbox.start(replace(sandbox_options, audit=False, prometheus=False)) as cluster:
        cluster.add_nodes([NodeSpec(f"node-{number}") for number in range(3)])
        kubectl = Tool(cluster, "kubectl", tmp_path)

        def apply(file: str) -> None:
            kubectl("apply", "-f", str(EXAMPLES / "carrier" / f"{file}.yaml"))

        with installed(cluster, tmp_path, {"WAVEGATE_SOAK_FLOOR": "1s"}):
            for file in ("namespace", "agent", "channel"):
                apply(file)
            kubectl("-n", CARRIER, "rollout", "status", "daemonset/carrier-agent", "--timeout=30s")
            pace = '{"spec": {"rollout": {"soak": "1s", "settle": "1s"}}}'
            kubectl("-n", CARRIER, "patch", "wgc", "carrier", "--type=merge", "-p", pace)
            before = carrier_pods(cluster, "carrier-agent")
            for release in ("carrier-1", "carrier-2"):
                apply(release.replace("carrier", "release"))
                until_phase(cluster, release, "Completed")
                placed = carrier_pods(cluster, "content-carrier")
                assert len(placed) == len(before) == 3
            assert carrier_pods(cluster, "carrier-agent").keys() == before.keys()
            # It is taken back in its first wave, which stands still until then.
            stands = pace.replace('"soak": "1s"', '"soak": "1h"')
            kubectl("-n", CARRIER, "patch", "wgc", "carrier", "--type=merge", "-p", stands)
            apply("release-3-bad")
            (node,) = cluster.wait_for("a node has it", lambda: moved_nodes(cluster, placed), 60)
            (agent,) = (p for p in before.values() if p["spec"]["nodeName"] == node)
            restart_container(cluster, agent)
            status = until_phase(cluster, "carrier-3", "Reverted")
            assert status["incident"]["reason"] == "AgentRestarted"
            assert status["incident"]["nodes"] == [node]
            assert carrier_pods(cluster, "carrier-agent").keys() == before.keys()
            back = {
                content_volume(pod) for pod in carrier_pods(cluster, "content-carrier").values()
            }
            assert back == {content_volume(pod) for pod in placed.values()}


def carrier_pods(cluster: Sandbox, app: str) -> dict[str, dict[str, Any]]:
    """Pods of the agent or of the carriers that stay, by UID."""
    path = f"/api/v1/namespaces/{CARRIER}/pods"
    pods = cluster.request("GET", path, params={"labelSelector": f"app={app}"})["items"]
    return {p["metadata"]["uid"]: p for p in pods if "deletionTimestamp" not in p["metadata"]}


def content_volume(pod: dict[str, Any]) -> str:
    """The ConfigMap whose content a carrier brings."""
    return next(str(v["configMap"]["name"]) for v in pod["spec"]["volumes"] if "configMap" in v)


def moved_nodes(cluster: Sandbox, placed: dict[str, dict[str, Any]]) -> list[str]:
    """Nodes whose carrier, Ready, brings other content than those that were `placed`."""
    old = {content_volume(pod) for pod in placed.values()}
    now = carrier_pods(cluster, "content-carrier").values()
    return [p["spec"]["nodeName"] for p in now if content_volume(p) not in old and is_ready(p)]


def until_phase(cluster: Sandbox, release: str, phase: str) -> dict[str, Any]:
    """Wait until a release of the carrier's is in this phase; returns its status."""
    path = f"/apis/wavegate.dev/v1alpha1/namespaces/{CARRIER}/securitycontentreleases/{release}"
    seen: dict[str, Any] = {}

    def reached() -> bool:
        seen.update(cluster.request("GET", path).get("status", {}))
        return seen.get("phase") == phase

    try:
        cluster.wait_for(f"{release} to be {phase}", reached, 90)
    except TimedOut as error:
        raise AssertionError(f"{error}\nstatus: {seen}") from error
    return seen
