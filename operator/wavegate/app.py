"""The rim: kopf watches our kinds and runs the process; everything else is wired here.

A process waits for the lease, and only then starts mirrors and engine. While CRDs of ours are gone
nothing moves, but a half-done fence is finished. One that loses the lease exits: Kubernetes starts
it anew as a standby, with nothing left in memory.
"""

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kopf

from wavegate.api import GROUP, VERSION, Resource
from wavegate.cluster.client import ApiError, Client, connect
from wavegate.cluster.election import Leadership, LeaseSettings
from wavegate.cluster.rights import needed_rights
from wavegate.cluster.selfcheck import SelfCheck
from wavegate.cluster.served import KINDS, ServedKinds
from wavegate.controller.act import NotLeader
from wavegate.controller.leader import Leader
from wavegate.controller.world import World
from wavegate.settings import Settings
from wavegate.telemetry.metrics import Metrics
from wavegate.telemetry.prometheus import PrometheusReader
from wavegate.telemetry.server import serve

log = logging.getLogger(__name__)

SELF_CHECK_SECONDS = 5.0
"""A new leader waits so long for what the self-check sees."""
LOOK_SECONDS = 2.0  # between two looks for CRDs that are missing
LOOK_WATCHED_SECONDS = 10.0
"""Between two looks for CRDs while kopf watches them: one that went before kopf's only scan of the
API does not break it, it waits for good.
"""
STALE_SECONDS = 300.0
"""A watch that is silent for longer, or a pass that takes longer, makes /healthz fail: a restart
heals it. No request takes longer than a minute.
"""


class LeaseLost(Exception):  # noqa: N818 (a state, not an error)
    """Another process leads now."""


class Stopped(Exception):  # noqa: N818 (a state, not an error)
    """Someone asked this process to stop."""


class Operator:
    """One process: standby, then leader."""

    def __init__(self, settings: Settings, client: Client, metrics: Metrics) -> None:
        self._settings, self._client, self._metrics = settings, client, metrics
        self._clock = engine_clock()
        self._kinds = ServedKinds(client)
        self._check = _self_check(settings, client, self._kinds)
        self._syncing = ""
        self._leader: Leader | None = None
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
        checking = asyncio.create_task(self._check.keep())
        try:
            await self._leadership.acquire()
            self._metrics.leader.set(1)
            await self._lead()
        finally:
            checking.cancel()
            self._metrics.leader.set(0)
            await self._leadership.release()
            await server.cleanup()

    def unhealthy(self) -> str:
        """Why a restart would help; empty when it would not."""
        if self._leader is None:
            return ""
        now = self._clock()
        silent, busy = now - self._leader.world.oldest_contact(), self._leader.busy_seconds()
        if silent > STALE_SECONDS:
            return f"a watch was silent for {silent:.0f} s"
        return f"a pass takes {busy:.0f} s" if busy > STALE_SECONDS else ""

    def unready(self) -> str:
        """What this process waits for before it can do its work."""
        blind = self._leader.world.blind() if self._leader else ""
        return self._check.problem or self._syncing or self._kinds.awaited or blind

    async def _lead(self) -> None:
        leader = Leader(
            client=self._client,
            reader=PrometheusReader(Path(self._settings.prometheus_connections)),
            metrics=self._metrics,
            clock=self._clock,
            may_act=lambda: self._leadership.held,
            identity=self._settings.name(),
            soak_floor=self._settings.soak_floor,
            binding=self._settings.binding(),
            own_node=self._settings.node,
            own_service=self._settings.own_service(),
        )
        leader.world.hindrance = lambda: self._check.problem
        self._syncing = "the caches are not synced yet"
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._keep_lease())
                await self._check.first_look(SELF_CHECK_SECONDS)
                await leader.start(tasks)
                self._leader, self._syncing = leader, ""
                self._metrics.blind.set_function(lambda: float(bool(leader.world.blind())))
                tasks.create_task(self._follow_kinds(leader.world))
        finally:
            leader.close()

    async def _follow_kinds(self, world: World) -> None:
        """Run kopf while all CRDs are there: it scans the API once, and breaks when one is gone."""
        stop = asyncio.Event()
        _stop_on_signals(stop)
        while True:
            with contextlib.suppress(ApiError):
                if await self._kinds.all_there() and not await world.resync():
                    await self._run_kopf(world, stop)
            await _pause(stop, LOOK_SECONDS)

    async def _run_kopf(self, world: World, stop: asyncio.Event) -> None:
        """Run kopf until it is stopped, or until a CRD is gone; what else breaks it is raised."""
        watching = asyncio.create_task(_watch_our_kinds(world, stop))
        try:
            while not (await asyncio.wait({watching}, timeout=LOOK_WATCHED_SECONDS))[0]:
                if await self._kinds.are_gone():
                    return
            watching.result()
        except Exception as error:
            if isinstance(error, Stopped) or not await world.resync():
                raise
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _keep_lease(self) -> None:
        await self._leadership.keep()
        raise LeaseLost


def _self_check(settings: Settings, client: Client, kinds: ServedKinds) -> SelfCheck:
    policies = settings.policies()
    rights = needed_rights(settings.namespace(), settings.lease_name, policies)
    required = settings.admission_required == "true"
    return SelfCheck(client, kinds, rights, policies, required=required)


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


def _stop_on_signals(stop: asyncio.Event) -> None:
    """Heed SIGTERM and SIGINT ourselves: kopf does while it runs, then leaves deaf handlers."""
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    """Wait; Stopped on SIGTERM and SIGINT."""
    _stop_on_signals(stop)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
        raise Stopped


async def _watch_our_kinds(world: World, stop: asyncio.Event) -> None:
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
    await kopf.operator(
        registry=registry, settings=settings, standalone=True, clusterwide=True, stop_flag=stop
    )
    raise Stopped  # kopf returns on SIGTERM and SIGINT, which it handles while it runs


def _subscribe(registry: kopf.OperatorRegistry, kind: type[Resource], world: World) -> None:
    @kopf.on.event(GROUP, VERSION, kind.plural, registry=registry)
    async def changed(event: kopf.RawEvent, **_: object) -> None:
        world.take(kind, event["type"], event["object"])
