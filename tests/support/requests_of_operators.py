"""What the operator's accounts asked of a control plane, by its audit log, held against the roles.

Each worker of a test run has a control plane of its own, so what counts is the union of them all:
a right that no operator used in the whole suite is one too many, and a refusal by RBAC is one too
few. Requests that tests send under the account themselves do not count.
"""

import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from support.chart import Rendered

# Release and namespace have one name in the tests (see `OperatorProcess.from_chart`).
_ACCOUNT = re.compile(r"system:serviceaccount:(wavegate[^:]*):\1")
_OF_TESTS = "python-requests"
OWN, LEASES, ANY = "own namespace", "kube-node-lease", ""


class Use(NamedTuple):
    """A verb on a resource (`pods`, `nodes/status`). `where` is a namespace that has a Role."""

    verb: str
    group: str
    resource: str
    where: str = ANY

    def __str__(self) -> str:
        place = f" in {self.where}" if self.where else ""
        return f"{self.verb} {self.resource}{'.' if self.group else ''}{self.group}{place}"


def read(audit_log: Path) -> tuple[set[Use], set[Use]]:
    """What the operators' accounts were granted, and what RBAC refused them."""
    granted: set[Use] = set()
    refused: set[Use] = set()
    with audit_log.open() as lines:
        for line in lines:
            if '"system:serviceaccount:wavegate' not in line:
                continue
            entry = json.loads(line)
            found = _ACCOUNT.fullmatch(entry["user"]["username"])
            what = entry.get("objectRef")
            if found is None or what is None or _OF_TESTS in entry.get("userAgent", ""):
                continue
            decision = (entry.get("annotations") or {}).get("authorization.k8s.io/decision")
            uses = refused if decision == "forbid" else granted
            uses.add(_use(entry["verb"], what, found.group(1)))
    return granted, refused


def rights(rendered: Rendered) -> set[Use]:
    """What the chart grants to its account."""
    own = {f"{rendered.service_account}{part}" for part in ("", "-agents", "-selfcheck")}
    return {
        use
        for item in rendered.objects
        if item["kind"] == "Role"
        or (item["kind"] == "ClusterRole" and item["metadata"]["name"] in own)
        for use in _spelled(item, rendered.namespace)
    }


def unused(granted: Collection[Use], uses: Collection[Use]) -> list[Use]:
    """Rights that nobody used. One without a place is used wherever it was."""
    seen = {*uses, *(use._replace(where=ANY) for use in uses)}
    return sorted(right for right in granted if right not in seen)


def _spelled(role: dict[str, object], namespace: str) -> Iterator[Use]:
    place = role["metadata"].get("namespace", ANY)  # type: ignore[attr-defined]
    where = OWN if place == namespace else place
    for rule in role["rules"]:  # type: ignore[attr-defined]
        verbs = set(rule["verbs"])
        if "resourceNames" in rule and "patch" in verbs:
            # A POST carries no name, so only a server-side apply of what is not there needs this
            # `create`, and that is audited as the `patch` that it is.
            verbs.discard("create")
        for verb in sorted(verbs):
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    yield Use(verb, group, resource, where)


def _use(verb: str, what: dict[str, str], own: str) -> Use:
    resource = "/".join(filter(None, (what["resource"], what.get("subresource"))))
    place = what.get("namespace", ANY)
    where = OWN if place == own else place if place == LEASES else ANY
    return Use(verb, what.get("apiGroup", ""), resource, where)
