"""The CRDs on the real apiserver: what they accept, refuse, fill in and explain.

The tables of good and bad manifests are in `bad_manifests/`: rule, manifest, answer.
"""

import copy
import re
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from wavegate_sandbox.client import wait_for

ROOT = Path(__file__).parents[2]
CRDS = {
    crd["spec"]["names"]["kind"]: crd
    for crd in (yaml.safe_load(path.read_text()) for path in sorted(ROOT.glob("crds/*.yaml")))
}
TABLES = {
    table["kind"]: table
    for table in (
        yaml.safe_load(path.read_text())
        for path in sorted(Path(__file__).parent.glob("bad_manifests/*.yaml"))
    )
}
APPLY = "application/apply-patch+yaml"
STRICT = {"fieldValidation": "Strict"}


def cases(section: str) -> list[Any]:
    """One parameter per row of all tables, `kind, row`."""
    return [
        pytest.param(kind, row, id=f"{kind.removeprefix('SecurityContent')}-{row['name']}")
        for kind, table in TABLES.items()
        for row in table.get(section, [])
    ]


def good_cases() -> list[Any]:
    return [
        pytest.param(kind, name, id=f"{kind.removeprefix('SecurityContent')}-{name}")
        for kind, table in TABLES.items()
        for name in table["good"]
    ]


def merged(target: Any, patch: Any) -> Any:
    """JSON merge patch (RFC 7386)."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def manifest(kind: str, good: str, name: str, namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": "wavegate.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": copy.deepcopy(TABLES[kind]["good"][good]),
    }


def bad_manifest(kind: str, row: dict[str, Any], namespace: str) -> dict[str, Any]:
    """Return the good manifest with the row's fault. `repeat` makes a list or text that long."""
    patch = copy.deepcopy(row["patch"])
    for field, count in row.get("repeat", {}).items():
        one = patch[field]
        patch[field] = (
            one * count
            if isinstance(one, str)
            else [{"name": f"n{i}", **one[0]} for i in range(count)]
        )
    result = manifest(kind, row["from"], row["name"], namespace)
    result["metadata"] |= row.get("metadata", {})
    result["spec"] = merged(result["spec"], patch)
    return result


def kubectl(sandbox: Any, *arguments: str) -> str:
    command = [sandbox.tool("kubectl"), "--kubeconfig", sandbox.kubeconfig, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def faults(answer: dict[str, Any]) -> list[tuple[str | None, str]]:
    """What the apiserver found, as field and message.

    Without its note that it left out other rules, as they need a well-formed object.
    """
    causes = answer.get("details", {}).get("causes") or [{"message": answer["message"]}]
    return [
        (cause.get("field"), cause["message"])
        for cause in causes
        if "some validation rules were not checked" not in cause["message"]
    ]


def assert_refused(answer: dict[str, Any], row: dict[str, Any]) -> None:
    assert answer["kind"] == "Status", "it was accepted"
    ((field, message),) = faults(answer)
    assert field == row.get("at")
    assert row["says"] in message


def url(kind: str, namespace: str, name: str = "") -> str:
    base = f"/apis/wavegate.dev/v1alpha1/namespaces/{namespace}/{TABLES[kind]['plural']}"
    return f"{base}/{name}" if name else base


@pytest.fixture(scope="module")
def namespace(sandbox: Any) -> Iterator[str]:
    """One for all: no two tests here store an object of the same kind and name."""
    name = f"crds-{secrets.token_hex(4)}"
    sandbox.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    yield name
    sandbox.request("DELETE", f"/api/v1/namespaces/{name}", check=False)


@pytest.fixture(scope="module")
def crds(sandbox: Any) -> dict[str, dict[str, Any]]:
    """The CRDs as the apiserver has them, once it serves them."""
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    for crd in CRDS.values():
        sandbox.request(
            "PATCH",
            f"{path}/{crd['metadata']['name']}",
            body=crd,
            params={"fieldManager": "test-crds", "force": "true"} | STRICT,
            content_type=APPLY,
        )

    def established(name: str) -> Any:
        crd = sandbox.request("GET", f"{path}/{name}")
        conditions = {c["type"]: c["status"] for c in crd.get("status", {}).get("conditions") or []}
        return crd if conditions.get("Established") == "True" else None

    found = {}
    for kind, crd in CRDS.items():
        name = crd["metadata"]["name"]
        found[kind] = wait_for(f"CRD {name} to be established", lambda name=name: established(name))
    # Established comes shortly before the endpoints are served.
    for table in TABLES.values():
        served = f"/apis/wavegate.dev/v1alpha1/{table['plural']}"
        wait_for(
            f"{served} to be served",
            lambda served=served: (
                sandbox.request("GET", served, check=False).get("items") is not None
            ),
        )
    return found


def fields(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """All schemas within a schema, itself included, with their path: `spec.pools[].name`."""
    yield path, schema
    for name, field in schema.get("properties", {}).items():
        yield from fields(field, f"{path}.{name}".lstrip("."))
    for each in ("items", "additionalProperties"):
        if each in schema:
            yield from fields(schema[each], f"{path}[]")


def rules(kind: str) -> Iterator[tuple[str, str]]:
    """All CEL rules of a CRD, as the field that they blame and their message."""
    schema = CRDS[kind]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for path, field in fields(schema):
        for rule in field.get("x-kubernetes-validations", []):
            yield path + rule.get("fieldPath", ""), rule["message"]


def rows(kind: str) -> list[dict[str, Any]]:
    return [row for section in ("bad", "changes") for row in TABLES[kind].get(section, [])]


def test_every_row_is_about_a_rule_of_its_own():
    named = [(kind, row["rule"]) for kind in TABLES for row in rows(kind)]
    assert len(set(named)) == len(named)
    assert len(named) >= 30


@pytest.mark.parametrize("kind", CRDS)
def test_every_cel_rule_has_a_row(kind):
    told = [
        (re.sub(r"\[\w+\]", "[]", row.get("at", "")).replace("<nil>", ""), row["says"])
        for row in rows(kind)
        if row["says"]
    ]
    untold = [
        (field, message)
        for field, message in rules(kind)
        if not any(at == field and (says in message or message in says) for at, says in told)
    ]
    assert not untold


@pytest.mark.parametrize("kind", CRDS)
def test_a_crd_is_structural_and_its_names_are_accepted(crds, kind):
    conditions = {c["type"]: c for c in crds[kind]["status"]["conditions"]}
    assert "NonStructuralSchema" not in conditions, conditions["NonStructuralSchema"]["message"]
    assert conditions["NamesAccepted"]["status"] == "True"


@pytest.mark.parametrize(("kind", "good"), good_cases())
def test_a_good_manifest_is_accepted(crds, sandbox, namespace, kind, good):
    body = manifest(kind, good, "good", namespace)
    answer = sandbox.request(
        "POST", url(kind, namespace), body, params={"dryRun": "All"} | STRICT, check=False
    )
    assert answer["kind"] == kind, answer["message"]


@pytest.mark.parametrize(("kind", "row"), cases("bad"))
def test_a_bad_manifest_is_refused_and_the_message_says_what_to_write(
    crds, sandbox, namespace, kind, row
):
    body = bad_manifest(kind, row, namespace)
    answer = sandbox.request("POST", url(kind, namespace), body, params=STRICT, check=False)
    assert_refused(answer, row)
    found = sandbox.request("GET", url(kind, namespace, body["metadata"]["name"]), check=False)
    assert found["kind"] == "Status"
    assert found["code"] == 404


@pytest.mark.parametrize(("kind", "row"), cases("changes"))
def test_a_change_of_a_stored_object_obeys_the_table(crds, sandbox, namespace, kind, row):
    name = f"changed-{row['name']}"
    before = sandbox.request(
        "POST", url(kind, namespace), manifest(kind, row["from"], name, namespace), params=STRICT
    )
    answer = sandbox.request(
        "PATCH", url(kind, namespace, name), {"spec": row["patch"]}, params=STRICT, check=False
    )
    after = sandbox.request("GET", url(kind, namespace, name))
    if row["says"] is None:
        assert answer["kind"] == kind, answer["message"]
        assert after["spec"] == merged(before["spec"], row["patch"])
    else:
        assert_refused(answer, row)
        assert after == before


def test_absent_fields_of_a_channel_get_their_documented_defaults(crds, sandbox, namespace):
    kind = "SecurityContentChannel"
    body = manifest(kind, "minimal", "defaults", namespace)
    body["spec"]["prometheus"] = {"url": "http://prometheus:9090"}
    body["spec"]["checks"] = [{"name": "a", "query": "up", "max": 0}]
    stored = sandbox.request("POST", url(kind, namespace), body, params={"dryRun": "All"})
    spec = stored["spec"]
    assert spec["rollout"] == {
        "maxUnavailable": "5%",
        "settle": "60s",
        "progressDeadline": "10m",
        "holdTimeout": "30m",
        "bake": "24h",
        "onFailure": "Revert",
        "drill": "NewAgentVersion",
        "prefetch": "Never",
        "coolDown": "30m",
        "breaker": {"reverts": 2, "within": "24h"},
        "maxSeverity": "Routine",
    }
    assert spec["suspend"] is False
    assert "waves" not in spec
    assert spec["checks"] == [
        {
            "name": "a",
            "query": "up",
            "max": 0,
            "per": "Node",
            "interval": "30s",
            "timeout": "10s",
            "consecutive": 1,
            "dryRun": False,
        }
    ]


def test_a_release_is_not_suspended_by_default(crds, sandbox, namespace):
    kind = "SecurityContentRelease"
    body = manifest(kind, "image", "defaults", namespace)
    stored = sandbox.request("POST", url(kind, namespace), body, params={"dryRun": "All"})
    assert stored["spec"]["suspend"] is False


def test_the_template_is_stored_as_it_was_written(crds, sandbox, namespace):
    kind = "SecurityContentChannel"
    body = manifest(kind, "full", "template", namespace)
    stored = sandbox.request("POST", url(kind, namespace), body, params={"dryRun": "All"} | STRICT)
    assert stored["spec"]["agent"] == body["spec"]["agent"]


def test_a_write_to_the_object_does_not_change_its_status(crds, sandbox, namespace):
    kind = "SecurityContentRelease"
    body = manifest(kind, "image", "status", namespace) | {"status": {"phase": "Completed"}}
    assert "status" not in sandbox.request("POST", url(kind, namespace), body)
    path = url(kind, namespace, "status") + "/status"
    sandbox.request("PATCH", path, {"status": {"phase": "Pending"}, "spec": {"suspend": True}})
    stored = sandbox.request("GET", url(kind, namespace, "status"))
    assert stored["status"] == {"phase": "Pending"}
    assert stored["spec"]["suspend"] is False


STATUS: dict[str, dict[str, Any]] = {
    "SecurityContentChannel": {
        "stable": {"version": "v1"},
        "candidate": {"version": "v2"},
        "nodes": {"total": 40, "candidate": 3},
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "reason": "Accepted",
                "message": "All-good",
                "lastTransitionTime": "2026-07-19T04:09:00Z",
            }
        ],
    },
    "SecurityContentRelease": {
        "phase": "Rolling",
        "waitingFor": "Evidence",
        "wave": {"name": "canaries", "number": 2, "of": 5, "state": "Soaking", "soaked": "2m"},
        "message": "Soaking-for-8m",
    },
    "SecurityContentDecision": {"phase": "Accepted", "message": "Done"},
}


GET = {
    "SecurityContentChannel": """
        NAME STABLE CANDIDATE NODES ON-CANDIDATE READY MESSAGE AGE
        minimal v1 v2 40 3 True All-good""",
    "SecurityContentRelease": """
        NAME CHANNEL VERSION PHASE WAVE WAITING-FOR MESSAGE AGE
        image falcon-content 2026.07.19-1 Rolling canaries Evidence Soaking-for-8m""",
    "SecurityContentDecision": """
        NAME RELEASE ACTION PHASE BY REASON MESSAGE AGE
        revert falcon-content-291 Revert Accepted kubernetes-admin
        Payments-sees-failed-logins Done""",
}


@pytest.mark.parametrize("kind", CRDS)
def test_kubectl_get_shows_the_columns_with_their_values(crds, sandbox, namespace, kind):
    name = next(iter(TABLES[kind]["good"]))
    sandbox.request("POST", url(kind, namespace), manifest(kind, name, name, namespace))
    path = url(kind, namespace, name) + "/status"
    sandbox.request("PATCH", path, {"status": STATUS[kind]}, params=STRICT)
    (short,) = CRDS[kind]["spec"]["names"]["shortNames"]
    printed = kubectl(sandbox, "get", short, name, "-n", namespace, "-o", "wide").split()
    assert printed[:-1] == GET[kind].split(), "all but the age"


def test_kubectl_explain_prints_meaning_and_default(crds, sandbox):
    printed = kubectl(sandbox, "explain", "wgc.spec.rollout.settle")
    assert "Default 60s." in printed


@pytest.mark.parametrize("kind", CRDS)
def test_kubectl_explain_says_something_about_every_field(crds, kind):
    schema = crds[kind]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    silent = [path for path, field in fields(schema) if not field.get("description", "").strip()]
    assert not silent


@pytest.mark.parametrize(
    ("kind", "short"), [("Channel", "wgc"), ("Release", "wgr"), ("Decision", "wgd")]
)
def test_short_names_and_category_are_served(crds, sandbox, kind, short):
    resources = sandbox.request("GET", "/apis/wavegate.dev/v1alpha1")["resources"]
    plural = TABLES[f"SecurityContent{kind}"]["plural"]
    (found,) = (resource for resource in resources if resource["name"] == plural)
    assert found["shortNames"] == [short]
    assert found["categories"] == ["wavegate"]
    assert found["namespaced"] is True
