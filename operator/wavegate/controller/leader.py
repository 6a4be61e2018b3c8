"""All that a leading process runs, wired in one place: mirrors, queue, what asks in the background,
engine.
"""

import asyncio
from collections.abc import Callable

from wavegate.cluster.client import Client
from wavegate.cluster.events import EventRecorder
from wavegate.cluster.status import StatusWriter
from wavegate.controller.act import Actor
from wavegate.controller.bindings import Bindings
from wavegate.controller.checks import CheckRunner
from wavegate.controller.engine import Engine
from wavegate.controller.gather import Gatherer
from wavegate.controller.policies import PolicyRunner
from wavegate.controller.prefetches import PrefetchRunner
from wavegate.controller.proofs import ProofRunner
from wavegate.controller.work import WorkQueue
from wavegate.controller.workloads import WorkloadRunner
from wavegate.controller.world import World
from wavegate.telemetry.metrics import Metrics
from wavegate.telemetry.prometheus import PrometheusReader


class Leader:
    """See the module. `may_act` is asked before every write; `clock` never jumps; `binding` is the
    command of `Bindings`; `own_node` is where this process runs and `own_service` what selects all
    replicas (`namespace/name`), empty if that is not known.
    """

    def __init__(  # noqa: PLR0913 (what it is wired from)
        self,
        *,
        client: Client,
        reader: PrometheusReader,
        metrics: Metrics,
        clock: Callable[[], float],
        may_act: Callable[[], bool],
        identity: str,
        soak_floor: float,
        binding: str,
        own_node: str = "",
        own_service: str = "",
    ) -> None:
        self._client, self._reader, self._metrics, self._clock = client, reader, metrics, clock
        self._may_act, self._identity, self._soak_floor = may_act, identity, soak_floor
        self._own_node = own_node
        self._queue = WorkQueue(clock)
        self.world = World(client, clock, self._queue.add)
        self._checks = CheckRunner(reader, clock, self._queue.add, metrics)
        self._proofs = ProofRunner(client, clock, self._queue.add)
        self._policies = PolicyRunner(client, clock, self._queue.add)
        self._workloads = WorkloadRunner(client, clock, self._queue.add, own_service)
        self._prefetches = PrefetchRunner(client, clock, self._queue.add, may_act)
        self._bindings = Bindings(client, clock, self._queue.add, binding)

    async def start(self, tasks: asyncio.TaskGroup) -> None:
        """Sync the mirrors; then run the engine in `tasks`. Decisions begin when all is synced."""
        await self.world.start(tasks)
        tasks.create_task(self._prefetches.watch())
        engine = Engine(
            world=self.world,
            gatherer=Gatherer(
                self._client, self.world, self._soak_floor, self._clock, self._own_node
            ),
            actor=Actor(self._client, self.world, self._metrics, self._may_act),
            checks=self._checks,
            proofs=self._proofs,
            workloads=self._workloads,
            policies=self._policies,
            prefetches=self._prefetches,
            bindings=self._bindings,
            statuses=StatusWriter(self._client),
            events=EventRecorder(self._client, self._identity),
            metrics=self._metrics,
            queue=self._queue,
            clock=self._clock,
        )
        tasks.create_task(engine.run())

    def busy_seconds(self) -> float:
        """How long the oldest pass that is under way takes by now; 0 between passes."""
        since = self._queue.busy_since()
        return 0.0 if since is None else self._clock() - since

    def close(self) -> None:
        """Stop asking Prometheus and RBAC, where critical workloads run, and trying the way back
        and the policies; and pulling images ahead.
        """
        self._checks.close()
        self._workloads.close()
        self._proofs.close()
        self._policies.close()
        self._prefetches.close()
        self._bindings.close()
        self._reader.close()
