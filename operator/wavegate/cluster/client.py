"""A thin HTTP client on `kubernetes.aio`: its configuration, auth and connections, our raw JSON.

Typed models are left out on purpose: they validate responses, so that a write which succeeded can
still raise, and they cost six times the memory on large lists. There are no retries in here. A
write that failed is an unknown, and the level-triggered loop looks again.
"""

import contextlib
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import load_incluster_config, load_kube_config

MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
FIELD_MANAGER = "wavegate"

LIST_SECONDS = 60.0

_DRY_RUN = {"fieldManager": FIELD_MANAGER, "dryRun": "All"}

Params = Mapping[str, str]
Observer = Callable[[str, str, int], None]
"""Told of each request: verb, path, status (0 = no answer)."""


class ApiError(Exception):
    """The apiserver refused a request or did not answer it.

    `status` is the HTTP code, 0 when there was no answer; `retry_after` is the server's wish in
    seconds (429 and 503).
    """

    def __init__(self, status: int, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"{message} (HTTP {status})" if status else message)
        self.status = status
        self.retry_after = retry_after


async def connect(context: str | None = None) -> Configuration:
    """Read the in-cluster configuration, or else the kubeconfig (KUBECONFIG, ~/.kube/config).

    Raises kubernetes.config.ConfigException when there is neither.
    """
    configuration = Configuration()
    if os.environ.get("KUBERNETES_SERVICE_HOST") and not os.environ.get("KUBECONFIG"):
        load_incluster_config(client_configuration=configuration)
    else:
        await load_kube_config(client_configuration=configuration, context=context)
    return configuration


class Client:
    """Requests against one apiserver. `timeout` bounds every request but watches, in seconds."""

    def __init__(
        self, configuration: Configuration, timeout: float = 10.0, observe: Observer | None = None
    ) -> None:
        self._api = ApiClient(configuration)
        self._timeout = timeout
        self._observe = observe or (lambda _verb, _path, _status: None)

    async def close(self) -> None:
        """Close all connections."""
        await self._api.close()

    async def get(self, path: str, params: Params | None = None) -> dict[str, Any]:
        """GET one object."""
        return await self._request("GET", path, params)

    async def find(self, path: str) -> dict[str, Any] | None:
        """GET one object; None when there is none, or no such kind."""
        try:
            return await self.get(path)
        except ApiError as error:
            if error.status != 404:
                raise
            return None

    async def list(self, path: str, params: Params | None = None) -> dict[str, Any]:
        """GET a list or a page of one, which may take a minute on a busy server."""
        return await self._request("GET", path, params, timeout=LIST_SECONDS)

    async def create(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """POST a new object."""
        return await self._request("POST", path, {"fieldManager": FIELD_MANAGER}, body)

    async def try_create(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """POST as a dry run: checked like a real one, stored nowhere."""
        params = {**_DRY_RUN, "fieldValidation": "Strict"}
        return await self._request("POST", path, params, body)

    async def replace(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """PUT an object; with its resourceVersion this is compare-and-swap."""
        return await self._request("PUT", path, {"fieldManager": FIELD_MANAGER}, body)

    async def patch(self, path: str, body: Any, kind: str = MERGE_PATCH) -> dict[str, Any]:
        """PATCH an object."""
        return await self._request("PATCH", path, {"fieldManager": FIELD_MANAGER}, body, kind)

    async def try_patch(self, path: str, body: Any, kind: str = MERGE_PATCH) -> dict[str, Any]:
        """PATCH as a dry run: checked like a real one, stored nowhere."""
        return await self._request("PATCH", path, _DRY_RUN, body, kind)

    async def apply(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Server-side apply with our field manager, taking fields over."""
        params = {"fieldManager": FIELD_MANAGER, "force": "true"}
        return await self._request("PATCH", path, params, body, APPLY_PATCH)

    async def try_apply(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Server-side apply as a dry run; where there is no such object, it would be created."""
        return await self._request("PATCH", path, _DRY_RUN, body, APPLY_PATCH)

    async def delete(self, path: str, params: Params | None = None, body: Any = None) -> None:
        """DELETE an object, or a collection with selectors. What is already gone is fine. `body`:
        DeleteOptions, whose preconditions may make it a 409.
        """
        try:
            await self._request("DELETE", path, params, body)
        except ApiError as error:
            if error.status != 404:
                raise

    async def watch(
        self, path: str, params: Params, silence: float
    ) -> AsyncIterator[dict[str, Any]]:
        """Yield watch events. Ends when the server ends it; raises ApiError when nothing at all,
        not even a bookmark, came for `silence` seconds.
        """
        query = {**params, "watch": "true", "allowWatchBookmarks": "true"}
        limits = aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=silence)
        async with await self._send("GET", path, query, timeout=limits) as response:
            await self._check(response, "WATCH", path)
            try:
                async for line in _lines(response.content):
                    yield json.loads(line)
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                raise ApiError(0, f"watch of {path} broke: {_words(error)}") from error

    async def _request(  # noqa: PLR0913 (what a request is made of)
        self,
        verb: str,
        path: str,
        params: Params | None = None,
        body: Any = None,
        kind: str = "application/json",
        *,
        timeout: float = 0.0,
    ) -> dict[str, Any]:
        limits = aiohttp.ClientTimeout(total=timeout or self._timeout)
        data = None if body is None else json.dumps(body)
        response = await self._send(verb, path, params, timeout=limits, data=data, kind=kind)
        async with response:
            await self._check(response, verb, path)
            try:
                answer: dict[str, Any] = json.loads(await response.read())
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                raise ApiError(0, f"{verb} {path}: broken answer: {_words(error)}") from error
        return answer

    async def _send(  # noqa: PLR0913 (what an HTTP request is made of)
        self,
        verb: str,
        path: str,
        params: Params | None,
        *,
        timeout: aiohttp.ClientTimeout,
        data: str | None = None,
        kind: str = "application/json",
    ) -> aiohttp.ClientResponse:
        headers = {"Accept": "application/json", "Content-Type": kind, "User-Agent": FIELD_MANAGER}
        await self._api.update_params_for_auth(headers, [], ["BearerToken"], path, verb, data)
        rest = self._api.rest_client
        if rest.pool_manager is None:
            rest.pool_manager = rest._create_pool_manager()  # noqa: SLF001 (its own way to make one)
        query = f"?{urlencode(params)}" if params else ""
        url = f"{self._api.configuration.host}{path}{query}"
        send: Callable[..., Awaitable[aiohttp.ClientResponse]] = rest.pool_manager.request
        try:
            return await send(verb, url, headers=headers, data=data, timeout=timeout)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._observe(verb, path, 0)
            raise ApiError(0, f"{verb} {path}: no answer: {_words(error)}") from error

    async def _check(self, response: aiohttp.ClientResponse, verb: str, path: str) -> None:
        self._observe(verb, path, response.status)
        if response.status < 400:
            return
        text = await _said(response)
        wait = response.headers.get("Retry-After", "")
        retry_after = float(wait) if wait.isdigit() else None
        raise ApiError(response.status, f"{verb} {path}: {text}", retry_after)


async def _said(response: aiohttp.ClientResponse) -> str:
    """The message of a refusal, as far as it can be read."""
    try:
        raw = (await response.content.read(20_000)).decode(errors="replace")
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return f"(no message: {_words(error)})"
    with contextlib.suppress(ValueError):
        body = json.loads(raw)
        if isinstance(body, dict):
            return str(body.get("message", raw))[:2000]
    return raw[:2000]


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Split a stream into lines of any length."""
    rest = b""
    async for chunk in stream.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line:
                yield line


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__
