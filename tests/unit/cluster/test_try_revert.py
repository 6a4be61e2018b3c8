"""The way back is tried by dry runs only: whatever refuses or changes a write is told in words."""

import copy

import pytest
from aiohttp import web

from support.builders import KEY, agent_template
from wavegate.cluster import paths
from wavegate.cluster.trial import MAX_SAID, try_revert
from wavegate.rollout.observation import RevisionView
from wavegate.rollout.templates import revision_template

SETS, PODS = paths.daemon_sets("agents"), paths.pods("agents")


def revision(attempt, **pod):
    template = agent_template()
    template["spec"] |= pod
    made = revision_template(template, "rules", attempt)
    own, name = made["spec"]["affinity"], f"rules-{attempt}"
    return RevisionView(attempt, name, True, own, own, made, "rules", "7", uid=f"uid-{attempt}")


class Trials:
    """An apiserver that admits everything, but for what a test changes."""

    def __init__(self, server):
        self.views = {}
        self.asked = []
        self.sent = []
        self.change = lambda _what, _body: None
        self.refuse = {}
        """What was asked → status and message."""
        server.handler = self.answer

    async def answer(self, request):
        what = request.path.rpartition("/")[2]
        body = await request.json()
        if request.method == "POST":
            what = body["metadata"]["name"]
            answer = copy.deepcopy(body)
            answer["spec"]["priority"] = 0
        else:
            answer = self.daemon_set(self.views[what], body)
        self.asked.append((request.method, what, dict(request.query)))
        self.sent.append(body)
        if what in self.refuse:
            status, said = self.refuse[what]
            return web.json_response({"message": said}, status=status)
        self.change(what, answer)
        return web.json_response(answer)

    def daemon_set(self, view, patch):
        template = copy.deepcopy(view.template)
        template["spec"]["affinity"] = patch[0]["value"]
        labels = template["metadata"]["labels"]
        spec = {"template": template, "updateStrategy": {"type": "OnDelete"}}
        return {"metadata": {"labels": labels}, "spec": spec}


@pytest.fixture
def trials(server):
    return Trials(server)


@pytest.fixture
def attempt(client, trials):
    async def run(candidate=None, stable=None, first=False):
        pair = (candidate or revision("new"), None if first else stable or revision("old"))
        trials.views = {view.name: view for view in pair if view is not None}
        return await try_revert(client, "agents", KEY, pair, "n1")

    return run


async def test_both_patches_and_a_pod_of_each_side_are_tried_and_nothing_is_stored(attempt, trials):
    assert await attempt() == ""
    assert [(verb, what) for verb, what, _ in trials.asked] == [
        ("PATCH", "rules-new"),
        ("PATCH", "rules-old"),
        ("POST", "rules-new-dry-run"),
        ("POST", "rules-old-dry-run"),
    ]
    assert all(query["dryRun"] == "All" for _, _, query in trials.asked)
    nothing, everything = (patch[0]["value"] for patch in trials.sent[:2])
    (term,) = nothing["nodeAffinity"].popitem()[1]["nodeSelectorTerms"]
    assert [e["operator"] for e in term["matchExpressions"]] == ["Exists", "DoesNotExist"]
    assert "nodeAffinity" not in everything


async def test_the_patches_are_those_of_the_fence_without_a_condition(attempt, trials):
    await attempt()
    assert [[change["op"] for change in patch] for patch in trials.sent[:2]] == [["replace"]] * 2


async def test_a_first_release_has_one_side_only(attempt, trials):
    assert await attempt(first=True) == ""
    assert [what for _, what, _ in trials.asked] == ["rules-new", "rules-new-dry-run"]


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("rules-new", "point DaemonSet rules-new (candidate) at nothing was refused"),
        ("rules-old", "point DaemonSet rules-old (stable) at all was refused"),
        ("rules-new-dry-run", "create a pod of DaemonSet rules-new (candidate) was refused"),
        ("rules-old-dry-run", "create a pod of DaemonSet rules-old (stable) was refused"),
    ],
)
@pytest.mark.parametrize("status", [400, 403, 422, 429, 500, 503])
async def test_whatever_is_refused_is_named_with_the_server_s_words(
    attempt, trials, what, words, status
):
    trials.refuse[what] = (status, "webhook says no")
    problem = await attempt()
    assert words in problem
    assert "webhook says no" in problem
    assert "Nothing moves. Correct the webhook" in problem


async def test_a_server_that_does_not_answer_is_no_proof(attempt, server):
    async def silent(request):
        request.transport.close()
        return web.Response()

    server.handler = silent
    assert "(candidate) at nothing was refused" in await attempt()


async def test_a_long_answer_is_cut(attempt, trials):
    trials.refuse["rules-new"] = (500, "x" * 5_000)
    problem = await attempt()
    assert len(problem) < MAX_SAID + 300
    assert "…" in problem


async def test_a_refusal_reads_the_same_each_time(attempt, trials):
    """A message with a name that was made up would be written again and again."""
    assert {await attempt() for _ in range(3)} == {""}
    names = {body["metadata"]["name"] for body in trials.sent if isinstance(body, dict)}
    assert names == {"rules-new-dry-run", "rules-old-dry-run"}


@pytest.mark.parametrize(
    ("what", "path", "words"),
    [
        ("rules-old", ("spec", "template", "spec", "affinity"), "were sent: affinity."),
        ("rules-new", ("metadata", "labels"), "were sent: label of the DaemonSet."),
        ("rules-old-dry-run", ("spec", "affinity", "podAntiAffinity"), "podAntiAffinity"),
        ("rules-new-dry-run", ("metadata", "labels"), "label wavegate.dev/channel"),
    ],
)
async def test_a_field_of_ours_that_comes_back_otherwise_is_named(
    attempt, trials, what, path, words
):
    def change(asked, body):
        for key in path[:-1] if asked == what else ():
            body = body[key]
        if asked == what:
            del body[path[-1]]

    trials.change = change
    problem = await attempt()
    assert what.removesuffix("-dry-run") in problem
    assert words in problem


@pytest.mark.parametrize(
    ("classes", "blocked"),
    [((None, None), True), (("high", "high"), True), (("high", "low"), False)],
)
async def test_sides_that_ask_for_one_priority_must_get_one(attempt, trials, classes, blocked):
    def change(what, body):
        body["spec"]["priority"] = 5 if what == "rules-new-dry-run" else 7

    trials.change = change
    new, old = (
        revision(a, priorityClassName=c) for a, c in zip(("new", "old"), classes, strict=True)
    )
    problem = await attempt(new, old)
    assert ("different priorities: 5 and 7" in problem) is blocked
