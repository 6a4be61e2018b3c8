"""What a leader's memory is once its caches hold a large cluster: `make bench-memory`.

A server in this process plays the apiserver: nodes and agent pods as large as real ones (a node
with 50 images, 20 KiB; a pod, 5 KiB), listed in pages, and watches that stay silent. The operator
is the real process. No release rolls out: `make bench-rollout` has what one pass of it takes.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aiohttp import web

from bench.failover import resident
from wavegate.rollout.names import ATTEMPT_LABEL, CHANNEL_LABEL
from wavegate_sandbox.control_plane import free_port

PAGE = 500


def node(index: int) -> dict[str, Any]:
    """A node as a kubelet reports it."""
    images = [
        {"names": [f"registry.example/team/app-{i}@sha256:{'a' * 64}", f"x/app-{i}:1.{i}"]}
        for i in range(100)
    ]
    kinds = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")
    return {
        "metadata": {
            "name": f"node-{index:05}",
            "uid": f"{index:036}",
            "resourceVersion": str(index + 1),
            "labels": {f"label.example/{i}": "some-value" for i in range(20)},
            "annotations": {f"annotation.example/{i}": "some longer value" * 3 for i in range(10)},
        },
        "spec": {"podCIDR": "10.0.0.0/24"},
        "status": {
            "conditions": [
                {"type": kind, "status": str(kind == "Ready"), "reason": "Kubelet", "message": "ok"}
                for kind in kinds
            ],
            "images": images,
            "nodeInfo": {"bootID": f"{index:036}", "architecture": "amd64", "osImage": "Linux"},
        },
    }


def pod(index: int) -> dict[str, Any]:
    """The agent's pod on that node."""
    labels = {CHANNEL_LABEL: "agent", ATTEMPT_LABEL: "0123456789", "app": "agent"}
    mounts = [{"name": f"mount-{i}", "mountPath": f"/var/lib/agent/{i}"} for i in range(20)]
    container = {"name": "agent", "image": f"x@sha256:{'b' * 64}", "volumeMounts": mounts}
    return {
        "metadata": {
            "name": f"agent-{index:05}",
            "namespace": "security",
            "uid": f"{index:036}",
            "resourceVersion": str(index + 1),
            "labels": labels,
            "annotations": {f"annotation.example/{i}": "some value" * 8 for i in range(10)},
        },
        "spec": {"nodeName": f"node-{index:05}", "containers": [container]},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [
                {"name": "agent", "ready": True, "restartCount": 0, "state": {"running": {}}}
            ],
        },
    }


class Large:
    """An apiserver with that many nodes."""

    def __init__(self, nodes: int) -> None:
        self._nodes = nodes
        self._items = {"/api/v1/nodes": node, "/api/v1/pods": pod}
        self.watches = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.query.get("watch") == "true":
            stream = web.StreamResponse()
            await stream.prepare(request)
            self.watches += 1
            await asyncio.Event().wait()
        if request.method != "GET":
            sent = await request.json()
            return web.json_response({**sent, "status": {"allowed": True}})
        if "/leases/" in request.path or request.path.startswith("/openapi"):
            return web.json_response({"message": "none"}, status=404)
        return web.json_response(self._page(request.path, request.query.get("continue", "0")))

    def _page(self, path: str, token: str) -> dict[str, Any]:
        make, start = self._items.get(path), int(token)
        end = min(start + PAGE, self._nodes)
        items = [make(index) for index in range(start, end)] if make else []
        rest = str(end) if make and end < self._nodes else ""
        return {"metadata": {"resourceVersion": "100000", "continue": rest}, "items": items}


async def measure(nodes: int, folder: Path) -> str:
    """Start both, and return the operator's memory once it watches what it has listed."""
    server, port, own = Large(nodes), free_port(), free_port()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(json.dumps(config(f"http://127.0.0.1:{port}")))
    env = {**os.environ, "KUBECONFIG": str(kubeconfig), "WAVEGATE_LISTEN": f"127.0.0.1:{own}"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "wavegate", "run"), env=env, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(300):
            while server.watches < 4:
                await asyncio.sleep(0.2)
        return resident(process.pid)
    finally:
        process.kill()
        await process.wait()
        await runner.cleanup()


def config(url: str) -> dict[str, Any]:
    """A kubeconfig for that server."""
    return {
        "current-context": "large",
        "clusters": [{"name": "large", "cluster": {"server": url}}],
        "contexts": [{"name": "large", "context": {"cluster": "large", "user": "large"}}],
        "users": [{"name": "large", "user": {"token": "none"}}],
    }


def sizes() -> Iterator[str]:
    """How large the objects are."""
    for name, made in (("node", node(0)), ("pod", pod(0))):
        yield f"{name} {len(json.dumps(made)) / 1024:.0f} KiB"


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--nodes", type=int, nargs="*", default=[40, 1000, 5000, 10000])
    chosen = parser.parse_args()
    print(f"objects: {', '.join(sizes())}; resident memory in MiB:")
    for nodes in chosen.nodes:
        with tempfile.TemporaryDirectory() as folder:
            print(f"{nodes:6} nodes: {asyncio.run(measure(nodes, Path(folder)))}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
