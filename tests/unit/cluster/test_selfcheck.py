"""What is missing in the cluster is said once, holds readiness, and ends by itself."""

import asyncio
import logging

import pytest
from aiohttp import web

from support.fake_apiserver import PATIENCE, until
from wavegate.api import Channel
from wavegate.api.needed import needed_fields
from wavegate.cluster import selfcheck
from wavegate.cluster.rights import Right, needed_rights
from wavegate.cluster.selfcheck import SelfCheck
from wavegate.cluster.served import KINDS, ServedKinds

POLICY = "admissionregistration.k8s.io/v1/validatingadmissionpolicies/refused"
MOVE = Right("patch", "", "nodes")


def schema(fields):
    """An OpenAPI schema that knows these paths."""
    made = {"properties": {}}
    for field in sorted(fields):
        place = made
        for step in field.split("."):
            place = place.setdefault("properties", {}).setdefault(step.removesuffix("[]"), {})
            if step.endswith("[]"):
                place = place.setdefault("items", {})
    return made


class Cluster:
    """Answers as one on which all is well, until a test changes something."""

    def __init__(self, server):
        self.plurals = {kind.plural for kind in KINDS}
        self.fields = {kind.kind: set(needed_fields(kind)) for kind in KINDS}
        self.published = True
        self.denied = set()
        self.policies = {POLICY}
        self.policy_kinds = ["validatingadmissionpolicies"]
        self.silent = False
        server.handler = self.answer

    async def answer(self, request):
        if self.silent:
            return web.json_response({"message": "not now"}, status=503)
        if request.method == "POST":
            asked = (await request.json())["spec"]["resourceAttributes"]
            allowed = (asked["verb"], asked["resource"]) not in self.denied
            return web.json_response({"status": {"allowed": allowed}})
        found = self.find(request.path)
        return web.json_response(found or {"message": "none"}, status=200 if found else 404)

    def find(self, path):
        if path == "/apis/wavegate.dev/v1alpha1":
            return {"resources": [{"name": plural} for plural in self.plurals]}
        if path == "/openapi/v3/apis/wavegate.dev/v1alpha1" and self.published:
            kinds = {
                name: {**schema(fields), "x-kubernetes-group-version-kind": [{"kind": name}]}
                for name, fields in self.fields.items()
            }
            return {"components": {"schemas": kinds}}
        if path == "/apis/admissionregistration.k8s.io/v1":
            return {"resources": [{"name": plural} for plural in self.policy_kinds]}
        return {"kind": "found"} if path.removeprefix("/apis/") in self.policies else None


@pytest.fixture
def cluster(server, monkeypatch):
    monkeypatch.setattr(selfcheck, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(selfcheck, "AGAIN_SECONDS", 0.01)
    return Cluster(server)


@pytest.fixture
def start(cluster, client, background, caplog):
    """Begin a self-check in the background."""
    caplog.set_level(logging.INFO)

    def begin(**options):
        rights = needed_rights("wavegate", "wavegate")
        check = SelfCheck(client, ServedKinds(client), rights, (POLICY,), **options)
        background(check.keep())
        return check

    return begin


async def said(check, words):
    await until(lambda: words in check.problem)


async def test_nothing_is_known_before_the_first_look_and_nothing_is_missing_after_it(start):
    check = start()
    assert "not looked at" in check.problem
    await until(lambda: not check.problem)


async def test_who_waits_for_the_first_look_knows_what_it_found(start, cluster):
    check = start()
    async with asyncio.timeout(PATIENCE):
        await check.first_look(30)
    assert check.problem == ""


async def test_a_silent_apiserver_is_not_waited_for_any_longer_than_said(client):
    check = SelfCheck(client, ServedKinds(client), ())
    await check.first_look(0.01)
    assert "not looked at" in check.problem


async def test_a_crd_that_lacks_a_field_is_named_with_it_until_it_has_it(start, cluster, caplog):
    cluster.fields[Channel.kind].remove("spec.suspend")
    check = start()
    await said(check, "securitycontentchannels.wavegate.dev is older than this operator")
    assert "lacks spec.suspend: apply the files in crds/" in check.problem
    cluster.fields[Channel.kind].add("spec.suspend")
    await until(lambda: not check.problem)
    assert sum("is older than" in record.message for record in caplog.records) == 1
    assert "What was missing in the cluster is there now" in caplog.text


async def test_of_many_lacking_fields_five_are_named(start, cluster):
    cluster.fields[Channel.kind] = {"spec.agent"}
    check = start()
    lacking = len(needed_fields(Channel)) - 1
    await said(check, f"and {lacking - 5} more: apply the files")


async def test_a_crd_that_is_missing_and_one_whose_schema_is_not_published_are_waited_for(
    start, cluster
):
    cluster.plurals.remove(Channel.plural)
    cluster.published = False
    check = start()
    await said(check, "waiting for the CRDs securitycontentchannels.wavegate.dev")
    cluster.plurals.add(Channel.plural)
    await said(check, "not published the schemas")
    cluster.published = True
    await until(lambda: not check.problem)


async def test_a_verb_that_is_not_granted_is_named_until_it_is(start, cluster, caplog):
    cluster.denied = {("patch", "nodes"), ("list", "pods")}
    check = start()
    await said(check, "does not allow the operator to list pods (in all namespaces)")
    assert "patch nodes (in all namespaces): install the roles" in check.problem
    cluster.denied = set()
    await until(lambda: not check.problem)
    assert sum("RBAC" in record.message for record in caplog.records) == 1


async def test_a_policy_that_is_missing_is_a_warning(start, cluster, caplog):
    cluster.policies.clear()
    check = start()
    await until(lambda: not check.problem)
    assert "validatingadmissionpolicies/refused is not installed" in caplog.text
    assert check.problem == ""


async def test_a_policy_that_the_server_does_not_know_is_told_apart(start, cluster, caplog):
    cluster.policies.clear()
    cluster.policy_kinds.clear()
    check = start()
    await until(lambda: not check.problem)
    assert "this server has no validatingadmissionpolicies in admissionreg" in caplog.text


async def test_a_policy_that_is_required_holds_until_it_is_there(start, cluster):
    cluster.policies.clear()
    check = start(required=True)
    await said(check, "is not installed, so what it refuses is not refused")
    cluster.policies.add(POLICY)
    await until(lambda: not check.problem)


async def test_an_apiserver_that_does_not_answer_is_no_yes(start, cluster):
    cluster.silent = True
    check = start()
    await until(lambda: "not looked at" not in check.problem)
    assert check.problem
    cluster.silent = False
    await until(lambda: not check.problem)


async def test_an_apiserver_that_is_silent_later_takes_nothing_back(start, cluster, caplog):
    check = start()
    await until(lambda: not check.problem)
    cluster.silent = True
    await until(lambda: "no answer that it understands" in caplog.text)
    assert not check.problem


def test_a_right_reads_as_people_ask_for_it():
    assert str(MOVE) == "patch nodes (in all namespaces)"
    lease = Right("get", "coordination.k8s.io", "leases", "", "system", "wavegate")
    assert str(lease) == "get leases.coordination.k8s.io/wavegate (in namespace system)"
