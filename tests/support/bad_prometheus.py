"""A Prometheus that misbehaves as each test wants: real HTTP on 127.0.0.1, in own threads."""

import functools
import json
import ssl
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs

NODES = ("n1", "n2")
JSON = "application/json"
LONG = 10_000
"""So many bytes more take a server that drips minutes."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request that came in."""

    path: str
    query: str
    headers: dict[str, str]


@dataclass(slots=True)
class BadPrometheus:
    """`behave` chooses what the next answers are like; see BEHAVIOURS. Used by `with`."""

    mood: str = "well"
    asked: list[Asked] = field(default_factory=list)
    release: threading.Event = field(default_factory=threading.Event)
    """Set it, and whoever hangs goes on."""
    tls: ssl.SSLContext | None = None
    """With it, the server speaks https."""
    _server: ThreadingHTTPServer | None = None
    _port: int = 0

    @property
    def url(self) -> str:
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self._port}"

    def behave(self, mood: str) -> None:
        """`down` closes the port; any other mood opens it again, at the same address."""
        self.mood = mood
        if mood == "down":
            self._stop()
        elif self._server is None:
            self._start()

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release.set()
        self._stop()

    def _start(self) -> None:
        server = _Server(("127.0.0.1", self._port), _Handler)
        server.owner = self
        if self.tls is not None:
            server.socket = self.tls.wrap_socket(
                server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._port, self._server = server.server_address[1], server
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()

    def _stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64
    owner: BadPrometheus

    def handle_error(self, *_: object) -> None:
        """A client that hangs up, or refuses a certificate, is what tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        query = parse_qs(body).get("query", [""])[0]
        self.server.owner.asked.append(Asked(self.path, query, dict(self.headers)))
        with suppress(OSError):
            BEHAVIOURS[self.server.owner.mood](self, query)

    def do_GET(self) -> None:
        self.do_POST()

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def send(self, text: str, status: int = 200, kind: str = JSON, **headers: str) -> None:
        raw = text.encode()
        self.begin(status, kind, len(raw), **headers)
        self.wfile.write(raw)

    def begin(self, status: int, kind: str, length: int, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def hang(self) -> None:
        self.server.owner.release.wait(30)
        self.close_connection = True

    def drip(self, raw: bytes) -> None:
        """A byte each 20 ms: no single read ever takes long."""
        for byte in raw:
            self.wfile.write(bytes([byte]))
            self.wfile.flush()
            if self.server.owner.release.wait(0.02):
                return


def vector(series: Iterable[tuple[dict[str, str], str]], **more: Any) -> str:
    """Prometheus' answer to an instant query: series of (labels, value as text)."""
    result = [{"metric": labels, "value": [1.5, value]} for labels, value in series]
    data = {"resultType": "vector", "result": result}
    return json.dumps({"status": "success", "data": data, **more})


def of_nodes(value: str, nodes: Iterable[str] = NODES, **more: Any) -> str:
    """One series for each node."""
    return vector([({"node": node}, value) for node in nodes], **more)


def _well(handler: _Handler, query: str) -> None:
    handler.send(of_nodes("3" if "timestamp(" in query else "0"))


def _stale(handler: _Handler, query: str) -> None:
    handler.send(of_nodes("290" if "timestamp(" in query else "0"))


def _huge(handler: _Handler, _query: str) -> None:
    handler.send(_ten_megabytes())


@functools.cache
def _ten_megabytes() -> str:
    return vector(({"node": f"node-{n}", "pad": "x" * 60}, "0") for n in range(80_000))


def _redirects(handler: _Handler, _query: str) -> None:
    handler.send("", 302, Location=f"{handler.server.owner.url}/elsewhere")


def _cut(handler: _Handler, _query: str) -> None:
    """Promises more bytes than it sends, and hangs up."""
    raw = of_nodes("0").encode()
    handler.begin(200, JSON, len(raw) + 10)
    handler.wfile.write(raw)
    handler.close_connection = True


def _cut_chunk(handler: _Handler, _query: str) -> None:
    """Hangs up in the middle of a chunk."""
    handler.send_response(200)
    handler.send_header("Content-Type", JSON)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(b"1000\r\n" + of_nodes("0").encode())
    handler.close_connection = True


def _drips(handler: _Handler, _query: str) -> None:
    raw = of_nodes("0").encode() + b" " * LONG
    handler.begin(200, JSON, len(raw))
    handler.drip(raw)


def _drips_headers(handler: _Handler, _query: str) -> None:
    handler.drip(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-A: " + b"b" * LONG)


def _tells_all(handler: _Handler, _query: str) -> None:
    """As debugging proxies do: the request's headers come back in the error."""
    handler.send(json.dumps(dict(handler.headers)), 500)


def _text(text: str, status: int = 200, kind: str = JSON) -> Callable[[_Handler, str], None]:
    return lambda handler, _query: handler.send(text, status, kind)


BEHAVIOURS: dict[str, Callable[[_Handler, str], None]] = {
    "well": _well,
    "hangs": lambda handler, _query: handler.hang(),
    "drips": _drips,
    "drips headers": _drips_headers,
    "503": _text("upstream is gone", 503, "text/plain"),
    "422": _text('{"status": "error", "error": "many-to-many"}', 422),
    "redirects": _redirects,
    "empty": _text(vector(())),
    "NaN": _text(of_nodes("NaN")),
    "infinity": _text(of_nodes("+Inf")),
    "warnings": _text(of_nodes("0", warnings=["store-2 did not answer"])),
    "warnings and harm": _text(of_nodes("9", warnings=["store-2 did not answer"])),
    "infos": _text(of_nodes("0", infos=["metric might not be a counter"])),
    "stale": _stale,
    "duplicates": _text(vector([({"node": n, "job": j}, "0") for n in NODES for j in "ab"])),
    "some nodes": _text(of_nodes("0", NODES[:1])),
    "harm": _text(of_nodes("9")),
    "huge": _huge,
    "no JSON type": _text(of_nodes("0"), kind="text/html"),
    "login page": _text("<html>please log in</html>", kind="text/html"),
    "no success": _text('{"status": "error", "data": {"result": []}}'),
    "nested": _text('{"status": "success", "data": ' + "[" * 100_000 + "]" * 100_000 + "}"),
    "cut": _cut,
    "cut chunk": _cut_chunk,
    "tells all": _tells_all,
}
