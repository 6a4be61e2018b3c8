"""The pydantic models and the hand-written CRDs say the same.

Both are reduced to names, types, required, enums and defaults of fields, and compared as a whole,
so that a field, type or default that is only on one side is seen.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from wavegate.api import (
    GROUP,
    VERSION,
    Channel,
    Condition,
    Decision,
    DecisionPhase,
    Duration,
    IntOrPercent,
    Phase,
    Release,
    WaitingFor,
    WaveState,
)

CRDS = {
    crd["spec"]["names"]["kind"]: crd["spec"]
    for crd in (
        yaml.safe_load(path.read_text())
        for path in sorted((Path(__file__).parents[3] / "crds").glob("*.yaml"))
    )
}
KINDS = [Channel, Release, Decision]

# Defaults that the operator fills in, as the field may not appear in every object: the CRD has
# none, but its description must say so.
FILLED_BY_OPERATOR = {"checks[].nodeLabel": "The operator takes node when it is absent"}


def from_model(model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema(by_alias=True)
    return dict(compared(schema, schema.get("$defs", {})))


def from_crd(kind: str, *path: str) -> dict[str, Any]:
    schema = crd_schema(kind)
    for step in path:
        schema = schema["items"] if step == "[]" else schema["properties"][step]
    return dict(compared(schema, {}))


def crd_schema(kind: str) -> dict[str, Any]:
    (version,) = CRDS[kind]["versions"]
    return dict(version["schema"]["openAPIV3Schema"])


def compared(
    schema: dict[str, Any], definitions: dict[str, Any], path: str = ""
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give what is compared of a JSON schema, or of a structural one, by path of the field."""
    schema = resolved(schema, definitions)
    free = schema.get("x-kubernetes-preserve-unknown-fields")
    if free or schema.get("additionalProperties") is True:
        # What is known in it serves the rules of the CRD; the operator takes it as it is.
        yield path, {"type": schema["type"], "free": True}
        return
    kept = {key: schema[key] for key in ("type", "x-kubernetes-int-or-string") if key in schema}
    for key in ("enum", "required"):
        if schema.get(key):
            kept[key] = sorted(schema[key])
    inner: dict[str, Any] = {}
    for name, field in schema.get("properties", {}).items():
        inner |= compared(field, definitions, f"{path}.{name}".lstrip("."))
    for each in ("items", "additionalProperties"):
        if each in schema:
            inner |= compared(schema[each], definitions, f"{path}[]")
    default = filled(schema.get("default"), path, inner)
    if default not in (None, [], {}) and path not in FILLED_BY_OPERATOR:
        kept["default"] = default
    yield path, kept
    yield from inner.items()


def resolved(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Follow `$ref` and take the null out of `anyOf: [T, null]`: absent fields are not null."""
    if "anyOf" in schema:
        (only,) = (option for option in schema["anyOf"] if option.get("type") != "null")
        schema = schema | only
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]] | schema
    return schema


def filled(default: Any, path: str, inner: dict[str, Any]) -> Any:
    """Return a default as the apiserver fills it in, and durations in their shortest text."""
    if isinstance(default, dict) and "amount" in default:  # how pydantic shows our dataclass
        return str(IntOrPercent(**default))
    if isinstance(default, dict):
        given = {
            name: filled(value, "", {})
            for name, value in default.items()
            if value not in (None, [])
        }
        return {
            field.removeprefix(f"{path}."): kept["default"]
            for field, kept in inner.items()
            if "default" in kept
        } | given
    try:
        return str(Duration.parse(default))
    except (TypeError, ValueError):
        return default


@pytest.mark.parametrize("kind", KINDS)
def test_the_spec_of_a_model_is_the_spec_of_its_crd(kind):
    assert from_model(kind.model_fields["spec"].annotation) == from_crd(kind.kind, "spec")


@pytest.mark.parametrize("kind", KINDS)
def test_group_version_and_plural_of_a_model_are_those_of_its_crd(kind):
    crd = CRDS[kind.kind]
    assert (crd["group"], crd["versions"][0]["name"]) == (GROUP, VERSION)
    assert crd["names"]["plural"] == kind.plural


@pytest.mark.parametrize("kind", ["SecurityContentChannel", "SecurityContentRelease"])
def test_conditions_of_the_model_are_those_of_the_crd(kind):
    assert from_model(Condition) == from_crd(kind, "status", "conditions", "[]")


@pytest.mark.parametrize(
    ("kind", "path", "vocabulary"),
    [
        ("SecurityContentRelease", "phase", Phase),
        ("SecurityContentRelease", "waitingFor", WaitingFor),
        ("SecurityContentRelease", "wave.state", WaveState),
        ("SecurityContentRelease", "waves[].state", WaveState),
        ("SecurityContentDecision", "phase", DecisionPhase),
    ],
)
def test_the_words_of_status_are_the_same_in_code_and_crd(kind, path, vocabulary):
    assert from_crd(kind, "status")[path]["enum"] == sorted(vocabulary)


def test_a_default_that_the_operator_fills_in_is_documented_in_the_crd():
    (sentence,) = FILLED_BY_OPERATOR.values()
    checks = crd_schema("SecurityContentChannel")["properties"]["spec"]["properties"]["checks"]
    label = checks["items"]["properties"]["nodeLabel"]
    assert "default" not in label
    assert sentence in label["description"]
