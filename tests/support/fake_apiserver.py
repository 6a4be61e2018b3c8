"""A small apiserver on 127.0.0.1 that answers as each test wants."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import suppress

import pytest
from aiohttp import web
from kubernetes.aio.client import Configuration

from wavegate.cluster.client import Client

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


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


@pytest.fixture
async def client(server: FakeServer) -> AsyncIterator[Client]:
    configuration = Configuration()
    configuration.host = server.url
    connected = Client(configuration, timeout=0.5)
    yield connected
    await connected.close()


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


async def until(reached: Callable[[], object], seconds: float = 3.0) -> None:
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
