"""An OCI registry on loopback with images that are made here: enough for a real node to pull.

Only what a pull asks for (OCI distribution spec, `GET` and `HEAD` of manifests and blobs). `away`
makes it answer 503, as a registry that is down behind its load balancer.
"""

import hashlib
import http.server
import io
import json
import platform
import tarfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

HOST = "registry.test"
"""The name in image references; the node's containerd is told where it is."""
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_ARCH = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True)
class File:
    """A file of an image."""

    data: bytes
    executable: bool = False


class Registry:
    """Serves from `__enter__` to `__exit__`.

    Attributes:
        away: while true, every request is answered with 503.
        pulled: digests of the manifests that were asked for, in order, with repetitions.
    """

    def __init__(self) -> None:
        self.away = False
        self.pulled: list[str] = []
        self._blobs: dict[str, tuple[str, bytes]] = {}
        registry = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                kind, data = registry._answer(self.path)
                self.send_response(200 if kind else 503 if registry.away else 404)
                self.send_header("Content-Type", kind or "text/plain")
                self.send_header("Content-Length", str(len(data)))
                if kind:
                    self.send_header("Docker-Content-Digest", _digest(data))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            do_HEAD = do_GET  # noqa: N815 - http.server's names

            def log_message(self, *_: object) -> None:
                """Said nowhere: `pulled` tells."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def push(self, name: str, files: Mapping[str, File], entrypoint: Sequence[str] = ()) -> str:
        """Make an image of these files; returns its reference by digest. Equal files, equal
        digest.
        """
        layer = _tar(files)
        config = {
            "architecture": _ARCH.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": {"Entrypoint": list(entrypoint)},
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": self._keep(_CONFIG, json.dumps(config).encode()),
            "layers": [self._keep(_LAYER, layer)],
        }
        return f"{HOST}/{name}@{self._keep(_MANIFEST, json.dumps(manifest).encode())['digest']}"

    def __enter__(self) -> Self:
        """Begin to serve."""
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._server.server_close()

    def _keep(self, kind: str, data: bytes) -> dict[str, Any]:
        self._blobs[_digest(data)] = (kind, data)
        return {"mediaType": kind, "digest": _digest(data), "size": len(data)}

    def _answer(self, path: str) -> tuple[str, bytes]:
        """Media type and content; both empty if there is none."""
        if self.away:
            return "", b""
        if path.split("?", maxsplit=1)[0] == "/v2/":
            return "application/json", b"{}"
        digest = path.split("?", maxsplit=1)[0].rpartition("/")[2]
        if "/manifests/" in path and digest in self._blobs:
            self.pulled.append(digest)
        return self._blobs.get(digest, ("", b""))


def _tar(files: Mapping[str, File]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, file in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(file.data), 0o755 if file.executable else 0o644
            tar.addfile(entry, io.BytesIO(file.data))
    return out.getvalue()


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
