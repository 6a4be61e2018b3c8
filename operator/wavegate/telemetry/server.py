"""Serves /healthz, /readyz and /metrics on one port."""

from collections.abc import Awaitable, Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

Probe = Callable[[], str]
"""Returns why it fails, in words; empty when all is well."""


async def serve(
    listen: tuple[str, int], registry: CollectorRegistry, healthy: Probe, ready: Probe
) -> web.AppRunner:
    """Start the server; `listen` is (address, port). Stop it with the runner's `cleanup`."""

    async def metrics(_request: web.Request) -> web.Response:
        headers = {"Content-Type": CONTENT_TYPE_LATEST}
        return web.Response(body=generate_latest(registry), headers=headers)

    app = web.Application()
    app.router.add_get("/healthz", _handler(healthy))
    app.router.add_get("/readyz", _handler(ready))
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, *listen).start()
    return runner


def _handler(probe: Probe) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(_request: web.Request) -> web.StreamResponse:
        problem = probe()
        return web.Response(status=503 if problem else 200, text=problem or "ok")

    return answer
