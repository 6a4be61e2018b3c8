"""A mirror: our own list + watch of one kind, projected to small values as it is read.

On a relist the whole map is compared with the list, so that deletions which happened while we were
not watching are seen (kopf and many informers miss them). `apply` writes our own answers through,
so that the next decision sees them at once.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from wavegate.cluster.client import ApiError, Client
from wavegate.cluster.memory import remember

log = logging.getLogger(__name__)

V = TypeVar("V")
Key = tuple[str, str]
"""Namespace (empty for nodes) and name."""

PAGE = 500
SILENCE_SECONDS = 90.0
"""Bookmarks come every minute; a stream that is silent for longer is dead."""

_MAX_BACKOFF = 30.0
_LIVED_SECONDS = 5.0
_REMEMBERED = 10_000


class Mirror(Generic[V]):
    """All objects under `path`, as `project(object, previous value, now)` sees them."""

    def __init__(
        self,
        client: Client,
        path: str,
        project: Callable[[Mapping[str, Any], V | None, float], V],
        clock: Callable[[], float],
        selector: str = "",
    ) -> None:
        self.items: dict[Key, V] = {}
        self.gone: dict[Key, V] = {}
        """What vanished since the start, as it was last seen; bounded."""
        self.synced = asyncio.Event()
        self.contact = clock()
        """When the stream last said anything."""
        self.seen_at = float("-inf")
        """All that happened before this time is in here: when the last list began. A watch proves
        nothing of the kind: it may be alive, and late.
        """
        self.live = False
        """Whether nothing can have been missed: false from an error until the next list."""
        self.on_change: Callable[[Key, V | None, V | None], None] = lambda _key, _old, _new: None
        self._client, self._path, self._project, self._clock = client, path, project, clock
        self._params = {"labelSelector": selector} if selector else {}
        self._shown: tuple[Mapping[Key, V], Mapping[Key, V]] | None = None
        self._versions: dict[Key, int] = {}
        self._buried: dict[Key, int] = {}

    def shown(self) -> tuple[Mapping[Key, V], Mapping[Key, V]]:
        """Copies of `items` and `gone` that never change: the very same ones until something does,
        so that what follows from them need not be worked out again.
        """
        if self._shown is None:
            self._shown = dict(self.items), dict(self.gone)
        return self._shown

    async def run(self) -> None:
        """List and watch until cancelled. A list that works does not end a row of failures: only
        a watch that lived does.
        """
        failures = 0
        while True:
            began = self._clock()
            try:
                version = await self._list()
                while True:
                    began = self._clock()
                    version = await self._follow(version)
                    if self._clock() - began > _LIVED_SECONDS:
                        failures = 0
                    else:  # the server ended the watch at once: come back politely
                        failures += 1
                        await asyncio.sleep(_backoff(failures))
            except ApiError as error:
                self.live = False
                failures = 1 if self._clock() - began > _LIVED_SECONDS else failures + 1
                log.warning("Watching %s broke and is taken up again: %s", self._path, error)
                await asyncio.sleep(max(error.retry_after or 0.0, _backoff(failures)))

    def apply(self, body: Mapping[str, Any]) -> None:
        """Take in an object that we just wrote, unless something newer is known."""
        metadata = body["metadata"]
        key = (metadata.get("namespace", ""), metadata["name"])
        version = int(metadata["resourceVersion"])
        if version > self._versions.get(key, self._buried.get(key, -1)):
            self._put(key, body, version)

    async def look(self) -> None:
        """Read everything as it is now, whatever the watch has shown so far."""
        await self._read()

    async def _list(self) -> str:
        """Read everything, and return the version to watch from."""
        version = await self._read()
        self.contact = self._clock()
        self.live = True
        self.synced.set()
        return version

    async def _read(self) -> str:
        """Read all pages, drop what is not there, and return the version of the list."""
        token, version, began = "", "0", self._clock()
        seen: set[Key] = set()
        while True:
            params = {**self._params, "limit": str(PAGE)}
            if token:
                params["continue"] = token
            page = await self._client.list(self._path, params)
            for body in page.get("items", []):
                metadata = body["metadata"]
                key = (metadata.get("namespace", ""), metadata["name"])
                seen.add(key)
                self._take(key, body)
            version = page["metadata"]["resourceVersion"]
            token = page["metadata"].get("continue", "")
            if not token:
                break
        for key in [key for key in self.items if key not in seen]:
            if self._versions.get(key, 0) <= int(version):
                self._drop(key, int(version))
        self.seen_at = max(self.seen_at, began)
        return str(version)

    async def _follow(self, version: str) -> str:
        """Watch until the server ends it; returns the version to go on from."""
        params = {**self._params, "resourceVersion": version, "timeoutSeconds": "290"}
        async for event in self._client.watch(self._path, params, SILENCE_SECONDS):
            self.contact = self._clock()
            if event["type"] == "ERROR":
                status = event.get("object", {})
                raise ApiError(int(status.get("code", 0)), str(status.get("message", "")))
            version = event["object"]["metadata"]["resourceVersion"]
            self._event(event["type"], event["object"], int(version))
        return version

    def _event(self, kind: str, body: Mapping[str, Any], version: int) -> None:
        if kind == "BOOKMARK":
            return
        metadata = body["metadata"]
        key = (metadata.get("namespace", ""), metadata["name"])
        if version <= self._versions.get(key, -1):  # the same one: the answer to a write of ours
            return
        if kind == "DELETED":
            self._drop(key, version)
        else:
            self._put(key, body, version)

    def _take(self, key: Key, body: Mapping[str, Any]) -> None:
        version = int(body["metadata"]["resourceVersion"])
        if version >= self._versions.get(key, self._buried.get(key, -1)):
            self._put(key, body, version)

    def _put(self, key: Key, body: Mapping[str, Any], version: int) -> None:
        old = self.items.get(key)
        try:
            new = self._project(body, old, self._clock())
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            log.warning("%s %s can't be read and is ignored: %r", self._path, "/".join(key), error)
            return
        self._versions[key] = version
        if new != old:  # else the old one stays, and what follows from it
            self.items[key], self._shown = new, None
            self.on_change(key, old, new)

    def _drop(self, key: Key, version: int) -> None:
        """Forget an object; an answer that was overtaken by its deletion must not bring it back."""
        old, self._shown = self.items.pop(key, None), None
        self._versions.pop(key, None)
        remember(self._buried, key, version, _REMEMBERED)
        if old is not None:
            remember(self.gone, key, old, _REMEMBERED)
            self.on_change(key, old, None)


def _backoff(failures: int) -> float:
    """Seconds to wait after so many failures in a row, with jitter."""
    return min(_MAX_BACKOFF, 0.1 * 2.0**failures) * random.uniform(0.5, 1.0)  # noqa: S311
