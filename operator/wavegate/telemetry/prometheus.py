"""Asks Prometheus through prometheus-api-client, always with a time-out, in a few threads.

Whatever goes wrong becomes a result with an error in words: it is the evidence layer that decides
what silence means.
"""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import requests
from prometheus_api_client import PrometheusApiClientException, PrometheusConnect
from urllib3.util.retry import Retry

from wavegate.evidence import CheckResult, CheckSpec, Sample

THREADS = 4
MAX_SERIES = 20_000


class PrometheusReader:
    """Runs instant queries. `url` is the channel's; connections are kept per URL."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="prometheus")
        self._connections: dict[str, Any] = {}

    def close(self) -> None:
        """Stop the threads; queries that run are not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def ask(
        self, url: str, check: CheckSpec, query: str, nodes: frozenset[str], now: float
    ) -> CheckResult:
        """Ask `query` (already substituted) and return samples or an error, never an exception."""
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._threads, self._query, url, query, check.timeout)
        try:
            async with asyncio.timeout(check.timeout + 5.0):
                raw = await work
            return CheckResult(now, nodes, tuple(_sample(entry) for entry in raw))
        except TimeoutError:
            return CheckResult(now, nodes, error=f"got no answer within {check.timeout:g} s")
        except PrometheusApiClientException as error:
            text = str(error)
            refused = "Code 400" in text or "Code 422" in text
            return CheckResult(now, nodes, error=f"was refused: {text[:300]}", refused=refused)
        except (requests.RequestException, ValueError, KeyError, TypeError, IndexError) as error:
            return CheckResult(now, nodes, error=f"could not be asked at {url}: {_cause(error)}")

    def _query(self, url: str, query: str, timeout: float) -> list[Mapping[str, Any]]:
        connection = self._connections.get(url)
        if connection is None:
            connection = PrometheusConnect(
                url=url, retry=Retry(total=0), session=_FormSession(), method="POST"
            )
            self._connections[url] = connection
        answer: list[Mapping[str, Any]] = connection.custom_query(query, timeout=timeout)
        if len(answer) > MAX_SERIES:
            raise ValueError(f"{len(answer)} series came back, more than {MAX_SERIES}")
        return answer


class _FormSession(requests.Session):
    """Sends a query in the body: the names of 5,000 nodes do not fit into a URL."""

    def request(  # type: ignore[override]  # the few arguments that prometheus-api-client uses
        self, method: str, url: str, params: Mapping[str, str] | None = None, **options: Any
    ) -> requests.Response:
        return super().request(method, url, data=params, **options)


def _sample(entry: Mapping[str, Any]) -> Sample:
    """Parse one series of an instant vector; float() reads `NaN` and `+Inf` too."""
    return Sample(dict(entry["metric"]), float(entry["value"][1]))


def _cause(error: Exception) -> str:
    """The innermost message: requests wraps the same words three times."""
    inner: BaseException = error
    while inner.__cause__ or inner.__context__:
        inner = inner.__cause__ or inner.__context__ or inner
    return str(inner)[:300] or type(inner).__name__
