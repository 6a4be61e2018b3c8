"""Simulated machines on the session's control plane: hand-over, agent faults, real nodes."""

import pytest

from support.workloads import create, daemon_set, label, node_of, running
from wavegate_sandbox.components import OFFLINE
from wavegate_sandbox.errors import NotOurs
from wavegate_sandbox.faults import AgentCrashLoop


def test_machines_look_like_the_real_ones(sandbox, machines):
    one, two = machines(2)
    first, second = node_of(sandbox, one), node_of(sandbox, two)
    assert first["metadata"]["labels"]["kubernetes.io/hostname"] == one
    for field in ("bootID", "kernelVersion", "osImage", "containerRuntimeVersion"):
        assert first["status"]["nodeInfo"][field]
    assert first["status"]["nodeInfo"]["bootID"] != second["status"]["nodeInfo"]["bootID"]
    assert first["status"]["addresses"] != second["status"]["addresses"]


def test_a_node_label_hands_a_node_over_from_one_daemon_set_to_the_other(
    sandbox, namespace, machines
):
    one, two = machines(2)
    create(sandbox, namespace, daemon_set("stable", namespace, "r.test/c@sha256:aa", "NotIn"))
    create(sandbox, namespace, daemon_set("candidate", namespace, "r.test/c@sha256:bb", "In"))
    both = {one: ["stable"], two: ["stable"]}
    sandbox.wait_for("stable on both", lambda: running(sandbox, namespace) == both)
    label(sandbox, one, "candidate")
    moved = {one: ["candidate"], two: ["stable"]}
    sandbox.wait_for("the candidate on one", lambda: running(sandbox, namespace) == moved)


def test_an_agent_with_bad_content_restarts_and_the_others_do_not(
    sandbox, namespace, machines, faults
):
    one, two = machines(2)
    create(sandbox, namespace, daemon_set("stable", namespace, "r.test/c@sha256:aa", "NotIn"))
    bad = f"r.test/{namespace}@sha256:bb"
    create(sandbox, namespace, daemon_set("candidate", namespace, bad, "In"))
    label(sandbox, one, "candidate")
    history = faults({namespace: AgentCrashLoop(every_seconds=0.3)})

    def containers():
        pods = sandbox.request("GET", f"/api/v1/namespaces/{namespace}/pods")["items"]
        return {
            pod["spec"]["nodeName"]: pod["status"]["containerStatuses"][0]
            for pod in pods
            if pod["status"].get("containerStatuses")
        }

    sandbox.wait_for(
        "three restarts on one",
        lambda: containers().get(one, {}).get("restartCount", 0) >= 3 and two in containers(),
    )
    broken, healthy = containers()[one], containers()[two]
    assert broken["ready"] is False
    assert broken["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    assert broken["lastState"]["terminated"]["exitCode"] == 1
    assert (healthy["ready"], healthy["restartCount"]) == (True, 0)
    assert {event.node for event in history.timeline} == {one}


def test_what_the_offline_registry_lacks_waits_until_it_is_there(sandbox, namespace, machines):
    (one,) = machines(1)
    content = f"{OFFLINE}/content@sha256:aa"
    create(sandbox, namespace, daemon_set("stable", namespace, content, "NotIn"))

    def waiting():
        pods = sandbox.request("GET", f"/api/v1/namespaces/{namespace}/pods")["items"]
        return {
            pod["metadata"]["name"]: entry["state"]["waiting"]["reason"]
            for pod in pods
            for entry in pod["status"].get("containerStatuses", [])
            if "waiting" in entry["state"]
        }

    sandbox.wait_for("the kubelet's word", lambda: set(waiting().values()) == {"ImagePullBackOff"})
    assert running(sandbox, namespace) == {}
    for pod in waiting():
        sandbox.pull(namespace, pod)
    sandbox.wait_for("it runs", lambda: running(sandbox, namespace) == {one: ["stable"]})
    assert waiting() == {}


def test_faults_that_were_stopped_do_nothing_more(sandbox, namespace, machines, faults):
    (one,) = machines(1)
    content = f"r.test/{namespace}@sha256:bb"
    create(sandbox, namespace, daemon_set("agent", namespace, content, "NotIn"))
    history = faults({namespace: AgentCrashLoop(every_seconds=0.1)})
    sandbox.wait_for("a restart", lambda: history.first("agent-restart"))
    history.stop()
    seen = len(history.timeline)
    pods = f"/api/v1/namespaces/{namespace}/pods"
    before = sandbox.request("GET", pods)["items"][0]["metadata"]["resourceVersion"]
    sandbox.request("PATCH", f"/api/v1/nodes/{one}", {"metadata": {"labels": {"x": "y"}}})
    after = sandbox.request("GET", pods)["items"][0]["metadata"]["resourceVersion"]
    assert (len(history.timeline), after) == (seen, before)


def test_new_kwok_takes_the_machines_over_before_they_look_dead(sandbox, machines):
    if not sandbox.ours:
        pytest.skip("needs control over kwok's process")
    (one,) = machines(1)
    path = f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{one}"

    def holder():
        return sandbox.request("GET", path)["spec"].get("holderIdentity")

    before = holder()
    sandbox.restart_component("kwok")
    sandbox.wait_for("another holder", lambda: holder() not in (None, before), timeout=20)


def test_a_machine_that_may_be_real_is_not_touched(sandbox, namespace):
    sandbox.request("POST", "/api/v1/nodes", {"metadata": {"name": f"{namespace}-real"}})
    try:
        for act in (sandbox.crash, sandbox.boot, sandbox.remove_node):
            with pytest.raises(NotOurs, match="may be a real machine"):
                act(f"{namespace}-real")
    finally:
        sandbox.request("DELETE", f"/api/v1/nodes/{namespace}-real")
