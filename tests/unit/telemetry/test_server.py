"""Probes and metrics over HTTP, and what the operator counts."""

import aiohttp
import pytest

from wavegate.telemetry.metrics import Metrics
from wavegate.telemetry.server import serve


@pytest.fixture
async def get():
    """Serve with changeable probes; returns GET, as (status, text)."""
    problems = {"healthy": "", "ready": ""}
    metrics = Metrics()
    metrics.leader.set(1)
    metrics.observe_request("GET", "/x", 404)
    metrics.observe_request("GET", "/x", 0)
    runner = await serve(
        ("127.0.0.1", 0), metrics.registry, lambda: problems["healthy"], lambda: problems["ready"]
    )
    host, port = runner.addresses[0][:2]

    async def run(path, **changes):
        problems.update(changes)
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://{host}:{port}{path}") as response,
        ):
            return response.status, await response.text()

    yield run
    await runner.cleanup()


async def test_a_probe_says_ok_or_what_is_wrong(get):
    assert await get("/healthz") == (200, "ok")
    assert await get("/healthz", healthy="a watch is silent") == (503, "a watch is silent")
    assert await get("/readyz", ready="waiting for the CRDs") == (503, "waiting for the CRDs")


async def test_metrics_are_served(get):
    status, text = await get("/metrics")
    assert status == 200
    assert "wavegate_leader 1.0" in text
    assert 'wavegate_api_requests_total{outcome="4xx",verb="GET"} 1.0' in text
    assert 'wavegate_api_requests_total{outcome="none",verb="GET"} 1.0' in text
