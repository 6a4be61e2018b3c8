"""What a real Prometheus tells of its samples, and how our reader asks for it."""

import time

import pytest

from wavegate.evidence import CheckSpec
from wavegate.telemetry.connections import Source
from wavegate.telemetry.prometheus import PrometheusReader

PLAIN = 'probe_total{node=~"n1|n2"}'


@pytest.fixture
def reader():
    made = PrometheusReader()
    yield made
    made.close()


@pytest.fixture
def scraped(sandbox, exporter):
    """Two nodes' series are in Prometheus."""
    for node in ("n1", "n2"):
        exporter.set("probe_total", {"node": node, "instance": f"{node}:9100"}, 1)
    return sandbox


async def ask(reader, sandbox, query, age_of=""):
    check = CheckSpec("c", query, True, "node", 1.0, 30.0, 5.0, max_age=60.0, age_of=age_of)
    source = Source(sandbox.prometheus_url)
    deadline = time.monotonic() + 30
    while True:
        result = await reader.ask(source, check, query, frozenset({"n1", "n2"}), 1.0)
        if len(result.samples) == 2 or result.error or time.monotonic() > deadline:
            return result


async def test_a_plain_selector_has_the_age_of_its_samples(reader, scraped):
    result = await ask(reader, scraped, PLAIN, PLAIN)
    assert result.error == ""
    assert {age.labels["node"] for age in result.ages} == {"n1", "n2"}
    assert all(0.0 <= age.value < 30.0 for age in result.ages)


async def test_of_what_is_calculated_prometheus_would_say_that_it_is_of_now(reader, scraped):
    """Therefore the CRD refuses it: its age would always be 0, which proves nothing."""
    result = await ask(reader, scraped, PLAIN, f"({PLAIN} + 0)")
    assert {age.value for age in result.ages} == {0.0}


async def test_remarks_of_prometheus_are_seen_though_the_library_drops_them(reader, scraped):
    result = await ask(reader, scraped, f"{PLAIN} and on() (sum(rate(up[1m])) >= 0)")
    assert result.error == ""
    assert any("counter" in info for info in result.infos)
    assert result.warnings == ()


async def test_a_query_that_can_t_run_is_refused_and_one_that_warns_is_seen(reader, scraped):
    assert (await ask(reader, scraped, "sum by (")).refused
    warned = await ask(reader, scraped, f"quantile by (node) (2, {PLAIN})")
    assert warned.error == ""
    assert "quantile value should be between 0 and 1" in warned.warnings[0]
