"""Single behaviours of an apiserver that Wavegate relies on, asked of the real one and of ours.

Each question is a few requests in an empty namespace; what both must answer stands beside it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

Body = dict[str, Any]
JSON_PATCH = "application/json-patch+json"
MERGE = "application/merge-patch+json"
HOST = "kubernetes.io/hostname"


class Server(Protocol):
    """An apiserver. Paths are short: `configmaps/a` is one in the namespace."""

    def ask(
        self,
        verb: str,
        path: str,
        body: Any = None,
        *,
        params: Mapping[str, str] | None = None,
        kind: str = "application/json",
    ) -> tuple[int, Body]:
        """One request: status code (200 for any success) and answer."""

    def told(self, path: str, params: Mapping[str, str]) -> list[tuple[str, str]]:
        """What a watch from a version on is told: event type and name."""

    def join(self, node: str, labels: Mapping[str, str]) -> None:
        """A node joins."""

    def leave(self, node: str) -> None:
        """A Node is deleted."""

    def later(self, test: Callable[[], bool]) -> bool:
        """Whether it holds within a while."""


@dataclass(frozen=True, slots=True)
class Row:
    """A question, and the answer of a real apiserver."""

    ask: Callable[[Server], Any]
    answer: Any

    @property
    def name(self) -> str:
        """The question in words."""
        return self.ask.__name__.replace("_", "-")


def config_map(name: str, **more: Any) -> Body:
    """A ConfigMap; more = its other fields."""
    labels = more.pop("labels", {"app": "x"})
    meta = {"name": name, "labels": labels}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"a": "1"}, **more}


def pod(name: str, node: str = "", **labels: str) -> Body:
    """A pod, bound to a node that does not exist, or waiting for one that nobody offers."""
    spec: Body = {
        "containers": [{"name": "c", "image": "registry.example/c:1"}],
        "nodeSelector": {"nobody": "has-this"},
    }
    if node:
        spec["nodeName"] = node
    meta = {"name": name, "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


def daemon_set(name: str, selector: Mapping[str, str]) -> Body:
    """A DaemonSet for nodes with these labels."""
    labels = {"app": name}
    spec = {"containers": [{"name": "c", "image": "registry.example/c:1"}]}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "selector": {"matchLabels": labels},
            "updateStrategy": {"type": "OnDelete"},
            "template": {
                "metadata": {"labels": labels},
                "spec": {**spec, "nodeSelector": dict(selector)},
            },
        },
    }


def make(server: Server, body: Body) -> Body:
    """Create, and return what was stored."""
    plural = f"{body['kind'].lower()}s"
    code, made = server.ask("POST", plural, body)
    assert code == 200, made
    return made


def codes(*answers: tuple[int, Body]) -> list[int]:
    """Only the status codes."""
    return [code for code, _ in answers]


def version(body: Body) -> str:
    """The resourceVersion of an object."""
    return str(body["metadata"]["resourceVersion"])


def create_of_a_name_that_exists(server: Server) -> Any:
    make(server, config_map("a"))
    dry = server.ask("POST", "configmaps", config_map("a"), params={"dryRun": "All"})
    return codes(server.ask("POST", "configmaps", config_map("a")), dry)


def dry_run_stores_nothing(server: Server) -> Any:
    dry = server.ask("POST", "configmaps", config_map("a"), params={"dryRun": "All"})
    made = make(server, config_map("b"))
    patch = {"data": {"a": "2"}}
    changed = server.ask("PATCH", "configmaps/b", patch, params={"dryRun": "All"}, kind=MERGE)
    same = version(server.ask("GET", "configmaps/b")[1]) == version(made)
    return codes(dry, server.ask("GET", "configmaps/a"), changed), changed[1]["data"], same


def what_is_not_there(server: Server) -> Any:
    return codes(
        server.ask("GET", "configmaps/a"),
        server.ask("DELETE", "configmaps/a"),
        server.ask("PATCH", "configmaps/a", {"data": {}}, kind=MERGE),
        server.ask("DELETE", "pods", params={"labelSelector": "app=nobody"}),
    )


def put_with_an_old_version(server: Server) -> Any:
    old = make(server, config_map("a"))
    first = server.ask("PUT", "configmaps/a", {**old, "data": {"a": "2"}})
    return codes(first, server.ask("PUT", "configmaps/a", {**old, "data": {"a": "3"}}))


def put_of_a_name_that_is_gone(server: Server) -> Any:
    old = make(server, config_map("a"))
    gone = server.ask("DELETE", "configmaps/a")
    return codes(gone, server.ask("PUT", "configmaps/a", old))


def json_patch_with_a_test(server: Server) -> Any:
    made = make(server, config_map("a"))
    change = {"op": "replace", "path": "/data/a", "value": "2"}

    def patch(path: str, value: str) -> tuple[int, Body]:
        test = {"op": "test", "path": path, "value": value}
        return server.ask("PATCH", "configmaps/a", [test, change], kind=JSON_PATCH)

    return codes(
        patch("/metadata/resourceVersion", version(made)),
        patch("/metadata/resourceVersion", version(made)),
        patch("/metadata/uid", "another"),
        patch("/data/missing", "2"),
    )


def json_patch_that_removes_nothing(server: Server) -> Any:
    make(server, config_map("a"))
    steps = [{"op": "remove", "path": "/data/missing"}]
    return codes(server.ask("PATCH", "configmaps/a", steps, kind=JSON_PATCH))


def json_patch_adds_below_what_is_missing(server: Server) -> Any:
    make(server, config_map("a"))
    steps = [{"op": "add", "path": "/metadata/annotations/x", "value": "1"}]
    return codes(server.ask("PATCH", "configmaps/a", steps, kind=JSON_PATCH))


def merge_patch_with_preconditions(server: Server) -> Any:
    made = make(server, config_map("a"))

    def patch(**metadata: str) -> tuple[int, Body]:
        body = {"metadata": {**metadata, "labels": {"app": metadata.get("uid", "y")}}}
        return server.ask("PATCH", "configmaps/a", body, kind=MERGE)

    right = patch(uid=made["metadata"]["uid"])
    return codes(right, patch(uid="another"), patch(resourceVersion=version(made)))


def immutable_config_map(server: Server) -> Any:
    make(server, config_map("a", immutable=True))

    def patch(body: Body) -> tuple[int, Body]:
        return server.ask("PATCH", "configmaps/a", body, kind=MERGE)

    return codes(
        patch({"data": {"a": "2"}}),
        patch({"immutable": False}),
        patch({"metadata": {"labels": {"app": "y"}}}),
        server.ask("DELETE", "configmaps/a"),
    )


def pods_end_by_where_they_are(server: Server) -> Any:
    make(server, pod("waits"))
    make(server, pod("bound", "nowhere"))
    server.ask("DELETE", "pods/waits")
    server.ask("DELETE", "pods/bound")
    first = server.ask("GET", "pods/bound")[1]["metadata"]
    again = server.ask("DELETE", "pods/bound")
    second = server.ask("GET", "pods/bound")[1]["metadata"]
    same = first["deletionTimestamp"] == second["deletionTimestamp"]
    return codes(server.ask("GET", "pods/waits"), again), same


def delete_of_many(server: Server) -> Any:
    for name, node, app in (
        ("a", "", "x"),
        ("b", "one", "x"),
        ("c", "two", "x"),
        ("d", "one", "y"),
    ):
        make(server, pod(name, node, app=app))

    def left() -> list[str]:
        items = server.ask("GET", "pods")[1]["items"]
        stay = [p for p in items if "deletionTimestamp" not in p["metadata"]]
        return sorted(p["metadata"]["name"] for p in stay)

    seen = []
    for field in ("spec.nodeName=", "spec.nodeName=one", ""):
        params = {"labelSelector": "app=x", **({"fieldSelector": field} if field else {})}
        server.ask("DELETE", "pods", params=params)
        seen.append(left())
    return seen


def generations(server: Server) -> Any:
    make(server, daemon_set("a", {"nobody": "has-this"}))
    other = {"spec": {"template": {"spec": {"nodeSelector": {"nobody": "has-that"}}}}}

    def after(body: Body, part: str = "") -> int:
        server.ask("PATCH", f"daemonsets/a{part}", body, kind=MERGE)
        return int(server.ask("GET", "daemonsets/a")[1]["metadata"]["generation"])

    return [
        after({"metadata": {"labels": {"more": "1"}, "annotations": {"x": "y"}}}),
        after(other),
        after(other),
        after({"spec": {"template": {"spec": {"affinity": {"podAntiAffinity": {}}}}}}),
        after({"status": {"observedGeneration": 1}}, "/status"),
    ]


def a_write_that_changes_nothing(server: Server) -> Any:
    made = make(server, config_map("a"))
    patched = server.ask("PATCH", "configmaps/a", {"data": {"a": "1"}}, kind=MERGE)[1]
    put = server.ask("PUT", "configmaps/a", made)[1]
    return version(patched) == version(made), version(put) == version(made)


def status_is_a_part_of_its_own(server: Server) -> Any:
    make(server, pod("a"))
    server.ask("PATCH", "pods/a", {"status": {"message": "by the object"}}, kind=MERGE)
    first = server.ask("GET", "pods/a")[1].get("status", {}).get("message")
    body = {"status": {"message": "by the status"}, "metadata": {"labels": {"from": "status"}}}
    server.ask("PATCH", "pods/a/status", body, kind=MERGE)
    found = server.ask("GET", "pods/a")[1]
    return first, found["status"]["message"]


def a_watch_with_a_selector(server: Server) -> Any:
    begin = version(make(server, config_map("a")))
    other = {"metadata": {"labels": {"app": "other"}}}
    back = {"metadata": {"labels": {"app": "x"}}}
    for body in ({"data": {"a": "2"}}, other, {"data": {"a": "3"}}, back):
        server.ask("PATCH", "configmaps/a", body, kind=MERGE)
    make(server, config_map("b", labels={"app": "other"}))
    server.ask("DELETE", "configmaps/b")
    server.ask("DELETE", "configmaps/a")
    return server.told("configmaps", {"labelSelector": "app=x", "resourceVersion": begin})


def deletion_of_a_daemon_set_takes_its_pods(server: Server) -> Any:
    """In the background: the DaemonSet is gone at once, its pods follow."""
    server.join("asked-1", {"story": "asked"})
    make(server, daemon_set("a", {"story": "asked"}))

    def pods() -> list[Body]:
        params = {"labelSelector": "app=a"}
        return list(server.ask("GET", "pods", params=params)[1]["items"])

    made = server.later(lambda: bool(pods()))
    server.ask("DELETE", "daemonsets/a")
    at_once = server.ask("GET", "daemonsets/a")[0]
    gone = server.later(lambda: not pods())
    server.leave("asked-1")
    return made, at_once, gone


def an_unbound_pod_goes_with_its_node(server: Server) -> Any:
    """But only when something else wakes its DaemonSet's controller; pod GC leaves it alone."""
    server.join("asked-2", {"story": "asked-too"})
    holds = pod("holds", "asked-2", app="holds")
    make(server, {**holds, "spec": {**holds["spec"], "nodeSelector": {"story": "asked-too"}}})
    waits = daemon_set("a", {"story": "asked-too"})
    term = {"labelSelector": {"matchLabels": {"app": "holds"}}, "topologyKey": HOST}
    anti = {"requiredDuringSchedulingIgnoredDuringExecution": [term]}
    waits["spec"]["template"]["spec"]["affinity"] = {"podAntiAffinity": anti}
    make(server, waits)

    def unbound() -> list[Body]:
        items = server.ask("GET", "pods")[1]["items"]
        return [item for item in items if not item["spec"].get("nodeName")]

    made = server.later(lambda: bool(unbound()))
    server.leave("asked-2")
    more = {"spec": {"template": {"metadata": {"labels": {"more": "1"}}}}}
    server.ask("PATCH", "daemonsets/a", more, kind=MERGE)
    return made, server.later(lambda: not unbound())


ROWS = (
    Row(create_of_a_name_that_exists, [409, 409]),
    Row(dry_run_stores_nothing, ([200, 404, 200], {"a": "2"}, True)),
    Row(what_is_not_there, [404, 404, 404, 200]),
    Row(put_with_an_old_version, [200, 409]),
    Row(put_of_a_name_that_is_gone, [200, 404]),
    Row(json_patch_with_a_test, [200, 422, 422, 422]),
    Row(json_patch_that_removes_nothing, [422]),
    Row(json_patch_adds_below_what_is_missing, [422]),
    Row(merge_patch_with_preconditions, [200, 422, 409]),
    Row(immutable_config_map, [422, 422, 200, 200]),
    Row(pods_end_by_where_they_are, ([404, 200], True)),
    Row(delete_of_many, [["b", "c", "d"], ["c", "d"], ["d"]]),
    Row(generations, [1, 2, 2, 3, 3]),
    Row(a_write_that_changes_nothing, (True, True)),
    Row(status_is_a_part_of_its_own, (None, "by the status")),
    Row(
        a_watch_with_a_selector,
        [("MODIFIED", "a"), ("DELETED", "a"), ("ADDED", "a"), ("DELETED", "a")],
    ),
    Row(deletion_of_a_daemon_set_takes_its_pods, (True, 404, True)),
    Row(an_unbound_pod_goes_with_its_node, (True, True)),
)
