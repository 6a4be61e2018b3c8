"""Whatever Prometheus does, the answer is a Hold in words; it resumes; and nothing leaks."""

import asyncio
import contextlib
import gc
import threading
import tracemalloc
from pathlib import Path

import pytest

from support.bad_prometheus import BEHAVIOURS, NODES, BadPrometheus
from support.fake_apiserver import PATIENCE, until
from wavegate.evidence import CheckSpec, judge_check
from wavegate.telemetry import prometheus
from wavegate.telemetry.connections import Source
from wavegate.telemetry.prometheus import PrometheusReader

MOVED = frozenset(NODES)
WAVE = {"per_node": False}

# What it does, what is held, and what the person on call reads.
BAD = [
    ("down", "CheckUnreachable", "refused"),
    ("hangs", "CheckUnreachable", "time"),
    ("drips", "CheckUnreachable", "got no answer within 0.3 s"),
    ("drips headers", "CheckUnreachable", "got no answer within 0.3 s"),
    ("503", "CheckUnreachable", "503"),
    ("422", "CheckInvalid", "many-to-many"),
    ("redirects", "CheckUnreachable", "it redirects elsewhere (HTTP 302), which is not followed"),
    ("empty", "CheckNoData", "has no series for 2 of 2 nodes (n1, n2)"),
    ("NaN", "CheckNoData", "answered NaN or infinity"),
    ("infinity", "CheckNoData", "answered NaN or infinity"),
    ("warnings", "CheckIncomplete", "answered with warnings: store-2 did not answer"),
    ("warnings and harm", "CheckIncomplete", "answered with warnings: store-2 did not answer"),
    ("stale", "CheckStale", "has no sample of the last 60 s for 2 of 2 nodes (n1, n2): the oldest"),
    ("some nodes", "CheckNoData", "has no series for 1 of 2 nodes (n2)"),
    ("huge", "CheckUnreachable", "its answer has more than 8 MiB"),
    ("no JSON type", "CheckUnreachable", "it answers text/html, not as Prometheus"),
    ("login page", "CheckUnreachable", "it answers text/html, not as Prometheus"),
    ("no success", "CheckUnreachable", "does not say `success`"),
    ("nested", "CheckUnreachable", "recursion"),
    ("cut", "CheckUnreachable", "IncompleteRead"),
    ("cut chunk", "CheckUnreachable", "IncompleteRead"),
    ("tells all", "CheckUnreachable", "500"),
]
SILENT = ("hangs", "drips", "drips headers")
"""Only these are asked with a short time-out; the others answer, on however slow a machine."""


def open_sockets(url):
    """Sockets of this process, at either end of a connection to this server."""
    port = f":{int(url.rpartition(':')[2]):04X}"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inodes = {line[9] for line in lines if line[1].endswith(port) or line[2].endswith(port)}
    return sum(target[8:-1] in inodes for target in targets())


def targets():
    """What our open files are: `socket:[inode]` and the like."""
    for fd in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            yield str(fd.readlink())


@pytest.fixture
def reader(monkeypatch):
    monkeypatch.setattr(prometheus, "GRACE_SECONDS", 0.1)
    made = PrometheusReader()
    yield made
    made.close()


@pytest.fixture
def bad():
    with BadPrometheus() as server:
        yield server


def spec(**changes):
    return CheckSpec("c", "q", True, "node", 1.0, 30.0, **{"timeout": 0.3, **changes})


async def verdict(reader, bad, **changes):
    """Verdict, reason and message of one ask."""
    check = spec(max_age=60.0, age_of="up", **changes)
    result = await reader.ask(Source(bad.url), check, "up", MOVED, 100.0)
    found = list(judge_check(check, result, MOVED, 50.0))
    return [(f.verdict.name, f.reason.value, f.message) for f in found]


@pytest.mark.parametrize(("mood", "reason", "words"), BAD)
async def test_what_is_no_evidence_holds_in_words_and_resumes(reader, bad, mood, reason, words):
    timeout = 0.3 if mood in SILENT else PATIENCE
    bad.behave(mood)
    ((name, why, message),) = await verdict(reader, bad, timeout=timeout)
    assert (name, why) == ("HOLD", reason)
    assert words in message
    assert message.startswith("check c ")
    bad.behave("well")
    assert await verdict(reader, bad, timeout=PATIENCE) == []


def test_all_moods_but_the_good_and_the_harmful_are_tried():
    fine = {"well", "infos", "duplicates", "harm"}
    assert {mood for mood, _, _ in BAD} - {"down"} == BEHAVIOURS.keys() - fine


async def test_what_is_only_odd_passes_per_node(reader, bad):
    check = spec(timeout=PATIENCE)
    for mood in ("infos", "duplicates"):
        bad.behave(mood)
        result = await reader.ask(Source(bad.url), check, "up", MOVED, 100.0)
        assert list(judge_check(check, result, MOVED, 50.0)) == [], mood


async def test_a_redirect_is_not_followed_nor_told_any_credential(reader, bad):
    bad.behave("redirects")
    await verdict(reader, bad)
    assert [asked.path for asked in bad.asked] == ["/api/v1/query"]


async def test_a_server_that_drips_is_ended_and_its_thread_is_free_again(reader, bad):
    """No single read takes long, so that no time-out of a socket ever ends it."""
    for mood in ("drips", "drips headers"):
        bad.behave(mood)
        async with asyncio.timeout(PATIENCE):
            await verdict(reader, bad)
        await until(lambda: not reader._running)


async def test_one_prometheus_that_hangs_does_not_keep_another_waiting(reader, bad):
    """Was: four threads for all, so that one slow Prometheus starved the checks of all channels."""
    bad.behave("hangs")
    slow = [
        asyncio.create_task(
            reader.ask(Source(bad.url), spec(timeout=10 * PATIENCE), "q", MOVED, 1.0)
        )
        for _ in range(prometheus.THREADS)
    ]
    await until(lambda: len(bad.asked) == prometheus.THREADS_EACH)
    with BadPrometheus() as other:
        assert await verdict(reader, other, timeout=PATIENCE) == []
    assert len(bad.asked) == prometheus.THREADS_EACH, "the others wait for their turn"
    assert not any(task.done() for task in slow)
    slow.pop().cancel()
    bad.behave("well")
    bad.release.set()
    results = await asyncio.wait_for(asyncio.gather(*slow), PATIENCE)
    good = [result for result in results if not result.error]
    assert len(good) == prometheus.THREADS - 1 - prometheus.THREADS_EACH, "each had its turn"
    assert not reader._running
    assert reader._slots == {}


async def test_two_hundred_bad_answers_leave_no_thread_no_socket_and_no_memory(reader, bad):
    moods = [mood for mood, _, _ in BAD if mood not in SILENT]
    moods += ["well", "harm", "duplicates", "hangs"]

    async def all_of_them(times):
        for n in range(times):
            bad.release.clear()
            bad.behave(moods[n % len(moods)])
            await verdict(reader, bad, timeout=0.15)
            bad.release.set()
        bad.behave("well")
        await until(lambda: not reader._running)
        await until(lambda: len(own_threads()) <= before_threads, 10.0)
        gc.collect()

    def own_threads():
        return [t for t in threading.enumerate() if not t.name.startswith("prometheus")]

    before_threads = len(own_threads())
    await all_of_them(len(moods))
    sockets = open_sockets(bad.url)
    tracemalloc.start()
    try:
        held = tracemalloc.get_traced_memory()[0]
        bad.asked.clear()
        await all_of_them(200)
        bad.asked.clear()
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - held
    finally:
        tracemalloc.stop()
    await until(lambda: open_sockets(bad.url) <= sockets)
    assert grown < 1_000_000
    assert reader._slots == {}
    pool = [t for t in threading.enumerate() if t.name.startswith("prometheus")]
    assert len(pool) <= prometheus.THREADS
    reader.close()
    await until(lambda: not any(thread.is_alive() for thread in pool))
