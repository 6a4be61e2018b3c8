"""From JSON to values and back: what we stored is read again, what others planted harms nobody."""

import base64
import gzip
import json
import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from support.builders import make_channel, make_decision
from support.invariants import with_stable
from support.world import SimCluster
from wavegate.api import Phase, Reason
from wavegate.cluster.mirror import Mirror
from wavegate.cluster.projections import (
    MAX_REPORT,
    content_view,
    encode_ledger,
    encode_record,
    node_view,
    pod_view,
    revision_view,
    stored_config_map,
)
from wavegate.evidence import Ledger, LedgerNode, Side, Taint
from wavegate.rollout.attempt import Incident, Suspect
from wavegate.rollout.bake import MAX_EXCUSED
from wavegate.rollout.record import Blocked, Record
from wavegate.rollout.steps import Target
from wavegate.rollout.strata import stratum_of
from wavegate.rollout.templates import targeted

LIMIT = 0.3 * 1024 * 1024


def config_map(kind, **content):
    labels = {"wavegate.dev/kind": kind, "wavegate.dev/channel": "rules"}
    metadata = {"name": "x", "namespace": "agents", "resourceVersion": "7", "labels": labels}
    return {"metadata": metadata, **content}


def stored(kind, **content):
    return stored_config_map(config_map(kind, **content), None, 0.0)


@pytest.fixture
def record():
    """A record with a rollout under way, an incident, an outcome, a block and a decision."""
    check = {"name": "c", "query": 'up{node=~"$nodes"}', "max": "0.5"}
    sim = SimCluster(channel=make_channel(checks=[check], prometheus={"url": "http://p"}))
    sim.add_nodes("canary", 1)
    sim.add_nodes("workers", 3)
    with_stable(sim)
    sim.publish("b", 2)
    sim.run(100, until=lambda: sim.record.rollout and sim.record.rollout.waves)
    sim.decisions.append(make_decision("wait", "b", "Pause"))
    sim.run(1)
    incident = Incident(Reason.NodeRebooted, 'nöde "n" rebooted', ("n", "m"), 5.25)
    rollout = replace(sim.record.rollout, incident=incident, paused=Reason.HoldTimeout)
    blocked = Blocked("sha256:x", "bad", Reason.AgentOOMKilled, 1.5)
    return replace(sim.record, rollout=rollout, blocked=(blocked,))


def test_a_record_with_a_running_rollout_is_read_as_it_was_written(record):
    assert record.rollout.plan.checks
    assert record.rollout.waves
    assert record.outcomes
    assert record.decisions
    read = stored("record", data=encode_record(record)).record
    assert read == record
    assert read.rollout.plan.pools[0].selector.matches({"pool": "canary"})
    assert type(read.rollout.paused) is Reason
    assert read.rollout.incident.reason.meaning


def test_an_empty_record_is_read_as_it_was_written():
    record = Record("agents", "rules")
    assert stored("record", data=encode_record(record)).record == record


def test_a_record_of_a_newer_version_is_read_without_what_we_do_not_know(record):
    known = json.loads(encode_record(record)["record"])
    newer = {"record": json.dumps({**known, "invented": 1})}
    assert stored("record", data=newer).record == record


def test_a_record_of_a_version_that_did_not_bake_is_read(record):
    known = json.loads(encode_record(record)["record"])
    assert known.pop("bake")
    del known["last_baked"], known["rollout"]["completed_at"], known["rollout"]["plan"]["bake"]
    for outcome in known["outcomes"]:
        assert "baked_at" not in outcome
    read = stored("record", data={"record": json.dumps(known)}).record
    assert read == replace(record, bake=None)
    assert read.rollout.plan.bake == 24 * 3600


def test_a_record_of_a_version_that_knew_no_layers_is_read(record):
    known = json.loads(encode_record(record)["record"])
    for revision in (known["stable"], known["rollout"]["candidate"], *known["blocked"]):
        assert revision.pop("layers") == []
    assert stored("record", data={"record": json.dumps(known)}).record == record


def full_bake(record):
    """As many suspects and drained nodes as a bake remembers, with names as clouds give them."""
    name = "ip-10-{}-{}.a-region-of-some-cloud.compute.internal"
    names = [name.format(n // 250, n % 250) for n in range(10_000)]
    most = MAX_EXCUSED // (max(map(len, names)) + 16)
    suspects = tuple(Suspect(n, Reason.NodeRebooted, 1.7e9 + 0.123, True) for n in names[:1000])
    return replace(record.bake, suspects=suspects, excused=dict.fromkeys(names[:most], "12345678"))


def test_a_full_record_fits_into_a_config_map(record):
    """100 outcomes, ten of them with the 60 waves that a status shows, and a bake that is full."""
    waves = tuple(replace(record.rollout.waves[0], name=f"wave-{n}") for n in range(60))
    rollout = replace(record.rollout, waves=waves)
    full = replace(record, rollout=rollout)
    for _ in range(150):
        full = full.ended(Phase.Reverted, Reason.NodeNotReady, "a node came to harm" * 5, 1.0)
        full = replace(full, rollout=rollout)
    assert len(full.outcomes) == 100
    assert len(encode_record(full)["record"]) < 512 * 1024
    bake = replace(full_bake(record), rollout=rollout)
    assert len(encode_record(replace(full, bake=bake))["record"]) < 1000 * 1024


def machine(number):
    uid = f"{number:08x}-5bd1-4f5e-9a43-{number * 7919:012x}"
    return LedgerNode(f"ip-10-{number // 250}-{number % 250}.internal", uid, uid[::-1], True)


def test_a_ledger_of_5000_nodes_is_read_as_it_was_written_and_fits():
    ledger = Ledger("abc", 2, tuple(machine(number) for number in range(5000)))
    packed = encode_ledger(ledger)
    assert len(packed["ledger"]) < LIMIT
    assert stored("ledger", binaryData=packed).ledger == ledger
    assert base64.b64decode(packed["ledger"])[4:8] == bytes(4), "a time in it would change it"


def packed(raw):
    return {"ledger": base64.b64encode(raw).decode()}


WHOLE = gzip.compress(b'{"attempt": "x", "number": 0, "nodes": []}')

# Was: EOFError and zlib.error are no OSError and no ValueError. Whoever may create a ConfigMap in
# any namespace ended the operator at each start.
BROKEN_STREAMS = [packed(WHOLE[:-4]), packed(WHOLE[:10] + b"\xff" * 20)]


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("record", {}),
        ("record", {"data": {}}),
        ("record", {"data": {"record": "{"}}),
        ("record", {"data": {"record": "{}"}}),
        ("record", {"data": {"record": "[]"}}),
        ("ledger", {}),
        ("ledger", {"binaryData": {"ledger": "!"}}),
        ("ledger", {"binaryData": packed(b"no gzip")}),
        ("ledger", {"binaryData": packed(gzip.compress(b"no json"))}),
        *(("ledger", {"binaryData": data}) for data in BROKEN_STREAMS),
        ("invented", {"data": {"record": "{}"}}),
    ],
)
def test_one_of_our_config_maps_that_can_t_be_read_has_no_content(kind, content):
    found = stored(kind, **content)
    assert (found.kind, found.channel, found.version) == (kind, "rules", "7")
    assert (found.record, found.ledger, found.content) == (None, None, None)


# Was: a ConfigMap of 1 MiB unpacked to 1 GiB, which ended the operator at each start.
def test_a_ledger_that_unpacks_to_more_than_any_ledger_can_be_is_not_unpacked():
    bomb = packed(gzip.compress(b" " * (64 << 20)))
    tracemalloc.start()
    try:
        assert stored("ledger", binaryData=bomb).ledger is None
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("affinity", "labels"), [("x", {}), (["x"], {}), ({"nodeAffinity": "x"}, {}), (7, None)]
)
def test_a_planted_daemon_set_does_not_end_the_mirror(client, affinity, labels):
    metadata = {"name": "d", "namespace": "n", "resourceVersion": "1", "labels": labels}
    body = {"metadata": metadata, "spec": {"template": {"spec": {"affinity": affinity}}}}
    found = Mirror(client, "/daemonsets", revision_view, lambda: 0.0)
    found.apply(body)


KEY = "wavegate.node-restriction.kubernetes.io/agents.rules"


def a_node(uid="u", ready="True", labels=None, boot="b", annotations=None, **spec):
    metadata = {"name": "n", "uid": uid, "labels": labels or {}}
    metadata |= {"annotations": annotations} if annotations else {}
    status = {
        "nodeInfo": {"bootID": boot},
        "conditions": [{"type": "Ready", "status": ready}, {"type": "Other", "status": "True"}],
    }
    return {"metadata": metadata, "spec": spec, "status": status}


def test_a_node_is_projected():
    taints = [{"key": "gpu", "effect": "NoSchedule"}]
    found = node_view(a_node(labels={"a": "b", KEY: "x"}, taints=taints), None, 5.0)
    assert (found.name, found.uid, found.boot_id, found.ready) == ("n", "u", "b", True)
    assert found.labels == {"a": "b"}
    assert found.sides == {KEY: Side("x", 5.0)}
    assert found.taints == (Taint("gpu", "", "NoSchedule"),)
    assert found.bad == {"Other"}
    assert node_view(a_node(unschedulable=True), None, 0.0).unschedulable


def test_when_a_node_joined_is_read_once():
    body = a_node()
    body["metadata"]["creationTimestamp"] = "2026-11-26T20:00:00Z"
    found = node_view(body, None, 0.0)
    assert found.created == datetime(2026, 11, 26, 20, tzinfo=UTC).timestamp()
    assert node_view(a_node(), found, 1.0).created == found.created
    assert node_view(a_node(), None, 1.0).created == 0.0


KIND = {
    "operatingSystem": "linux",
    "architecture": "arm64",
    "kernelVersion": "6.12.48",
    "osImage": "Debian GNU/Linux 13 (trixie)",
    "containerRuntimeVersion": "containerd://2.1.4",
}


def kind_of_machine(**labels):
    body = json.loads(json.dumps(a_node(labels=labels)))
    body["status"]["nodeInfo"] |= KIND
    return node_view(json.loads(json.dumps(body)), None, 0.0)


def test_what_kind_of_machine_a_node_is_is_read():
    found = kind_of_machine(**{"topology.kubernetes.io/zone": "eu-1a"})
    assert stratum_of(found) == tuple(KIND.values())
    assert (found.zone, found.control_plane) == ("eu-1a", False)
    assert kind_of_machine(**{"node-role.kubernetes.io/control-plane": ""}).control_plane
    silent = node_view(a_node(), None, 0.0)
    assert (*stratum_of(silent), silent.zone) == ("",) * 6


def test_what_many_nodes_have_in_common_is_held_once():
    one, other = (kind_of_machine(**{"topology.kubernetes.io/zone": "z"}) for _ in range(2))
    assert one.zone is other.zone
    assert all(a is b for a, b in zip(stratum_of(one), stratum_of(other), strict=True))


def test_the_canary_label_is_no_channel_s_side():
    label = "wavegate.node-restriction.kubernetes.io/canary"
    found = node_view(a_node(labels={label: "never", KEY: "x"}), None, 5.0)
    assert found.labels == {label: "never"}
    assert found.sides == {KEY: Side("x", 5.0)}


def tainted(*keys):
    return {"taints": [{"key": key, "effect": "NoSchedule"} for key in keys]}


CORDONED = {"unschedulable": True}
MAINTENANCE = {**CORDONED, **tainted("medik8s.io/drain", "node.kubernetes.io/unschedulable")}
REPAIR = {**CORDONED, **tainted("medik8s.io/remediation")}
DUE = {"annotations": {"weave.works/kured-reboot-in-progress": "2026-11-25T20:00:00Z"}}


@pytest.mark.parametrize(
    ("announced", "spec"),
    [
        (True, CORDONED),  # kubectl drain, Cluster API, kured, cloud providers
        (True, tainted("ToBeDeletedByClusterAutoscaler")),
        (True, tainted("karpenter.sh/disrupted")),
        (True, MAINTENANCE),
        (True, {**CORDONED, **DUE}),  # kured drains it
        (False, tainted("gpu")),
        (False, tainted("DeletionCandidateOfClusterAutoscaler")),  # most candidates stay
        (False, tainted("node.cluster.x-k8s.io/outdated-revision")),  # one day
        (False, tainted("node.kubernetes.io/unreachable")),
        (False, DUE),  # kured would reboot it, and waits for its lock, its window or an alert
        (False, REPAIR),  # Self Node Remediation up to 0.11
        (False, {**CORDONED, **tainted("remediation.medik8s.io/self-node-remediation")}),
        (False, {**CORDONED, **tainted("medik8s.io/fence-agents-remediation")}),  # up to 0.6
        (False, {**CORDONED, **tainted("remediation.medik8s.io/fence-agents-remediation")}),
        (False, {**CORDONED, **tainted("karpenter.sh/rebooting")}),
        (False, {**CORDONED, **tainted("node.kubernetes.io/out-of-service")}),
        (False, {**MAINTENANCE, **REPAIR}),
    ],
)
def test_who_announces_that_a_node_leaves_and_who_repairs_it(announced, spec):
    assert bool(node_view(a_node(boot="b", **spec), None, 0.0).announced) is announced


DISRUPTED = tainted("karpenter.sh/disrupted")


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ([("u", "1", "True", CORDONED)], "1"),
        ([("u", "1", "True", CORDONED), ("u", "1", "False", CORDONED)], "1"),
        ([("u", "1", "True", CORDONED), ("u", "1", "False", {})], "1"),
        ([("u", "1", "True", CORDONED), ("u", "1", "True", {})], ""),
        # The boot on which it began, as long as it lasts.
        ([("u", "1", "True", CORDONED), ("u", "2", "True", CORDONED)], "1"),
        ([("u", "1", "True", {}), ("u", "2", "True", CORDONED)], "2"),
        # Whoever sees a node that is down for the first time does not know what came first.
        ([("u", "1", "False", CORDONED)], ""),
        ([("u", "1", "True", {}), ("u", "1", "Unknown", CORDONED)], ""),
        (
            [("u", "1", "True", {}), ("u", "1", "False", DISRUPTED), ("u", "2", "True", DISRUPTED)],
            "2",
        ),
        ([("old", "0", "True", CORDONED), ("u", "1", "False", {})], ""),
    ],
)
def test_an_announcement_is_of_the_boot_on_which_the_node_was_ready_then(seen, expected):
    found = None
    for uid, boot, ready, spec in seen:
        found = node_view(a_node(uid=uid, boot=boot, ready=ready, **spec), found, 0.0)
    assert found.announced == expected


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ([("u", "1", "True", CORDONED), ("u", "2", "True", CORDONED)], "1"),
        ([("u", "1", "True", CORDONED), ("u", "2", "True", CORDONED), ("u", "2", "True", {})], "1"),
        ([("u", "1", "True", CORDONED), ("u", "1", "False", {}), ("u", "2", "True", {})], "1"),
        # The cordon was taken back, before the boot or at a time that nobody knows.
        ([("u", "1", "True", CORDONED), ("u", "1", "True", {}), ("u", "2", "True", {})], ""),
        ([("u", "1", "True", CORDONED), ("u", "2", "True", {})], ""),
        ([("u", "1", "True", {}), ("u", "2", "True", CORDONED)], ""),
        # Announced was the boot before this one only.
        (
            [
                ("u", "1", "True", CORDONED),
                ("u", "2", "True", CORDONED),
                ("u", "2", "True", {}),
                ("u", "3", "True", {}),
            ],
            "",
        ),
        (
            [
                ("u", "1", "True", CORDONED),
                ("u", "2", "True", CORDONED),
                ("u", "3", "True", CORDONED),
            ],
            "",
        ),
        ([("old", "1", "True", CORDONED), ("u", "2", "True", CORDONED)], ""),
    ],
)
def test_which_boot_a_machine_left_as_announced_is_known_by_the_order(seen, expected):
    found = None
    for uid, boot, ready, spec in seen:
        found = node_view(a_node(uid=uid, boot=boot, ready=ready, **spec), found, 0.0)
    assert found.left == expected


def test_an_announcement_keeps_its_time_until_another_comes():
    found, times = None, []
    cordons = (False, True, True, False, True)
    for now, (boot, cordoned) in enumerate(zip("11222", cordons, strict=True), 1):
        body = a_node(boot=boot, ready="True", **(CORDONED if cordoned else {}))
        found = node_view(body, found, float(now))
        times.append(found.announced_at)
    assert times == [0.0, 2.0, 2.0, 2.0, 5.0]


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ([("u", "True", "1")], None),
        ([("u", "False", "1")], None),
        ([("u", "True", "1"), ("u", "Unknown", "1")], 1.0),
        ([("u", "True", "1"), ("u", "Unknown", "1"), ("u", "Unknown", "1")], 1.0),
        ([("u", "True", "1"), ("u", "True", "2")], 1.0),
        ([("u", "True", "1"), ("u", "False", "1"), ("u", "True", "2")], 1.0),
        ([("u", "True", "1"), ("u", "False", "1"), ("u", "True", "1"), ("u", "False", "1")], 3.0),
        ([("u", "True", "1"), ("u", "False", "1"), ("new", "True", "1")], None),
    ],
)
def test_a_loss_is_dated_by_when_we_saw_a_node_stop_being_ready_or_reboot(seen, expected):
    found = None
    for now, (uid, ready, boot) in enumerate(seen):
        body = a_node(uid=uid, ready=ready)
        body["status"]["nodeInfo"] = {"bootID": boot}
        found = node_view(body, found, float(now))
    assert found.lost_at == expected


@pytest.mark.parametrize(
    ("ready", "expected"), [("True", True), ("False", False), ("Unknown", False)]
)
def test_only_true_is_ready(ready, expected):
    assert node_view(a_node(ready=ready), None, 0.0).ready is expected
    assert not node_view({"metadata": {"name": "n", "uid": "u"}}, None, 0.0).ready


def test_the_time_of_a_side_is_ours_and_begins_anew_with_a_new_side_or_machine():
    first = node_view(a_node(labels={KEY: "x"}), None, 5.0)
    assert node_view(a_node(labels={KEY: "x"}), first, 9.0).sides[KEY].since == 5.0
    assert node_view(a_node(labels={KEY: "y"}), first, 9.0).sides[KEY].since == 9.0
    assert node_view(a_node("other", labels={KEY: "x"}), first, 9.0).sides[KEY].since == 9.0


def a_pod(ready="True", uid="u", **changes):
    labels = {"wavegate.dev/channel": "rules", "wavegate.dev/attempt": "x"}
    metadata = {"name": "p", "namespace": "s", "uid": uid, "labels": labels}
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}
    return {"metadata": metadata, "spec": {"nodeName": "n"}, "status": status | changes}


def test_since_when_a_pod_is_ready_is_measured_by_our_own_clock():
    first = pod_view(a_pod(), None, 5.0)
    assert (first.ready_since, first.unready_since) == (5.0, None)
    assert pod_view(a_pod(), first, 9.0).ready_since == 5.0
    gone = pod_view(a_pod("False"), first, 10.0)
    assert (gone.ready_since, gone.unready_since) == (None, 10.0)
    assert pod_view(a_pod("False"), gone, 12.0).unready_since == 10.0
    assert pod_view(a_pod(), gone, 13.0).ready_since == 13.0
    assert pod_view(a_pod(uid="other"), first, 9.0).ready_since == 9.0


def test_when_a_pod_restarted_last_is_measured_by_our_own_clock():
    none, once, twice = ([{"restartCount": n}] for n in (0, 1, 2))
    found, times = None, []
    for now, statuses in enumerate((none, once, once, twice, twice), 1):
        found = pod_view(a_pod(containerStatuses=statuses), found, float(now))
        times.append(found.restarted_at)
    assert times == [None, 2.0, 2.0, 4.0, 4.0]
    assert pod_view(a_pod(containerStatuses=once), None, 7.0).restarted_at == 7.0


def test_a_restart_that_we_saw_only_the_end_of_interrupts_being_ready():
    once, twice = ([{"restartCount": n}] for n in (1, 2))
    first = pod_view(a_pod(containerStatuses=once), None, 5.0)
    assert pod_view(a_pod(containerStatuses=twice), first, 9.0).ready_since == 9.0
    ill = pod_view(a_pod("False", containerStatuses=once), first, 10.0)
    assert pod_view(a_pod("False", containerStatuses=twice), ill, 12.0).unready_since == 10.0


def test_restarts_of_all_containers_count_and_words_of_the_kubelet_are_kept():
    waiting = {"state": {"waiting": {"reason": "ImagePullBackOff"}}}
    ended = {"restartCount": 2, "lastState": {"terminated": {"reason": "Error", "exitCode": 3}}}
    ended["name"] = "loader"
    found = pod_view(a_pod(initContainerStatuses=[ended], containerStatuses=[waiting]), None, 0.0)
    assert (found.restarts, found.waiting, found.last_exit) == (
        2,
        "ImagePullBackOff",
        "loader: Error, exit code 3",
    )
    creating = {"state": {"waiting": {"reason": "ContainerCreating"}}}
    assert pod_view(a_pod(containerStatuses=[creating]), None, 0.0).waiting == ""


def test_annotations_are_kept_that_can_be_a_report():
    body = a_pod()
    body["metadata"]["annotations"] = {"short": "x" * MAX_REPORT, "long": "x" * (MAX_REPORT + 1)}
    assert set(pod_view(body, None, 0.0).annotations) == {"short"}


def test_an_init_container_that_ended_well_is_no_exit():
    done = {"restartCount": 0, "state": {"terminated": {"reason": "Completed", "exitCode": 0}}}
    assert pod_view(a_pod(initContainerStatuses=[done]), None, 0.0).last_exit == ""


def test_a_pod_that_is_being_deleted_is_terminating():
    body = a_pod()
    body["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert pod_view(body, None, 0.0).terminating


@pytest.mark.parametrize("target", list(Target))
@pytest.mark.parametrize(("observed", "expected"), [(2, False), (3, True)])
def test_a_revision_knows_its_own_affinity_whatever_it_targets(target, observed, expected):
    own = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": []}}
    labels = {"wavegate.dev/attempt": "x", "wavegate.dev/channel": "rules"}
    metadata = {"name": "d", "resourceVersion": "9", "generation": 3, "labels": labels, "uid": "u"}
    template = {"spec": {"affinity": targeted(own, KEY, target, "x"), "containers": []}}
    body = {"metadata": metadata, "spec": {"template": template}}
    view = revision_view({**body, "status": {"observedGeneration": observed}}, None, 0.0)
    assert (view.attempt, view.name, view.channel, view.version) == ("x", "d", "rules", "9")
    assert (view.own_affinity, view.uid) == (own, "u")
    assert view.observed is expected
    assert view.template["spec"] == {"affinity": own, "containers": []}
    assert view.targets(KEY, target, "x")
    assert [t for t in Target if view.targets(KEY, t, "x")] == [target]


def test_the_digest_of_content_is_that_of_its_canonical_data():
    metadata = {"name": "m"}
    one = content_view({"metadata": metadata, "data": {"a": "1", "b": "ü"}, "immutable": True})
    other = content_view({"metadata": metadata, "data": {"b": "ü", "a": "1"}, "binaryData": {}})
    assert one.digest == other.digest
    assert (one.immutable, other.immutable) == (True, False)
    changed = [{"a": "1", "b": "u"}, {"a": "1"}, {"a": "1b", "": "ü"}, {}]
    assert len({content_view({"metadata": metadata, "data": d}).digest for d in changed}) == 4
    as_binary = content_view({"metadata": metadata, "binaryData": {"a": "1", "b": "ü"}})
    assert as_binary.digest != one.digest
