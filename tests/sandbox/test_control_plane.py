"""The session's control plane: identities, components on request, metrics."""

import json
import socket

import pytest
import requests

from wavegate_sandbox import build, control_plane, kubeconfig
from wavegate_sandbox.certificates import Authority
from wavegate_sandbox.client import Api
from wavegate_sandbox.cluster import Options, Sandbox, _layout
from wavegate_sandbox.control_plane import ControlPlane, free_port
from wavegate_sandbox.errors import ApiError, ComponentFailed, TimedOut
from wavegate_sandbox.processes import Processes


@pytest.fixture
def ours(sandbox):
    if not sandbox.ours:
        pytest.skip("needs control over the processes of the control plane")
    return sandbox


def test_a_service_account_token_has_its_rights_and_no_others(sandbox, namespace):
    account = {"metadata": {"name": "reader"}}
    sandbox.request("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", account)
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    rule = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}
    sandbox.request("POST", f"{rbac}/roles", {"metadata": {"name": "reader"}, "rules": [rule]})
    group = "rbac.authorization.k8s.io"
    binding = {
        "metadata": {"name": "reader"},
        "roleRef": {"apiGroup": group, "kind": "Role", "name": "reader"},
        "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": namespace}],
    }
    sandbox.request("POST", f"{rbac}/rolebindings", binding)

    file = sandbox.service_account_kubeconfig(namespace, "reader")
    assert file.stat().st_mode & 0o077 == 0
    reader = Api(kubeconfig.read(file))
    path = f"/api/v1/namespaces/{namespace}/configmaps"  # a controller makes one in each
    sandbox.wait_for(
        "what it may read", lambda: reader.request("GET", path, check=False).get("items")
    )
    with pytest.raises(ApiError, match="403 Forbidden") as refused:
        reader.request("GET", "/api/v1/nodes")
    assert f"system:serviceaccount:{namespace}:reader" in refused.value.message


def test_a_user_certificate_is_that_user_with_those_groups(ours):
    user = Api(kubeconfig.read(ours.user_kubeconfig("jane", ("oncall",))))
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    said = user.request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", review)
    assert said["status"]["userInfo"]["username"] == "jane"
    assert "oncall" in said["status"]["userInfo"]["groups"]


def test_the_audit_log_says_who_did_what(ours, namespace):
    entries = [json.loads(line) for line in ours.audit_log.read_text().splitlines()]
    mine = [
        (entry["user"]["username"], entry["verb"], entry["objectRef"]["resource"])
        for entry in entries
        if entry.get("objectRef", {}).get("name") == namespace
    ]
    assert ("kubernetes-admin", "create", "namespaces") in mine


def test_series_of_an_exporter_reach_prometheus_and_leave_it(ours, exporter):
    def query():
        url = f"{ours.prometheus_url}/api/v1/query"
        answer = requests.get(url, params={"query": "node_crashes_total"}, timeout=5)
        return {
            entry["metric"]["node"]: float(entry["value"][1])
            for entry in answer.json()["data"]["result"]
        }

    exporter.set("node_crashes_total", {"node": "n1"}, 3)
    exporter.set("node_crashes_total", {"node": 'odd"name'}, 1.5)
    ours.wait_for("both series", lambda: query() == {"n1": 3.0, 'odd"name': 1.5})
    exporter.remove("node_crashes_total", {"node": "n1"})
    ours.wait_for("one series to go", lambda: query() == {'odd"name': 1.5})


def test_prometheus_can_be_stopped_and_started_at_the_same_address(ours):
    ready = f"{ours.prometheus_url}/-/ready"
    ours.stop_component("prometheus")
    with pytest.raises(requests.ConnectionError):
        requests.get(ready, timeout=5)
    ours.start_component("prometheus")
    assert requests.get(ready, timeout=5).ok


def test_an_apiserver_that_is_killed_comes_back_with_everything_it_had(ours, namespace):
    assert ours.stop_component("kube-apiserver", grace=0) == -9
    with pytest.raises(requests.ConnectionError):
        ours.request("GET", "/readyz")
    ours.start_component("kube-apiserver")
    assert ours.request("GET", f"/api/v1/namespaces/{namespace}")["status"]["phase"] == "Active"


def test_a_component_that_ends_at_start_is_named_with_its_last_words(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    broken = Options(prometheus=False, extra_args={"etcd": ("--data-dir=/dev/null/x",)})
    with pytest.raises(
        ComponentFailed, match=r"etcd ended with exit code (.*\n)*.*/dev/null/x"
    ) as error:
        Sandbox.start(broken)
    (folder,) = tmp_path.glob("wavegate-sandbox-*")
    assert f"{folder}/logs/etcd.log" in str(error.value)
    assert (folder / "logs" / "etcd.log").exists()


def test_a_port_that_somebody_took_meanwhile_is_replaced_by_another(tmp_path, monkeypatch):
    processes = Processes(tmp_path, keep=True)
    layout = _layout(
        tmp_path, build.ensure(["etcd"]), Authority(tmp_path / "pki"), Options(prometheus=False)
    )
    plane = ControlPlane(layout, processes, {})
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        taken = somebody.getsockname()[1]
        offered = iter([taken])
        monkeypatch.setattr(control_plane, "free_port", lambda: next(offered, free_port()))
        try:
            plane._launch("etcd")
            assert layout.ports["etcd"] == taken
            plane._settle("etcd")
            assert layout.ports["etcd"] != taken
        finally:
            processes.close()


def test_a_condition_that_does_not_come_true_says_what_was_seen_last(sandbox):
    with pytest.raises(TimedOut, match=r"Waited 0.2 s for pigs to fly. Last seen: \[\]"):
        sandbox.wait_for("pigs to fly", list, timeout=0.2)
