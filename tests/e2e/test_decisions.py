"""Who decides, and who may: the chart's admission policies, RBAC and impersonated people.

Each person is allowed exactly one verb on one release, so that a verb which opened another's door,
or another release, would be seen.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from support.chart import Rendered, apply, apply_policies, render
from support.operator_process import OperatorProcess
from support.served import has_mutating_policies
from support.story import GROUP, Story, asks_before_its_last, bind_operators, digest
from wavegate.api import DecisionAction
from wavegate.cluster.forged import FORGED, REFUSED
from wavegate_sandbox.client import Api
from wavegate_sandbox.cluster import Sandbox
from wavegate_sandbox.faults import AgentCrashLoop, Faults
from wavegate_sandbox.kubeconfig import read

SYSTEM = "wavegate-e2e"
"""Namespace and release of the fixture `operators`."""
SPACE = "decisions"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
DECISIONS = f"{GROUP}/namespaces/{{}}/securitycontentdecisions"
ACTIONS = [action.value for action in DecisionAction]
MORE = {"Approve": {"wave": "all"}, "Unblock": {"incident": "0123456789"}}
"""What an action needs beside release and digest."""


@pytest.fixture(scope="module", autouse=True)
def chart(sandbox: Sandbox, operators: list[OperatorProcess]) -> Rendered:
    """The chart's policies are in force, and each person has a verb of their own."""
    stamps = has_mutating_policies(sandbox)
    rendered = render(sandbox.tool("helm"), SYSTEM, SYSTEM, stamps=stamps)
    apply(sandbox, f"/api/v1/namespaces/{SPACE}", namespace(SPACE))
    bind_operators(sandbox, SPACE)
    for action in ACTIONS:
        allow(sandbox, person(action), action.lower())
    allow(sandbox, "nobody", "get")
    sandbox.wait_for(  # and not RBAC, which has heard of the last role then, so of all
        "the policies to refuse",
        lambda: "Wavegate decisions: " in decide(sandbox, "nobody").get("message", ""),
    )
    return rendered


def namespace(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def person(action: str) -> str:
    """Who may do this, and nothing else."""
    return f"{action.lower()}-only@example.com"


def allow(sandbox: Sandbox, user: str, verb: str, release: str = "b") -> None:
    """Let a user create decisions, and have one verb on one release."""
    name = user.partition("@")[0]
    rules = [
        {"apiGroups": ["wavegate.dev"], "resources": ["securitycontentdecisions"]}
        | {"verbs": ["create", "update", "patch"]},
        {"apiGroups": ["wavegate.dev"], "resources": ["securitycontentreleases"]}
        | {"verbs": [verb], "resourceNames": [release]},
    ]
    bind(sandbox, name, user, {"kind": "Role", "name": name})
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "rules": rules}
    path = f"{RBAC}/namespaces/{SPACE}/roles/{name}"
    apply(sandbox, path, {**role, "metadata": {"name": name}})


def bind(sandbox: Sandbox, name: str, user: str, role: dict[str, str], space: str = SPACE) -> None:
    """Bind a role to a user in a namespace."""
    group = "rbac.authorization.k8s.io"
    body = {
        "apiVersion": f"{group}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": group, **role},
        "subjects": [{"kind": "User", "apiGroup": group, "name": user}],
    }
    apply(sandbox, f"{RBAC}/namespaces/{space}/rolebindings/{name}", body)


def remove(sandbox: Sandbox, rendered: Rendered) -> None:
    """Take policies and bindings away."""
    for item in rendered.objects:
        if "AdmissionPolicy" in item["kind"]:
            plural = f"{item['kind'].lower()}s".replace("policys", "policies")
            path = f"/apis/admissionregistration.k8s.io/v1/{plural}/{item['metadata']['name']}"
            sandbox.request("DELETE", path)


def body(action: str, release: str = "b", **spec: Any) -> dict[str, Any]:
    """A decision."""
    wanted = {"release": release, "digest": digest("b"), "action": action, "reason": "a test"}
    return {
        "apiVersion": "wavegate.dev/v1alpha1",
        "kind": "SecurityContentDecision",
        "metadata": {"generateName": "test-"},
        "spec": wanted | MORE.get(action, {}) | spec,
    }


def claim(sandbox: Sandbox, user: str, spec: dict[str, Any]) -> dict[str, Any]:
    """The spec with what the user has to say of who decides; None leaves it out."""
    own = {} if has_mutating_policies(sandbox) else {"decidedBy": user}
    return {key: value for key, value in (own | spec).items() if value is not None}


def decide(
    sandbox: Sandbox, user: str, action: str = "Pause", *, dry: bool = True, **spec: Any
) -> dict[str, Any]:
    """Create a decision as this user; returns the object or the refusal. Where nothing fills it
    in, the user writes their own name.
    """
    api = Api(sandbox.api.access, user)
    spec = claim(sandbox, user, spec)
    params = {"dryRun": "All"} if dry else {}
    path = DECISIONS.format(SPACE)
    return api.request("POST", path, body(action, **spec), params=params, check=False)


@pytest.mark.parametrize("wanted", ACTIONS)
@pytest.mark.parametrize("allowed", ACTIONS)
def test_each_action_takes_its_own_verb_and_no_other(
    sandbox: Sandbox, wanted: str, allowed: str
) -> None:
    answer = decide(sandbox, person(allowed), wanted)
    if wanted == allowed:
        assert answer["spec"]["decidedBy"] == person(allowed)
        return
    assert answer["code"] == 403
    may_not = f"{person(allowed)} may not {wanted.lower()} release b in namespace {SPACE}"
    for word in (
        f"Wavegate decisions: {may_not}",
        "apiGroups [wavegate.dev], resources [securitycontentreleases]",
        f"verbs [{wanted.lower()}]",
    ):
        assert word in answer["message"]


def test_a_verb_on_one_release_opens_no_other(sandbox: Sandbox) -> None:
    answer = decide(sandbox, person("Pause"), "Pause", release="c")
    assert answer["code"] == 403
    assert "may not pause release c" in answer["message"]


@pytest.mark.parametrize("claimed", ["alice@example.com", "", None])
def test_whatever_name_is_claimed_the_requester_is_stored(
    sandbox: Sandbox, claimed: str | None
) -> None:
    if not has_mutating_policies(sandbox):
        pytest.skip("no MutatingAdmissionPolicy here: nothing fills a name in")
    answer = decide(sandbox, person("Revert"), "Revert", decidedBy=claimed)
    assert answer["spec"]["decidedBy"] == person("Revert")


def test_a_service_account_is_stored_by_its_own_name(sandbox: Sandbox) -> None:
    account = f"system:serviceaccount:{SPACE}:argocd"
    allow(sandbox, account, "revert")

    def decided() -> dict[str, Any]:
        return dict(decide(sandbox, account, "Revert").get("spec", {}))

    assert sandbox.wait_for("the role to act", decided)["decidedBy"] == account


def test_a_decision_is_never_changed(sandbox: Sandbox) -> None:
    made = decide(sandbox, person("Pause"), dry=False)
    path = f"{DECISIONS.format(SPACE)}/{made['metadata']['name']}"
    api = Api(sandbox.api.access, person("Pause"))
    for change in ({"decidedBy": "alice"}, {"digest": digest("c")}, {"reason": "another"}):
        answer = api.request("PATCH", path, {"spec": change}, check=False)
        assert answer["code"] in (403, 422), change
        assert "a decision cannot be changed" in answer["message"]
    labelled = api.request("PATCH", path, {"metadata": {"labels": {"seen": "yes"}}})
    assert labelled["spec"] == made["spec"]


MAY = {
    "viewer": set(),
    "publisher": {"Pause", "Revert"},
    "approver": {"Approve", "Block", "Pause", "Resume", "Revert"},
    "platform": {"Approve", "Block", "Pause", "Resume", "Revert", "Unblock"},
}


@pytest.mark.parametrize("role", MAY)
def test_a_role_of_the_chart_decides_what_it_is_for(
    sandbox: Sandbox, chart: Rendered, role: str
) -> None:
    user = f"{role}@example.com"
    bind(sandbox, role, user, {"kind": "ClusterRole", "name": f"{SYSTEM}-{role}"})
    api = Api(sandbox.api.access, user)
    sandbox.wait_for(
        "the role to act",
        lambda: "items" in api.request("GET", DECISIONS.format(SPACE), check=False),
    )
    for action in ACTIONS:
        answer = decide(sandbox, user, action)
        assert ("spec" in answer) is (action in MAY[role]), (action, answer)
    for kind, roles in {"channels": ["platform"], "releases": ["publisher", "platform"]}.items():
        path = f"{GROUP}/namespaces/{SPACE}/securitycontent{kind}"
        answer = api.request("POST", path, {}, params={"dryRun": "All"}, check=False)
        assert (answer["code"] == 403) is (role not in roles), (kind, answer)


def test_the_server_finds_no_fault_in_the_expressions(sandbox: Sandbox, chart: Rendered) -> None:
    path = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/{}-decisions"

    def checked() -> dict[str, Any] | None:
        status = sandbox.request("GET", path.format(SYSTEM)).get("status") or {}
        return status if "typeChecking" in status else None

    status = sandbox.wait_for("the type check", checked)
    assert not status["typeChecking"].get("expressionWarnings"), status


@pytest.fixture
def unstamped(sandbox: Sandbox, chart: Rendered) -> Iterator[None]:
    """A cluster where nothing fills `decidedBy` in."""
    if not has_mutating_policies(sandbox):
        yield
        return
    values = ("admissionPolicies.stampDecisions=false",)
    fallback = render(sandbox.tool("helm"), SYSTEM, SYSTEM, values)
    stamping = [i for i in chart.objects if i["kind"].startswith("MutatingAdmission")]
    assert len(stamping) == 2
    assert not [i for i in fallback.objects if i["kind"].startswith("MutatingAdmission")]
    apply_policies(sandbox, fallback)
    remove(sandbox, Rendered(SYSTEM, SYSTEM, tuple(stamping[:1])))
    sandbox.wait_for(  # both policies act: each is taken in by itself
        "no name to be filled in",
        lambda: "write it" in decide(sandbox, person("Pause")).get("message", ""),
    )
    yield
    apply_policies(sandbox, chart)
    sandbox.wait_for("names to be filled in", lambda: "spec" in decide(sandbox, person("Pause")))


def test_where_nothing_fills_it_in_only_the_requesters_own_name_is_taken(
    sandbox: Sandbox, unstamped: None
) -> None:
    own = person("Pause")
    for claimed in (None, "alice@example.com", ""):
        answer = decide(sandbox, own, decidedBy=claimed)
        assert answer["code"] == 403
        assert (
            f"spec.decidedBy must be the name under which you are logged in, {own}; write it"
            in (answer["message"])
        )
    assert decide(sandbox, own, decidedBy=own)["spec"]["decidedBy"] == own
    refused = decide(sandbox, own, "Revert", decidedBy=own)
    assert f"{own} may not revert release b" in refused["message"]


def test_the_operator_can_try_one_name_by_dry_run_and_create_no_decision(
    sandbox: Sandbox, chart: Rendered
) -> None:
    api = Api(read(sandbox.service_account_kubeconfig(SYSTEM, chart.service_account)))
    path, kind = DECISIONS.format(SPACE), "application/apply-patch+yaml"

    def tried(name: str, **more: str) -> dict[str, Any]:
        forged = body("Pause", decidedBy="alice") | {"metadata": {"name": name}}
        params = {"fieldManager": "wavegate", **more}
        place = f"{path}/{name}"
        return api.request("PATCH", place, forged, params=params, content_type=kind, check=False)

    for more in ({"dryRun": "All"}, {}):
        answer = tried(FORGED, **more)
        assert answer["code"] == 403
        assert REFUSED in answer["message"]
        other = tried("another", **more)
        assert other["code"] == 403
        assert REFUSED not in other["message"]
    posted = api.request("POST", path, body("Pause"), params={"dryRun": "All"}, check=False)
    assert posted["code"] == 403
    assert REFUSED not in posted["message"]


def settled(story: Story, made: dict[str, Any]) -> dict[str, Any]:
    """What the operator says of a decision."""
    return story.settled(made["metadata"]["name"])


def make(story: Story, user: str, action: str, **spec: Any) -> dict[str, Any]:
    """Create a decision in the story's namespace as this user."""
    path = DECISIONS.format(story.namespace)
    made = body(action, **claim(story.sandbox, user, spec))
    return Api(story.sandbox.api.access, user).request("POST", path, made)


def accepted(story: Story, user: str, **named: Any) -> None:
    """Resume until it is accepted: one that is made within the second of what it is about is not,
    as timestamps are whole seconds.
    """
    story.sandbox.wait_for(
        "an accepted Resume",
        lambda: settled(story, make(story, user, "Resume", **named))["phase"] == "Accepted",
    )


def test_what_loosens_is_obeyed_while_the_policies_are_in_force_and_not_without_them(
    sandbox: Sandbox, story: Story, chart: Rendered
) -> None:
    user = "approver@example.com"
    bind(sandbox, "a", user, {"kind": "ClusterRole", "name": f"{SYSTEM}-approver"}, story.namespace)
    story.begin({"waves": asks_before_its_last(story.namespace)})  # there it stands still
    story.publish("a")
    story.until("a", "it asks", lambda status: status.get("reason") == "AwaitingApproval")
    named = {"release": "a", "digest": digest("a")}
    assert settled(story, make(story, user, "Pause", **named))["phase"] == "Accepted"
    replayed = settled(story, make(story, user, "Resume", release="a", digest=digest("b")))
    assert (replayed["phase"], replayed["reason"]) == ("Refused", "DecisionRefused")
    assert digest("a") in replayed["message"]
    accepted(story, user, **named)
    assert settled(story, make(story, user, "Approve", **named))["phase"] == "Accepted"
    story.until_phase("a", "Completed")

    policies = tuple(i for i in chart.objects if i["metadata"]["name"] == f"{SYSTEM}-decisions")
    story.publish("b")
    story.until("b", "it asks", lambda status: status.get("reason") == "AwaitingApproval")
    pause = make(story, user, "Pause")
    assert settled(story, pause)["phase"] == "Accepted"
    remove(sandbox, Rendered(SYSTEM, SYSTEM, policies))

    def later_and_unnoticed() -> bool:
        """Of the same second as the pause it would not be about it, as in `accepted`."""
        stored, stamp = decide(sandbox, "nobody"), "creationTimestamp"
        return "spec" in stored and stored["metadata"][stamp] > pause["metadata"][stamp]

    sandbox.wait_for("forged names to be stored", later_and_unnoticed)
    forged = settled(story, make(story, user, "Resume", decidedBy="alice@example.com"))
    assert (forged["phase"], forged["reason"]) == ("Refused", "PoliciesNotInForce")
    assert "was not refused" in forged["message"]
    assert story.status("b")["reason"] == "PausedByDecision"

    apply_policies(sandbox, chart)
    sandbox.wait_for(
        "both policies",
        lambda: "code" in decide(sandbox, "nobody") and "spec" in decide(sandbox, person("Pause")),
    )
    first = settled(story, make(story, user, "Resume"))
    assert (first["phase"], first["reason"]) == ("Refused", "PoliciesNotInForce")
    assert "create it again" in first["message"]
    accepted(story, user)
    assert settled(story, make(story, user, "Approve"))["phase"] == "Accepted"
    story.until_phase("b", "Completed")
    assert story.agents() == story.everywhere_digest("b")


def test_after_a_revert_the_channel_cools_down_and_after_two_a_person_lets_go(
    sandbox: Sandbox, chart: Rendered
) -> None:
    user, space = "approver@example.com", "cool-down"
    sandbox.request("POST", "/api/v1/namespaces", namespace(space))
    bind(sandbox, "a", user, {"kind": "ClusterRole", "name": f"{SYSTEM}-approver"}, space)
    pace = {"maxUnavailable": "100%", "settle": "1s", "soak": "2s", "coolDown": "15s"}
    story = Story(sandbox, space).begin({"rollout": pace})
    story.publish("a")
    story.until_phase("a", "Completed")
    with Faults(sandbox, {digest(x): AgentCrashLoop(every_seconds=1) for x in ("bad", "worse")}):
        story.publish("bad")
        story.until_phase("bad", "Reverted")
        story.publish("worse")
        waits = story.until("worse", "waits", lambda status: bool(status.get("reason")))
        assert (waits["phase"], waits["reason"]) == ("Pending", "CoolingDown")
        story.until_phase("worse", "Reverted")
    ended, began = (story.status(x)[t] for x, t in (("bad", "finishedAt"), ("worse", "startedAt")))
    waited = datetime.fromisoformat(began) - datetime.fromisoformat(ended)
    assert waited.total_seconds() >= 14  # stamps are whole seconds

    story.publish("good")
    waits = story.until("good", "waits", lambda status: bool(status.get("reason")))
    assert (waits["reason"], waits["waitingFor"]) == ("BreakerOpen", "Person")
    assert "release worse (AgentRestarted), release bad (AgentRestarted)" in waits["message"]
    ready = story.channel_status()["conditions"][0]
    assert (ready["status"], ready["reason"]) == ("False", "BreakerOpen")
    older = settled(story, make(story, user, "Resume", release="bad", digest=digest("bad")))
    assert (older["phase"], older["reason"]) == ("Refused", "DecisionRefused")
    accepted(story, user, release="worse", digest=digest("worse"))
    story.until_phase("good", "Completed")
    assert story.agents() == story.everywhere_digest("good")
    assert story.channel_status()["conditions"][0]["status"] == "True"
