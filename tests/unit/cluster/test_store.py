"""Writes of one channel: idempotent, compare-and-swap, and nothing planted is taken for ours."""

import copy

import pytest

from support.builders import agent_template, layers
from wavegate.api import MAX_LAYERS
from wavegate.cluster import paths
from wavegate.cluster.client import ApiError
from wavegate.cluster.projections import content_view, revision_view, stored_config_map
from wavegate.cluster.store import Store
from wavegate.evidence import Ledger, LedgerNode
from wavegate.rollout.attempt import Revision
from wavegate.rollout.names import content_name, ledger_name, node_label
from wavegate.rollout.record import Record
from wavegate.rollout.steps import CopyContent, CreateRevision, Retarget, Target
from wavegate.rollout.templates import revision_template

KEY = node_label("agents", "rules")
MAPS, SETS = paths.config_maps("agents"), paths.daemon_sets("agents")
RECORD = Record("agents", "rules")
LEDGER = Ledger("x1", 0, (LedgerNode("n", "u", "b", healthy=True),))


@pytest.fixture
def fresh():
    """What the store reported as just written or read: kind and body."""
    return []


@pytest.fixture
def store(client, objects, fresh):
    return Store(client, "agents", "rules", lambda kind, body: fresh.append((kind, body)))


def source(objects, **data):
    body = {"metadata": {"name": "mine"}, "data": data, "immutable": True}
    return content_view(objects.put(f"{MAPS}/mine", body)).digest


async def test_a_record_is_created_and_then_swapped(store, objects, fresh):
    await store.save_record(RECORD, "")
    first = fresh[-1][1]
    await store.save_record(Record("agents", "rules", attempts=1), _version(first))
    assert stored_config_map(fresh[-1][1], None, 0.0).record.attempts == 1
    assert [kind for kind, _ in fresh] == ["configmaps", "configmaps"]


async def test_a_record_that_someone_else_wrote_is_not_overwritten(store, objects):
    await store.save_record(RECORD, "")
    stale = _version(objects.bodies[f"{MAPS}/wavegate-record-rules"])
    await store.save_record(Record("agents", "rules", attempts=1), stale)
    with pytest.raises(ApiError) as caught:
        await store.save_record(Record("agents", "rules", attempts=2), stale)
    assert caught.value.status == 409
    with pytest.raises(ApiError):
        await store.save_record(RECORD, "")
    body = objects.bodies[f"{MAPS}/wavegate-record-rules"]
    assert stored_config_map(body, None, 0.0).record.attempts == 1


async def test_a_ledger_that_is_there_already_is_read_back(store, objects, fresh):
    await store.store_ledger(LEDGER)
    path = f"{MAPS}/{ledger_name('x1', 0)}"
    assert objects.bodies[path]["immutable"]
    fresh.clear()
    await store.store_ledger(Ledger("x1", 0, ()))
    assert stored_config_map(fresh[-1][1], None, 0.0).ledger == LEDGER
    assert objects.requests[-1] == ("GET", path)


async def test_verified_content_is_copied_into_our_own_immutable_map(store, objects, fresh):
    digest = source(objects, rules="good")
    await store.copy_content(CopyContent("mine", content_name(digest), digest))
    copy = stored_config_map(fresh[-1][1], None, 0.0).content
    assert (copy.name, copy.digest, copy.immutable) == (content_name(digest), digest, True)


async def test_content_that_changed_since_it_was_accepted_is_refused(store, objects):
    digest = source(objects, rules="good")
    source(objects, rules="bad")
    with pytest.raises(ApiError) as caught:
        await store.copy_content(CopyContent("mine", content_name(digest), digest))
    assert caught.value.status == 422
    assert f"{MAPS}/{content_name(digest)}" not in objects.bodies


# Was: a ConfigMap planted under the name of our copy, without our labels, was taken for ours, but
# had no content: the copy was tried each second, for ever, and the release said nothing.
@pytest.mark.parametrize("labels", [{}, {"wavegate.dev/kind": "content"}])
async def test_a_planted_copy_is_seen_for_what_it_is_or_refused(store, objects, fresh, labels):
    digest = source(objects, rules="good")
    planted = {"metadata": {"name": content_name(digest), "labels": labels}, "data": {"a": "bad"}}
    objects.put(f"{MAPS}/{content_name(digest)}", planted)
    try:
        await store.copy_content(CopyContent("mine", content_name(digest), digest))
    except ApiError as error:
        assert error.status == 422  # noqa: PT017 (both ways are right)
        return
    seen = stored_config_map(fresh[-1][1], None, 0.0).content
    assert seen is not None
    assert seen.digest != digest


def create(attempt="x1", **carries):
    revision = Revision(attempt, f"rules-{attempt}", "b", "u", "v", 2, "sha256:d", 0.0, **carries)
    return CreateRevision(revision, revision_template(agent_template(), "rules", attempt))


async def test_a_revision_s_daemon_set_owns_itself_and_runs_only_on_its_attempt(store, objects):
    await store.create_revision(create())
    body = objects.bodies[f"{SETS}/rules-x1"]
    assert body["spec"]["updateStrategy"] == {"type": "OnDelete"}
    assert "ownerReferences" not in body["metadata"]
    view = revision_view(body, None, 0.0)
    assert view.targets(KEY, Target.IN, "x1")
    assert view.own_affinity == create().template["spec"]["affinity"]
    assert body["spec"]["selector"]["matchLabels"].items() <= (
        body["spec"]["template"]["metadata"]["labels"].items()
    )


async def test_a_revision_that_is_there_already_is_read_back(store, objects, fresh):
    await store.create_revision(create())
    fresh.clear()
    await store.create_revision(create())
    assert [(kind, body["metadata"]["name"]) for kind, body in fresh] == [
        ("daemonsets", "rules-x1")
    ]


async def test_a_trial_is_a_dry_run(store, objects):
    lost, template = await store.try_revision(create())
    assert lost == ""
    assert template == create().template
    assert objects.queries[-1]["dryRun"] == "All"
    assert objects.bodies == {}


async def test_a_revision_that_would_be_stored_without_its_content_is_not_created(store, objects):
    """As on an apiserver that has no image volumes: it drops them, and says nothing."""

    def without_image_volumes(sent):
        body = copy.deepcopy(sent)
        pod = body["spec"]["template"]["spec"]
        pod["volumes"] = [volume for volume in pod["volumes"] if "image" not in volume]
        return body

    objects.admit = without_image_volumes
    assert "image of volume content" in (await store.try_revision(create()))[0]
    with pytest.raises(ApiError, match="without: image of volume content") as caught:
        await store.create_revision(create())
    assert caught.value.status == 422
    assert objects.bodies == {}


async def test_other_errors_of_a_create_are_raised(store, objects):
    objects.refuse = lambda verb, _path: 403 if verb == "POST" else 0
    with pytest.raises(ApiError) as caught:
        await store.create_revision(create())
    assert caught.value.status == 403


async def test_a_stale_leader_can_fence_but_not_arm(store, objects):
    """Only a fence is unconditional; any other change tests the version that was seen."""
    await store.create_revision(create())
    path = f"{SETS}/rules-x1"
    old = revision_view(objects.bodies[path], None, 0.0)
    objects.put(path, objects.bodies[path])
    with pytest.raises(ApiError):
        await store.retarget(Retarget("x1", Target.ALL), old)
    assert revision_view(objects.bodies[path], None, 0.0).targets(KEY, Target.IN, "x1")
    await store.retarget(Retarget("x1", Target.NOTHING, fence=True), old)
    assert revision_view(objects.bodies[path], None, 0.0).targets(KEY, Target.NOTHING)


async def test_a_change_against_the_version_that_was_seen_is_made(store, objects):
    await store.create_revision(create())
    path = f"{SETS}/rules-x1"
    view = revision_view(objects.bodies[path], None, 0.0)
    await store.retarget(Retarget("x1", Target.ALL), view)
    assert revision_view(objects.bodies[path], None, 0.0).targets(KEY, Target.ALL)


async def test_a_node_is_labelled_unless_it_is_another_machine_or_gone(store, objects, fresh):
    objects.put(paths.node("n"), {"metadata": {"name": "n", "uid": "u"}})
    await store.move_node("n", "u", "x1")
    assert objects.bodies[paths.node("n")]["metadata"]["labels"] == {KEY: "x1"}
    await store.move_node("n", "other", "y2")
    await store.move_node("gone", "u", "y2")
    assert objects.bodies[paths.node("n")]["metadata"]["labels"] == {KEY: "x1"}
    assert len(fresh) == 1


@pytest.mark.parametrize("status", [403, 500, 429])
async def test_a_node_that_can_t_be_labelled_is_an_error(store, objects, status):
    objects.refuse = lambda _verb, _path: status
    with pytest.raises(ApiError):
        await store.move_node("n", "u", "x1")


@pytest.mark.parametrize(
    ("node", "unbound", "field"),
    [(None, False, None), ("n", False, "spec.nodeName=n"), (None, True, "spec.nodeName=")],
)
async def test_pods_are_deleted_in_one_request(store, objects, node, unbound, field):
    await store.delete_pods("x1", node, unbound=unbound)
    assert objects.requests == [("DELETE", paths.pods("agents"))]
    (query,) = objects.queries
    assert query["labelSelector"] == "wavegate.dev/channel=rules,wavegate.dev/attempt=x1"
    assert query.get("fieldSelector") == field


async def test_what_retention_no_longer_keeps_is_deleted(store, objects):
    await store.create_revision(create())
    await store.store_ledger(LEDGER)
    view = revision_view(objects.bodies[f"{SETS}/rules-x1"], None, 0.0)
    await store.forget_revision(view)
    await store.forget_ledger("x1", 0)
    await store.forget_ledger("x1", 0)
    assert objects.bodies == {}


def _version(body):
    return body["metadata"]["resourceVersion"]


NODE = paths.node("n")


def labelled_node(objects, uid="u", **labels):
    body = {"metadata": {"name": "n", "uid": uid, "labels": {"zone": "a", **labels}}}
    objects.put(NODE, body)


async def test_a_foreign_label_is_taken_back_and_no_other(store, objects, fresh):
    labelled_node(objects, **{KEY: "x1"})
    await store.unlabel_node("n", "u", "x1")
    assert objects.bodies[NODE]["metadata"]["labels"] == {"zone": "a"}
    assert fresh[-1][0] == "nodes"


@pytest.mark.parametrize(("uid", "labels"), [("other", {KEY: "x1"}), ("u", {KEY: "x2"}), ("u", {})])
async def test_a_label_that_is_not_what_was_seen_is_left_alone(store, objects, uid, labels):
    labelled_node(objects, uid, **labels)
    before = objects.bodies[NODE]
    await store.unlabel_node("n", "u", "x1")
    assert objects.bodies[NODE] == before


async def test_a_node_that_is_gone_has_no_label_to_take(store, objects):
    await store.unlabel_node("n", "u", "x1")
    assert objects.requests[-1] == ("PATCH", NODE)


async def test_a_refusal_of_another_kind_is_an_error(store, objects):
    labelled_node(objects, **{KEY: "x1"})
    objects.refuse = lambda _verb, _path: 500
    with pytest.raises(ApiError):
        await store.unlabel_node("n", "u", "x1")


async def test_a_revision_says_what_it_carries_for_the_day_on_which_the_record_is_lost(
    store, objects
):
    await store.create_revision(create())
    view = revision_view(objects.bodies[f"{SETS}/rules-x1"], None, 0.0)
    found = (view.release, view.release_uid, view.release_version, view.sequence, view.digest)
    assert found == ("b", "u", "v", 2, "sha256:d")


@pytest.mark.parametrize("text", ["", "-1", "1.5", "many", "9" * 30, "²"])
async def test_a_sequence_that_someone_garbled_is_none(store, objects, text):
    await store.create_revision(create())
    body = objects.bodies[f"{SETS}/rules-x1"]
    body["metadata"]["annotations"]["wavegate.dev/sequence"] = text
    assert revision_view(body, None, 0.0).sequence is None


async def test_a_revision_says_the_layers_of_its_content(store, objects):
    listed = layers("base", "rules")
    await store.create_revision(create(layers=listed))
    assert revision_view(objects.bodies[f"{SETS}/rules-x1"], None, 0.0).layers == listed


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("", ()),
        ("sha256:short," + layers("a")[0], layers("a")),
        (layers("a")[0] + "0", ()),
        (",".join(layers("a", "b", "a")), layers("a", "b")),
        (",".join(layers(*map(str, range(99)))), layers(*map(str, range(MAX_LAYERS)))),
    ],
    ids=["none", "short", "long", "twice", "many"],
)
async def test_layers_that_someone_garbled_are_left_out(store, objects, text, read):
    await store.create_revision(create())
    body = objects.bodies[f"{SETS}/rules-x1"]
    body["metadata"]["annotations"]["wavegate.dev/layers"] = text
    assert revision_view(body, None, 0.0).layers == read
