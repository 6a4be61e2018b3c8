"""An apiserver in memory, spoken to with the requests of our own client.

It keeps what Wavegate relies on: one growing resourceVersion, compare-and-swap, JSON patches with
`test`, the UID check of merge patches, immutable ConfigMaps, generations, graceful deletion of
bound pods, label and field selectors, dry runs, and watches that lag, break, or start too late.
Stored objects are never changed in place, so that whoever holds one holds the past.
"""

import copy
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from wavegate.cluster.client import APPLY_PATCH, JSON_PATCH, ApiError
from wavegate.cluster.rights import agents_rights
from wavegate.rollout.excerpts import timestamp

Body = dict[str, Any]
Key = tuple[str, str]
"""Namespace (empty for nodes) and name."""

KEPT_EVENTS = 100_000
"""A watch that starts before the oldest kept event is answered 410."""


class MadeUp(dict[Key, Body]):
    """Objects of which most are made up at the moment when they are listed."""

    def listing(self, namespace: str) -> list[Body]:
        """Those of a namespace (empty: of all)."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a stored object: None before = created, None after = gone."""

    actor: str
    plural: str
    key: Key
    before: Body | None
    after: Body | None


BOUND = {right.resource for right in agents_rights("")}
"""Kinds that a RoleBinding lets an operator write, or read by name. All else is always allowed."""

FROZEN = ("data", "binaryData", "immutable")
"""Fields of an immutable ConfigMap that can't be changed any more."""


class Stream:
    """One watch: what it has not read yet. `matches` is its selector: an object that begins or
    ceases to match is ADDED or DELETED for it.
    """

    def __init__(self, wake: Callable[[], None], matches: Callable[[Body], bool]) -> None:
        self.waiting: deque[tuple[str, Body]] = deque()
        self.broken: ApiError | None = None
        self.wake = wake
        self._matches = matches

    def take(self, body: Body | None, old: Body | None, version: int) -> bool:
        """A change of an object; whether this watch is told of it."""
        is_now = body is not None and self._matches(body)
        was = old is not None and self._matches(old)
        if body is not None and is_now:
            self.waiting.append(("MODIFIED" if was else "ADDED", body))
        elif old is not None and was:
            metadata = {**old["metadata"], "resourceVersion": str(version)}
            self.waiting.append(("DELETED", {**old, "metadata": metadata}))
        return is_now or was


class Apiserver:
    """See the module. `now` gives virtual seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.objects: dict[str, dict[Key, Body]] = defaultdict(dict)
        self.version = 1
        self.after: list[Callable[[Change], None]] = []
        """Called after each change, in order: controllers, then whoever watches the invariants."""
        self.refuses: list[Callable[[str, str, Body], str]] = []
        """Admission: (verb, plural, object) → why it is refused, or empty."""
        self.bound = True
        """There is a RoleBinding that gives operators their rights where agents run."""
        self.tried: dict[tuple[str, str], float] = {}
        """When a dry run last succeeded, by plural and name (empty: of a creation)."""
        self._now = now
        self._uids = 0
        self._log: dict[str, deque[tuple[int, Body | None, Body | None]]] = defaultdict(
            lambda: deque(maxlen=KEPT_EVENTS)
        )
        """By kind: version, object after, object before."""
        self._streams: dict[str, list[Stream]] = defaultdict(list)

    # For controllers and people: direct, always allowed

    def all(self, plural: str) -> Iterable[Body]:
        """All objects of a kind, as they are now."""
        return list(self.objects[plural].values())

    def find(self, plural: str, name: str, namespace: str = "") -> Body | None:
        """One object, or None."""
        return self.objects[plural].get((namespace, name))

    def add(self, actor: str, plural: str, body: Body) -> Body:
        """Store a new object."""
        metadata = body["metadata"]
        self._uids += 1
        new = {
            **body,
            "metadata": {
                "uid": f"uid-{self._uids}",
                "generation": 1,
                "creationTimestamp": timestamp(self._now()),
                **metadata,
            },
        }
        return self._store(actor, plural, None, new)

    def update(self, actor: str, plural: str, old: Body, **parts: Any) -> Body:
        """Replace top-level parts (`spec`, `status`, `metadata`…) of the object that is stored."""
        return self._store(actor, plural, old, {**old, **parts})

    def remove(self, actor: str, plural: str, body: Body) -> None:
        """Drop an object at once."""
        key = key_of(body)
        stored = self.objects[plural].pop(key, None)
        if stored is None:
            return
        self.version += 1
        self._tell(plural, None, stored)
        self._after(Change(actor, plural, key, stored, None))

    def delete(self, actor: str, plural: str, body: Body) -> None:
        """Delete as the apiserver does: a bound pod that may run is asked to end first."""
        running = plural == "pods" and body["spec"].get("nodeName")
        ended = (body.get("status") or {}).get("phase") in ("Failed", "Succeeded")
        if not running or ended:
            self.remove(actor, plural, body)
        elif "deletionTimestamp" not in body["metadata"]:
            metadata = {**body["metadata"], "deletionTimestamp": timestamp(self._now())}
            self.update(actor, plural, body, metadata=metadata)

    # For clients

    def handle(
        self,
        actor: str,
        verb: str,
        path: str,
        params: Mapping[str, str],
        *,
        body: Any = None,
        kind: str = "application/json",
    ) -> Body:
        """Answer a request. Raises ApiError as our client would."""
        plural, namespace, name, part = parse(path)
        everybody = part == "status" or (verb == "GET" and not name)
        if not self.bound and plural in BOUND and not everybody:
            raise ApiError(403, f"{plural} is forbidden: User {actor!r} cannot {verb} {path}")
        if verb == "GET":
            return self._read(plural, namespace, name, params, path)
        if verb == "POST":
            return self._create(actor, plural, namespace, body, dry="dryRun" in params)
        if verb == "DELETE" and not name:
            return self._delete_all(actor, plural, namespace, params)
        old = self.find(plural, name, namespace)
        if old is None and kind == APPLY_PATCH and "dryRun" in params:
            return self._create(actor, plural, namespace, body, dry=True)
        if old is None:
            raise ApiError(404, f"{verb} {path}: not found")
        if verb == "DELETE":
            for field, wanted in ((body or {}).get("preconditions") or {}).items():
                if old["metadata"][field] != wanted:
                    raise ApiError(409, f"the precondition on {field} is not met")
            self.delete(actor, plural, old)
            return {}
        new = body if verb == "PUT" else patched(old, body, kind)
        return self._change(actor, plural, old, new, part, dry="dryRun" in params)

    def rules(self) -> Body:
        """What an operator may do where agents run, as a review of its rules says it."""
        everything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
        rules = [everything] if self.bound else []
        return {"status": {"resourceRules": rules, "incomplete": False}}

    def watch(self, path: str, params: Mapping[str, str], wake: Callable[[], None]) -> Stream:
        """Open a watch from `resourceVersion` on. Raises ApiError 410 when that is too old."""
        plural, namespace, *_ = parse(path)
        since = int(params.get("resourceVersion", "0"))
        log = self._log[plural]
        if len(log) == KEPT_EVENTS and since < log[0][0]:
            raise ApiError(410, "too old resource version")
        stream = Stream(wake, _within(namespace, selector(params)))
        for version, body, old in log:
            if version > since:
                stream.take(body, old, version)
        if stream.waiting:
            stream.wake()
        self._streams[plural].append(stream)
        return stream

    def unwatch(self, path: str, stream: Stream) -> None:
        """Close a watch."""
        streams = self._streams[parse(path)[0]]
        if stream in streams:
            streams.remove(stream)

    def break_watches(self, status: int = 0) -> None:
        """All watches end with an error: 0 = the connection broke, 410 = list again."""
        for stream in [s for streams in self._streams.values() for s in streams]:
            stream.broken = ApiError(status, "the watch was broken")
            stream.wake()

    def history(self, plural: str) -> list[tuple[int, Body]]:
        """All that was ever stored of a kind, with its version, the oldest first."""
        return [(at, body) for at, body, _ in self._log[plural] if body is not None]

    def past(self, plural: str, version: int) -> list[Body]:
        """The objects of a kind as they were at `version`: what a cache that lags would list."""
        found: dict[Key, Body] = {}
        for at, body, old in self._log[plural]:
            if at > version:
                break
            if body is not None:
                found[key_of(body)] = body
            elif old is not None:
                found.pop(key_of(old), None)
        return list(found.values())

    def _read(
        self, plural: str, namespace: str, name: str, params: Mapping[str, str], path: str
    ) -> Body:
        if name:
            found = self.find(plural, name, namespace)
            if found is None:
                raise ApiError(404, f"GET {path}: not found")
            return copy.deepcopy(found)
        chosen = self._select(plural, namespace, params)
        return {"metadata": {"resourceVersion": str(self.version)}, "items": chosen}

    def _select(self, plural: str, namespace: str, params: Mapping[str, str]) -> list[Body]:
        if not params.keys() & {"labelSelector", "fieldSelector"}:
            stored = self.objects[plural]
            if isinstance(stored, MadeUp):
                return stored.listing(namespace)
            return [b for (space, _), b in stored.items() if not namespace or space == namespace]
        matches = selector(params)
        return [
            body
            for (space, _), body in self.objects[plural].items()
            if (not namespace or space == namespace) and matches(body)
        ]

    def _create(
        self, actor: str, plural: str, namespace: str, body: Mapping[str, Any], *, dry: bool
    ) -> Body:
        metadata = {**body["metadata"], **({"namespace": namespace} if namespace else {})}
        new = {**body, "metadata": metadata}
        if plural == "pods":
            new = {"status": {"phase": "Pending"}, **new}
        self._admit("POST", plural, new)
        if (namespace, metadata["name"]) in self.objects[plural]:
            raise ApiError(409, f"{plural} {metadata['name']} already exists")
        if dry:
            self.tried[plural, ""] = self._now()
        return new if dry else self.add(actor, plural, new)

    def _change(
        self, actor: str, plural: str, old: Body, new: Body, part: str, *, dry: bool
    ) -> Body:
        wanted = new["metadata"].get("resourceVersion")
        if wanted is not None and wanted != old["metadata"]["resourceVersion"]:
            raise ApiError(409, f"{plural} {old['metadata']['name']} was changed meanwhile")
        if new["metadata"].get("uid", old["metadata"]["uid"]) != old["metadata"]["uid"]:
            raise ApiError(422, "metadata.uid: field is immutable")
        if part == "status":
            new = {**old, "status": new.get("status")}
        else:
            rest = {field: value for field, value in new.items() if field != "status"}
            new = {**rest, **({"status": old["status"]} if "status" in old else {})}
        if old.get("immutable") and any(old.get(f) != new.get(f) for f in FROZEN):
            raise ApiError(422, "data: field is immutable when `immutable` is set")
        new = {**new, "metadata": {**old["metadata"], **new["metadata"]}}
        self._admit("PATCH", plural, new)
        if dry:
            self.tried[plural, old["metadata"]["name"]] = self._now()
        return new if dry else self._store(actor, plural, old, new)

    def _delete_all(
        self, actor: str, plural: str, namespace: str, params: Mapping[str, str]
    ) -> Body:
        for body in self._select(plural, namespace, params):
            self.delete(actor, plural, body)
        return {}

    def _admit(self, verb: str, plural: str, body: Body) -> None:
        for refuses in self.refuses:
            why = refuses(verb, plural, body)
            if why:
                raise ApiError(403, why)

    def _store(self, actor: str, plural: str, old: Body | None, new: Body) -> Body:
        """Store, unless nothing changed: an empty write makes no new version and no event."""
        if old is not None and _same(old, new):
            return old
        self.version += 1
        metadata = {**new["metadata"], "resourceVersion": str(self.version)}
        if old is not None and old.get("spec") != new.get("spec"):
            metadata["generation"] = old["metadata"]["generation"] + 1
        stored = {**new, "metadata": metadata}
        self.objects[plural][key_of(stored)] = stored
        self._tell(plural, stored, old)
        self._after(Change(actor, plural, key_of(stored), old, stored))
        return stored

    def _tell(self, plural: str, body: Body | None, old: Body | None) -> None:
        self._log[plural].append((self.version, body, old))
        for stream in self._streams[plural]:
            if stream.take(body, old, self.version):
                stream.wake()

    def _after(self, change: Change) -> None:
        for listener in self.after:
            listener(change)


def key_of(body: Mapping[str, Any]) -> Key:
    """Namespace and name of an object."""
    return (body["metadata"].get("namespace", ""), body["metadata"]["name"])


def parse(path: str) -> tuple[str, str, str, str]:
    """Plural, namespace, name and subresource of a URL path."""
    parts = path.strip("/").split("/")
    parts = parts[2:] if parts[0] == "api" else parts[3:]
    namespace = ""
    if parts[0] == "namespaces" and len(parts) > 2:
        namespace, parts = parts[1], parts[2:]
    plural, name, part, *_ = [*parts, "", ""]
    return plural, namespace, name, part


def selector(params: Mapping[str, str]) -> Callable[[Mapping[str, Any]], bool]:
    """A predicate from `labelSelector` (k, k=v, !k; or one `k in (v,w)`) and `fieldSelector`
    (spec.nodeName=v).
    """
    text = params.get("labelSelector", "")
    label, among, values = text.partition(" in ")
    if among:
        allowed = values.strip("()").split(",")
        return lambda body: (body["metadata"].get("labels") or {}).get(label) in allowed
    wanted = [part.partition("=") for part in text.split(",") if part]
    field = params.get("fieldSelector", "").partition("=")

    def matches(body: Mapping[str, Any]) -> bool:
        labels = body["metadata"].get("labels") or {}
        for key, given, value in wanted:
            if key.startswith("!"):
                if key[1:] in labels:
                    return False
            elif key not in labels or (given and labels[key] != value):
                return False
        return not field[0] or (body["spec"].get("nodeName") or "") == field[2]

    return matches


def _within(namespace: str, matches: Callable[[Body], bool]) -> Callable[[Body], bool]:
    """The same, in one namespace only (empty: in all)."""
    if not namespace:
        return matches
    return lambda body: body["metadata"].get("namespace", "") == namespace and matches(body)


def patched(old: Body, patch: Any, kind: str) -> Body:
    """The object after a JSON, merge or apply patch. Raises ApiError 422 when a `test` fails."""
    if kind == JSON_PATCH:
        new = {**old, "metadata": {**old["metadata"]}}
        new["metadata"].pop("resourceVersion")
        for step in patch:
            new = _json_patch(old if step["op"] == "test" else new, step, new)
        return new
    merged = _merge(old, patch)
    if "resourceVersion" not in patch.get("metadata", {}):
        merged = {**merged, "metadata": {**merged["metadata"]}}
        merged["metadata"].pop("resourceVersion")
    if kind == APPLY_PATCH and "status" in patch:
        merged["status"] = patch["status"]
    return merged


def _json_patch(subject: Body, step: Mapping[str, Any], new: Body) -> Body:
    path = [p.replace("~1", "/").replace("~0", "~") for p in step["path"].strip("/").split("/")]
    if step["op"] == "test":
        found: Any = subject
        for part in path:
            found = found.get(part) if isinstance(found, Mapping) else None
        if found != step["value"]:
            raise ApiError(422, f"testing value {step['path']} failed")
        return new
    return _set(new, path, step)


def _set(body: Mapping[str, Any], path: list[str], step: Mapping[str, Any]) -> Body:
    changed = dict(body)
    if len(path) > 1:
        if path[0] not in changed:
            raise ApiError(422, f"{step['op']}: {step['path']} has no parent")
        changed[path[0]] = _set(changed[path[0]] or {}, path[1:], step)
    elif step["op"] == "remove":
        if path[0] not in changed:
            raise ApiError(422, f"remove: {step['path']} does not exist")
        del changed[path[0]]
    else:
        changed[path[0]] = step["value"]
    return changed


def _merge(old: Any, patch: Any) -> Any:
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(old) if isinstance(old, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merge(merged.get(key), value)
    return merged


def _same(old: Body, new: Body) -> bool:
    def bare(body: Body) -> Body:
        ignored = ("resourceVersion", "generation")
        metadata = {k: v for k, v in body["metadata"].items() if k not in ignored}
        return {**body, "metadata": metadata}

    return bare(old) == bare(new)
