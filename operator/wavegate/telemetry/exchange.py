"""One exchange with a Prometheus over HTTP: bounded in bytes and in time, and never redirected.

requests bounds each single read, not the whole: a server that sends a byte now and then would keep
a thread for ever. So whoever waits can `abort` the exchange from outside, which ends its sockets.
"""

import json
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

MAX_BYTES = 8 * 1024 * 1024
"""Of one answer: 20,000 series with 400 bytes each."""
_CHUNK = 64 * 1024
_parsing = threading.Lock()
"""One answer at a time is parsed: a parsed one takes many times its size."""


class Sockets:
    """The open sockets of one exchange, and whether it was ended from outside."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self.aborted = False

    def add(self, opened: socket.socket) -> None:
        """Remember a socket that was just connected."""
        with self._lock:
            self._open.append(opened)
        if self.aborted:
            self.abort()

    def abort(self) -> None:
        """End whatever is under way, in whichever thread: its next read finds the end."""
        self.aborted = True
        with self._lock:
            for opened in self._open:
                with suppress(OSError):
                    opened.shutdown(socket.SHUT_RDWR)


class Exchange(requests.Session):
    """The session that prometheus-api-client asks through. Queries go in the body: the names of
    5,000 nodes do not fit into a URL. `answer` keeps all of the last JSON answer, as the client
    only gives its series.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sockets = Sockets()
        self.answer: Mapping[str, Any] = {}
        self.status = 0
        self.headers["Accept-Encoding"] = "identity"  # what is inflated has no bound

    def mount_for(self, url: str) -> None:
        """Use sockets that can be aborted for this URL; after the client has mounted its own."""
        self.mount(url, _Adapter(self.sockets))

    def request(  # type: ignore[override]  # the few arguments that prometheus-api-client uses
        self, method: str, url: str, params: Mapping[str, str] | None = None, **options: Any
    ) -> requests.Response:
        """Send one query and read the whole answer. Raises ValueError for one of another form."""
        if self.sockets.aborted:
            raise ValueError("the time was over before it was asked")
        with super().request(
            method, url, data=params, stream=True, allow_redirects=False, **options
        ) as response:
            self.status = response.status_code
            if response.is_redirect or 300 <= response.status_code < 400:
                raise ValueError(
                    f"it redirects elsewhere (HTTP {response.status_code}), which is not followed: "
                    "write the address where it ends"
                )
            whole = _Answer(response, _body(response))
        if whole.status_code == 200:
            self.answer = whole.json()
        return whole


class _Answer(requests.Response):
    """An answer that was read; parsed once, by the client or by us."""

    def __init__(self, response: requests.Response, body: bytes) -> None:
        super().__init__()
        self.status_code, self.headers = response.status_code, response.headers
        self._content = body
        self._parsed: Any = None

    def json(self, **_: Any) -> Any:
        """What Prometheus says. Raises ValueError when something else has answered."""
        if self._parsed is None:
            kind = self.headers.get("Content-Type", "")
            if kind.partition(";")[0].strip().lower() != "application/json":
                raise ValueError(f"it answers {kind[:60] or 'without a type'}, not as Prometheus")
            with _parsing:
                self._parsed = _checked(json.loads(self._content or b""))
        return self._parsed


def _checked(parsed: Any) -> Mapping[str, Any]:
    if not isinstance(parsed, dict) or parsed.get("status") != "success":
        raise ValueError("its answer does not say `success`")
    return parsed


def _body(response: requests.Response) -> bytes:
    """All bytes of the answer, each as soon as it comes."""
    read, parts = 0, []
    while part := response.raw.read1(_CHUNK):
        read += len(part)
        if read > MAX_BYTES:
            raise ValueError(f"its answer has more than {MAX_BYTES // 1024**2} MiB")
        parts.append(part)
    return b"".join(parts)


class _Adapter(HTTPAdapter):
    """Tells `sockets` of each connection; tries once."""

    def __init__(self, sockets: Sockets) -> None:
        self._sockets = sockets
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Let the pools make connections that are told of."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _pools(self._sockets)


def _pools(sockets: Sockets) -> dict[str, type[HTTPConnectionPool]]:
    class Plain(HTTPConnection):
        def connect(self) -> None:
            super().connect()
            sockets.add(self.sock)

    class Tls(HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            sockets.add(self.sock)

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class TlsPool(HTTPSConnectionPool):
        ConnectionCls = Tls

    return {"http": PlainPool, "https": TlsPool}
