"""The rim: kopf watches our kinds and runs the process; everything else is wired here.

A process waits for the CRDs, then for the lease, and only then starts mirrors and engine. One that
loses the lease exits: Kubernetes starts it anew as a standby, with nothing left in memory.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import kopf

from wavegate.api import GROUP, VERSION, Channel, Decision, Release, Resource
from wavegate.cluster import paths
from wavegate.cluster.client import ApiError, Client, connect
from wavegate.cluster.election import Leadership, LeaseSettings
from wavegate.controller.act import NotLeader
from wavegate.controller.leader import Leader
from wavegate.controller.world import World
from wavegate.settings import Settings
from wavegate.telemetry.metrics import Metrics
from wavegate.telemetry.prometheus import PrometheusReader
from wavegate.telemetry.server import serve

log = logging.getLogger(__name__)

KINDS: tuple[type[Resource], ...] = (Channel, Release, Decision)
STALE_SECONDS = 300.0
"""A watch that is silent for longer makes /healthz fail: a restart heals it."""


class LeaseLost(Exception):  # noqa: N818 (a state, not an error)
    """Another process leads now."""


class Stopped(Exception):  # noqa: N818 (a state, not an error)
    """Someone asked this process to stop."""


class Operator:
    """One process: standby, then leader."""

    def __init__(self, settings: Settings, client: Client, metrics: Metrics) -> None:
        self._settings, self._client, self._metrics = settings, client, metrics
        self._clock = engine_clock()
        self._waiting = "the process is starting"
        self._world: World | None = None
        self._leadership = Leadership(
            client,
            LeaseSettings(
                namespace=settings.namespace(),
                name=settings.lease_name,
                identity=settings.name(),
                duration=settings.lease_duration,
            ),
        )

    async def run(self) -> None:
        """Run until cancelled, or until the lease is lost (LeaseLost)."""
        server = await serve(
            self._settings.address, self._metrics.registry, self.unhealthy, self.unready
        )
        try:
            await self._wait_for_crds()
            self._waiting = ""
            await self._leadership.acquire()
            self._metrics.leader.set(1)
            await self._lead()
        finally:
            self._metrics.leader.set(0)
            await self._leadership.release()
            await server.cleanup()

    def unhealthy(self) -> str:
        """Why a restart would help; empty when it would not."""
        if self._world is None:
            return ""
        silent = self._clock() - self._world.oldest_contact()
        return f"a watch was silent for {silent:.0f} s" if silent > STALE_SECONDS else ""

    def unready(self) -> str:
        """What this process waits for before it can do its work."""
        return self._waiting

    async def _wait_for_crds(self) -> None:
        """Wait: kopf scans the API once, so the CRDs must be there before it starts."""
        wanted = {kind.plural for kind in KINDS}
        while True:
            try:
                found = await self._client.get(paths.OUR_API)
                missing = wanted - {resource["name"] for resource in found.get("resources", [])}
            except ApiError as error:
                missing = wanted
                if error.status not in (0, 404):
                    log.warning("The API can't be read: %s", error)
            if not missing:
                return
            names = ", ".join(f"{plural}.{GROUP}" for plural in sorted(missing))
            self._waiting = f"waiting for the CRDs {names}: apply the files in crds/"
            log.warning("This operator is %s", self._waiting)
            await asyncio.sleep(2.0)

    async def _lead(self) -> None:
        leader = Leader(
            client=self._client,
            reader=PrometheusReader(),
            metrics=self._metrics,
            clock=self._clock,
            may_act=lambda: self._leadership.held,
            identity=self._settings.name(),
            soak_floor=self._settings.soak_floor,
        )
        self._waiting = "the caches are not synced yet"
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._keep_lease())
                await leader.start(tasks)
                self._world, self._waiting = leader.world, ""
                tasks.create_task(_watch_our_kinds(leader.world))
        finally:
            leader.close()

    async def _keep_lease(self) -> None:
        await self._leadership.keep()
        raise LeaseLost


def engine_clock() -> Callable[[], float]:
    """Seconds since the epoch that never jump: the wall clock at start, then the monotonic one."""
    start, base = time.time(), time.monotonic()
    return lambda: start + time.monotonic() - base


async def run(settings: Settings) -> int:
    """Run the operator; returns the exit code: 1 when the lease was lost, 0 when asked to stop."""
    metrics = Metrics()
    client = Client(
        await connect(),
        timeout=min(10.0, settings.lease_duration / 3),
        observe=metrics.observe_request,
    )
    code = 0
    try:
        await Operator(settings, client, metrics).run()
    except* (LeaseLost, NotLeader):
        code = 1
    except* Stopped:
        log.info("Asked to stop; nothing was changed on any node")
    finally:
        await client.close()
    return code


async def _watch_our_kinds(world: World) -> None:
    """Let kopf watch our three kinds. It writes nothing: no finalizer, no annotation, no Event."""
    registry = kopf.OperatorRegistry()
    for kind in KINDS:
        _subscribe(registry, kind, world)

    @kopf.on.login(registry=registry)
    def login(**kwargs: Any) -> object:
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.watching.server_timeout = 290
    settings.watching.client_timeout = 300
    settings.networking.request_timeout = 30
    await kopf.operator(registry=registry, settings=settings, standalone=True, clusterwide=True)
    raise Stopped  # kopf returns on SIGTERM and SIGINT, which it handles while it runs


def _subscribe(registry: kopf.OperatorRegistry, kind: type[Resource], world: World) -> None:
    @kopf.on.event(GROUP, VERSION, kind.plural, registry=registry)
    async def changed(event: kopf.RawEvent, **_: object) -> None:
        world.take(kind, event["type"], event["object"])
