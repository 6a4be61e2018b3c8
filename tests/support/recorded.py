"""A real Prometheus that holds a recording: hours of series, each sample with its own time.

The recording is served as one page in Prometheus' text format, in the order of time, until it was
scraped; no control plane runs. Later pages are empty, and as all samples had times of their own,
Prometheus marks none of them as stale.
"""

import json
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

import requests

from wavegate_sandbox import build
from wavegate_sandbox.client import wait_for
from wavegate_sandbox.control_plane import free_port

STEP = 60.0
"""Seconds between two samples."""

Course = Callable[[float], float | None]
"""The value of a series at so many seconds after the moment that matters; None = no sample."""


class Recording:
    """Series, and how each runs from `before` seconds before the moment `t0` until now."""

    def __init__(self, t0: float, before: float) -> None:
        self.t0, self._before = t0, before
        self._series: dict[tuple[str, tuple[tuple[str, str], ...]], Course] = {}

    def add(self, name: str, labels: Mapping[str, str], course: Course | float) -> None:
        """Add a series, or replace what it does."""
        key = (name, tuple(sorted(labels.items())))
        self._series[key] = course if callable(course) else lambda _t, value=course: value

    def page(self, until: float) -> str:
        """All samples, oldest first."""
        lines = []
        steps = int((until - self.t0 + self._before) / STEP)
        for step in range(steps, -1, -1):
            at = until - step * STEP
            for (name, labels), course in self._series.items():
                value = course(at - self.t0)
                if value is not None:
                    inner = ",".join(f'{key}="{text}"' for key, text in labels)
                    lines.append(f"{name}{{{inner}}} {value} {at * 1000:.0f}\n")
        return "".join(lines)


class RecordedPrometheus:
    """Context manager; `url` answers once the whole recording is in."""

    def __init__(self, recording: Recording, folder: Path) -> None:
        self._recording, self._folder = recording, folder
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._page = recording.page(time.time()).encode()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self._process = self._start()
        try:
            wait_for("the recording to be in Prometheus", self._has_scraped, 60)
        except BaseException:
            self._stop()
            raise
        self._page = b""
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._server.shutdown()
        self._server.server_close()

    def _start(self) -> subprocess.Popen[bytes]:
        target = f"127.0.0.1:{self._server.server_address[1]}"
        job = {
            "job_name": "recording",
            "honor_labels": True,
            "scrape_interval": "5s",
            "scrape_timeout": "5s",
            "static_configs": [{"targets": [target]}],
        }
        config = self._folder / "prometheus.yml"
        config.write_text(json.dumps({"scrape_configs": [job]}))
        return subprocess.Popen(
            [
                build.ensure(["prometheus"])["prometheus"],
                f"--config.file={config}",
                f"--storage.tsdb.path={self._folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{self._port}",
            ],
            stdout=subprocess.DEVNULL,
            stderr=(self._folder / "log").open("wb"),
        )

    def _has_scraped(self) -> bool:
        try:
            answer = requests.get(
                f"{self.url}/api/v1/query",
                params={"query": "scrape_samples_scraped > 0"},
                timeout=5,
            ).json()
        except requests.RequestException:
            return False
        return bool(answer.get("data", {}).get("result"))

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        prometheus = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = prometheus._page
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nobody reads it."""

        return Handler
