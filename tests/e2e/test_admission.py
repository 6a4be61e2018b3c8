"""The chart's admission policies: what was taken back does not start again, with or without us.

The story's release came to harm and was reverted; after that no operator runs.
"""

import copy
import http.client
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from support.chart import CHART, IMAGE, apply
from support.operator_process import OperatorProcess
from support.served import has_image_volumes
from support.story import Story, bind_operators, digest, let_agents_run
from support.tools import Tool
from wavegate.rollout.names import (
    ATTEMPT_LABEL,
    CHANNEL_LABEL,
    KIND_LABEL,
    PREFETCH_LABEL,
    content_name,
)
from wavegate.rollout.prefetch import pulled_by
from wavegate_sandbox.client import Api
from wavegate_sandbox.cluster import Sandbox
from wavegate_sandbox.faults import AgentCrashLoop, Faults
from wavegate_sandbox.kubeconfig import read

SYSTEM = "wavegate-e2e"
"""Namespace and release of the fixture `operators`."""
AGENTS = "admission"
PODS = "/api/v1/namespaces/{}/pods"
POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
DRY_RUN = {"dryRun": "All"}
HARMLESS = f"registry.example/tool@{digest('tool')}"
BAD = digest("admission-bad")
SAMPLES = 25
NAMES = (
    *("refused-content", "own-pods", "own-label", "own-objects"),
    *("reserved-labels", "reserved-objects"),
)
"""What the chart adds to its own name, for its policies."""
FILES = ("admission", "admission-confinement", "admission-reserved")

Pod = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Aftermath:
    """The story after its revert, and the DaemonSet of the attempt that was reverted."""

    story: Story
    attempt: str
    candidate: dict[str, Any]


@pytest.fixture(scope="module")
def aftermath(sandbox: Sandbox, operators: list[OperatorProcess]) -> Iterator[Aftermath]:
    """Content `a` is stable, `bad` did harm and was reverted; then the operators are stopped."""
    sandbox.request("POST", "/api/v1/namespaces", {"metadata": {"name": AGENTS}})
    story = Story(sandbox, AGENTS).begin()
    story.publish("a")
    story.until_phase("a", "Completed")
    with Faults(sandbox, {BAD: AgentCrashLoop(every_seconds=1)}):
        story.publish("bad", letter="admission-bad")
        story.until("bad", "its DaemonSet", lambda status: "attempt" in status)
        attempt = str(story.status("bad")["attempt"])
        candidate = sandbox.wait_for("the candidate", lambda: revision(sandbox, attempt))
        story.until_phase("bad", "Reverting")
        during = pod("during", labels={"wavegate.dev/attempt": attempt})
        assert "was taken back" in until_refused(sandbox, during, AGENTS)["message"]
        story.until_phase("bad", "Reverted")
    for operator in operators:
        operator.stop()
    yield Aftermath(story, attempt, candidate)
    for operator in operators:
        operator.start().wait_ready()


def revision(sandbox: Sandbox, attempt: str) -> dict[str, Any] | None:
    """The DaemonSet of an attempt, if it is there."""
    path = f"/apis/apps/v1/namespaces/{AGENTS}/daemonsets"
    params = {"labelSelector": f"wavegate.dev/attempt={attempt}"}
    items = sandbox.request("GET", path, params=params)["items"]
    return dict(items[0]) if items else None


def pod(name: str, labels: dict[str, str] | None = None, **spec: Any) -> Pod:
    """A pod with a harmless image; `spec` is merged in."""
    containers = [{"name": "main", "image": HARMLESS}]
    return {
        "metadata": {"name": name, "labels": labels or {}},
        "spec": {"containers": containers, **spec},
    }


def with_image(image: str) -> Pod:
    """A pod with one container."""
    return pod("by-hand", containers=[{"name": "main", "image": image}])


def create(sandbox: Sandbox | Api, body: Pod, namespace: str = AGENTS) -> dict[str, Any]:
    """Create a pod by dry run; returns the pod or the refusal."""
    path = PODS.format(namespace)
    return sandbox.request("POST", path, body, params=DRY_RUN, check=False)


def assert_refused(answer: dict[str, Any], *words: str) -> None:
    """The answer is a refusal by our policy with these words in it."""
    assert answer.get("code") == http.client.FORBIDDEN, answer
    for word in ("Wavegate: ", *words):
        assert word in answer["message"]


def test_a_pod_of_a_fenced_attempt_is_refused_whatever_it_runs(
    sandbox: Sandbox, aftermath: Aftermath
) -> None:
    labels = {"wavegate.dev/attempt": aftermath.attempt, "wavegate.dev/channel": "rules"}
    assert_refused(
        create(sandbox, pod("again", labels)),
        f"attempt {aftermath.attempt} of channel rules was taken back",
        f"kubectl -n {AGENTS} get wgr,wgc",
    )


VOLUMES = {
    "image volume": [{"name": "v", "image": {"reference": f"registry.example/any@{BAD}"}}],
    "our copy of a ConfigMap": [{"name": "v", "configMap": {"name": content_name(BAD)}}],
    "our copy in a projected volume": [
        {"name": "v", "projected": {"sources": [{"configMap": {"name": content_name(BAD)}}]}}
    ],
}


@pytest.mark.parametrize("volumes", VOLUMES.values(), ids=VOLUMES)
def test_blocked_content_in_a_volume_is_refused(
    sandbox: Sandbox, aftermath: Aftermath, volumes: list[dict[str, Any]]
) -> None:
    if "image" in volumes[0] and not has_image_volumes(sandbox):
        pytest.skip("no image volumes here: the pod is admitted, without its content")
    words = ("is blocked, as it did harm on channel rules", "describe wgc rules")
    assert_refused(create(sandbox, pod("by-hand", volumes=volumes)), *words)


def test_a_blocked_image_is_refused_in_each_kind_of_container(
    sandbox: Sandbox, aftermath: Aftermath
) -> None:
    bad = f"registry.example/elsewhere:latest@{BAD}"
    containers = [{"name": "bad", "image": bad}]
    for body in (with_image(bad), pod("by-hand", initContainers=containers)):
        assert_refused(create(sandbox, body), f"the content of {bad} is blocked")


def test_a_blocked_image_is_refused_in_a_pod_that_runs_already(
    sandbox: Sandbox, aftermath: Aftermath
) -> None:
    bad = f"registry.example/elsewhere@{BAD}"
    path = PODS.format(AGENTS)
    sandbox.request("POST", path, pod("runs"))
    merge = "application/strategic-merge-patch+json"
    image = {"spec": {"containers": [{"name": "main", "image": bad}]}}
    debug = {"spec": {"ephemeralContainers": [{"name": "debug", "image": bad}]}}
    for place, body in ((f"{path}/runs", image), (f"{path}/runs/ephemeralcontainers", debug)):
        answer = sandbox.request("PATCH", place, body, content_type=merge, check=False)
        assert_refused(answer, f"the content of {bad} is blocked")
    sandbox.request("DELETE", f"{path}/runs")


def test_a_candidate_pod_that_is_there_already_can_still_be_changed_and_deleted(
    sandbox: Sandbox, aftermath: Aftermath
) -> None:
    """Finalizers are taken away by an UPDATE: refused, a pod of the candidate would never end."""
    sandbox.request("POST", "/api/v1/namespaces", {"metadata": {"name": "admission-later"}})
    path = PODS.format("admission-later")
    labels = {"wavegate.dev/attempt": "late", "wavegate.dev/channel": "late"}
    body = pod("candidate", labels, containers=[{"name": "main", "image": f"r.example/x@{BAD}"}])
    body["metadata"]["finalizers"] = ["example.com/wait"]
    sandbox.request("POST", path, body)
    put_record(sandbox, "admission-later", "late", fenced="late", blocked=BAD)
    until_refused(sandbox, body, "admission-later")

    sandbox.request("DELETE", f"{path}/candidate")
    merge = "application/merge-patch+json"
    free = {"metadata": {"finalizers": None}}
    sandbox.request("PATCH", f"{path}/candidate", free, content_type=merge)
    sandbox.wait_for("its end", lambda: not sandbox.request("GET", path)["items"])


def test_the_daemonset_controller_cannot_bring_a_fenced_attempt_back(
    sandbox: Sandbox, aftermath: Aftermath
) -> None:
    """As if the candidate's DaemonSet were restored from a backup: its nodes carry the label."""
    story = aftermath.story
    body = copy.deepcopy(aftermath.candidate)
    kept = {key: body["metadata"][key] for key in ("name", "labels", "annotations")}
    path = f"/apis/apps/v1/namespaces/{AGENTS}/daemonsets"
    try:
        sandbox.request("POST", path, {"metadata": kept, "spec": body["spec"]})
        said = sandbox.wait_for("FailedCreate", lambda: failures(sandbox, kept["name"]))
        assert f"attempt {aftermath.attempt} of channel rules was taken back" in said[0]
        assert story.agents() == story.everywhere_digest("a")
        assert not [p for p in story.pods() if is_of(p, aftermath.attempt)]
    finally:
        sandbox.request("DELETE", f"{path}/{kept['name']}")


def test_the_daemonset_controller_cannot_run_blocked_content_under_another_name(
    sandbox: Sandbox, aftermath: Aftermath
) -> None:
    labels = {"app": "stranger"}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "main", "image": f"registry.example/x@{BAD}"}]},
    }
    path = f"/apis/apps/v1/namespaces/{AGENTS}/daemonsets"
    spec = {"selector": {"matchLabels": labels}, "template": template}
    sandbox.request("POST", path, {"metadata": {"name": "stranger"}, "spec": spec})
    said = sandbox.wait_for("FailedCreate", lambda: failures(sandbox, "stranger"))
    sandbox.request("DELETE", f"{path}/stranger")
    assert "is blocked, as it did harm on channel rules" in said[0]
    pods = sandbox.request("GET", PODS.format(AGENTS), params={"labelSelector": "app=stranger"})
    assert pods["items"] == []


def test_pods_of_stable_come_back_without_an_operator(
    sandbox: Sandbox, aftermath: Aftermath
) -> None:
    story = aftermath.story
    before = {p["metadata"]["uid"] for p in story.pods()}
    params = {"labelSelector": "wavegate.dev/channel=rules"}
    sandbox.request("DELETE", PODS.format(AGENTS), params=params)

    def renewed() -> bool:
        ready = story.agents() == story.everywhere_digest("a")
        return ready and before.isdisjoint({p["metadata"]["uid"] for p in story.pods()})

    sandbox.wait_for("other pods of stable on all nodes", renewed, 60)


def test_pods_of_others_are_admitted(sandbox: Sandbox, aftermath: Aftermath) -> None:
    """Another namespace, an image by tag, another attempt; and another channel, which has a record
    of its own: what harmed one agent may be what another runs as stable.
    """
    bad = with_image(f"registry.example/x@{BAD}")
    assert create(sandbox, bad, "default")["kind"] == "Pod"
    assert create(sandbox, with_image("registry.example/x:latest"))["kind"] == "Pod"
    assert create(sandbox, pod("x", {"wavegate.dev/attempt": "another"}))["kind"] == "Pod"
    other = {**bad, "metadata": {"name": "x", "labels": {"wavegate.dev/channel": "another"}}}
    assert create(sandbox, other)["kind"] == "Pod"


def test_a_record_that_cannot_be_read_refuses_nothing(sandbox: Sandbox, namespace: str) -> None:
    for number, data in enumerate((None, {}, {"fenced": "", "blocked": ""}, {"blocked": "  x "})):
        put_record(sandbox, namespace, f"broken-{number}", raw=data)
    body = pod("x", {"wavegate.dev/attempt": "", "wavegate.dev/channel": "broken-1"})
    body["spec"]["containers"][0]["image"] = "registry.example/x@"
    assert create(sandbox, body, namespace)["kind"] == "Pod"


def test_the_largest_record_still_refuses_a_large_pod(
    sandbox: Sandbox, namespace: str, aftermath: Aftermath
) -> None:
    """The expressions have a cost budget. One that were exceeded would admit the pod."""
    digests = [digest(f"blocked-{n}") for n in range(100)]
    put_record(
        sandbox,
        namespace,
        "full",
        fenced=" ".join(f"{n:010x}" for n in range(101)),
        blocked=" ".join(digests),
        blockedCopies=" ".join(content_name(d) for d in digests),
    )
    many = [{"name": f"c{n}", "image": f"r.example/c@{digest(f'other-{n}')}"} for n in range(99)]
    volumes: list[dict[str, Any]] = [
        {"name": f"v{n}", "configMap": {"name": f"settings-of-something-{n}"}} for n in range(100)
    ]
    last = {"name": "last", "image": f"r.example/bad@{digests[-1]}"}
    large = pod("large", containers=[*many, last], volumes=volumes)
    assert_refused(until_refused(sandbox, large, namespace), f"the content of {last['image']}")
    copies = [*volumes, {"name": "last", "configMap": {"name": content_name(digests[-1])}}]
    assert_refused(create(sandbox, pod("x", containers=many, volumes=copies), namespace))
    fenced = {"wavegate.dev/attempt": f"{100:010x}", "wavegate.dev/channel": "full"}
    assert_refused(create(sandbox, pod("x", fenced), namespace))


def test_the_operator_account_creates_pods_by_dry_run_only(
    sandbox: Sandbox, operators: list[OperatorProcess], namespace: str
) -> None:
    account = f"system:serviceaccount:{SYSTEM}:{SYSTEM}"
    allow_pods(sandbox, namespace, account)
    api = Api(read(sandbox.service_account_kubeconfig(SYSTEM, SYSTEM)))
    sandbox.wait_for("the role to act", lambda: create(api, pod("x"), namespace)["kind"] == "Pod")
    answer = api.request("POST", PODS.format(namespace), pod("real"), check=False)
    assert_refused(answer, "by dry run only")
    assert sandbox.request("GET", PODS.format(namespace))["items"] == []


ATTEMPT = "0123456789"


def puller(**changes: Any) -> Pod:
    """A pod that pulls images ahead, as the operator makes it, with changes of its spec."""
    template = {"spec": {"containers": [{"name": "agent", "image": HARMLESS}]}}
    spec = pulled_by(template, {}) or {}
    command = [f"/wavegate-runs-nothing-{ATTEMPT}"]
    spec["containers"] = [{**c, "command": command} for c in spec["containers"]]
    labels = {KIND_LABEL: "prefetch", ATTEMPT_LABEL: ATTEMPT, PREFETCH_LABEL: "rules"}
    body = pod("pulls", labels)
    return {**body, "spec": {**spec, "nodeName": "nowhere", **changes}}


def changed(**fields: Any) -> Pod:
    """The same with another container."""
    (container,) = puller()["spec"]["containers"]
    return puller(containers=[{**container, **fields}])


def labelled(**labels: str) -> Pod:
    """The same with other labels."""
    body = puller()
    metadata = {**body["metadata"], "labels": {**body["metadata"]["labels"], **labels}}
    return {**body, "metadata": metadata}


UNPRIVILEGED = {"allowPrivilegeEscalation": False}
SIDECAR = {"name": "mesh", "image": HARMLESS}
MAY_RUN = {
    "another program": changed(command=["/agent"]),
    "its image's own program": changed(command=[]),
    "a program of another attempt": changed(command=["/wavegate-runs-nothing-1"]),
    "a hook": changed(lifecycle={"postStart": {"exec": {"command": ["/agent"]}}}),
    "arguments": changed(args=["-c"]),
    "a sidecar of a webhook": puller(containers=[*puller()["spec"]["containers"], SIDECAR]),
    "an init container": puller(initContainers=[SIDECAR]),
    "privileges": changed(securityContext={"privileged": True}),
    "capabilities": changed(securityContext={**UNPRIVILEGED, "capabilities": {"add": ["CHOWN"]}}),
    "root": changed(securityContext={**UNPRIVILEGED, "runAsUser": 0}),
    "root for all": puller(securityContext={"runAsUser": 0}),
    "a Secret": changed(envFrom=[{"secretRef": {"name": "any"}}]),
    "a variable": changed(env=[{"name": "A", "value": "b"}]),
    "a path of the host": puller(volumes=[{"name": "host", "hostPath": {"path": "/"}}]),
    "a token": puller(automountServiceAccountToken=True),
    "the processes of the host": puller(hostPID=True),
    "restarts": puller(restartPolicy="Always"),
    "no attempt": labelled(**{ATTEMPT_LABEL: ""}),
    "the label of an agent": labelled(**{CHANNEL_LABEL: "rules"}),
    "another kind": labelled(**{KIND_LABEL: "tool"}),
}


@pytest.fixture(scope="module")
def operator_api(sandbox: Sandbox, operators: list[OperatorProcess]) -> Api:
    """The apiserver under the account of the operator."""
    return Api(read(sandbox.service_account_kubeconfig(SYSTEM, SYSTEM)))


def store(api: Api, body: Pod, namespace: str) -> dict[str, Any]:
    """Create a pod in earnest; returns the pod or the refusal."""
    return api.request("POST", PODS.format(namespace), body, check=False)


def test_the_operator_account_stores_a_pod_that_pulls_images_and_deletes_it(
    sandbox: Sandbox, operator_api: Api, namespace: str
) -> None:
    let_agents_run(sandbox, namespace)
    stored = store(operator_api, puller(), namespace)
    assert stored.get("kind") == "Pod", stored
    selected = {"labelSelector": f"{KIND_LABEL}=prefetch,{ATTEMPT_LABEL}={ATTEMPT}"}
    operator_api.request("DELETE", PODS.format(namespace), params=selected)
    left = sandbox.request("GET", PODS.format(namespace), params=selected)["items"]
    assert all("deletionTimestamp" in pod["metadata"] for pod in left)


@pytest.mark.parametrize("what", MAY_RUN)
def test_the_operator_account_stores_no_pod_that_may_run_something(
    sandbox: Sandbox, operator_api: Api, namespace: str, what: str
) -> None:
    let_agents_run(sandbox, namespace)
    assert_refused(store(operator_api, MAY_RUN[what], namespace))
    assert sandbox.request("GET", PODS.format(namespace))["items"] == []


def test_nothing_is_pulled_in_a_namespace_that_is_not_one_for_agents(
    sandbox: Sandbox, operator_api: Api, namespace: str
) -> None:
    bind_operators(sandbox, namespace)
    answer = store(operator_api, puller(), namespace)
    assert_refused(answer, f"kubectl label namespace {namespace} wavegate.dev/agents=allowed")


def test_nothing_of_a_fenced_attempt_is_pulled(
    sandbox: Sandbox, operator_api: Api, namespace: str
) -> None:
    let_agents_run(sandbox, namespace)
    put_record(sandbox, namespace, "rules", fenced=ATTEMPT)
    until_refused(sandbox, puller(), namespace)
    assert_refused(store(operator_api, puller(), namespace), "was taken back")


def test_blocked_content_is_not_pulled_for_its_channel_and_is_for_another(
    sandbox: Sandbox, operator_api: Api, namespace: str
) -> None:
    let_agents_run(sandbox, namespace)
    put_record(sandbox, namespace, "rules", blocked=HARMLESS.partition("@")[2])
    until_refused(sandbox, puller(), namespace)
    assert_refused(store(operator_api, puller(), namespace), "is blocked")
    other = labelled(**{PREFETCH_LABEL: "another"})
    assert store(operator_api, other, namespace).get("kind") == "Pod"


def test_how_long_after_the_record_is_written_the_policy_refuses(
    sandbox: Sandbox,
    operators: list[OperatorProcess],
    namespace: str,
    report_figure: Callable[[str], None],
) -> None:
    lags = []
    for number in range(SAMPLES):
        attempt = f"sample{number}"
        body = pod("x", {"wavegate.dev/attempt": attempt, "wavegate.dev/channel": "lag"})
        assert create(sandbox, body, namespace)["kind"] == "Pod"
        put_record(sandbox, namespace, "lag", fenced=attempt)
        stored = time.monotonic()
        until_refused(sandbox, body, namespace)
        lags.append((time.monotonic() - stored) * 1000)
    numbers = [min(lags), statistics.median(lags), max(lags)]
    figures = " / ".join(f"{number:.1f}" for number in numbers)
    report_figure(
        "admission policy, from the answer to the record's write to the end of the first dry run "
        f"that is refused: {figures} ms (min / median / max of {SAMPLES})"
    )
    # A machine that stalls for a moment says nothing about the policy.
    assert statistics.median(lags) < 2000


def test_kubectl_takes_the_rendered_policies_and_the_server_finds_no_fault_in_them(
    sandbox: Sandbox, operators: list[OperatorProcess], tmp_path: Any
) -> None:
    helm, kubectl = (Tool(sandbox, tool, tmp_path) for tool in ("helm", "kubectl"))
    manifest = tmp_path / "policies.yaml"
    show = [word for file in FILES for word in ("--show-only", f"templates/{file}.yaml")]
    manifest.write_text(helm("template", "plain", str(CHART), "--set", IMAGE, *show))
    assert kubectl("apply", "-f", str(manifest)).count("created") == 2 * len(NAMES)

    def checked() -> list[dict[str, Any]]:
        found = [sandbox.request("GET", f"{POLICIES}/plain-wavegate-{n}") for n in NAMES]
        return [p["status"] for p in found if "typeChecking" in p.get("status", {})]

    for status in sandbox.wait_for(
        "the type check", lambda: len(checked()) == len(NAMES) and checked()
    ):
        assert not status["typeChecking"].get("expressionWarnings"), status
    kubectl("delete", "-f", str(manifest))


def test_without_the_value_there_are_no_policies(sandbox: Sandbox, tmp_path: Any) -> None:
    helm = Tool(sandbox, "helm", tmp_path)
    off = ("--set", "admissionPolicies.enabled=false")
    assert "ValidatingAdmission" not in helm("template", "x", str(CHART), "--set", IMAGE, *off)


def put_record(sandbox: Sandbox, namespace: str, channel: str, raw: Any = "", **data: str) -> None:
    """Store a record as far as the policy reads it. Its `record` says nothing."""
    labels = {"wavegate.dev/kind": "record", "wavegate.dev/channel": channel}
    name = f"wavegate-record-{channel}"
    item = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": labels},
        "data": data if raw == "" else raw,
    }
    apply(sandbox, f"/api/v1/namespaces/{namespace}/configmaps/{name}", item)


def until_refused(sandbox: Sandbox, body: Pod, namespace: str) -> dict[str, Any]:
    """Dry-run the pod until it is refused; returns the refusal."""
    deadline = time.monotonic() + 10
    while True:
        answer = create(sandbox, body, namespace)
        if answer["kind"] == "Status":
            return answer
        assert time.monotonic() < deadline, "the policy refused nothing in 10 s"


def failures(sandbox: Sandbox, daemon_set: str) -> list[str]:
    """What the DaemonSet controller says about pods that it could not create."""
    items = sandbox.request("GET", f"/api/v1/namespaces/{AGENTS}/events")["items"]
    return [
        str(item["message"])
        for item in items
        if item["reason"] == "FailedCreate" and item["involvedObject"]["name"] == daemon_set
    ]


def is_of(item: Pod, attempt: str) -> bool:
    """Whether a pod belongs to an attempt."""
    return bool(item["metadata"].get("labels", {}).get("wavegate.dev/attempt") == attempt)


def allow_pods(sandbox: Sandbox, namespace: str, account: str) -> None:
    """Let a user create pods in a namespace, as far as RBAC goes."""
    group = "/apis/rbac.authorization.k8s.io/v1/namespaces"
    rbac = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "pods"}}
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["create"]}]
    role = {**rbac, "kind": "Role", "rules": rules}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "pods"}
    subjects = [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": account}]
    binding = {**rbac, "kind": "RoleBinding", "roleRef": reference, "subjects": subjects}
    apply(sandbox, f"{group}/{namespace}/roles/pods", role)
    apply(sandbox, f"{group}/{namespace}/rolebindings/pods", binding)
