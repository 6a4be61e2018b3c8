"""What else an agent reads besides its content: ConfigMaps and Secrets that its template names.

One that can be changed reaches all nodes at once, past every wave. That is shown, not refused: most
agents have such a thing. Secrets count as changeable always: to know better we would have to read
them.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from wavegate.api import ChannelSpec, ContentKind

Input = tuple[str, str]
"""Kind (`ConfigMap` or `Secret`) and name."""


def inputs(template: Mapping[str, Any], spec: ChannelSpec) -> tuple[Input, ...]:
    """All ConfigMaps and Secrets that pods of the template read, but for the content itself."""
    pod = template.get("spec") or {}
    found = {*_of_volumes(pod, spec), *_of_containers(pod)}
    return tuple(sorted(found))


def _of_volumes(pod: Mapping[str, Any], spec: ChannelSpec) -> Iterator[Input]:
    by_volume = spec.content.kind is not ContentKind.ContainerImage
    for volume in pod.get("volumes") or []:
        if by_volume and volume.get("name") == spec.content.target:
            continue
        secret = {"name": (volume.get("secret") or {}).get("secretName")}
        yield from _named({**volume, "secret": secret}, "configMap", "secret")
        for source in (volume.get("projected") or {}).get("sources") or []:
            yield from _named(source, "configMap", "secret")


def _of_containers(pod: Mapping[str, Any]) -> Iterator[Input]:
    for container in [*(pod.get("initContainers") or []), *(pod.get("containers") or [])]:
        for source in container.get("envFrom") or []:
            yield from _named(source, "configMapRef", "secretRef")
        for variable in container.get("env") or []:
            yield from _named(variable.get("valueFrom") or {}, "configMapKeyRef", "secretKeyRef")


def _named(source: Mapping[str, Any], config_map: str, secret: str) -> Iterator[Input]:
    for kind, field in (("ConfigMap", config_map), ("Secret", secret)):
        name = (source.get(field) or {}).get("name")
        if name:
            yield kind, str(name)
