"""What RBAC grants in a namespace is asked for, and never taken for granted."""

import pytest
from aiohttp import web

from support.fake_apiserver import until
from wavegate.cluster.reviews import ACCESS, RULES, not_granted_in
from wavegate.cluster.rights import Right, agents_rights
from wavegate.controller import bindings
from wavegate.controller.bindings import Bindings

KEY = ("security", "rules")
RIGHTS = agents_rights("security")
COMMAND = "wavegate-agents --clusterrole=wavegate-agents --serviceaccount=system:wavegate"


class Rbac:
    """Answers reviews. `rules` are what it lists, `allowed` what it says when asked for one."""

    def __init__(self, server):
        self.rules, self.allowed, self.incomplete = [], set(), False
        self.status = 201
        self.asked = []
        server.handler = self.answer

    async def answer(self, request):
        self.asked.append(request.path)
        body = await request.json()
        if self.status != 201:
            return web.json_response({"message": "not now"}, status=self.status)
        if request.path == RULES:
            assert body["spec"] == {"namespace": "security"}
            said = {"resourceRules": self.rules, "incomplete": self.incomplete}
        else:
            wanted = body["spec"]["resourceAttributes"]
            said = {"allowed": (wanted["verb"], wanted["resource"]) in self.allowed}
        return web.json_response({"status": said}, status=201)

    def grant(self, *left_out):
        """The chart's role, without these (verb, resource)."""
        self.rules = [
            {
                "verbs": [right.verb],
                "apiGroups": [right.group],
                "resources": [right.resource],
                **({"resourceNames": [right.name]} if right.name else {}),
            }
            for right in RIGHTS
            if (right.verb, right.resource) not in left_out
        ]


class Clock:
    now = 1_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def rbac(server):
    return Rbac(server)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def woken():
    return []


@pytest.fixture
def known(rbac, client, clock, woken):
    return Bindings(client, clock, woken.append, COMMAND)


async def test_all_that_a_role_lists_is_granted_and_asked_for_by_one_request(rbac, client):
    rbac.grant()
    assert await not_granted_in(client, "security", RIGHTS) == []
    assert rbac.asked == [RULES]


async def test_a_rule_for_everything_grants_everything(rbac, client):
    rbac.rules = [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]
    assert await not_granted_in(client, "security", RIGHTS) == []


@pytest.mark.parametrize(
    "rule",
    [
        {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]},
        {"verbs": ["create"], "apiGroups": ["apps"], "resources": ["pods"]},
        {"verbs": ["create"], "apiGroups": [""], "resources": ["pods/exec"]},
        {"verbs": ["create"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["x"]},
        {"verbs": ["create"], "nonResourceURLs": ["*"]},
    ],
)
async def test_a_rule_about_something_else_grants_nothing(rbac, client, rule):
    rbac.rules = [rule]
    wanted = Right("create", "", "pods", "", "security")
    assert await not_granted_in(client, "security", [wanted]) == [wanted]


async def test_what_an_incomplete_list_leaves_out_is_asked_for_by_itself(rbac, client):
    rbac.grant(("patch", "daemonsets"), ("create", "events"))
    rbac.incomplete, rbac.allowed = True, {("create", "events")}
    missing = await not_granted_in(client, "security", RIGHTS)
    assert missing == [Right("patch", "apps", "daemonsets", "", "security")]
    assert rbac.asked == [RULES, ACCESS, ACCESS]


async def test_without_a_binding_the_command_is_told(known, rbac):
    said = await known.lacking("security")
    assert said.endswith(f"kubectl -n security create rolebinding {COMMAND}")


async def test_one_right_that_a_role_of_another_version_lacks_is_named(known, rbac):
    rbac.grant(("deletecollection", "pods"))
    said = await known.lacking("security")
    assert "to deletecollection pods (in namespace security): install the roles of" in said


async def test_what_is_granted_is_asked_for_again_only_while_a_release_rolls_out(
    known, rbac, clock
):
    rbac.grant()
    assert await known.lacking("security") == await known.lacking("security") == ""
    clock.now += 10 * bindings.RENEW_SECONDS
    known.ensure(KEY, rolling=False)
    assert len(rbac.asked) == 1
    known.ensure(KEY, rolling=True)
    known.ensure(KEY, rolling=True)
    await until(lambda: len(rbac.asked) == 2)
    known.ensure(KEY, rolling=True)
    assert len(rbac.asked) == 2


async def test_a_binding_that_is_made_later_is_seen_and_wakes_the_channel(
    known, rbac, clock, woken
):
    assert await known.lacking("security")
    known.ensure(KEY, rolling=False)
    clock.now += bindings.RETRY_SECONDS
    rbac.grant()
    known.ensure(KEY, rolling=False)
    await until(lambda: woken == [KEY])
    assert await known.lacking("security") == ""
    assert known.since("security") == clock.now, "what was seen before could not be stored"


async def test_a_refused_request_has_it_asked_for_anew(known, rbac):
    rbac.grant()
    assert await known.lacking("security") == ""
    rbac.rules = []
    assert await known.lacking("security") == ""
    known.doubt("security")
    assert "no RoleBinding" in await known.lacking("security")


async def test_a_silent_apiserver_grants_nothing_and_takes_nothing_back(known, rbac):
    rbac.status = 503
    assert "can't be asked" in await known.lacking("security")
    rbac.status = 201
    rbac.grant()
    assert await known.look("security") == ""
    rbac.status = 503
    known.doubt("security")
    assert await known.lacking("security") == ""
