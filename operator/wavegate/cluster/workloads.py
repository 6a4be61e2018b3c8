"""Reads on which nodes critical workloads run: three lists, of which the long one is by label."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from wavegate.cluster import paths
from wavegate.cluster.client import Client
from wavegate.rollout.names import DNS_LABEL

SERVICE_LABEL = "kubernetes.io/service-name"
"""Names the Service of an EndpointSlice."""


async def carriers(client: Client, services: Iterable[str]) -> dict[str, frozenset[str]]:
    """By Service (`namespace/name`) the nodes with its ready endpoints: of these Services, and of
    the backends of webhooks that fail closed. One without any is left out. Raises ApiError.
    """
    wanted = {*services}
    for path in (paths.VALIDATING_WEBHOOKS, paths.MUTATING_WEBHOOKS):
        wanted |= {*_fail_closed(await client.get(path))}
    # A webhook may name anything; what can't be a Service's name would spoil the whole selector.
    names = ",".join(sorted({name for name in map(_name, wanted) if DNS_LABEL.fullmatch(name)}))
    params = {"labelSelector": f"{SERVICE_LABEL} in ({names})"}
    found: dict[str, set[str]] = {}
    for item in (await client.get(paths.ENDPOINT_SLICES, params))["items"]:
        metadata = item["metadata"]
        service = f"{metadata['namespace']}/{metadata['labels'][SERVICE_LABEL]}"
        if service in wanted:
            found.setdefault(service, set()).update(_ready(item))
    return {service: frozenset(nodes) for service, nodes in sorted(found.items()) if nodes}


def _name(service: str) -> str:
    return service.partition("/")[2]


def _fail_closed(listed: Mapping[str, Any]) -> Iterator[str]:
    """The Services without which the apiserver refuses requests."""
    for item in listed["items"]:
        for webhook in item.get("webhooks") or ():
            service = (webhook.get("clientConfig") or {}).get("service")
            if service and webhook.get("failurePolicy", "Fail") == "Fail":
                yield f"{service['namespace']}/{service['name']}"


def _ready(item: Mapping[str, Any]) -> Iterator[str]:
    """Nodes of ready endpoints; one whose readiness is unknown counts as ready, as for clients."""
    for endpoint in item.get("endpoints") or ():
        node = endpoint.get("nodeName")
        if node and (endpoint.get("conditions") or {}).get("ready") is not False:
            yield node
