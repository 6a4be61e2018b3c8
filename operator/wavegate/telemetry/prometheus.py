"""Asks Prometheus through prometheus-api-client, always with a time-out, in a few threads.

Whatever goes wrong becomes a result with an error in words: it is the evidence layer that decides
what silence means.
"""

import asyncio
import http.client
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
import urllib3
from prometheus_api_client import PrometheusApiClientException, PrometheusConnect

from wavegate.evidence import CheckResult, CheckSpec, Sample
from wavegate.telemetry.connections import Connection, ConnectionUnusable, Source, connect
from wavegate.telemetry.exchange import Exchange

THREADS = 32
THREADS_EACH = 4
"""Queries at once to one Prometheus: one that hangs keeps so many threads at most, for the time
that its checks allow, and those of other channels are answered meanwhile."""
MAX_SERIES = 20_000
GRACE_SECONDS = 1.0
"""A query that is still under way so long after its time is ended from outside."""
FOLDER = Path("/etc/wavegate/prometheus")
MAX_NOTES = 5
_WRONG = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    OSError,
    ValueError,
    KeyError,
    TypeError,
    IndexError,
    AttributeError,
    RecursionError,
)


@dataclass(slots=True)
class _Slots:
    """The queries to one Prometheus that are under way or wait."""

    free: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(THREADS_EACH))
    users: int = 0


class PrometheusReader:
    """Runs instant queries, each on connections of its own: nothing is kept between two, so that a
    rotated token, certificate or CA acts with the next. `folder` holds the named connections.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        self._folder = folder
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="prometheus")
        self._slots: dict[Source, _Slots] = {}
        self._running: set[Exchange] = set()

    def close(self) -> None:
        """End all queries and stop the threads."""
        for exchange in self._running:
            exchange.sockets.abort()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def ask(
        self, source: Source, check: CheckSpec, query: str, nodes: frozenset[str], now: float
    ) -> CheckResult:
        """Ask `query`, and how old its samples are if `check` wants to know, all substituted.
        Returns samples or an error, never an exception. Waits for its turn first, so that `now`
        may be earlier than the moment of the query.
        """
        place = Source(source.url, source.connection)
        slots = self._slots.setdefault(place, _Slots())
        slots.users += 1
        try:
            await slots.free.acquire()
        except asyncio.CancelledError:
            self._leave(place, slots)
            raise
        exchange = Exchange()
        self._running.add(exchange)
        work = asyncio.get_running_loop().run_in_executor(
            self._threads, self._ask, source, check, query, exchange
        )

        def ended(_: object) -> None:
            """The thread is free, whether or not anyone still waits."""
            self._running.discard(exchange)
            slots.free.release()
            self._leave(place, slots)

        work.add_done_callback(ended)
        try:
            await asyncio.wait({work}, timeout=check.timeout + GRACE_SECONDS)
        finally:
            exchange.sockets.abort()
        if not work.done():
            return CheckResult(now, nodes, error=f"got no answer within {check.timeout:g} s")
        found = work.result()
        return CheckResult(now, nodes, **found)

    def _leave(self, place: Source, slots: _Slots) -> None:
        slots.users -= 1
        if not slots.users:
            self._slots.pop(place, None)

    def _ask(
        self, source: Source, check: CheckSpec, query: str, exchange: Exchange
    ) -> dict[str, Any]:
        """In a thread: the fields of the result."""
        connection = Connection("")
        try:
            with exchange:
                connection = connect(self._folder, source)
                return _answers(connection, check, query, exchange)
        except ConnectionUnusable as error:
            return {"error": f"could not be asked: {error}"}
        except PrometheusApiClientException as error:
            text = connection.clean(str(error))[:300]
            return {"error": f"was refused: {text}", "refused": exchange.status in (400, 422)}
        except _WRONG as error:
            cause = connection.clean(_cause(error))[:300]
            return {"error": f"could not be asked at {source}: {cause}"}


def _answers(
    connection: Connection, check: CheckSpec, query: str, exchange: Exchange
) -> dict[str, Any]:
    client = PrometheusConnect(
        url=connection.url,
        headers=dict(connection.headers),
        auth=connection.authorization,
        session=exchange,
        method="POST",
    )
    exchange.verify, exchange.cert = connection.ca or True, connection.cert
    exchange.mount_for(connection.url)
    deadline = time.monotonic() + check.timeout
    samples = _vector(client, query, check.timeout)
    notes = [exchange.answer]
    ages: tuple[Sample, ...] = ()
    if check.age_of:
        left = max(0.1, deadline - time.monotonic())
        ages = _vector(client, f"time() - timestamp({check.age_of})", left)
        notes.append(exchange.answer)
    return {
        "samples": samples,
        "ages": ages,
        "warnings": _notes(connection, notes, "warnings"),
        "infos": _notes(connection, notes, "infos"),
    }


def _vector(client: Any, query: str, timeout: float) -> tuple[Sample, ...]:
    """The series of an instant vector. `timeout` also tells Prometheus when to give up."""
    found = client.custom_query(query, params={"timeout": f"{timeout:.3f}"}, timeout=timeout)
    if len(found) > MAX_SERIES:
        raise ValueError(f"{len(found)} series came back, more than {MAX_SERIES}")
    return tuple(_sample(entry) for entry in found)


def _sample(entry: Mapping[str, Any]) -> Sample:
    """Parse one series of an instant vector; float() reads `NaN` and `+Inf` too."""
    at, value = entry["value"]
    return Sample(dict(entry["metric"]), float(value), float(at))


def _notes(
    connection: Connection, answers: Iterable[Mapping[str, Any]], kind: str
) -> tuple[str, ...]:
    """What Prometheus adds to its answers: the client gives only their series."""
    notes = [str(note) for answer in answers for note in answer.get(kind) or ()]
    return tuple(connection.clean(note)[:200] for note in dict.fromkeys(notes))[:MAX_NOTES]


def _cause(error: BaseException) -> str:
    """The innermost message: requests wraps the same words three times."""
    inner = error
    while inner.__cause__ or inner.__context__:
        inner = inner.__cause__ or inner.__context__ or inner
    return str(inner) or type(inner).__name__
