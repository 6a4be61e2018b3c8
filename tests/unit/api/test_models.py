"""The three kinds as Python sees them."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from wavegate.api import (
    PLURALS,
    Channel,
    ContentKind,
    Decision,
    Duration,
    IntOrPercent,
    OnFailure,
    Release,
)

KINDS = {kind.kind: kind for kind in (Channel, Release, Decision)}
TABLES = [
    yaml.safe_load(path.read_text())
    for path in sorted((Path(__file__).parents[2] / "e2e/bad_manifests").glob("*.yaml"))
]
GOOD = {(table["kind"], name): spec for table in TABLES for name, spec in table["good"].items()}
DIGEST = "sha256:" + "1" * 64


def body(spec: Any, **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": "a", "namespace": "b"} | metadata, "spec": spec}


def channel(good: str = "minimal", **changes: Any) -> Channel:
    return Channel.parse(body(GOOD["SecurityContentChannel", good] | changes))


@pytest.mark.parametrize(("kind", "name"), GOOD)
def test_what_the_apiserver_accepts_is_read_and_written_the_same(kind, name):
    read = KINDS[kind].parse(body(GOOD[kind, name]))
    assert KINDS[kind].parse(read.dump()) == read


def test_plurals_are_known_for_every_kind():
    assert {table["kind"]: table["plural"] for table in TABLES} == PLURALS


def test_metadata_is_at_hand():
    found = Release.parse(
        body(
            GOOD["SecurityContentRelease", "image"],
            uid="u",
            generation=3,
            deletionTimestamp="2026-07-19T04:09:00Z",
            managedFields=[{"manager": "kubectl"}],
        )
        | {"status": {"phase": "Rolling"}}
    )
    assert (found.name, found.namespace, found.uid, found.generation) == ("a", "b", "u", 3)
    assert found.deletion_timestamp == "2026-07-19T04:09:00Z"
    assert found.status == {"phase": "Rolling"}


def test_an_object_that_is_not_being_deleted_has_no_deletion_timestamp():
    assert channel().deletion_timestamp is None


def test_fields_of_a_later_version_are_ignored():
    assert channel(windows=[{"start": "22:00"}]).spec == channel().spec


def test_an_object_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        channel().spec.suspend = True  # type: ignore[misc]


def test_an_object_that_does_not_fit_names_the_field():
    with pytest.raises(ValidationError, match=r"spec\.rollout\.settle"):
        channel(rollout={"settle": "soon"})


@pytest.mark.parametrize(
    ("content", "kind", "target"),
    [
        ({"imageVolume": {"volumeName": "v"}}, ContentKind.ImageVolume, "v"),
        ({"configMap": {"volumeName": "v"}}, ContentKind.ConfigMap, "v"),
        ({"containerImage": {"containerName": "c"}}, ContentKind.ContainerImage, "c"),
    ],
)
def test_content_binds_at_one_place(content, kind, target):
    found = channel(content=content).spec.content
    assert (found.kind, found.target) == (kind, target)


def test_a_channel_without_waves_follows_the_default_plan_over_all_pools():
    pools = [{"name": name, "selector": {"matchLabels": {"pool": name}}} for name in ("x", "y")]
    plan = channel(pools=pools).spec.planned_waves()
    assert [str(wave.up_to) for wave in plan] == ["1", "5%", "25%", "50%", "100%"]
    assert [str(wave.soak) for wave in plan] == ["15m", "15m", "10m", "10m", "10m"]
    assert {wave.pools for wave in plan} == {("x", "y")}


def test_a_wave_soaks_for_its_own_time_else_for_that_of_the_rollout():
    plan = channel("full").spec.planned_waves()
    assert [str(wave.soak) for wave in plan] == ["1h30m", "5m", "5m"]
    assert [wave.pools for wave in plan] == [("canary",), ("canary",), ("canary", "workers")]


def test_the_rollout_of_a_channel_has_the_documented_defaults():
    rollout = channel().spec.rollout
    assert rollout.max_unavailable == IntOrPercent.parse("5%")
    assert rollout.settle == 60
    assert rollout.soak is None
    assert rollout.progress_deadline == 600
    assert rollout.hold_timeout == 1800
    assert rollout.on_failure is OnFailure.Revert


@pytest.mark.parametrize(
    ("content", "reference", "digest"),
    [
        ({"image": f"r/c@{DIGEST}"}, f"r/c@{DIGEST}", DIGEST),
        ({"image": f"r:5000/c:v1@{DIGEST}"}, f"r:5000/c:v1@{DIGEST}", DIGEST),
        ({"configMap": {"name": "rules"}}, "rules", None),
    ],
)
def test_content_of_a_release_has_a_reference_and_images_a_digest(content, reference, digest):
    spec = GOOD["SecurityContentRelease", "image"] | {"content": content}
    found = Release.parse(body(spec))
    assert found.spec.content.reference == reference
    assert found.digest == found.spec.content.digest == digest


@pytest.mark.parametrize(("written", "length"), [({}, "24h"), ({"expiresAfter": "90m"}, "1h30m")])
def test_a_pause_lasts_a_day_unless_it_says_otherwise(written, length):
    spec = GOOD["SecurityContentDecision", "pause"] | {"expiresAfter": None} | written
    assert Decision.parse(body(spec)).spec.pause_length == Duration.parse(length)
