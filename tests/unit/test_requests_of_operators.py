"""The audit log of a whole run is held against the role: nothing unused, nothing missing."""

import json
from pathlib import Path
from typing import Any

from support.chart import Rendered
from support.requests_of_operators import LEASES, OWN, Use, read, rights, unused

ACCOUNT = "system:serviceaccount:wavegate-e2e:wavegate-e2e"


def entry(verb: str, what: dict[str, str] | None, **more: Any) -> str:
    event = {
        "user": {"username": ACCOUNT},
        "userAgent": "wavegate",
        "verb": verb,
        "objectRef": what,
        "annotations": {"authorization.k8s.io/decision": "allow"},
    }
    return json.dumps(event | more, separators=(",", ":")) + "\n"


def test_requests_of_operators_are_told_from_refused_ones_and_from_those_of_others(
    tmp_path: Path,
) -> None:
    log = tmp_path / "audit.log"
    lease = {"resource": "leases", "apiGroup": "coordination.k8s.io"}
    forbid = {"authorization.k8s.io/decision": "forbid"}
    log.write_text(
        entry("list", {"resource": "nodes"})
        + entry("update", {**lease, "namespace": "wavegate-e2e", "name": "wavegate-e2e"})
        + entry("list", {**lease, "namespace": LEASES})
        + entry("patch", {"resource": "nodes", "subresource": "status"}, annotations=forbid)
        + entry("delete", {"resource": "nodes"}, userAgent="python-requests/2.32")
        + entry("delete", {"resource": "pods"}, user={"username": "kubernetes-admin"})
        + entry("get", None)
    )
    granted, refused = read(log)
    group = "coordination.k8s.io"
    assert granted == {
        Use("list", "", "nodes"),
        Use("update", group, "leases", OWN),
        Use("list", group, "leases", LEASES),
    }
    assert refused == {Use("patch", "", "nodes/status")}


def test_a_right_is_used_where_it_holds() -> None:
    def role(kind: str, name: str, namespace: str | None, *verbs: str) -> dict[str, Any]:
        rule = {"apiGroups": [""], "resources": ["leases"], "verbs": list(verbs)}
        meta = {"name": name} if namespace is None else {"name": name, "namespace": namespace}
        return {"kind": kind, "metadata": meta, "rules": [rule]}

    pod = {"template": {"spec": {"serviceAccountName": "w"}}}
    deployment = {"kind": "Deployment", "metadata": {"name": "w"}, "spec": pod}
    objects = (
        role("ClusterRole", "w", None, "get", "patch"),
        role("ClusterRole", "w-agents", None, "update"),
        role("ClusterRole", "people", None, "delete"),
        role("Role", "w-leader", "system", "create"),
        role("Role", "w-leases", LEASES, "list"),
        deployment,
    )
    granted = rights(Rendered("w", "system", objects))
    assert granted == {
        Use("get", "", "leases"),
        Use("patch", "", "leases"),
        Use("update", "", "leases"),
        Use("create", "", "leases", OWN),
        Use("list", "", "leases", LEASES),
    }
    used = {
        Use("get", "", "leases", OWN),
        Use("list", "", "leases", OWN),
        Use("create", "", "pods"),
    }
    assert [str(right) for right in unused(granted, used)] == [
        "create leases in own namespace",
        "list leases in kube-node-lease",
        "patch leases",
        "update leases",
    ]
