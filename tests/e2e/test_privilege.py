"""What RBAC can't say and policies do: the operator writes its own, and nobody else does.

A control plane whose controllers have accounts of their own, as most clusters have it. No operator
runs: its account is asked with, by its own token and role.
"""

import http.client
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.chart import apply, apply_crds, render
from support.operator_process import OperatorProcess
from support.served import as_served
from support.story import bind_operators, channel_spec, let_agents_run
from wavegate_sandbox.client import Api
from wavegate_sandbox.cluster import Options, Sandbox
from wavegate_sandbox.kubeconfig import read
from wavegate_sandbox.nodes import NodeSpec

SYSTEM = "wavegate-guard"
AGENTS = "guarded"
PREFIX = "wavegate.node-restriction.kubernetes.io"
LABEL = f"{PREFIX}/{AGENTS}.rules"
CANARY_LABEL = f"{PREFIX}/canary"
NODE = "/api/v1/nodes/guarded"
CONFIG_MAPS = f"/api/v1/namespaces/{AGENTS}/configmaps"
PODS = f"/api/v1/namespaces/{AGENTS}/pods"
DAEMON_SETS = f"/apis/apps/v1/namespaces/{AGENTS}/daemonsets"
CHANNEL = f"/apis/wavegate.dev/v1alpha1/namespaces/{AGENTS}/securitycontentchannels/rules"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
MERGE = "application/merge-patch+json"
OURS = {"wavegate.dev/channel": "rules", "wavegate.dev/attempt": "a1"}

Body = dict[str, Any]
Write = tuple[str, str, Body | None]
"""Method, path and body (a merge patch, or a whole object)."""


@dataclass(frozen=True, slots=True)
class People:
    """Who asks: the operator's account, a cluster administrator, and one who breaks the glass."""

    operator: Api
    administrator: Api
    on_call: Api


@pytest.fixture(scope="module")
def guarded() -> Iterator[Sandbox]:
    """A control plane with the chart's rights and policies, and a node."""
    accounts = ("--use-service-account-credentials=true",)
    extra = {"kube-controller-manager": accounts}
    with Sandbox.start(Options(prometheus=False, extra_args=extra)) as sandbox:
        apply_crds(sandbox)
        OperatorProcess.from_chart(sandbox, SYSTEM)
        sandbox.add_nodes([NodeSpec("guarded", {"pool": "guarded"})])
        for name in (AGENTS, "elsewhere", "unbound"):
            sandbox.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        let_agents_run(sandbox, AGENTS)
        bind_operators(sandbox, "elsewhere")
        path = f"/api/v1/namespaces/{AGENTS}/serviceaccounts/default"
        sandbox.wait_for(
            "the default account", lambda: "metadata" in sandbox.request("GET", path, check=False)
        )
        yield sandbox


@pytest.fixture(scope="module")
def people(guarded: Sandbox) -> People:
    bind(guarded, "cluster-admin", "admins")
    bind(guarded, f"{SYSTEM}-break-glass", "wavegate:break-glass")
    people = People(
        Api(read(guarded.service_account_kubeconfig(SYSTEM, SYSTEM))),
        Api(read(guarded.user_kubeconfig("eve", ("admins",)))),
        Api(read(guarded.user_kubeconfig("oncall", ("wavegate:break-glass",)))),
    )
    trial = config_map("trial", {"wavegate.dev/kind": "record", **OURS})

    def refused() -> bool:
        answer = people.administrator.request(
            "POST", CONFIG_MAPS, trial, params={"dryRun": "All"}, check=False
        )
        return answer["kind"] == "Status" and "Wavegate: " in answer["message"]

    guarded.wait_for("the policies", refused)
    return people


@pytest.fixture(scope="module")
def objects(guarded: Sandbox, people: People) -> None:
    """The operator's objects, made by its account, and others beside them, made by others."""
    for path, body in (
        (CONFIG_MAPS, config_map("wavegate-record-rules", {"wavegate.dev/kind": "record", **OURS})),
        (CONFIG_MAPS, config_map("wavegate-ledger-a1-0", {"wavegate.dev/kind": "ledger", **OURS})),
        (CONFIG_MAPS, config_map("wavegate-content-1", {"wavegate.dev/kind": "content", **OURS})),
        (DAEMON_SETS, daemon_set("rules-a1", {"wavegate.dev/kind": "revision", **OURS})),
    ):
        people.operator.request("POST", path, body)
    people.operator.request("PATCH", NODE, label("a1"))
    channel = {
        "apiVersion": "wavegate.dev/v1alpha1",
        "kind": "SecurityContentChannel",
        "metadata": {"name": "rules"},
        "spec": as_served(guarded, channel_spec(AGENTS)),
    }
    for path, body in (
        (CONFIG_MAPS, config_map("settings")),
        (DAEMON_SETS, daemon_set("stranger")),
        (CHANNEL.removesuffix("/rules"), channel),
    ):
        people.administrator.request("POST", path, body)

    def counted() -> bool:
        status = guarded.request("GET", f"{DAEMON_SETS}/rules-a1")["status"]
        return bool(status.get("numberReady") == 1)

    guarded.wait_for("a Ready pod, counted by the DaemonSet controller's own account", counted)


def bind(sandbox: Sandbox, role: str, group: str) -> None:
    """Give a ClusterRole to a group."""
    name = role.replace(":", "-") + "-of-the-test"
    item = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": group}],
    }
    apply(sandbox, f"{RBAC}/clusterrolebindings/{name}", item)


def config_map(name: str, labels: dict[str, str] | None = None) -> Body:
    return {"metadata": {"name": name, "labels": labels or {}}, "data": {"key": "value"}}


def daemon_set(name: str, labels: dict[str, str] | None = None) -> Body:
    chosen = {**(labels or {}), "app": name}
    chosen.pop("wavegate.dev/kind", None)
    pod = {
        "nodeSelector": {"pool": "guarded"},
        "containers": [{"name": "agent", "image": "registry.example/agent"}],
    }
    template = {"metadata": {"labels": chosen}, "spec": pod}
    return {
        "metadata": {"name": name, "labels": labels or {}},
        "spec": {"selector": {"matchLabels": chosen}, "template": template},
    }


def pod(name: str, labels: dict[str, str] | None = None) -> Body:
    containers = [{"name": "main", "image": "registry.example/tool"}]
    return {"metadata": {"name": name, "labels": labels or {}}, "spec": {"containers": containers}}


def label(value: str | None, key: str = LABEL) -> Body:
    return {"metadata": {"labels": {key: value}}}


def affinity(value: str) -> Body:
    """What a fence writes, as a merge patch."""
    rule = {"key": LABEL, "operator": "In", "values": [value]}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [rule]}]}
    node = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    return {"spec": {"template": {"spec": {"affinity": node}}}}


def ask(api: Api, write: Write) -> Body:
    """Try one write by dry run: what admission says is the same, and tests don't disturb others."""
    method, path, body = write
    kind = MERGE if method == "PATCH" else None
    params = {"dryRun": "All"}
    return api.request(method, path, body, params=params, content_type=kind, check=False)


def assert_refused(answer: Body, words: str = "") -> None:
    """It is a refusal of ours, not of RBAC."""
    assert answer.get("code") == http.client.FORBIDDEN, answer
    assert "Wavegate: " in answer["message"]
    assert words in answer["message"]


def assert_done(answer: Body) -> None:
    assert answer["kind"] != "Status" or answer["status"] == "Success", answer


SPEC = {"metadata": {"labels": {LABEL: "a2"}}, "spec": {"unschedulable": True}}
LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases"
OWN_WRITES: dict[str, Write] = {
    "move a node": ("PATCH", NODE, label("a2")),
    "unlabel a node": ("PATCH", NODE, label(None)),
    "point a revision at other nodes": ("PATCH", f"{DAEMON_SETS}/rules-a1", affinity("a1")),
    "forget a revision": ("DELETE", f"{DAEMON_SETS}/rules-a1", None),
    "write the record": (
        "PUT",
        f"{CONFIG_MAPS}/wavegate-record-rules",
        config_map("wavegate-record-rules", {"wavegate.dev/kind": "record", **OURS}),
    ),
    "forget a ledger": ("DELETE", f"{CONFIG_MAPS}/wavegate-ledger-a1-0", None),
    "take its lease": ("POST", LEASES, {"metadata": {"name": SYSTEM}}),
}
BEYOND: dict[str, Write] = {
    "another label of a node": ("PATCH", NODE, label("x", "example.com/role")),
    "a label taken from a node": ("PATCH", NODE, label(None, "pool")),
    "a label of another of its own kind": ("PATCH", NODE, label("x", f"x.{PREFIX}/x")),
    "which nodes are canaries": ("PATCH", NODE, label("never", CANARY_LABEL)),
    "a node's annotation": ("PATCH", NODE, {"metadata": {"annotations": {"a": "b"}}}),
    "a node's finalizer": ("PATCH", NODE, {"metadata": {"finalizers": ["example.com/x"]}}),
    "a node's taint": (
        "PATCH",
        NODE,
        {"spec": {"taints": [{"key": "x", "value": "y", "effect": "NoExecute"}]}},
    ),
    "a cordon along with its label": ("PATCH", NODE, SPEC),
    "a DaemonSet of others": ("PATCH", f"{DAEMON_SETS}/stranger", affinity("a1")),
    "a DaemonSet of others made its own": (
        "PATCH",
        f"{DAEMON_SETS}/stranger",
        {"metadata": {"labels": {"wavegate.dev/kind": "revision", **OURS}}},
    ),
    "another attempt on a revision": (
        "PATCH",
        f"{DAEMON_SETS}/rules-a1",
        {"metadata": {"labels": {"wavegate.dev/attempt": "a2"}}},
    ),
    "the end of a DaemonSet of others": ("DELETE", f"{DAEMON_SETS}/stranger", None),
    "a DaemonSet without our labels": ("POST", DAEMON_SETS, daemon_set("new")),
    "a DaemonSet of no attempt": (
        "POST",
        DAEMON_SETS,
        daemon_set("new", {"wavegate.dev/kind": "revision", "wavegate.dev/channel": "rules"}),
    ),
    "a ConfigMap of others": ("PUT", f"{CONFIG_MAPS}/settings", config_map("settings")),
    "a ConfigMap of others made its own": (
        "PUT",
        f"{CONFIG_MAPS}/settings",
        config_map("settings", {"wavegate.dev/kind": "record", **OURS}),
    ),
    "the end of a ConfigMap of others": ("DELETE", f"{CONFIG_MAPS}/settings", None),
    "a ConfigMap without our labels": ("POST", CONFIG_MAPS, config_map("new")),
    "a ledger that is there": (
        "PUT",
        f"{CONFIG_MAPS}/wavegate-ledger-a1-0",
        config_map("wavegate-ledger-a1-0", {"wavegate.dev/kind": "ledger", **OURS}),
    ),
    "the end of a record": ("DELETE", f"{CONFIG_MAPS}/wavegate-record-rules", None),
    "the end of content that pods need": ("DELETE", f"{CONFIG_MAPS}/wavegate-content-1", None),
    "another lease": ("POST", LEASES, {"metadata": {"name": "another"}}),
}


@pytest.mark.parametrize("write", OWN_WRITES.values(), ids=OWN_WRITES)
def test_the_operators_account_may(people: People, objects: None, write: Write) -> None:
    assert_done(ask(people.operator, write))


@pytest.mark.parametrize("write", BEYOND.values(), ids=BEYOND)
def test_the_operators_account_may_not_write(people: People, objects: None, write: Write) -> None:
    assert_refused(ask(people.operator, write), "the operator may")


def in_unbound(write: Write) -> Write:
    """The same in the namespace that has no RoleBinding."""
    return write[0], write[1].replace(f"/{AGENTS}/", "/unbound/"), write[2]


EVERYWHERE = ("move a node", "unlabel a node", "take its lease")
WHERE_BOUND = {
    **{name: write for name, write in OWN_WRITES.items() if name not in EVERYWHERE},
    "make a revision": (
        "POST",
        DAEMON_SETS,
        daemon_set("new", {"wavegate.dev/kind": "revision", **OURS}),
    ),
    "make a record": ("POST", CONFIG_MAPS, config_map("new", {"wavegate.dev/kind": "record"})),
    "try a pod": ("POST", PODS, pod("new", OURS)),
    "delete agents": ("DELETE", PODS, None),
    "tell what happened": (
        "POST",
        f"/apis/events.k8s.io/v1/namespaces/{AGENTS}/events",
        {"metadata": {"name": "new"}},
    ),
}
"""What the operator writes where agents run."""


@pytest.mark.parametrize("write", WHERE_BOUND.values(), ids=WHERE_BOUND)
def test_where_no_rolebinding_is_the_operators_account_may_write_nothing(
    people: People, objects: None, write: Write
) -> None:
    """RBAC says so, whatever policies there are."""
    answer = ask(people.operator, in_unbound(write))
    assert answer["reason"] == "Forbidden", answer
    assert f'User "system:serviceaccount:{SYSTEM}:{SYSTEM}" cannot' in answer["message"]


def test_a_revision_can_be_made_only_in_a_namespace_for_agents(
    guarded: Sandbox, people: People, objects: None
) -> None:
    """What is there already is not asked about: a label that is taken away stops no revert."""
    new = daemon_set("new", {"wavegate.dev/kind": "revision", **OURS})
    elsewhere = DAEMON_SETS.replace(AGENTS, "elsewhere")
    words = "kubectl label namespace elsewhere wavegate.dev/agents"
    assert_refused(ask(people.operator, ("POST", elsewhere, new)), words)
    guarded.request("POST", elsewhere, new)
    assert_done(ask(people.operator, ("PATCH", f"{elsewhere}/new", affinity("a1"))))
    assert_done(ask(people.operator, ("DELETE", f"{elsewhere}/new", None)))


def test_of_pods_the_operators_account_deletes_only_agents_also_by_collection(
    guarded: Sandbox, people: People, objects: None
) -> None:
    for body in (
        pod("candidate", OURS),
        pod("stranger"),
        pod("half", {"wavegate.dev/channel": "x"}),
    ):
        guarded.request("POST", PODS, body)
    people.operator.request("DELETE", PODS, params={"fieldSelector": "metadata.name=candidate"})
    for name in ("stranger", "half"):
        only = {"fieldSelector": f"metadata.name={name}"}
        assert_refused(people.operator.request("DELETE", PODS, params=only, check=False))
    kept = {
        item["metadata"]["name"]
        for item in guarded.request("GET", PODS)["items"]
        if "deletionTimestamp" not in item["metadata"]
    }
    assert {"stranger", "half"} <= kept
    assert "candidate" not in kept


RESERVED: dict[str, Write] = {
    "a node label of ours": ("PATCH", NODE, label("a2")),
    "a node label of ours taken away": ("PATCH", NODE, label(None)),
    "a node label by way of the status": ("PATCH", f"{NODE}/status", label("a2")),
    "a new node with a label of ours": (
        "POST",
        "/api/v1/nodes",
        {"metadata": {"name": "new", "labels": {LABEL: "a1"}}},
    ),
    "a revision": ("PATCH", f"{DAEMON_SETS}/rules-a1", affinity("x")),
    "the end of a revision": ("DELETE", f"{DAEMON_SETS}/rules-a1", None),
    "a new revision": (
        "POST",
        DAEMON_SETS,
        daemon_set("new", {"wavegate.dev/kind": "revision", **OURS}),
    ),
    "a DaemonSet made a revision": (
        "PATCH",
        f"{DAEMON_SETS}/stranger",
        {"metadata": {"labels": {"wavegate.dev/kind": "revision"}}},
    ),
    "a label of a revision by way of the status": (
        "PATCH",
        f"{DAEMON_SETS}/rules-a1/status",
        {"metadata": {"labels": {"wavegate.dev/kind": None}}},
    ),
    "the record": (
        "PATCH",
        f"{CONFIG_MAPS}/wavegate-record-rules",
        {"data": {"blocked": "", "fenced": ""}},
    ),
    "the record's label": (
        "PATCH",
        f"{CONFIG_MAPS}/wavegate-record-rules",
        {"metadata": {"labels": {"wavegate.dev/kind": None}}},
    ),
    "the end of a record": ("DELETE", f"{CONFIG_MAPS}/wavegate-record-rules", None),
    "the end of a ledger": ("DELETE", f"{CONFIG_MAPS}/wavegate-ledger-a1-0", None),
    "all ConfigMaps": ("DELETE", CONFIG_MAPS, None),
    "a record that is none yet, by its name": (
        "POST",
        CONFIG_MAPS,
        config_map("wavegate-record-another"),
    ),
    "a channel's status": ("PATCH", f"{CHANNEL}/status", {"status": {"observedGeneration": 1}}),
}
FREE: dict[str, Write] = {
    "another label of a node": ("PATCH", NODE, label("x", "example.com/role")),
    "which nodes are canaries": ("PATCH", NODE, label("preferred", CANARY_LABEL)),
    "a cordon": ("PATCH", NODE, {"spec": {"unschedulable": True}}),
    "a new node": ("POST", "/api/v1/nodes", {"metadata": {"name": "new"}}),
    "a node's end": ("DELETE", NODE, None),
    "a DaemonSet": ("PATCH", f"{DAEMON_SETS}/stranger", affinity("x")),
    "a ConfigMap": ("PATCH", f"{CONFIG_MAPS}/settings", {"data": {"a": "b"}}),
    "the end of a ConfigMap": ("DELETE", f"{CONFIG_MAPS}/settings", None),
    "a channel": ("PATCH", CHANNEL, {"spec": {"suspend": True}}),
}
BREAK_GLASS = {
    name: write
    for name, write in RESERVED.items()
    if "status" not in name and not name.startswith(("a new", "all"))
}
"""What its role lets its members write of it; a status or a new revision is never needed."""


@pytest.mark.parametrize("write", RESERVED.values(), ids=RESERVED)
def test_not_even_a_cluster_admin_may_write(people: People, objects: None, write: Write) -> None:
    assert_refused(ask(people.administrator, write), "break-glass group")


@pytest.mark.parametrize("write", FREE.values(), ids=FREE)
def test_a_cluster_admin_may_write(people: People, objects: None, write: Write) -> None:
    assert_done(ask(people.administrator, write))


@pytest.mark.parametrize("write", BREAK_GLASS.values(), ids=BREAK_GLASS)
def test_who_breaks_the_glass_may_write(people: People, objects: None, write: Write) -> None:
    assert_done(ask(people.on_call, write))


@pytest.mark.parametrize("write", RESERVED.values(), ids=RESERVED)
def test_administrators_by_certificate_may_write(
    guarded: Sandbox, objects: None, write: Write
) -> None:
    assert_done(ask(guarded.api, write))


def test_a_kubelet_renews_its_node_beside_our_label(guarded: Sandbox, objects: None) -> None:
    kubelet = Api(read(guarded.user_kubeconfig("system:node:guarded", ("system:nodes",))))
    beat = {"status": {"phase": "Running"}}
    assert_done(ask(kubelet, ("PATCH", f"{NODE}/status", beat)))
    assert_done(ask(kubelet, ("PATCH", NODE, {"metadata": {"annotations": {"a": "b"}}})))


def test_namespaces_and_owners_go_as_ever_by_the_controllers_own_accounts(
    guarded: Sandbox, people: People
) -> None:
    """The garbage collector takes a finalizer off a revision and deletes a dependent record; the
    namespace controller deletes the rest.
    """
    space = "/api/v1/namespaces/passing"
    guarded.request("POST", "/api/v1/namespaces", {"metadata": {"name": "passing"}})
    let_agents_run(guarded, "passing")
    sets, maps = (path.replace(AGENTS, "passing") for path in (DAEMON_SETS, CONFIG_MAPS))
    revision = {"wavegate.dev/kind": "revision", **OURS}
    for name in ("orphaned", "left"):
        people.operator.request("POST", sets, daemon_set(name, revision))
    record = config_map("wavegate-record-rules", {"wavegate.dev/kind": "record", **OURS})
    people.operator.request("POST", maps, record)
    orphan = {"propagationPolicy": "Orphan"}
    guarded.request("DELETE", f"{sets}/orphaned", params=orphan)
    guarded.wait_for("the orphaned one's end", lambda: is_gone(guarded, f"{sets}/orphaned"))
    people.administrator.request("DELETE", space)
    guarded.wait_for("the namespace's end", lambda: is_gone(guarded, space))


def is_gone(sandbox: Sandbox, path: str) -> bool:
    return sandbox.request("GET", path, check=False).get("code") == http.client.NOT_FOUND


def test_without_groups_nobody_but_the_operator_passes(guarded: Sandbox, tmp_path: Path) -> None:
    """As the template is rendered: the list is a list also when it is empty."""
    values = ("admissionPolicies.breakGlassGroups=null",)
    rendered = render(guarded.tool("helm"), "anywhere", values=values)
    conditions = [
        condition["expression"]
        for item in rendered.objects
        if item["kind"] == "ValidatingAdmissionPolicy" and "reserved" in item["metadata"]["name"]
        for condition in item["spec"]["matchConditions"]
        if condition["name"] == "not-break-glass"
    ]
    assert len(conditions) == 2
    assert all("g in []" in expression for expression in conditions)
