"""The fields that this version needs of each kind: a CRD that lacks one is older than the operator.

An apiserver drops a field of a spec that its CRD does not know, and refuses a status with one. So
an old CRD would quietly weaken a channel: its bake, its check or its proof would not be there.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from wavegate.api.resource import Resource

_REVISION = "kind agent attempt release version digest daemonSet since"
_CONDITION = "type status reason message lastTransitionTime observedGeneration"
_WAVE = "number of name state nodes settled soaked"
_NODES = "total moved settled excused loaded failed"
_GATE = (
    "gate check dryRun verdict reason message query value threshold sampledAt at reporting expected"
    " worst"
)

# By kind and place: the fields that we write. Those of a spec follow from the models.
_STATUS: Mapping[str, Mapping[str, str]] = {
    "SecurityContentChannel": {
        "status": "observedGeneration stable lastBaked candidate agentRollout blocked nodes"
        " breakGlass plan conditions",
        "status.plan": "release nodes least waves later blindSpots",
        "status.plan.waves[]": "name summary nodes least first",
        "status.stable": _REVISION,
        "status.lastBaked": _REVISION,
        "status.candidate": _REVISION,
        "status.blocked[]": "digest release reason since incident layers",
        "status.nodes": "total stable candidate",
        "status.agentRollout": "template phase reason message waitingFor attempt startedAt"
        " finishedAt wave nodes suspects incident breakGlass gates",
        "status.agentRollout.wave": _WAVE,
        "status.agentRollout.gates[]": _GATE,
        "status.agentRollout.gates[].worst[]": "node what",
        "status.agentRollout.nodes": _NODES,
        "status.agentRollout.suspects[]": "node reason at side",
        "status.agentRollout.incident": "id reason message nodes wave at",
        "status.agentRollout.incident.wave": "number name",
        "status.conditions[]": _CONDITION,
    },
    "SecurityContentRelease": {
        "status": "observedGeneration phase reason message waitingFor attempt severity digest"
        " startedAt finishedAt wave waves gates nodes suspects incident breakGlass conditions",
        "status.wave": _WAVE,
        "status.waves[]": "name state nodes ledger sees openedAt passedAt gates",
        "status.gates[]": _GATE,
        "status.gates[].worst[]": "node what",
        "status.nodes": _NODES,
        "status.suspects[]": "node reason at side",
        "status.incident": "id reason message nodes wave at",
        "status.incident.wave": "number name",
        "status.conditions[]": _CONDITION,
    },
    "SecurityContentDecision": {"status": "phase reason message releaseUID at"},
}


def needed_fields(kind: type[Resource]) -> frozenset[str]:
    """Paths as `spec.waves[].upTo`."""
    schema = kind.model_json_schema(by_alias=True)
    definitions = schema.get("$defs", {})
    spec = schema["properties"]["spec"]
    places = _STATUS[kind.kind].items()
    status = {f"{place}.{name}" for place, names in places for name in names.split()}
    return frozenset({*_paths(spec, definitions, "spec"), *status})


def served_fields(schema: Mapping[str, Any]) -> frozenset[str]:
    """Paths of the fields that an OpenAPI schema of a whole kind knows."""
    return frozenset(_paths(schema, {}, ""))


def _paths(schema: Mapping[str, Any], definitions: Mapping[str, Any], path: str) -> Iterator[str]:
    schema = _resolved(schema, definitions)
    for name, field in schema.get("properties", {}).items():
        here = f"{path}.{name}".lstrip(".")
        yield here
        yield from _paths(field, definitions, here)
    if "items" in schema:
        yield from _paths(schema["items"], definitions, f"{path}[]")


def _resolved(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow `$ref`; of an optional field take what it is when it is there."""
    options = [option for option in schema.get("anyOf", ()) if option.get("type") != "null"]
    if len(options) == 1:
        schema = {**schema, **options[0]}
    reference = str(schema.get("$ref", "")).rpartition("/")[2]
    return {**definitions.get(reference, {}), **schema}
