"""Passes and writes of a cluster in which little happens: counted, not timed."""

import asyncio
from dataclasses import replace

import pytest

from support import fleet
from support.builders import CHANNEL, SPACE
from wavegate.cluster import paths
from wavegate.cluster.events import EventRecorder
from wavegate.cluster.reviews import RULES
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
from wavegate.evidence import CheckResult, Sample
from wavegate.rollout.names import record_name
from wavegate.telemetry.metrics import Metrics

KEY = (SPACE, CHANNEL)
HOUR = 3600
LISTS = (paths.VALIDATING_WEBHOOKS, paths.MUTATING_WEBHOOKS, paths.ENDPOINT_SLICES)
"""Where critical workloads run, for the plan that is shown."""


class Clock:
    """Goes on only when it is told."""

    def __init__(self):
        self.now = fleet.NOW

    def __call__(self):
        return self.now


class Operator:
    """The real engine over mirrors that show one observation; passes are taken up by hand."""

    def __init__(self, obs, client, clock):
        self.clock, self.queue = clock, WorkQueue(clock)
        self.world, self.passes, metrics = fleet.world_of(obs, client, clock), 0, Metrics()
        self.engine = Engine(
            world=self.world,
            gatherer=Gatherer(client, self.world, obs.soak_floor, clock),
            actor=Actor(client, self.world, metrics, lambda: True),
            checks=CheckRunner(None, clock, self.queue.add),
            proofs=ProofRunner(client, clock, self.queue.add),
            policies=PolicyRunner(client, clock, self.queue.add),
            prefetches=PrefetchRunner(client, clock, self.queue.add, lambda: True),
            workloads=WorkloadRunner(client, clock, self.queue.add),
            bindings=Bindings(client, clock, self.queue.add, "agents"),
            statuses=StatusWriter(client),
            events=EventRecorder(client, "me"),
            metrics=metrics,
            queue=self.queue,
            clock=clock,
        )

    async def run(self, seconds):
        """Let time go by and work on what is due."""
        for _ in range(seconds):
            for mirror in self.world._mirrors.values():
                mirror.contact = self.clock.now  # bookmarks come
            while await self.is_due():
                self.passes += 1
                await self.engine._work(KEY)
                self.queue.done(KEY)
                await asyncio.gather(*self.engine._workloads._tasks._running.values())
            self.clock.now += 1

    async def is_due(self):
        try:
            async with asyncio.timeout(0):
                return await self.queue.next()
        except TimeoutError:
            return None


@pytest.fixture
def operator(client, objects):
    """An operator over a fleet of 50 nodes in one state, whose objects the apiserver knows."""

    def start(state):
        obs = fleet.observe(50, state)
        rollout = obs.record.rollout
        if rollout is not None:  # without checks: nobody answers here
            plan = replace(rollout.plan, checks=())
            obs = replace(obs, record=replace(obs.record, rollout=replace(rollout, plan=plan)))
        for resource in (obs.channel, *obs.releases):
            path = paths.ours(resource.plural, SPACE, resource.name)
            objects.put(f"{path}/status", {"metadata": {"name": resource.name}})
        for path in LISTS:
            objects.put(path, {"metadata": {}, "items": []})
        started = Operator(obs, client, Clock())
        started.queue.add(KEY)
        return started

    return start


def writes(objects):
    """Requests that store something, since the last look: a dry run or a review does not."""
    pairs = zip(objects.requests, objects.queries, strict=True)
    stored = (r for r, query in pairs if r[0] != "GET" and "dryRun" not in query)
    found = [request for request in stored if request[1] != RULES]
    objects.requests.clear()
    objects.queries.clear()
    return found


async def test_after_a_completed_release_nothing_is_written_and_no_pass_is_due(operator, objects):
    working = operator("idle")
    await working.run(2)
    assert working.passes == 2, "the second knows where critical workloads run"
    changed = [path for _, path in writes(objects)]
    assert len(set(changed)) == 3, "the statuses of a channel and two releases"
    assert len(changed) == 4, "of the channel once more, as its plan is known then"
    await working.run(HOUR)
    assert working.passes == 2
    working.queue.add(KEY)
    await working.run(5)
    assert working.passes == 4
    asked = [(request[0], request[1]) for request in objects.requests]
    assert asked == [("GET", path) for path in LISTS], "what the plan that is shown hangs on"
    objects.requests.clear()
    working.queue.add(KEY)
    await working.run(HOUR)
    assert working.passes == 5
    assert objects.requests == [], "a pass that finds nothing new asks and writes nothing"


async def test_while_a_wave_soaks_the_status_is_written_once_a_minute(operator, objects):
    working = operator("soaking")
    await working.run(1)
    writes(objects)
    for _ in range(300 // 3):
        working.world.leases = dict.fromkeys(working.world.leases, working.clock.now)
        working.queue.add(KEY)  # as the look at the leases does
        await working.run(3)
    assert len(writes(objects)) <= 5
    assert working.passes <= 110


class Ticking:
    """Answers to a check whose values, times and query are others at each look."""

    def __init__(self, obs, clock):
        self.obs, self.clock = obs, clock

    def results(self, _key):
        value, nodes = self.clock.now % 7 / 7 - 2, frozenset(self.obs.nodes)
        samples = tuple(Sample({"node": node}, value, self.clock.now) for node in nodes)
        answer = CheckResult(self.clock.now, nodes, samples, query=f"x[{self.clock.now:.0f}s]")
        return {fleet.NEW: {"crashes": answer}}

    def ensure(self, _key, _obs):
        return 5.0


async def test_values_that_tick_cost_no_write_of_their_own(operator, objects):
    working, seen = operator("soaking"), fleet.observe(50, "soaking")
    place = SPACE, record_name(CHANNEL)
    stored = working.world.stored.items[place]
    working.world.stored.items[place] = replace(stored, record=seen.record)
    working.engine._checks = Ticking(seen, working.clock)
    await working.run(1)
    writes(objects)
    passes = working.passes
    for _ in range(300 // 5):
        working.world.leases = dict.fromkeys(working.world.leases, working.clock.now)
        await working.run(5)
    assert working.passes - passes >= 60
    assert 1 <= len(writes(objects)) <= 5


async def test_a_soak_without_any_event_looks_again_in_time_for_a_stale_lease(operator):
    working = operator("soaking")
    await working.run(20)
    assert working.passes == 4
