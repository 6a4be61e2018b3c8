"""The chart, installed by real Helm, and the operator that runs from what it renders.

No kubelet of the sandbox runs the operator's pods (a simulated node calls every pod Ready), so that
the operator itself is started from the installed Deployment's command, settings and token.
"""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
import yaml

from support.chart import CHART, IMAGE, Rendered, apply, parse, render
from support.operator_process import OperatorProcess
from support.served import has_mutating_policies
from support.tools import Tool
from wavegate.cluster.rights import agents_rights, needed_rights
from wavegate_sandbox.client import Api
from wavegate_sandbox.cluster import Sandbox
from wavegate_sandbox.kubeconfig import read

NAMESPACE = "wavegate-chart"
AGENTS = "wavegate-chart-agents"
"""Where its agents may run, by the chart's value `agentNamespaces`."""
CHANNELS = "/apis/wavegate.dev/v1alpha1/namespaces/{}/securitycontentchannels"
DAEMONSETS = "/apis/apps/v1/namespaces/{}/daemonsets"

# (verb, group, resource, subresource, namespace): a few of the many that must stay refused.
REFUSED = [
    ("create", "", "pods", "exec", "kube-system"),
    ("get", "", "pods", "log", "kube-system"),
    ("delete", "", "pods", "", "kube-system"),
    ("get", "", "secrets", "", "kube-system"),
    ("list", "", "secrets", "", ""),
    ("create", "", "serviceaccounts", "token", "kube-system"),
    ("delete", "", "nodes", "", ""),
    ("update", "", "nodes", "", ""),
    ("patch", "", "nodes", "status", ""),
    ("create", "", "nodes", "proxy", ""),
    ("deletecollection", "", "configmaps", "", "default"),
    ("deletecollection", "apps", "daemonsets", "", "default"),
    ("create", "apps", "deployments", "", "default"),
    ("create", "apps", "daemonsets", "", ""),
    ("create", "apps", "daemonsets", "", "default"),
    ("patch", "apps", "daemonsets", "", "kube-system"),
    ("delete", "apps", "daemonsets", "", "kube-system"),
    ("get", "", "configmaps", "", "kube-system"),
    ("update", "", "configmaps", "", "kube-system"),
    ("delete", "", "configmaps", "", NAMESPACE),
    ("create", "", "pods", "", NAMESPACE),
    ("deletecollection", "", "pods", "", "kube-system"),
    ("create", "events.k8s.io", "events", "", "default"),
    ("create", "rbac.authorization.k8s.io", "rolebindings", "", AGENTS),
    ("bind", "rbac.authorization.k8s.io", "clusterroles", "", ""),
    ("list", "coordination.k8s.io", "leases", "", ""),
    ("update", "coordination.k8s.io", "leases", "", "kube-node-lease"),
    ("update", "coordination.k8s.io", "leases", "", "kube-system"),
    ("create", "wavegate.dev", "securitycontentdecisions", "", "default"),
    ("patch", "wavegate.dev", "securitycontentreleases", "", "default"),
    ("patch", "wavegate.dev", "securitycontentchannels", "", "default"),
    ("create", "rbac.authorization.k8s.io", "clusterrolebindings", "", ""),
    ("escalate", "rbac.authorization.k8s.io", "clusterroles", "", ""),
    ("patch", "apiextensions.k8s.io", "customresourcedefinitions", "", ""),
    ("impersonate", "", "users", "", ""),
]


@dataclass(frozen=True, slots=True)
class Right:
    """One thing that may be done, as access reviews name it."""

    verb: str
    group: str
    resource: str
    name: str = ""


@pytest.fixture(scope="module")
def helm(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Tool:
    return Tool(sandbox, "helm", tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="module")
def installed(sandbox: Sandbox, helm: Tool) -> Iterator[Rendered]:
    """The chart in a namespace that admits only restricted pods."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    make_namespace(sandbox, NAMESPACE, labels)
    make_namespace(sandbox, AGENTS)
    values = f"{IMAGE},agentNamespaces[0]={AGENTS}"
    helm("install", NAMESPACE, str(CHART), "--namespace", NAMESPACE, "--set", values)
    manifest = helm("get", "manifest", NAMESPACE, "--namespace", NAMESPACE)
    yield parse(manifest, NAMESPACE, NAMESPACE)
    helm("uninstall", NAMESPACE, "--namespace", NAMESPACE)


@pytest.fixture(scope="module")
def account(sandbox: Sandbox, installed: Rendered) -> Api:
    """The apiserver as the chart's ServiceAccount sees it."""
    return Api(
        read(sandbox.service_account_kubeconfig(installed.namespace, installed.service_account))
    )


def make_namespace(sandbox: Sandbox, name: str, labels: dict[str, str] | None = None) -> None:
    meta = {"name": name, "labels": labels or {}}
    item = {"apiVersion": "v1", "kind": "Namespace", "metadata": meta}
    apply(sandbox, f"/api/v1/namespaces/{name}", item)


def path_of(item: dict[str, Any], namespace: str) -> str:
    """Return the address of a rendered object."""
    group = item["apiVersion"]
    plural = item["kind"].lower() + "s"
    if plural.endswith("ys"):
        plural = plural.removesuffix("ys") + "ies"
    meta = item["metadata"]
    wide = item["kind"].startswith(("Cluster", "ValidatingAdmission", "MutatingAdmission"))
    where = "" if wide else f"namespaces/{meta.get('namespace')}/"
    assert where == "" or meta["namespace"] in {namespace, AGENTS, "kube-node-lease"}
    return f"/{'api' if group == 'v1' else 'apis'}/{group}/{where}{plural}/{meta['name']}"


def operator_env(sandbox: Sandbox, name: str, namespace: str) -> dict[str, str]:
    """Return the settings with plain values of a Deployment that is on the server."""
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}"
    (container,) = sandbox.request("GET", path)["spec"]["template"]["spec"]["containers"]
    return {item["name"]: item["value"] for item in container["env"] if "value" in item}


def rights(rules: list[dict[str, Any]]) -> set[Right]:
    """Spell rules out, one verb on one resource at a time."""
    return {
        Right(verb, group, resource, name)
        for rule in rules
        for verb in rule["verbs"]
        for group in rule.get("apiGroups", [])
        for resource in rule.get("resources", [])
        for name in rule.get("resourceNames") or [""]
    }


def rendered_rights(rendered: Rendered, namespace: str) -> set[Right]:
    """Return what the chart grants to its account in a namespace."""
    own = {f"{rendered.service_account}{part}" for part in ("", "-selfcheck")}
    own |= {f"{rendered.service_account}-agents"} if namespace == AGENTS else set()
    roles = [
        item
        for item in rendered.objects
        if (item["kind"] == "ClusterRole" and item["metadata"]["name"] in own)
        or (item["kind"] == "Role" and item["metadata"]["namespace"] == namespace)
    ]
    return rights([rule for role in roles for rule in role["rules"]])


def reviewed_rights(account: Api, namespace: str) -> set[Right]:
    """Ask the apiserver for all that the account may do in a namespace."""
    review = account.request(
        "POST",
        "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
        {"spec": {"namespace": namespace}},
    )
    assert not review["status"]["incomplete"]
    return rights(review["status"]["resourceRules"])


def may(account: Api, attributes: dict[str, str]) -> bool:
    """Ask the apiserver whether the account may do it."""
    review = account.request(
        "POST",
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        {"spec": {"resourceAttributes": attributes}},
    )
    return bool(review["status"]["allowed"])


def test_helm_lint_finds_nothing_wrong(helm: Tool) -> None:
    said = helm("lint", "--strict", str(CHART), "--set", IMAGE)
    assert "1 chart(s) linted, 0 chart(s) failed" in said
    assert "WARNING" not in said


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("image.repository=", "Build the Dockerfile, push it"),
        ("operator.soakfloor=1m", "'soakfloor' not allowed"),
        ("operator.soakFloor=10", "operator/soakFloor"),
        ("operator.logLevel=loud", "operator/logLevel"),
        ("image.digest=sha256:12", "image/digest"),
        ("replicas=9", "/replicas"),
        ("nodeSelectors.a=b", "'nodeSelectors' not allowed"),
        ("admissionPolicies.enabled=maybe", "admissionPolicies/enabled"),
        (
            "admissionPolicies.required=true,admissionPolicies.enabled=false",
            "admissionPolicies/required",
        ),
        ("networkPolicy.apiserver.ports[0]=0", "networkPolicy/apiserver/ports/0"),
        ("networkPolicy.prometheus[0].port=9090", "'port' not allowed"),
        ("serviceMonitor.interval=30", "serviceMonitor/interval"),
        ("prometheusRule.labels.a=1", "prometheusRule/labels/a"),
        ("prometheusConnections[0].name=thanos", "prometheusConnections/0"),
        ("prometheusConnections[0].secret=thanos", "'secret' not allowed"),
    ],
)
def test_a_value_that_would_not_act_is_refused(sandbox: Sandbox, value: str, words: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refusal:
        render(sandbox.tool("helm"), "anywhere", values=(value,))
    assert words in refusal.value.stderr


def test_values_reach_the_pod(sandbox: Sandbox) -> None:
    digest = "sha256:" + "a" * 64
    values = (
        f"image.digest={digest}",
        "image.pullPolicy=Always",
        "imagePullSecrets[0].name=mine",
        "operator.soakFloor=90s",
        "operator.leaseDuration=20s",
        "operator.logLevel=debug",
        "priorityClassName=system-cluster-critical",
        "nodeSelector.pool=infra",
        "tolerations[0].operator=Exists",
        "replicas=3",
        "podLabels.team=security",
        "podAnnotations.mesh=off",
        "resources.limits.memory=1Gi",
    )
    rendered = render(sandbox.tool("helm"), "anywhere", values=values)
    deployment, pod, container = rendered.one("Deployment"), rendered.pod_spec, rendered.container
    env = {item["name"]: item.get("value") for item in container["env"]}
    assert container["image"] == f"registry.example/wavegate:0.1.0@{digest}"
    assert container["imagePullPolicy"] == "Always"
    assert container["resources"]["limits"]["memory"] == "1Gi"
    assert env["WAVEGATE_SOAK_FLOOR"] == "90s"
    assert env["WAVEGATE_LEASE_DURATION"] == "20s"
    assert env["WAVEGATE_LOG_LEVEL"] == "debug"
    assert pod["imagePullSecrets"] == [{"name": "mine"}]
    assert pod["priorityClassName"] == "system-cluster-critical"
    assert pod["nodeSelector"] == {"pool": "infra"}
    assert pod["tolerations"] == [{"operator": "Exists"}]
    assert deployment["spec"]["replicas"] == 3
    assert deployment["spec"]["template"]["metadata"]["labels"]["team"] == "security"
    assert deployment["spec"]["template"]["metadata"]["annotations"] == {"mesh": "off"}


def test_a_prometheus_connection_is_mounted_and_optional_and_gives_no_right(
    sandbox: Sandbox,
) -> None:
    values = (
        "prometheusConnections[0].name=thanos",
        "prometheusConnections[0].secretName=reader",
        "prometheusConnections[0].configMapName=address",
        "prometheusConnections[0].serviceAccountToken.audience=prom",
    )
    plain = render(sandbox.tool("helm"), "anywhere")
    rendered = render(sandbox.tool("helm"), "anywhere", values=values)
    (volume,) = rendered.pod_spec["volumes"]
    (mount,) = rendered.container["volumeMounts"]
    assert volume == {
        "name": mount["name"],
        "projected": {
            "sources": [
                {"secret": {"name": "reader", "optional": True}},
                {"configMap": {"name": "address", "optional": True}},
                {
                    "serviceAccountToken": {
                        "path": "token",
                        "audience": "prom",
                        "expirationSeconds": 3600,
                    }
                },
            ]
        },
    }
    folder = {item["name"]: item.get("value") for item in rendered.container["env"]}
    assert mount["mountPath"] == f"{folder['WAVEGATE_PROMETHEUS_CONNECTIONS']}/thanos"
    others = [
        [item for item in made.objects if item["kind"] != "Deployment"]
        for made in (plain, rendered)
    ]
    assert others[0] == others[1], "no role changes"


def test_the_replicas_spread_and_a_drain_takes_one_at_a_time(installed: Rendered) -> None:
    spread = installed.pod_spec["topologySpreadConstraints"]
    assert [(each["topologyKey"], each["whenUnsatisfiable"]) for each in spread] == [
        ("kubernetes.io/hostname", "ScheduleAnyway"),
        ("topology.kubernetes.io/zone", "ScheduleAnyway"),
    ]
    labels = installed.one("Deployment")["spec"]["template"]["metadata"]["labels"]
    budget = installed.one("PodDisruptionBudget")["spec"]
    for selector in (budget["selector"], *(each["labelSelector"] for each in spread)):
        assert selector["matchLabels"].items() <= labels.items()
    assert budget["maxUnavailable"] == 1


def test_the_options_that_are_off_are_accepted_by_the_apiserver(
    sandbox: Sandbox, helm: Tool, installed: Rendered
) -> None:
    values = (
        "networkPolicy.enabled=true",
        "networkPolicy.prometheus[0].ports[0].port=9090",
        "networkPolicy.metricsFrom[0].podSelector.matchLabels.app=prometheus",
        "dashboard.enabled=true",
    )
    rendered = render(sandbox.tool("helm"), NAMESPACE, "options", values=values)
    for kind, plural in (("NetworkPolicy", "networkpolicies"), ("ConfigMap", "configmaps")):
        item = rendered.one(kind)
        group = "api/v1" if kind == "ConfigMap" else f"apis/{item['apiVersion']}"
        made = sandbox.request(
            "POST",
            f"/{group}/namespaces/{NAMESPACE}/{plural}",
            item,
            params={"dryRun": "All", "fieldValidation": "Strict"},
        )
        assert made["metadata"]["name"] == item["metadata"]["name"]


def test_the_real_prometheus_understands_alerts_and_dashboard(sandbox: Sandbox) -> None:
    alerts = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())
    dashboard = json.loads((CHART / "files" / "dashboard.json").read_text())
    asked = {
        rule["alert"]: rule["expr"] for group in alerts["groups"] for rule in group["rules"]
    } | {panel["title"]: panel["targets"][0]["expr"] for panel in dashboard["panels"]}
    assert len(asked) > 18
    answers = {}
    for name, query in asked.items():
        url = f"{sandbox.prometheus_url}/api/v1/query?{urlencode({'query': query})}"
        with urlopen(url, timeout=30) as response:  # noqa: S310 (the sandbox's own)
            answers[name] = json.loads(response.read())
    assert {answer["status"] for answer in answers.values()} == {"success"}
    assert answers["WavegateNobodyLeads"]["data"]["result"], "silence alarms"


def test_every_object_of_the_chart_is_on_the_server(sandbox: Sandbox, installed: Rendered) -> None:
    kinds = sorted(item["kind"] for item in installed.objects)
    # Helm asks the cluster whether it serves them.
    stamps = ("MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding")
    assert kinds == [
        *["ClusterRole"] * 8,
        *["ClusterRoleBinding"] * 2,
        *("Deployment", *(stamps if has_mutating_policies(sandbox) else ())),
        *("PodDisruptionBudget", "Role", "Role"),
        *("RoleBinding", "RoleBinding", "RoleBinding", "Service", "ServiceAccount"),
        *["ValidatingAdmissionPolicy"] * 7,
        *["ValidatingAdmissionPolicyBinding"] * 7,
    ]
    for item in installed.objects:
        found = sandbox.request("GET", path_of(item, NAMESPACE))
        assert found["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "Helm"


def test_the_crds_of_the_chart_are_served(sandbox: Sandbox, installed: Rendered) -> None:
    served = sandbox.request("GET", "/apis/wavegate.dev/v1alpha1")["resources"]
    assert {item["name"] for item in served if "/" not in item["name"]} == {
        "securitycontentchannels",
        "securitycontentreleases",
        "securitycontentdecisions",
    }


def test_two_pods_are_admitted_where_only_restricted_pods_are(
    sandbox: Sandbox, installed: Rendered
) -> None:
    def pods() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = sandbox.request(
            "GET", f"/api/v1/namespaces/{NAMESPACE}/pods"
        )["items"]
        return found if len(found) == 2 else []

    for pod in sandbox.wait_for("the two pods of the Deployment", pods, 30):
        assert pod["spec"]["serviceAccountName"] == installed.service_account


def test_the_service_selects_the_pods_of_the_deployment(installed: Rendered) -> None:
    service = installed.one("Service")["spec"]
    template = installed.one("Deployment")["spec"]["template"]
    assert service["selector"].items() <= template["metadata"]["labels"].items()
    (port,) = service["ports"]
    assert port["targetPort"] in {item["name"] for item in installed.container["ports"]}


@pytest.mark.parametrize("namespace", [NAMESPACE, AGENTS, "kube-node-lease", "default"])
def test_the_account_may_do_what_the_roles_say_and_nothing_else(
    sandbox: Sandbox, account: Api, installed: Rendered, namespace: str
) -> None:
    # An account without any role shows what Kubernetes itself grants to everybody.
    nobody = Api(read(sandbox.service_account_kubeconfig(NAMESPACE, "default")))
    everybody = reviewed_rights(nobody, namespace)
    granted = reviewed_rights(account, namespace) - everybody
    assert granted == rendered_rights(installed, namespace)


def test_the_self_check_asks_for_the_rights_of_the_roles_and_for_the_policies(
    installed: Rendered,
) -> None:
    env = {item["name"]: item.get("value") for item in installed.container["env"]}
    policies = str(env["WAVEGATE_ADMISSION_POLICIES"]).split(",")
    made = {
        (item["kind"].lower() + "s").replace("policys", "policies") + "/" + item["metadata"]["name"]
        for item in installed.objects
        if "AdmissionPolicy" in item["kind"]
    }
    assert {path.split("/", 2)[2] for path in policies} == made
    asked = needed_rights(NAMESPACE, str(env["WAVEGATE_LEASE_NAME"]), tuple(policies))
    asked |= agents_rights(AGENTS)
    # Those of the roles in the three namespaces that are named, and of the cluster's.
    granted = {
        (right.verb, right.group, right.resource, right.name)
        for namespace in (NAMESPACE, AGENTS, "kube-node-lease")
        for right in rendered_rights(installed, namespace)
    }
    assert {
        (
            right.verb,
            right.group,
            "/".join(filter(None, (right.resource, right.subresource))),
            right.name,
        )
        for right in asked
    } == granted
    for namespace in (NAMESPACE, "kube-node-lease"):
        assert {right.verb for right in asked if right.namespace == namespace} == {
            verb
            for item in installed.objects
            if item["kind"] == "Role" and item["metadata"]["namespace"] == namespace
            for rule in item["rules"]
            for verb in rule["verbs"]
        }


@pytest.mark.parametrize("refused", REFUSED, ids=lambda case: "-".join(filter(None, case)))
def test_the_account_may_not(account: Api, refused: tuple[str, str, str, str, str]) -> None:
    verb, group, resource, subresource, namespace = refused
    attributes = {
        "verb": verb,
        "group": group,
        "resource": resource,
        "subresource": subresource,
        "namespace": namespace,
    }
    assert not may(account, attributes)


def test_the_account_may_take_its_own_lease_and_list_those_of_nodes(
    account: Api, installed: Rendered
) -> None:
    lease = {"group": "coordination.k8s.io", "resource": "leases", "namespace": NAMESPACE}
    env = {item["name"]: item.get("value") for item in installed.container["env"]}
    own = str(env["WAVEGATE_LEASE_NAME"])
    assert may(account, {**lease, "verb": "update", "name": own})
    assert not may(account, {**lease, "verb": "update", "name": "another"})
    assert may(account, {**lease, "verb": "list", "namespace": "kube-node-lease"})


def test_the_operator_of_the_installed_deployment_gets_ready_and_leads(
    sandbox: Sandbox, installed: Rendered, tmp_path: Path
) -> None:
    lease = (
        f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/{installed.service_account}"
    )

    def holder() -> str:
        found = sandbox.request("GET", lease, check=False)
        return str(found.get("spec", {}).get("holderIdentity") or "")

    operator = OperatorProcess.from_rendered(sandbox, installed, folder=tmp_path)
    assert list(operator.env_differences) == ["WAVEGATE_LISTEN"]
    with operator:
        operator.wait_ready()
        assert operator.get("/healthz")[0] == 200
        sandbox.wait_for("a holder of the lease", lambda: holder() == operator.identity, 30)
        assert operator.metrics()
        assert operator.stop() == 0, operator.log_tail()


def test_an_upgrade_changes_the_settings_and_an_uninstall_leaves_crds_channels_and_agents(
    sandbox: Sandbox, helm: Tool
) -> None:
    name = "wavegate-life"
    where = ("--namespace", name)
    helm("install", name, str(CHART), *where, "--create-namespace", "--set", IMAGE)
    assert operator_env(sandbox, name, name)["WAVEGATE_SOAK_FLOOR"] == "3m"
    changed = ("--reuse-values", "--set", "operator.soakFloor=5m")
    helm("upgrade", name, str(CHART), *where, *changed)
    assert operator_env(sandbox, name, name)["WAVEGATE_SOAK_FLOOR"] == "5m"
    (listed,) = json.loads(helm("list", *where, "--output", "json"))
    assert (listed["status"], listed["revision"]) == ("deployed", "2")

    manifest = helm("get", "manifest", name, *where)
    channel, agent = leave_an_agent(sandbox, "wavegate-life-agents")
    helm("uninstall", name, *where)
    for item in parse(manifest, name, name).objects:
        gone = sandbox.request("GET", path_of(item, name), check=False)
        deleted = gone.get("code") == 404 or "deletionTimestamp" in gone["metadata"]
        assert deleted, f"{item['kind']} {item['metadata']['name']} is still there"
    for path in (channel, agent):
        assert "deletionTimestamp" not in sandbox.request("GET", path)["metadata"], path


def leave_an_agent(sandbox: Sandbox, namespace: str) -> tuple[str, str]:
    """Make a channel and a DaemonSet as the operator leaves them (no owner); return their paths."""
    labels = {"app": "agent"}
    template = {
        "metadata": {"labels": labels},
        "spec": {
            "nodeSelector": {"pool": "none"},
            "containers": [{"name": "agent", "image": "registry.example/agent"}],
        },
    }
    agent = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "agent"},
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    }
    channel = {
        "apiVersion": "wavegate.dev/v1alpha1",
        "kind": "SecurityContentChannel",
        "metadata": {"name": "agent"},
        "spec": {
            "agent": {"template": template},
            "content": {"containerImage": {"containerName": "agent"}},
            "pools": [{"name": "none", "selector": {"matchLabels": {"pool": "none"}}}],
        },
    }
    make_namespace(sandbox, namespace)
    paths = (f"{CHANNELS}/agent".format(namespace), f"{DAEMONSETS}/agent".format(namespace))
    for path, item in zip(paths, (channel, agent), strict=True):
        apply(sandbox, path, item)
    return paths
