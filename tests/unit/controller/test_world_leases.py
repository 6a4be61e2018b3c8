"""Leases: looked at from a leader's first moment on, and never taken for fresher than known."""

import pytest
from aiohttp import web

from support import fleet
from support.fake_apiserver import until
from wavegate.controller import world as world_module


@pytest.fixture
def versions(server):
    """Version of each machine's lease, as it is listed."""
    listed = {"one": 5, "two": 5}

    async def answer(_request):
        items = [{"metadata": {"name": n, "resourceVersion": str(v)}} for n, v in listed.items()]
        return web.json_response({"metadata": {"resourceVersion": "9"}, "items": items})

    server.handler = answer
    return listed


async def test_a_leader_looks_at_once_and_counts_a_renewal_from_the_look_before(
    client, server, versions, background, monkeypatch
):
    monkeypatch.setattr(world_module, "LEASE_POLL_SECONDS", 0.05)
    now, woken = [100.0], []

    async def looks(more):
        seen = len(server.requests)
        await until(lambda: len(server.requests) >= seen + more)

    world = fleet.world_of(fleet.observe(2, "soaking"), client, lambda: now[0])
    world.leases, world._wake = {}, woken.append
    background(world._poll_leases())
    await until(lambda: woken)
    assert world.leases == {}, "the first sight of a lease says nothing about when it was renewed"
    now[0] = 200.0
    await looks(3)
    versions["one"] = 6
    await until(lambda: world.leases)
    assert world.leases == {"one": 200.0}
    now[0], versions["one"] = 300.0, 5
    await looks(2)
    assert world.leases == {"one": 200.0}, "an older version comes from a server that lags"
