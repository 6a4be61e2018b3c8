"""A small synchronous client of an apiserver, for tests and tools. The operator has its own."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import requests

from wavegate_sandbox.errors import ApiError, TimedOut
from wavegate_sandbox.kubeconfig import Access

T = TypeVar("T")
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
POLL_SECONDS, MAX_POLL_SECONDS = 0.1, 0.3


class Api:
    """Requests to one apiserver as one identity. May be used from several threads.

    Args:
        access: the apiserver, and who asks it.
        user: impersonated, if the identity may do that.
    """

    def __init__(self, access: Access, user: str = "") -> None:
        self.access, self.user = access, user
        self._local = threading.local()

    def request(  # noqa: PLR0913 - all but two have defaults
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        params: Mapping[str, str] | None = None,
        content_type: str | None = None,
        check: bool = True,
    ) -> dict[str, Any]:
        """One request; the answer as a dict.

        Args:
            method: HTTP method.
            path: from the server's root: `/api/v1/nodes`.
            body: sent as JSON.
            params: query parameters.
            content_type: of the body; default: JSON, for PATCH a JSON merge patch.
            check: with False an error is returned as the `Status` object that the server sent.

        Raises:
            ApiError: the server answered with an error (only if `check`).
        """
        kind = content_type or (MERGE if method == "PATCH" else "application/json")
        answer = self._session().request(
            method,
            self.access.server + path,
            json=body,
            params=params,
            headers={"Content-Type": kind, "Accept": "application/json"},
            timeout=30,
        )
        try:
            found = answer.json()
        except requests.JSONDecodeError:
            found = {"kind": "Status", "code": answer.status_code, "message": answer.text}
        if check and not answer.ok:
            raise ApiError(answer.status_code, found.get("reason", ""), found.get("message", ""))
        return dict(found)

    def watch(self, path: str, seconds: int, **params: str) -> Iterator[dict[str, Any]]:
        """Watch events (`type`, `object`) until the server ends the stream after `seconds`."""
        query = {"watch": "1", "timeoutSeconds": str(seconds)} | params
        with self._session().get(
            self.access.server + path, params=query, stream=True, timeout=(5, seconds + 5)
        ) as answer:
            if not answer.ok:
                raise ApiError(answer.status_code, "", answer.text)
            for line in answer.iter_lines(chunk_size=None):
                if line:
                    yield json.loads(line)

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = requests.Session()
            # No proxies or certificate bundles of the environment on the way to 127.0.0.1.
            session.trust_env = False
            access = self.access
            session.verify = str(access.ca) if access.ca else True
            if access.pair:
                session.cert = (str(access.pair.certificate), str(access.pair.key))
            if access.token:
                session.headers["Authorization"] = f"Bearer {access.token}"
            if self.user:
                session.headers["Impersonate-User"] = self.user
            self._local.session = session
        return session


def wait_for(what: str, predicate: Callable[[], T], timeout: float = 30) -> T:
    """Poll a condition until it is true; returns what made it so. Every 0.1 s at first; who has
    waited for long asks less often, every 0.3 s at least.

    Connection errors count as "not yet", so that one can wait for a server.

    Raises:
        TimedOut: the message says what was awaited and what was seen last.
    """
    began = time.monotonic()
    while True:
        last: object
        try:
            found = predicate()
            if found:
                return found
            last = found
        except (requests.ConnectionError, requests.Timeout) as error:
            last = error
        waited = time.monotonic() - began
        if waited > timeout:
            raise TimedOut(f"Waited {timeout:g} s for {what}. Last seen: {_short(last)}")
        time.sleep(min(MAX_POLL_SECONDS, max(POLL_SECONDS, waited / 20)))


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 500 else text[:500] + "…"
