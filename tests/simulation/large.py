"""Rollouts on large clusters: what they cost, and how long a bad release is about.

`python -m simulation.large 5000` (make bench-rollout) prints the figures; test_large.py asserts the
counts on a smaller cluster. The default waves, soaks and limits of a channel; the DaemonSet
controller writes 20 times a second, as the real one.
"""

import sys
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from simulation.apiserver import Change, parse
from simulation.bodies import NOTHING
from simulation.cluster import Simulation
from simulation.invariants import Guard
from simulation.log import rules_of
from simulation.promises import Requests
from wavegate.api import WaveState

POOL = {"name": "workers", "selector": {"matchLabels": {"pool": "workers"}}}
PATIENCE = 100_000.0


@dataclass(frozen=True, slots=True)
class Cost:
    """What a rollout cost. Times in virtual seconds, but `processor`."""

    nodes: int
    took: float
    writes: Counter[str]
    """Writing requests of the operator, by what they are about: nodes, configmaps, status…"""
    requests: int
    processor: float
    """Seconds of one core, for the whole simulation: operator, cluster and invariants."""


@dataclass(frozen=True, slots=True)
class Failure:
    """How a bad release went that harms in the 25 % wave. Virtual seconds since the harm."""

    nodes: int
    exposed: int
    """Nodes that had the content when the first machine stopped."""
    stopped: int
    failed_after: float
    """Until the fail was stored."""
    written_after: float
    """From the fail until both DaemonSets were pointed away: no new pod is wanted."""
    fenced_after: float
    """From the fail until the controller said that it had seen so, at the end of a whole sync."""
    healthy_after: float
    """From the fail until each machine that lives runs stable, Ready."""


def good_rollout(nodes: int, seed: int = 3) -> Cost:
    """A release goes through all default waves, under all invariants."""
    began = time.process_time()
    with Simulation(seed) as sim:
        sim.watchers.append(Guard())
        requests = Requests()
        requests.watch(sim)
        sim.add_nodes("workers", nodes)
        sim.apply_channel(**defaults())
        sim.publish("a")
        sim.until_phase("a", "Completed", PATIENCE)
        assert sim.everywhere("a")
        writes = Counter(kind_of(path) for _, _, path, _ in requests.made)
        line = sim.operators[0].line
        asked = line.requests if line else 0
        return Cost(nodes, sim.now, writes, asked, time.process_time() - began)


def bad_rollout(nodes: int, seed: int = 3) -> Failure:
    """A release that stops one in ten of its machines in the soak of its 25 % wave."""
    with Simulation(seed) as sim:
        guard = Guard()
        sim.watchers.append(guard)
        sim.add_nodes("workers", nodes)
        quick = {"maxUnavailable": "100%", "settle": "5s", "soak": "10s"}
        sim.apply_channel(**{**defaults(**quick), "waves": [{"name": "all", "upTo": "100%"}]})
        sim.publish("a")
        sim.until_phase("a", "Completed", PATIENCE)
        sim.apply_channel(**defaults())
        sim.run(5)  # a plan is frozen from what is seen when the release is
        sim.publish("bad")
        sim.until("the 25 % wave soaks", lambda: _soaks(sim, "25-percent"), PATIENCE)
        sim.run(300)
        return _stop_some(sim, guard, nodes)


def _stop_some(sim: Simulation, guard: Guard, nodes: int) -> Failure:
    rollout = sim.record.rollout
    assert rollout is not None
    attempt = rollout.attempt
    exposed = sorted(guard.books.on_side[attempt])
    victims = exposed[::10]
    times: dict[str, float] = {}

    def note(_sim: Simulation, _change: Change) -> None:
        if attempt in guard.books.fenced:
            times.setdefault("failed", sim.now)
        if "failed" in times and _is_written(sim, attempt):
            times.setdefault("written", sim.now)
        if attempt in guard.books.proven_fenced:
            times.setdefault("fenced", sim.now)

    sim.watchers.append(note)
    harm = sim.now
    for name in victims:
        sim.crash(name)
    sim.until("health", lambda: "fenced" in times and sim.everywhere("a"), PATIENCE)
    healthy = sim.now
    for name in victims:
        sim.boot(name)
    sim.until_phase("bad", "Reverted", PATIENCE)
    assert sim.everywhere("a")
    failed = times["failed"]
    written, fenced = times["written"] - failed, times["fenced"] - failed
    return Failure(
        nodes, len(exposed), len(victims), failed - harm, written, fenced, healthy - failed
    )


def _is_written(sim: Simulation, attempt: str) -> bool:
    stable = sim.record.stable
    bodies = [sim.daemon_set_of(a) for a in (attempt, stable.attempt if stable else "")]
    return [rules_of(body, sim.key) for body in bodies if body] == [NOTHING, []]


def _soaks(sim: Simulation, name: str) -> bool:
    rollout = sim.record.rollout
    wave = rollout.waves[-1] if rollout and rollout.waves else None
    return wave is not None and (wave.name, wave.state) == (name, WaveState.Soaking)


def defaults(**rollout: Any) -> dict[str, Any]:
    """The spec of a channel over one pool that leaves all else to its defaults."""
    spec = {"maxUnavailable": "5%", "settle": "60s", "soak": None, "progressDeadline": "10m"}
    return {"pools": [POOL], "waves": [], "rollout": {**spec, **rollout}}


def kind_of(path: str) -> str:
    """What a request is about: the kind of object, or `status`."""
    if path.endswith("/status"):
        return "status"
    return parse(path)[0]


def main(nodes: int) -> None:
    """Print the figures of one good and one bad rollout."""
    cost = good_rollout(nodes)
    print(f"good rollout of {nodes} nodes: {cost.took / 60:.0f} virtual minutes")
    print(f"  {cost.processor:.0f} s of one core for operator, cluster and invariants")
    print(f"  {cost.requests} requests; writes: {dict(cost.writes.most_common())}")
    bad = bad_rollout(nodes)
    print(f"bad release on {bad.exposed} of {nodes} nodes, {bad.stopped} machines stop at once:")
    print(
        f"  fail stored after {bad.failed_after:.1f} s "
        "(NotReady comes 40 to 55 s after a machine stopped)"
    )
    print(f"  fence written {bad.written_after:.2f} s later")
    print(f"  fence seen by the controller {bad.fenced_after:.1f} s later")
    print(f"  all others healthy on stable {bad.healthy_after:.1f} s after the fail")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5_000)
