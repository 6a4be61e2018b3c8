"""A second sandbox, of another process: independent, usable as an existing cluster, mortal."""

import pytest

from support.workloads import (
    create,
    daemon_set,
    fleet,
    is_ready,
    label,
    node_of,
    running,
    until_lost,
)
from wavegate_sandbox import identity
from wavegate_sandbox.client import wait_for
from wavegate_sandbox.cluster import Sandbox
from wavegate_sandbox.errors import ContextRefused, NotOurs
from wavegate_sandbox.faults import Faults, NodeCrash


@pytest.fixture
def attached(another, monkeypatch):
    monkeypatch.setenv("WAVEGATE_KUBECONFIG", str(another.kubeconfig))
    monkeypatch.setenv("WAVEGATE_CONTEXT", "wavegate-sandbox")
    with Sandbox.attach_or_start() as sandbox:
        yield sandbox


def test_two_sandboxes_share_nothing(sandbox, another):
    assert sandbox.server != another.server
    assert sandbox.folder != another.folder
    if sandbox.ours:
        assert not set(sandbox.pids().values()) & set(another.pids.values())


def test_an_existing_cluster_is_not_touched_unless_its_context_is_named(another, monkeypatch):
    monkeypatch.setenv("WAVEGATE_KUBECONFIG", str(another.kubeconfig))
    monkeypatch.delenv("WAVEGATE_CONTEXT", raising=False)
    with pytest.raises(ContextRefused) as refused:
        Sandbox.attach_or_start()
    assert another.server in str(refused.value)
    assert "set WAVEGATE_CONTEXT=wavegate-sandbox" in str(refused.value)
    monkeypatch.setenv("WAVEGATE_CONTEXT", "production")
    with pytest.raises(ContextRefused, match="is 'production'"):
        Sandbox.attach_or_start()


def test_no_kubernetes_can_be_chosen_for_an_existing_cluster(monkeypatch):
    monkeypatch.setenv("WAVEGATE_KUBECONFIG", "a-file-that-nobody-reads")
    monkeypatch.setenv("WAVEGATE_KUBERNETES", "1.34")
    with pytest.raises(NotOurs, match="Unset one of them"):
        Sandbox.attach_or_start()


def test_processes_of_an_existing_cluster_are_not_ours(attached):
    assert not attached.ours
    for act in (
        lambda: attached.stop_component("kube-apiserver"),
        lambda: attached.start_component("prometheus"),
        lambda: attached.scrape("127.0.0.1:1"),
        lambda: attached.user_kubeconfig("jane"),
        attached.pids,
        attached.detach,
    ):
        with pytest.raises(NotOurs, match="was not started by the sandbox"):
            act()


def test_closing_an_attached_sandbox_leaves_the_cluster_running(another, monkeypatch):
    with Sandbox.attach(another.kubeconfig, "wavegate-sandbox") as attached:
        folder = attached.folder
        attached.service_account_kubeconfig("default", "default")
    assert not folder.exists()
    with Sandbox.attach(another.kubeconfig, "wavegate-sandbox") as again:
        assert again.request("GET", "/api/v1/nodes")["kind"] == "NodeList"


def test_a_machine_crashes_by_content_and_comes_back_as_another_boot(attached):
    """The whole story of a bad content file, as Kubernetes itself sees it."""
    with fleet(attached, "story", 2) as (bad, good):
        create(attached, "default", daemon_set("stable", "story", "r.test/c@sha256:aa", "NotIn"))
        create(attached, "default", daemon_set("candidate", "story", "r.test/c@sha256:bb", "In"))
        attached.wait_for("agents", lambda: len(running(attached, "default")) == 2)
        before = node_of(attached, bad)["status"]["nodeInfo"]["bootID"]
        with Faults(attached, {"sha256:bb": NodeCrash(after_seconds=0.5)}) as faults:
            label(attached, bad, "candidate")
            attached.wait_for("the crash", lambda: faults.first("crash"))
            until_lost(attached, bad, timeout=40)
            silent = renewal(attached, bad)
            boot_id = attached.boot(bad)
            attached.wait_for("Ready again", lambda: is_ready(node_of(attached, bad)))
            assert node_of(attached, bad)["status"]["nodeInfo"]["bootID"] == boot_id != before
            attached.wait_for("a new lease", lambda: renewal(attached, bad) > silent)

            crashes = lambda: [e.node for e in faults.timeline if e.kind == "crash"]  # noqa: E731
            attached.wait_for("the next crash by the same content", lambda: len(crashes()) == 2)
            assert crashes() == [bad, bad]
        reverted_while_down(attached, bad, good)


def reverted_while_down(sandbox: Sandbox, bad: str, good: str) -> None:
    label(sandbox, bad, None)
    pods = "/api/v1/namespaces/default/pods"

    def candidates():
        found = sandbox.request("GET", pods, params={"labelSelector": "app=candidate"})["items"]
        return [pod["metadata"] for pod in found]

    sandbox.wait_for(
        "the frozen pod to be Terminating",
        lambda: ["deletionTimestamp" in pod for pod in candidates()] == [True],
    )
    sandbox.boot(bad)
    stable = {bad: ["stable"], good: ["stable"]}
    sandbox.wait_for("stable on both", lambda: running(sandbox, "default") == stable)
    # Nothing keeps the two apart here: either may be first.
    sandbox.wait_for("the frozen pod to be gone", lambda: not candidates())


def renewal(sandbox: Sandbox, node: str) -> str:
    path = f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{node}"
    return sandbox.request("GET", path)["spec"]["renewTime"]


def test_z_nothing_of_a_sandbox_outlives_its_killed_owner(another):
    """Named so as to run last in this file: it ends the second sandbox."""
    assert all(identity.started(pid) for pid in another.pids.values())
    another.process.kill()
    wait_for(
        "every process of the sandbox to end",
        lambda: not [name for name, pid in another.pids.items() if identity.started(pid)],
    )
    wait_for("the folder to be removed", lambda: not another.folder.exists())
