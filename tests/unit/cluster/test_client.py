"""Whatever goes wrong between us and the apiserver becomes an ApiError, and in time."""

import asyncio

import pytest
from aiohttp import web

from support.fake_apiserver import PATIENCE, connected
from wavegate.cluster.client import ApiError


@pytest.fixture
async def impatient(server):
    """A client that waits for half a second only."""
    client = connected(server, timeout=0.5)
    yield client
    await client.close()


async def failure(client):
    """The error that a GET ends in."""
    with pytest.raises(ApiError) as caught:
        await client.get("/x")
    return caught.value


async def test_too_many_requests_carry_the_server_s_wish(client, server):
    async def answer(_request):
        headers = {"Retry-After": "7"}
        return web.json_response({"message": "slow down"}, status=429, headers=headers)

    server.handler = answer
    error = await failure(client)
    assert (error.status, error.retry_after) == (429, 7.0)
    assert "slow down" in str(error)


async def test_a_server_that_says_nothing_ends_in_status_0_within_the_time_out(impatient, server):
    async def answer(_request):
        await asyncio.sleep(10 * PATIENCE)

    server.handler = answer
    async with asyncio.timeout(PATIENCE):
        assert (await failure(impatient)).status == 0


async def test_an_answer_that_ends_in_the_middle_is_status_0(client, server):
    async def answer(_request):
        return web.Response(body=b'{"metadata": {"na', content_type="application/json")

    server.handler = answer
    error = await failure(client)
    assert error.status == 0
    assert "broken answer" in str(error)


async def test_a_server_that_is_not_there_is_status_0(client, server):
    client._api.configuration.host = "http://127.0.0.1:1"
    assert (await failure(client)).status == 0


# Was: `json.loads(text).get` raised AttributeError when the body was JSON but no object. Only
# ValueError was suppressed, so it was no ApiError and ends a mirror, and with it the process.
@pytest.mark.parametrize("body", ['"unavailable"', "[]", "null", "503"])
async def test_a_refusal_whose_body_is_json_but_no_object_is_an_api_error(client, server, body):
    async def answer(_request):
        return web.Response(text=body, status=503)

    server.handler = answer
    assert (await failure(client)).status == 503


# Was: `_check` reads the body of a refusal outside of any `try`.
async def test_a_connection_that_breaks_in_a_refusal_is_an_api_error(client, server):
    async def answer(request):
        response = web.StreamResponse(status=500, headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"half")
        request.transport.close()
        return response

    server.handler = answer
    assert (await failure(client)).status in (0, 500)


# Was: the same place, when the body of a refusal never comes.
async def test_a_refusal_whose_body_never_comes_is_an_api_error(impatient, server):
    async def answer(request):
        response = web.StreamResponse(status=500, headers={"Content-Length": "100"})
        await response.prepare(request)
        await asyncio.sleep(10 * PATIENCE)
        return response

    server.handler = answer
    assert (await failure(impatient)).status in (0, 500)


async def test_what_is_already_gone_is_deleted(client, server):
    async def answer(_request):
        return web.json_response({"message": "not found"}, status=404)

    server.handler = answer
    await client.delete("/x")
