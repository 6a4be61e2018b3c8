"""Before a wave opens the way back is proved by a dry run; nodes that have none are not moved.

Whoever refuses or changes agent pods here does it as clusters do: a webhook that does not answer,
admission policies. Each concerns the namespace of one story only.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from support.operator_process import OperatorProcess
from support.served import by_container, has_image_volumes, has_mutating_policies
from support.story import Story, bind_operators, channel_spec, digest, unbind_operators
from wavegate.cluster.projections import revision_view
from wavegate.rollout.steps import Target
from wavegate.rollout.templates import REQUIRED, revision_template, targeted
from wavegate_sandbox.client import Api
from wavegate_sandbox.cluster import Sandbox
from wavegate_sandbox.errors import ApiError
from wavegate_sandbox.kubeconfig import read

SYSTEM = "wavegate-e2e"
ADMISSION = "/apis/admissionregistration.k8s.io/v1"
POLICY = {"validating": "validatingadmissionpolicies", "mutating": "mutatingadmissionpolicies"}
HOSTNAME = "kubernetes.io/hostname"
MERGE = "application/merge-patch+json"
SLOW_CANARY = [
    {"name": "canary", "pools": ["canary"], "upTo": "100%", "soak": "6s"},
    {"name": "all", "upTo": "100%"},
]

NAMES = ("closed", "policy", "unbound", "apart", "node-rule", "shared", "missing")

Admit = Callable[..., Callable[[], None]]


@pytest.fixture
def admit(sandbox: Sandbox) -> Iterator[Admit]:
    """Install an object that takes part in admission; returns what removes it again."""
    installed: list[str] = []

    def install(plural: str, name: str, body: Mapping[str, Any]) -> Callable[[], None]:
        path = f"{ADMISSION}/{plural}/{name}"
        sandbox.request("POST", f"{ADMISSION}/{plural}", {"metadata": {"name": name}, **body})
        installed.append(path)

        def remove() -> None:
            installed.remove(path)
            sandbox.request("DELETE", path)

        return remove

    yield install
    for path in installed:
        sandbox.request("DELETE", path, check=False)


@pytest.fixture(scope="module")
def stories(sandbox: Sandbox, operators: list[OperatorProcess]) -> dict[str, Story]:
    """All stories with content `a` on all of their nodes. They begin side by side."""
    for name in NAMES:
        sandbox.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})

    def begin(name: str) -> Story:
        story = Story(sandbox, name).begin({"waves": SLOW_CANARY})
        story.publish("a")
        story.until_phase("a", "Completed")
        return story

    with ThreadPoolExecutor(len(NAMES)) as threads:
        return dict(zip(NAMES, threads.map(begin, NAMES), strict=True))


def rule(group: str, resource: str, operation: str) -> dict[str, Any]:
    return {
        "apiGroups": [group],
        "apiVersions": ["v1"],
        "resources": [resource],
        "operations": [operation],
    }


def only(story: Story) -> dict[str, Any]:
    """A selector of the story's namespace."""
    return {"matchLabels": {"kubernetes.io/metadata.name": story.namespace}}


def add_policy(
    story: Story, admit: Admit, kind: str, where: dict[str, Any], *, said: str, **spec: Any
) -> Callable[[], None]:
    """Install an admission policy for the story, and wait until a dry run meets it: until its
    answer holds `said`, or does not hold it any more if that begins with a `!`.
    """
    if kind == "mutating" and not has_mutating_policies(story.sandbox):
        pytest.skip("no MutatingAdmissionPolicy here that could change what is sent")
    name = f"{story.namespace}-policy"
    matched = {"resourceRules": [where], "namespaceSelector": only(story)}
    kinds = POLICY[kind]
    remove = admit(kinds, name, {"spec": {"matchConstraints": matched, **spec}})
    binding = {"policyName": name}
    if kind == "validating":
        binding["validationActions"] = ["Deny"]  # type: ignore[assignment]
    admit(kinds.replace("policies", "policybindings"), name, {"spec": binding})
    story.sandbox.wait_for("the policy to act", lambda: meets(story, where["resources"][0], said))
    return remove


def meets(story: Story, resource: str, said: str) -> bool:
    """Whether a dry run meets the policy."""
    answer = str(dry_run(story, resource))
    return said[1:] not in answer if said.startswith("!") else said in answer


def dry_run(story: Story, resource: str) -> object:
    """What the apiserver answers to a new pod like an agent's, or to a DaemonSet patched so."""
    params = {"dryRun": "All"}
    if resource == "pods":
        pod = next(p for p in story.pods() if "deletionTimestamp" not in p["metadata"])
        metadata = {"name": "try", "labels": pod["metadata"]["labels"]}
        containers = [{"name": "agent", "image": "registry.example/agent"}]
        spec = {"affinity": pod["spec"]["affinity"], "containers": containers}
        body = {"metadata": metadata, "spec": spec}
        path = f"/api/v1/namespaces/{story.namespace}/pods"
        verb, kind = "POST", "application/json"
    else:
        sets = f"/apis/apps/v1/namespaces/{story.namespace}/daemonsets"
        found = story.sandbox.request("GET", sets)["items"]
        path, body = f"{sets}/{found[0]['metadata']['name']}", {"metadata": {"labels": {"x": "y"}}}
        verb, kind = "PATCH", MERGE
    try:
        return story.sandbox.request(verb, path, body, params=params, content_type=kind)
    except ApiError as error:
        return str(error)


def until_blocked(story: Story, words: str) -> dict[str, Any]:
    """Wait until `b` is held because its way back is blocked."""
    status = story.until("b", "held", lambda status: status.get("reason") == "RevertPathBlocked")
    assert status["phase"] == "Rolling"
    assert status["waitingFor"] == "Evidence"
    assert words in status["message"]
    assert "Nothing moves" in status["message"]
    return status


def stop_on_canary(story: Story) -> None:
    """Publish `b`, and keep it from its second wave until `go_on`; till then nobody asks for the
    way back of that.
    """
    story.publish("b")
    story.until("b", "soaking", lambda s: s.get("wave", {}).get("state") == "Soaking")
    story.patch("releases", "b", {"suspend": True})
    story.until_phase("b", "Paused")


def go_on(story: Story) -> None:
    """See `stop_on_canary`."""
    story.patch("releases", "b", {"suspend": False})


def moved(story: Story) -> set[str]:
    """The story's nodes that carry the label of `b`."""
    attempt = story.status("b")["attempt"]
    nodes = story.sandbox.request("GET", "/api/v1/nodes")["items"]
    return {
        n["metadata"]["name"] for n in nodes if attempt in (n["metadata"]["labels"] or {}).values()
    }


def test_a_webhook_that_fails_closed_is_found_before_the_first_wave(
    stories: dict[str, Story], admit: Admit
) -> None:
    story = stories["closed"]
    hook = {
        "name": "pods.example.com",
        "clientConfig": {"url": "https://127.0.0.1:1/"},
        "rules": [rule("", "pods", "CREATE")],
        "namespaceSelector": only(story),
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    remove = admit(
        "validatingwebhookconfigurations", f"{story.namespace}-closed", {"webhooks": [hook]}
    )
    story.sandbox.wait_for("the webhook", lambda: meets(story, "pods", "pods.example.com"))
    story.publish("b")
    until_blocked(story, "pods.example.com")
    story.until_events("b", "WaveHeld")

    assert moved(story) == set()
    assert story.agents() == story.everywhere_digest("a")
    remove()
    story.until_phase("b", "Completed")
    assert story.agents() == story.everywhere_digest("b")


def test_a_policy_that_comes_during_a_wave_is_found_before_the_next(
    stories: dict[str, Story], admit: Admit
) -> None:
    story = stories["policy"]
    stop_on_canary(story)
    refusal = [{"expression": "false", "message": "no agents today"}]
    where = rule("", "pods", "CREATE")
    remove = add_policy(
        story, admit, "validating", where, said="no agents today", validations=refusal
    )
    go_on(story)
    status = until_blocked(story, "no agents today")

    assert [wave["state"] for wave in status["waves"]] == ["Passed", "Pending"]
    assert moved(story) == {story.nodes[0]}
    remove()
    story.until_phase("b", "Completed")
    assert story.agents() == story.everywhere_digest("b")


def test_a_rolebinding_that_is_taken_away_holds_all_and_harm_is_reverted_when_it_is_back(
    stories: dict[str, Story], sandbox: Sandbox
) -> None:
    story = stories["unbound"]
    story.publish("b")
    story.until("b", "soaking", lambda s: s.get("wave", {}).get("state") == "Soaking")
    unbind_operators(sandbox, story.namespace)
    said = story.until("b", "why nothing moves", lambda s: s["reason"] == "NamespaceNotBound")
    assert f"kubectl -n {story.namespace} create rolebinding" in said["message"]
    assert (said["phase"], said["waitingFor"]) == ("Rolling", "Person")
    path = f"/apis/apps/v1/namespaces/{story.namespace}/daemonsets"
    (stable, _) = sandbox.request("GET", path)["items"]
    account = Api(read(sandbox.service_account_kubeconfig(SYSTEM, SYSTEM)))
    fence = (f"{path}/{stable['metadata']['name']}", {"metadata": {"labels": {"a": "b"}}})
    refused = account.request(
        "PATCH", *fence, params={"dryRun": "All"}, content_type=MERGE, check=False
    )
    assert f':{SYSTEM}:{SYSTEM}" cannot patch resource "daemonsets"' in refused["message"]

    sandbox.crash(story.nodes[0])
    story.until("b", "the harm that it sees", lambda s: s["nodes"]["failed"] == 1)
    assert story.status("b")["phase"] == "Rolling"
    assert moved(story) == {story.nodes[0]}
    bind_operators(sandbox, story.namespace)
    story.until_phase("b", "Reverting", patience=60)
    sandbox.boot(story.nodes[0])
    story.until_phase("b", "Reverted")
    assert moved(story) <= {story.nodes[0]}
    story.until_agents("stable is everywhere", story.everywhere("a"))


def test_pods_that_would_lose_what_keeps_two_agents_apart_are_found(
    stories: dict[str, Story], admit: Admit
) -> None:
    story = stories["apart"]
    patch = 'JSONPatch{op: "remove", path: "/spec/affinity/podAntiAffinity"}'
    remove = add_policy(
        story,
        admit,
        "mutating",
        rule("", "pods", "CREATE"),
        said="!topologyKey",
        **mutation(patch),
    )
    story.publish("b")
    until_blocked(story, "other fields than were sent: number of podAntiAffinity terms")

    assert moved(story) == set()
    remove()
    story.until_phase("b", "Completed")
    assert story.agents() == story.everywhere_digest("b")


def test_daemon_sets_whose_node_rule_would_be_changed_are_found_before_the_next_wave(
    stories: dict[str, Story], admit: Admit
) -> None:
    story = stories["node-rule"]
    stop_on_canary(story)
    patch = (
        'JSONPatch{op: "add", path: "/spec/template/spec/affinity/nodeAffinity", value: '
        "Object.spec.template.spec.affinity.nodeAffinity{}}"
    )
    remove = add_policy(
        story,
        admit,
        "mutating",
        rule("apps", "daemonsets", "UPDATE"),
        said="!nodeSelectorTerms",
        **mutation(patch),
    )
    go_on(story)
    until_blocked(story, "other fields than were sent: affinity")

    assert moved(story) == {story.nodes[0]}
    remove()
    story.until_phase("b", "Completed")
    assert story.agents() == story.everywhere_digest("b")


def mutation(expression: str) -> dict[str, Any]:
    """What makes a policy a mutating one."""
    change = {"patchType": "JSONPatch", "jsonPatch": {"expression": f"[{expression}]"}}
    return {"mutations": [change], "reinvocationPolicy": "Never", "failurePolicy": "Fail"}


def test_content_that_the_cluster_drops_without_a_word_is_found_before_anything_runs(
    story: Story, operators: list[OperatorProcess], admit: Admit
) -> None:
    """An apiserver without image volumes does so (Kubernetes 1.34); on a newer one a policy does.
    The agent would be Ready on every node, and have nothing to load.
    """
    if has_image_volumes(story.sandbox):
        drop_image_volumes(story, admit)
    story.adapts = False
    story.begin()
    story.publish("a")

    def not_ready() -> dict[str, Any]:
        conditions = story.channel_status().get("conditions", [])
        return next((c for c in conditions if c["type"] == "Ready" and c["status"] == "False"), {})

    condition = story.sandbox.wait_for("the channel to be not Ready", not_ready)
    assert condition["reason"] == "InvalidTemplate"
    assert "without: image of volume content" in condition["message"]
    assert "bind the content by containerImage or configMap" in condition["message"]
    story.until_phase("a", "Pending")
    sets = f"/apis/apps/v1/namespaces/{story.namespace}/daemonsets"
    assert story.sandbox.request("GET", sets)["items"] == []
    story.apply_channel(by_container(channel_spec(story.namespace)))
    story.until_phase("a", "Completed")
    assert story.agents() == story.everywhere_digest("a")


def drop_image_volumes(story: Story, admit: Admit) -> None:
    """Have DaemonSets of the story stored without their volume, if that is an image."""
    name = f"{story.namespace}-drop"
    where = {"resourceRules": [rule("apps", "daemonsets", "CREATE")]}
    has_one = "object.spec.template.spec.?volumes.orValue([]).exists(v, has(v.image))"
    spec = {
        "matchConstraints": {**where, "namespaceSelector": only(story)},
        "matchConditions": [{"name": "an-image-volume", "expression": has_one}],
        **mutation('JSONPatch{op: "remove", path: "/spec/template/spec/volumes"}'),
    }
    admit(POLICY["mutating"], name, {"spec": spec})
    kinds = POLICY["mutating"].replace("policies", "policybindings")
    admit(kinds, name, {"spec": {"policyName": name}})
    labels = {"matchLabels": {"app": "try"}}
    template = {
        **channel_spec("nowhere")["agent"]["template"],
        "metadata": {"labels": {"app": "try"}},
    }
    trial = {"metadata": {"name": "try"}, "spec": {"selector": labels, "template": template}}
    path = f"/apis/apps/v1/namespaces/{story.namespace}/daemonsets"

    def dropped() -> bool:
        answer = story.sandbox.request("POST", path, trial, params={"dryRun": "All"})
        return "set-by-wavegate" not in str(answer)

    story.sandbox.wait_for("the policy to act", dropped)


@pytest.mark.parametrize("case", ["shared", "missing"])
def test_a_node_without_a_host_name_of_its_own_is_not_moved_and_named(
    stories: dict[str, Story], sandbox: Sandbox, case: str
) -> None:
    story = stories[case]
    odd, other, _ = story.worker_names
    stuck = {odd, other} if case == "shared" else {odd}
    set_hostname(sandbox, odd, other if case == "shared" else None)
    story.publish("b")
    status = story.until("b", "held", lambda status: status.get("reason") == "NotMovable")

    for node in stuck:
        assert f"{node}: it " in status["message"]
    wanted = {node: "a" if node in stuck else "b" for node in story.nodes}
    assert story.agents() == {node: digest(content) for node, content in wanted.items()}
    assert moved(story) == set(story.nodes) - stuck
    set_hostname(sandbox, odd, odd)
    story.until_phase("b", "Completed")
    assert story.agents() == story.everywhere_digest("b")


def set_hostname(sandbox: Sandbox, node: str, value: str | None) -> None:
    body = {"metadata": {"labels": {HOSTNAME: value}}}
    sandbox.request("PATCH", f"/api/v1/nodes/{node}", body, content_type=MERGE)


ZONE = {"key": "zone", "operator": "In", "values": ["a"]}
NAME = {"key": "metadata.name", "operator": "In", "values": ["n"]}
OTHERS = {"labelSelector": {"matchLabels": {"app": "x"}}, "topologyKey": "zone"}
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


def required(*terms: dict[str, Any]) -> dict[str, Any]:
    return {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": list(terms)}}}


@pytest.mark.parametrize(
    "affinity",
    [
        {},
        {"nodeAffinity": {}},
        required({"matchExpressions": [ZONE]}),
        required({"matchFields": [NAME]}, {"matchExpressions": [ZONE], "matchFields": [NAME]}),
        required({"matchExpressions": [ZONE]}, {}),
        required({"matchExpressions": [], "matchFields": [NAME]}),
        {
            "nodeAffinity": {
                PREFERRED: [{"weight": 1, "preference": {"matchExpressions": [ZONE]}}]
            },
            "podAffinity": {REQUIRED: [OTHERS]},
            "podAntiAffinity": {
                REQUIRED: [OTHERS],
                PREFERRED: [{"weight": 1, "podAffinityTerm": OTHERS}],
            },
        },
    ],
)
def test_the_apiserver_gives_an_affinity_back_in_which_we_find_our_rule_again(
    story: Story, sandbox: Sandbox, affinity: dict[str, Any]
) -> None:
    key = "wavegate.node-restriction.kubernetes.io/agents.rules"
    labels = {"wavegate.dev/channel": "rules", "wavegate.dev/attempt": "x1"}
    container = {"name": "agent", "image": f"registry.example/agent@{digest('agent')}"}
    bound = {"spec": {"containers": [container], "affinity": affinity}}
    template = revision_template(bound, "rules", "x1")
    own = template["spec"]["affinity"]
    for target in Target:
        template["spec"]["affinity"] = targeted(own, key, target, "x1")
        body = {
            "metadata": {"name": "rules-x1", "labels": labels},
            "spec": {"selector": {"matchLabels": labels}, "template": template},
        }
        path = f"/apis/apps/v1/namespaces/{story.namespace}/daemonsets"
        stored = sandbox.request("POST", path, body, params={"dryRun": "All"})
        stored["metadata"]["resourceVersion"] = "1"
        view = revision_view(stored, None, 0.0)
        assert view.targets(key, target, "x1")
        assert view.own_affinity == targeted(view.own_affinity, key, Target.ALL)
        others = [other for other in Target if other is not target]
        assert not any(view.targets(key, other, "x1") for other in others)
