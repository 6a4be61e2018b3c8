"""Asks the apiserver what the operator itself may do, before it has to."""

import asyncio
import logging
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from wavegate.cluster.client import ApiError, Client
from wavegate.cluster.rights import Right
from wavegate.rollout.wording import some

log = logging.getLogger(__name__)

ACCESS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
RULES = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
_AT_ONCE = 8


async def not_granted(client: Client, rights: Iterable[Right]) -> list[Right]:
    """Those of the rights that are not granted, asked for one by one."""
    gate = asyncio.Semaphore(_AT_ONCE)
    asked = sorted(rights)

    async def granted(right: Right) -> bool:
        async with gate:
            return await _may(client, right)

    answers = await asyncio.gather(*map(granted, asked))
    return [right for right, yes in zip(asked, answers, strict=True) if not yes]


async def not_granted_in(client: Client, namespace: str, rights: Collection[Right]) -> list[Right]:
    """The same for one namespace, mostly by one request. Its answer names what surely is granted;
    where an authorizer can't list its rules, what is left is asked for one by one.
    """
    try:
        answer = await client.create(RULES, {"spec": {"namespace": namespace}})
    except ApiError as error:
        if error.status != 403:
            raise
        return await not_granted(client, rights)
    rules, whole = answer["status"].get("resourceRules") or [], not answer["status"]["incomplete"]
    left = [right for right in rights if not any(_covers(rule, right) for rule in rules)]
    return sorted(left) if whole else await not_granted(client, left)


def in_words(rights: Collection[Right]) -> str:
    """What a person has to do about rights that are not granted."""
    lacking = some([str(right) for right in sorted(rights)])
    todo = "install the roles of this version (helm upgrade, or kubectl apply)"
    return f"RBAC does not allow the operator to {lacking}: {todo}"


async def _may(client: Client, right: Right) -> bool:
    attributes = {
        "verb": right.verb,
        "group": right.group,
        "resource": right.resource,
        "subresource": right.subresource,
        "namespace": right.namespace,
        "name": right.name,
    }
    try:
        answer = await client.create(ACCESS, {"spec": {"resourceAttributes": attributes}})
    except ApiError as error:
        if error.status != 403:
            raise
        log.warning("Whether the operator may %s can't be asked: %s", right, error)
        return True  # what is not allowed then is refused when it is tried, and said
    return bool(answer["status"].get("allowed"))


def _covers(rule: Mapping[str, Any], right: Right) -> bool:
    """Whether a rule of RBAC grants a right (source: Kubernetes, pkg/apis/rbac/v1, helpers)."""
    resource = "/".join(filter(None, (right.resource, right.subresource)))
    names = rule.get("resourceNames") or [right.name]
    return (
        _has(rule, "verbs", right.verb)
        and _has(rule, "apiGroups", right.group)
        and _has(rule, "resources", resource)
        and right.name in names
    )


def _has(rule: Mapping[str, Any], field: str, wanted: str) -> bool:
    values = rule.get(field) or []
    return wanted in values or "*" in values
