"""Critical workloads of the simulated cluster: their EndpointSlices and webhooks, and what must
hold of them (3): no ledger holds too many of their nodes.

The guard asks what is stored now, not what the operator read: so a story that moves endpoints must
let a minute go by before a wave opens, as long as an answer is believed.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from simulation.apiserver import Body, Change
from simulation.bodies import ledger_in
from simulation.cluster import Simulation
from wavegate.api import Phase
from wavegate.cluster.workloads import SERVICE_LABEL

if TYPE_CHECKING:
    from simulation.invariants import Guard

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
    """3: a ledger holds at most a quarter of a critical workload's nodes, at least one."""
    ledger, rollout = ledger_in(change), guard.rollout
    if ledger is None or rollout is None or rollout.phase is not Phase.Rolling:
        return
    names = {entry.name for entry in ledger.nodes}
    for service, nodes in sorted(served(sim).items()):
        held, most = len(nodes & names), max(1, len(nodes) // 4)
        guard.counted[3] += bool(held)
        if held and rollout.waves[-1].last:
            yield f"a node of {service} stands in a ledger that is not soaked"
        if held > most:
            yield f"a ledger holds {held} of {len(nodes)} nodes of {service}, not {most} at most"
