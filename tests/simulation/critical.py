"""Critical workloads of the simulated cluster: their EndpointSlices and webhooks, and what must
hold of them (3): no ledger holds too many of their nodes.

The guard knows where endpoints were at any time. An answer is believed for a minute, so what was
true at some moment of that minute may bind a ledger.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from simulation.apiserver import Body, Change
from simulation.bodies import ledger_in
from simulation.cluster import Simulation
from wavegate.api import Phase
from wavegate.cluster.workloads import SERVICE_LABEL
from wavegate.rollout.workloads import FRESH_SECONDS

if TYPE_CHECKING:
    from simulation.invariants import Guard

BELIEVED = FRESH_SECONDS + 10.0
"""Seconds from a question to the last ledger that hangs on its answer, a slow write included."""
SLICES, WEBHOOKS = "endpointslices", "validatingwebhookconfigurations"


def serve(sim: Simulation, service: str, nodes: Iterable[str]) -> None:
    """These nodes have a ready endpoint of a Service (`namespace/name`), and no others."""
    namespace, _, name = service.partition("/")
    endpoints = [{"nodeName": node, "conditions": {"ready": True}} for node in nodes]
    old = sim.server.find(SLICES, name, namespace)
    metadata = {"name": name, "namespace": namespace, "labels": {SERVICE_LABEL: name}}
    if old is None:
        body = {"metadata": metadata, "endpoints": endpoints}
        sim.act(lambda: sim.server.add("others", SLICES, body))
    else:
        sim.act(lambda: sim.server.update("others", SLICES, old, endpoints=endpoints))


def fail_closed(sim: Simulation, service: str) -> None:
    """A webhook without whose backend, a Service, requests are refused."""
    namespace, _, name = service.partition("/")
    backend = {"service": {"namespace": namespace, "name": name}}
    hooks = [{"name": f"{name}.example.com", "failurePolicy": "Fail", "clientConfig": backend}]
    body: Body = {"metadata": {"name": name}, "webhooks": hooks}
    sim.act(lambda: sim.server.add("others", WEBHOOKS, body))


def served(sim: Simulation) -> dict[str, set[str]]:
    """By Service the nodes with its ready endpoints: all Services here are critical."""
    found: dict[str, set[str]] = defaultdict(set)
    for body in sim.server.all(SLICES):
        service = f"{body['metadata']['namespace']}/{body['metadata']['labels'][SERVICE_LABEL]}"
        found[service] |= {e["nodeName"] for e in body["endpoints"] if e["conditions"]["ready"]}
    return found


def critical_workloads_stay(guard: "Guard", sim: Simulation, change: Change) -> Iterator[str]:
    """3: a ledger holds at most a quarter of a critical workload's nodes, at least one. One that a
    person restores is of another time.
    """
    ledger, rollout = ledger_in(change), guard.rollout
    if ledger is None or rollout is None or rollout.phase is not Phase.Rolling:
        return
    if not change.actor.startswith("operator"):
        return
    names = {entry.name for entry in ledger.nodes}
    for service in sorted(served(sim)):
        known = [places.get(service, set()) for places in guard.books.places.of_late(sim)]
        held = [(len(nodes & names), len(nodes)) for nodes in known]
        guard.counted[3] += any(count for count, _ in held)
        if rollout.waves[-1].last and all(count for count, _ in held):
            yield f"a node of {service} stands in a ledger that is not soaked"
        if all(count > max(1, among // 4) for count, among in held):
            count, among = held[-1]
            yield f"a ledger holds {count} of {among} nodes of {service}"


@dataclass(slots=True)
class Places:
    """Where endpoints were, and since when."""

    seen: list[tuple[float, dict[str, set[str]]]] = field(default_factory=list)

    def note(self, sim: Simulation, change: Change) -> None:
        """Endpoints moved."""
        if change.plural == SLICES:
            self.seen.append((sim.now, served(sim)))

    def of_late(self, sim: Simulation) -> list[dict[str, set[str]]]:
        """Each answer that may be believed now; that of now comes last."""
        old = [places for at, places in self.seen if at <= sim.now - BELIEVED][-1:]
        found = old + [places for at, places in self.seen if at > sim.now - BELIEVED]
        return found or [served(sim)]
