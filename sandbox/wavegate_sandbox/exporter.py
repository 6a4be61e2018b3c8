"""A metrics endpoint whose values are set by hand, for Prometheus checks in tests and demo."""

import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

Series = tuple[str, tuple[tuple[str, str], ...]]


class Exporter:
    """Serves gauges in Prometheus' text format on `address` (`127.0.0.1:<free port>`).

    Use as a context manager, and have Prometheus scrape it: `sandbox.scrape(exporter.address)`.
    """

    def __init__(self) -> None:
        self._values: dict[Series, float] = {}
        self._lock = threading.Lock()
        exporter = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = exporter.text().encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """One scrape a second is not worth a line."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def set(self, name: str, labels: Mapping[str, str], value: float) -> None:
        """Set one series; it is in Prometheus about a second later."""
        with self._lock:
            self._values[name, tuple(sorted(labels.items()))] = value

    def remove(self, name: str, labels: Mapping[str, str]) -> None:
        """Take one series away; Prometheus notes at the next scrape that it is stale."""
        with self._lock:
            self._values.pop((name, tuple(sorted(labels.items()))), None)

    def clear(self) -> None:
        """Take all series away."""
        with self._lock:
            self._values.clear()

    def text(self) -> str:
        """The page that is scraped."""
        with self._lock:
            series = sorted(self._values.items())
        return "".join(f"{name}{_braces(labels)} {value}\n" for (name, labels), value in series)

    def close(self) -> None:
        """Stop serving. Harmless when done twice."""
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Self:
        """Nothing more to do."""
        return self

    def __exit__(self, *_: object) -> None:
        """See `close`."""
        self.close()


def _braces(labels: tuple[tuple[str, str], ...]) -> str:
    inner = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels)
    return f"{{{inner}}}" if inner else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
