"""Whatever is deleted, and in whatever order, agents stay and nothing is stranded.

A sandbox of its own, since CRDs are deleted here. The operator runs without admission policies: a
fence must hold by itself.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.chart import CHART, IMAGE, apply_rights, parse, render
from support.operator_process import OperatorProcess
from support.story import GROUP, ON_ITS_CANARY, PATIENCE, RBAC, Story, digest
from support.tools import Tool
from wavegate_sandbox.cluster import Options, Sandbox
from wavegate_sandbox.faults import AgentCrashLoop, Faults

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
KINDS = ("channels", "releases", "decisions")
SYSTEM = "wavegate-owner"
WITHOUT_POLICIES = ("admissionPolicies.enabled=false",)
OURS = {"labelSelector": "wavegate.dev/kind"}


@pytest.fixture(scope="module")
def alone(sandbox_options: Options) -> Iterator[Sandbox]:
    """A control plane of our own, without our CRDs."""
    arguments = sandbox_options.extra_args
    options = Options(prometheus=False, node_monitor_grace_period="8s", extra_args=arguments)
    with Sandbox.start(options) as started:
        yield started


@pytest.fixture
def served(alone: Sandbox, apply_crds: Callable[[Sandbox], None]) -> None:
    """Our CRDs are served at the start of the test."""
    apply_crds(alone)


@pytest.fixture
def operator(alone: Sandbox, served: None, pace: dict[str, str]) -> Iterator[OperatorProcess]:
    """One operator that leads."""
    rendered = render(alone.tool("helm"), SYSTEM, SYSTEM, WITHOUT_POLICIES)
    apply_rights(alone, rendered)
    with OperatorProcess.from_rendered(alone, rendered, pace) as process:
        yield process.wait_ready()


def in_flight(sandbox: Sandbox, name: str) -> Story:
    """A story whose canary has content `b` while all others have `a`, and that goes no further."""
    sandbox.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    story = Story(sandbox, name, workers=1).begin()
    story.publish("a")
    story.until_phase("a", "Completed")
    story.apply_channel({"waves": ON_ITS_CANARY})
    story.publish("b")
    story.until_agents("the canary has it", mixed(story))
    story.patch("releases", "b", {"suspend": True})
    story.until_phase("b", "Paused")
    story.until_agents("only the canary has it", mixed(story))
    return story


def mixed(story: Story) -> dict[str, str]:
    """Content by node while the release is in flight."""
    return {**story.everywhere("a"), story.nodes[0]: "b"}


def uids(story: Story) -> dict[str, str]:
    """UID of the pod on each node (empty: on none yet)."""
    return {p["spec"].get("nodeName", ""): p["metadata"]["uid"] for p in story.pods()}


def delete_crds(sandbox: Sandbox) -> None:
    """Delete our CRDs, and with them all objects; returns when they are gone."""
    for kind in KINDS:
        sandbox.request("DELETE", f"{CRDS}/securitycontent{kind}.wavegate.dev")
    for kind in KINDS:
        path = f"{CRDS}/securitycontent{kind}.wavegate.dev"
        sandbox.wait_for(f"{kind} to be gone", lambda path=path: is_gone(sandbox, path))


def is_gone(sandbox: Sandbox, path: str) -> bool:
    """Whether nothing is there any more."""
    return sandbox.request("GET", path, check=False).get("code") == 404


def says_what_is_missing(operator: OperatorProcess) -> bool:
    """Whether /readyz names the CRDs."""
    status, words = operator.get("/readyz")
    named = all(f"securitycontent{kind}.wavegate.dev" in words for kind in KINDS)
    return status == 503 and named and "apply the files in crds/" in words


def revisions(story: Story) -> dict[str, str]:
    """UIDs of the story's DaemonSets, by name."""
    path = f"/apis/apps/v1/namespaces/{story.namespace}/daemonsets"
    items = story.sandbox.request("GET", path, params=OURS)["items"]
    return {item["metadata"]["name"]: item["metadata"]["uid"] for item in items}


def everything(story: Story) -> list[dict[str, Any]]:
    """All objects that are ours, or that we write to."""
    space = f"namespaces/{story.namespace}"
    paths = [
        f"/api/v1/{space}/configmaps",
        f"/api/v1/{space}/pods",
        "/api/v1/nodes",
        f"/apis/apps/v1/{space}/daemonsets",
        *(f"{GROUP}/{space}/securitycontent{kind}" for kind in KINDS),
    ]
    return [item for path in paths for item in story.sandbox.request("GET", path)["items"]]


def assert_nothing_is_stranded(objects: list[dict[str, Any]]) -> None:
    """No finalizer that only we would take off, no owner that takes anything but a pod along."""
    kinds = {item["metadata"].get("labels", {}).get("wavegate.dev/kind") for item in objects}
    assert {"record", "ledger", "revision"} <= kinds
    for item in objects:
        metadata = item["metadata"]
        assert not metadata.get("finalizers"), metadata["name"]
        owners = {owner["kind"] for owner in metadata.get("ownerReferences", [])}
        assert owners <= {"DaemonSet"}, f"{metadata['name']} would go with its {owners}"


def test_crds_deleted_under_the_operator_with_a_release_in_flight_leave_all_agents(
    alone: Sandbox, operator: OperatorProcess, apply_crds: Callable[[Sandbox], None]
) -> None:
    """The release is deleted with its CRD, so it is reverted. Nothing else happens."""
    story = in_flight(alone, "crds-first")
    pid, stable = operator.pid, story.channel_status()["stable"]["daemonSet"]
    before, sets = uids(story), revisions(story)

    delete_crds(alone)
    alone.wait_for("the operator to say so", lambda: says_what_is_missing(operator), PATIENCE)
    story.until_agents("stable is everywhere", story.everywhere("a"))
    assert operator.get("/healthz")[0] == 200
    assert {node: uid for node, uid in uids(story).items() if node != story.nodes[0]} == {
        node: uid for node, uid in before.items() if node != story.nodes[0]
    }
    assert revisions(story)[stable] == sets[stable]

    settled = uids(story)
    apply_crds(alone)
    operator.wait_ready()
    story.apply_channel({})
    alone.wait_for("the channel's status", lambda: "stable" in story.channel_status())
    assert story.channel_status()["stable"]["daemonSet"] == stable
    assert uids(story) == settled
    story.publish("c")
    story.until_phase("c", "Completed")
    assert (operator.running, operator.pid) == (True, pid)


def test_an_operator_that_leads_without_crds_moves_nothing_but_still_reverts_on_harm(
    alone: Sandbox, operator: OperatorProcess, apply_crds: Callable[[Sandbox], None]
) -> None:
    story = in_flight(alone, "crds-gone")
    operator.stop()
    delete_crds(alone)
    before = uids(story)
    assert story.agents() == {n: digest(c) for n, c in mixed(story).items()}

    operator.start()
    alone.wait_for("the operator to say so", lambda: says_what_is_missing(operator), PATIENCE)
    alone.wait_for("it leads", lambda: operator.leads)
    alone.wait_for("passes", lambda: operator.metrics()["wavegate_pass_seconds_count"] > 5)
    assert uids(story) == before
    alone.crash(story.nodes[0])
    alone.wait_for("the fence", lambda: is_fenced(story))
    alone.boot(story.nodes[0])
    story.until_agents("stable is everywhere", story.everywhere("a"))
    apply_crds(alone)
    operator.wait_ready()
    assert operator.stop() == 0, operator.log_tail()


def is_fenced(story: Story) -> bool:
    """Whether each pod that is left of content `b` is being deleted."""
    carriers = [p for p in story.pods() if digest("b") in str(p["spec"])]
    return all("deletionTimestamp" in p["metadata"] for p in carriers)


def test_an_operator_that_waits_for_its_crds_stops_when_it_is_asked_to(
    alone: Sandbox, operator: OperatorProcess
) -> None:
    delete_crds(alone)
    alone.wait_for("the operator to say so", lambda: says_what_is_missing(operator), PATIENCE)
    assert operator.stop() == 0, operator.log_tail()


def test_without_policies_bad_content_is_fenced_and_taken_back_all_the_same(
    alone: Sandbox, operator: OperatorProcess
) -> None:
    alone.request("POST", "/api/v1/namespaces", {"metadata": {"name": "no-policies"}})
    story = Story(alone, "no-policies", workers=1).begin()
    story.publish("a")
    story.until_phase("a", "Completed")
    with Faults(alone, {digest("owner-bad"): AgentCrashLoop(every_seconds=1)}) as faults:
        story.publish("bad", letter="owner-bad")
        story.until_phase("bad", "Reverted")
        exposed = {event.node for event in faults.timeline if event.kind == "loaded"}
    assert exposed == {story.nodes[0]}
    story.until_agents("stable is everywhere", story.everywhere("a"))


def test_a_channel_deleted_with_a_release_in_flight_leaves_stable_on_all_nodes(
    alone: Sandbox, operator: OperatorProcess
) -> None:
    """Nothing has a finalizer, and a release without its channel can be deleted."""
    story = in_flight(alone, "channel-gone")
    story.decide("wait", "b", "Pause")
    assert_nothing_is_stranded(everything(story))
    objects = f"{GROUP}/namespaces/{story.namespace}/securitycontent"
    alone.request("DELETE", f"{objects}channels/{story.channel}")
    story.until_agents("stable is everywhere", story.everywhere("a"))
    status = story.until_phase("b", "Reverted")
    assert status["incident"]["reason"] == "ChannelDeleted"
    joined = f"{story.namespace}-worker-9"
    story.join(joined)
    story.until_agents("a node that joins has it", {**story.everywhere("a"), joined: "a"})

    for release in ("a", "b"):
        path = f"{objects}releases/{release}"
        alone.request("DELETE", path)
        assert is_gone(alone, path)
    assert set(story.agents().values()) == {digest("a")}


def test_uninstalled_with_a_release_in_flight_every_node_keeps_what_it_has(
    alone: Sandbox, served: None, pace: dict[str, str], tmp_path: Path
) -> None:
    """The wrong order: the operator first, then the CRDs, and the channel never."""
    helm = Tool(alone, "helm", tmp_path)
    name = "wavegate-gone"
    where = ("--namespace", name)
    helm("install", name, str(CHART), *where, "--create-namespace", "--set", IMAGE)
    installed = parse(helm("get", "manifest", name, *where), name, name)
    with OperatorProcess.from_rendered(alone, installed, pace) as process:
        process.wait_ready()
        story = in_flight(alone, "uninstalled")
    before = uids(story)
    helm("uninstall", name, *where)
    delete_crds(alone)
    assert uids(story) == before

    labels = {"labelSelector": "wavegate.dev/channel=rules"}
    alone.request("DELETE", f"/api/v1/namespaces/{story.namespace}/pods", params=labels)

    def renewed() -> bool:
        found = uids(story)
        return len(found) == len(before) and not set(found.values()) & set(before.values())

    alone.wait_for("another pod on each node", renewed)
    story.until_agents("each has what it had", mixed(story))


def test_uninstalled_in_the_documented_order_only_stable_is_left(
    alone: Sandbox, served: None, pace: dict[str, str], tmp_path: Path
) -> None:
    """docs/runbook.md: end the rollouts, delete the channels, the operator, the CRDs."""
    helm = Tool(alone, "helm", tmp_path)
    name = "wavegate-order"
    where = ("--namespace", name)
    helm("install", name, str(CHART), *where, "--create-namespace", "--set", IMAGE)
    installed = parse(helm("get", "manifest", name, *where), name, name)
    with OperatorProcess.from_rendered(alone, installed, pace) as process:
        process.wait_ready()
        story = in_flight(alone, "in-order")
        story.decide("back", "b", "Revert")
        story.until_phase("b", "Reverted")
        before = uids(story)
        path = f"{GROUP}/namespaces/{story.namespace}/securitycontentchannels/{story.channel}"
        alone.request("DELETE", path)
        assert is_gone(alone, path)
    helm("uninstall", name, *where)
    Tool(alone, "kubectl", tmp_path)(
        *("delete", "rolebindings", "--all-namespaces"),
        *("--field-selector", f"metadata.name={name}-agents"),
    )
    path = f"{RBAC}/namespaces/{story.namespace}/rolebindings"
    left = [item["metadata"]["name"] for item in alone.request("GET", path)["items"]]
    assert f"{name}-agents" not in left
    delete_crds(alone)
    assert uids(story) == before
    assert story.agents() == story.everywhere_digest("a")
    alone.request("DELETE", f"/api/v1/namespaces/{story.namespace}")
    space = f"/api/v1/namespaces/{story.namespace}"
    alone.wait_for("the namespace to be gone", lambda: is_gone(alone, space), 60)
