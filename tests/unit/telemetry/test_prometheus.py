"""The reader against a real HTTP server: whatever comes back is samples, or an error in words."""

import asyncio
import json
import math

import pytest
from aiohttp import web

from support.fake_apiserver import PATIENCE
from wavegate.evidence import CheckSpec, judge_check
from wavegate.telemetry import prometheus
from wavegate.telemetry.connections import Source
from wavegate.telemetry.prometheus import PrometheusReader

NODES = frozenset({"n1", "n2"})


@pytest.fixture
def reader():
    made = PrometheusReader()
    yield made
    made.close()


def spec(timeout=2.0):
    return CheckSpec("c", "q", True, "node", 1.0, 30.0, timeout)


@pytest.fixture
def ask(reader, server):
    """Ask the server, which answers with this status, text and delay."""

    async def run(text="", status=200, delay=0.0, timeout=2.0):
        async def answer(_request):
            await asyncio.sleep(delay)
            return web.Response(text=text, status=status, content_type="application/json")

        server.handler = answer
        return await reader.ask(Source(server.url), spec(timeout), "up", NODES, 7.0)

    return run


def vector(*series):
    """Prometheus' answer to an instant query: series of (labels, value as text)."""
    result = [{"metric": labels, "value": [1.5, value]} for labels, value in series]
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}})


async def query_of(request):
    """The query of a request by GET or POST."""
    return {**request.query, **await request.post()}["query"]


def data(kind, result):
    return json.dumps({"status": "success", "data": {"resultType": kind, "result": result}})


async def test_samples_are_read_with_their_labels(ask, server):
    result = await ask(vector(({"node": "n1"}, "0.5"), ({"node": "n2", "job": "a"}, "3")))
    assert [(s.labels["node"], s.value) for s in result.samples] == [("n1", 0.5), ("n2", 3.0)]
    assert (result.asked_at, result.nodes, result.error) == (7.0, NODES, "")
    (request,) = server.requests
    assert request.path == "/api/v1/query"


@pytest.mark.parametrize(
    ("text", "test"),
    [("NaN", math.isnan), ("+Inf", math.isinf), ("-Inf", math.isinf), ("1e3", lambda v: v == 1000)],
)
async def test_values_that_are_no_plain_numbers_are_read_too(ask, text, test):
    result = await ask(vector(({"node": "n1"}, text)))
    assert test(result.samples[0].value)


async def test_an_empty_answer_is_no_error_but_no_sample_either(ask):
    result = await ask(vector())
    assert (result.samples, result.error) == ((), "")


@pytest.mark.parametrize(
    ("status", "refused"), [(400, True), (422, True), (503, False), (500, False), (401, False)]
)
async def test_only_a_query_that_prometheus_can_t_run_is_refused(ask, status, refused):
    result = await ask('{"status": "error", "error": "parse error"}', status)
    assert result.refused is refused
    assert "was refused" in result.error
    assert "parse error" in result.error
    assert result.samples == ()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<html>not Prometheus</html>",
        '{"status": "succ',
        "[]",
        "null",
        "7",
        "{}",
        '{"data": null}',
        '{"data": {"result": null}}',
        data("vector", [{}]),
        data("vector", [{"metric": {}}]),
        data("vector", [{"metric": {}, "value": []}]),
        data("vector", [{"metric": {}, "value": [1, "many"]}]),
        data("vector", [{"metric": None, "value": [1, "1"]}]),
        data("vector", [{"metric": {}, "value": [1, None]}]),
        data("vector", [7]),
        data("matrix", [{"metric": {}, "values": [[1, "1"]]}]),
        data("scalar", [1.5, "1"]),
        data("string", [1.5, "text"]),
    ],
)
async def test_an_answer_of_another_form_is_an_error_in_words(ask, server, text):
    result = await ask(text)
    assert result.error
    assert server.url in result.error
    assert (result.samples, result.refused) == ((), False)
    (finding,) = judge_check(spec(), result, NODES, 0.0)
    assert (finding.verdict.name, finding.reason.value) == ("HOLD", "CheckUnreachable")


async def test_a_prometheus_that_is_down_is_an_error_in_words(reader):
    result = await reader.ask(Source("http://127.0.0.1:1"), spec(), "up", NODES, 7.0)
    assert "could not be asked at http://127.0.0.1:1" in result.error
    assert "refused" in result.error.lower()
    assert not result.refused


async def test_a_slow_prometheus_is_an_error_after_the_check_s_time_out(ask):
    async with asyncio.timeout(PATIENCE):
        result = await ask(vector(), delay=10 * PATIENCE, timeout=0.3)
    assert result.error
    assert not result.refused


async def test_too_many_series_are_an_error(ask, monkeypatch):
    monkeypatch.setattr(prometheus, "MAX_SERIES", 2)
    result = await ask(vector(*(({"node": f"n{i}"}, "1") for i in range(3))))
    assert "3 series came back" in result.error


async def test_one_that_hangs_does_not_keep_the_others_waiting(reader, server):
    hang = asyncio.Event()

    async def answer(request):
        if await query_of(request) == "hangs":
            await hang.wait()
        return web.Response(text=vector(), content_type="application/json")

    server.handler = answer
    hanging = asyncio.create_task(reader.ask(Source(server.url), spec(), "hangs", NODES, 7.0))
    answered = await reader.ask(Source(server.url), spec(), "up", NODES, 7.0)
    assert answered.error == ""
    hang.set()
    assert (await hanging).error == ""


async def test_the_query_is_sent_as_it_is(server, reader):
    asked = []

    async def answer(request):
        asked.append(await query_of(request))
        return web.Response(text=vector(), content_type="application/json")

    server.handler = answer
    query = 'sum by (node) (up{node=~"a\\\\.b|c"}) > bool 0 & ü'
    await reader.ask(Source(server.url), spec(), query, NODES, 7.0)
    assert asked == [query]


# Was: `$nodes` of 5,000 nodes made a URL of 150 kB, which a proxy in front of Prometheus refuses.
async def test_a_query_about_5000_nodes_is_not_sent_in_the_url(reader, server):
    asked = []

    async def answer(request):
        form = await request.post()
        asked.append((request.method, form.get("query")))
        return web.Response(text=vector(), content_type="application/json")

    server.handler = answer
    query = "|".join(f"ip-10-0-{n // 250}-{n % 250}.internal" for n in range(5000))
    await reader.ask(Source(server.url), spec(), query, NODES, 7.0)
    assert asked == [("POST", query)]
