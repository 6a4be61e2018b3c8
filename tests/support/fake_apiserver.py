"""A small apiserver on 127.0.0.1 that answers as each test wants."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio.client import Configuration

from wavegate.cluster.client import Client
from wavegate.cluster.reviews import RULES

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
PATIENCE = 30.0
"""Seconds after which what did not happen will not: no machine of ours stands still for so long."""


class FakeServer:
    """Real HTTP. `handler` answers; `requests` counts and remembers."""

    def __init__(self) -> None:
        self.handler: Handler | None = None
        self.requests: list[web.Request] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        assert self.handler is not None
        return await self.handler(request)


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    fake = FakeServer()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", fake.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield fake
    await runner.cleanup()


def connected(server: FakeServer, timeout: float) -> Client:
    configuration = Configuration()
    configuration.host = server.url
    return Client(configuration, timeout=timeout)


@pytest.fixture
async def client(server: FakeServer) -> AsyncIterator[Client]:
    patient = connected(server, PATIENCE)
    yield patient
    await patient.close()


@pytest.fixture
async def background() -> AsyncIterator[Callable[..., asyncio.Task[None]]]:
    """Start tasks that end with the test; one that broke by itself fails the test."""
    tasks: list[asyncio.Task[None]] = []

    def start(work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        tasks.append(asyncio.create_task(work))
        return tasks[-1]

    yield start
    for task in tasks:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(reached: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait for a condition, without a fixed pause."""
    async with asyncio.timeout(seconds):
        while not reached():
            await asyncio.sleep(0.005)


def node(name: str, version: int, **metadata: object) -> dict[str, object]:
    """A Node as JSON, enough for a test of the mirror."""
    return {"metadata": {"name": name, "uid": name, "resourceVersion": str(version), **metadata}}


class Watched:
    """The handler of one kind: a list that tests change, and events that tests send."""

    def __init__(self, server: FakeServer) -> None:
        self.items: dict[str, dict[str, object]] = {}
        self.version = 100
        self.refuse_watch: int = 0
        self.close_at_once = False
        self.lists = self.watches = 0
        self._streams: list[asyncio.Queue[bytes | None]] = []
        server.handler = self.answer

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.query.get("watch") != "true":
            self.lists += 1
            meta = {"resourceVersion": str(self.version)}
            return web.json_response({"metadata": meta, "items": list(self.items.values())})
        self.watches += 1
        if self.refuse_watch:
            return web.json_response({"message": "too old"}, status=self.refuse_watch)
        stream = web.StreamResponse()
        await stream.prepare(request)
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._streams.append(queue)
        while not self.close_at_once and (line := await queue.get()) is not None:
            await stream.write(line)
        return stream

    def put(self, name: str, version: int, **metadata: object) -> None:
        self.items[name] = node(name, version, **metadata)
        self.version = max(self.version, version)

    def send(self, kind: str, body: object) -> None:
        self.raw(json.dumps({"type": kind, "object": body}).encode() + b"\n")

    def raw(self, line: bytes) -> None:
        self._streams[-1].put_nowait(line)

    def end(self) -> None:
        self._streams[-1].put_nowait(None)


@pytest.fixture
def watched(server: FakeServer) -> Watched:
    return Watched(server)


class Objects:
    """The handler of stored objects: create, compare-and-swap, patch and delete, by path.

    `refuse` gives a status to answer instead (0: do it); `requests` are verb and path, in order.
    """

    def __init__(self, server: FakeServer) -> None:
        self.bodies: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, str]] = []
        self.queries: list[dict[str, str]] = []
        self.refuse: Callable[[str, str], int] = lambda _verb, _path: 0
        self.admit: Callable[[Any], Any] = lambda sent: sent
        """What is kept of a body that is created."""
        self.on_patch: Callable[[str, Any], None] = lambda _path, _patch: None
        self.version = 100
        server.handler = self.answer

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path))
        self.queries.append(dict(request.query))
        refused = self.refuse(request.method, request.path)
        sent = await request.json() if request.can_read_body else {}
        dry = "dryRun" in request.query
        do = self._try_create if dry and request.method == "POST" else self.do
        status, body = (refused, {}) if refused else do(request.method, request.path, sent)
        return web.json_response(body or {"message": "a test wants it"}, status=status)

    def do(self, verb: str, path: str, sent: Any) -> tuple[int, dict[str, Any]]:
        found = self.bodies.get(path)
        if path == RULES:
            everything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
            return 201, {"status": {"resourceRules": [everything], "incomplete": False}}
        if verb == "POST":
            path = f"{path}/{sent['metadata']['name']}"
            return (409, {}) if path in self.bodies else (201, self.put(path, self.admit(sent)))
        if verb == "DELETE":
            self.bodies.pop(path, None)
            return 200, {}
        if found is None:
            return 404, {}
        if verb == "GET":
            return 200, found
        if verb == "PATCH":
            self.on_patch(path, sent)
        if isinstance(sent, list):
            return self._json_patch(path, found, sent)
        wanted = sent["metadata"].get("resourceVersion") or sent["metadata"].get("uid")
        if wanted not in (None, found["metadata"]["resourceVersion"], found["metadata"].get("uid")):
            return 409, {}
        return 200, self.put(path, merged(found, sent) if verb == "PATCH" else sent)

    def _try_create(self, _: str, path: str, sent: Any) -> tuple[int, dict[str, Any]]:
        there = f"{path}/{sent['metadata']['name']}" in self.bodies
        return (409, {}) if there else (201, self.admit(sent))

    def put(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Store an object as a test wants it to be; returns it with its new version."""
        self.version += 1
        metadata = {**body["metadata"], "resourceVersion": str(self.version)}
        self.bodies[path] = {**body, "metadata": metadata}
        return self.bodies[path]

    def _json_patch(self, path: str, found: Any, patch: Any) -> tuple[int, dict[str, Any]]:
        body = json.loads(json.dumps(found))
        for change in patch:
            steps = change["path"].strip("/").split("/")
            *parents, last = (s.replace("~1", "/").replace("~0", "~") for s in steps)
            place = body
            for parent in parents:
                place = place[parent]
            if change["op"] == "test" and place.get(last) != change["value"]:
                return 422, {"message": "test failed"}
            if change["op"] == "replace":
                place[last] = change["value"]
            if change["op"] == "remove":
                del place[last]
        return 200, self.put(path, body)


def merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """A merge patch, without deletions."""
    both = {
        key: merged(old[key], value)
        for key, value in new.items()
        if isinstance(value, dict) and isinstance(old.get(key), dict)
    }
    return {**old, **new, **both}


@pytest.fixture
def objects(server: FakeServer) -> Objects:
    return Objects(server)
