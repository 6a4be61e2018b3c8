"""Invariants that are about a whole run, not about one change: 5, 8, 12, 15 and 19; and 3, when
two processes believe to lead.

Each function plays a run and raises BrokenInvariant when the promise is not kept.
"""

from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from simulation.apart import FREE_AFTER_SECONDS
from simulation.bodies import NOTHING
from simulation.cluster import Simulation
from simulation.invariants import BrokenInvariant, Guard
from simulation.line import Weather
from simulation.log import rules_of
from simulation.machines import kills
from simulation.scenarios_channels import HALVES, circle, in_a_circle
from simulation.story import Story
from support.builders import digest
from wavegate.api import Phase
from wavegate.rollout.names import ATTEMPT_LABEL

CHECK = {"name": "errors", "query": "errors", "max": "1", "interval": "10s"}
CHECKED = {"checks": [CHECK], "prometheus": {"url": "http://prometheus.example"}}
FENCE_SECONDS = 1.0
"""From the stored fail to both writes of the fence."""
BARE_SECONDS = 150.0
"""For so long a node may lack an agent that can't fetch its content."""
SEEN_SECONDS = 10.0
"""From a reboot to the stored fail, whatever keeps the release from moving."""


@dataclass(slots=True)
class Requests:
    """The writing requests of operators, as they reach the apiserver, whether they change a thing
    or not; no dry runs.
    """

    made: list[tuple[float, str, str, Any]] = field(default_factory=list)

    def watch(self, sim: Simulation) -> None:
        """Listen from now on."""
        handle = sim.server.handle

        def heard(actor: str, verb: str, path: str, params: Mapping[str, str], **more: Any) -> Any:
            if verb != "GET" and "dryRun" not in params and actor.startswith("operator"):
                self.made.append((sim.now, verb, path, more.get("body")))
            return handle(actor, verb, path, params, **more)

        sim.server.handle = heard  # type: ignore[method-assign]

    def on(self, part: str) -> list[tuple[float, str, str, Any]]:
        """Those whose path holds `part`."""
        return [request for request in self.made if part in request[2]]


@contextmanager
def running(workers: int = 4, operators: int = 1, **spec: Any) -> Any:
    """A simulation in which release a is on all nodes."""
    with Simulation(3, operators=operators) as sim:
        sim.add_nodes("canary", 1)
        sim.add_nodes("workers", workers)
        sim.apply_channel(**spec)
        sim.publish("a")
        sim.until_phase("a", "Completed", 600)
        yield sim


def moved(sim: Simulation) -> list[str]:
    """Nodes on which the running candidate is Ready, by name."""
    rollout = sim.record.rollout
    attempt = rollout.attempt if rollout else ""
    pods = (p for p in sim.pods() if p["metadata"]["labels"][ATTEMPT_LABEL] == attempt)
    return sorted(p["spec"]["nodeName"] for p in pods if p["spec"].get("nodeName"))


def until_moved(sim: Simulation, count: int) -> list[str]:
    """Wait until so many nodes run the candidate."""
    sim.until(f"{count} nodes are moved", lambda: len(moved(sim)) >= count)
    return moved(sim)


def two_leaders_move_no_more_than_one() -> None:
    """3: in the middle of a wave a second process believes to lead; no change of a node reaches it
    any more, though the record does. Not each moment is one in which that could do harm.
    """
    for seconds in (0.5, 1.0, 3.0):
        _second_leader(seconds)


def _second_leader(seconds: float) -> None:
    with Simulation(3, operators=2) as sim:
        sim.watchers.append(Guard(two_leaders=True))
        sim.add_nodes("canary", 1)
        sim.add_nodes("workers", 8)
        sim.apply_channel()
        second = sim.operators[1]
        sim.act(second.kill)
        sim.publish("a")
        sim.until_phase("a", "Completed", 600)
        sim.publish("b")
        until_moved(sim, 2)
        sim.run(seconds)  # so that it sees them settled when the first one has moved on
        second.weather = Weather(lag=lambda path: 1e6 if path.endswith("/nodes") else 0.0)
        second.believes = True
        sim.act(second.start)
        sim.until_phase("b", "Completed", 600)


def a_fence_costs_two_writes(workers: int = 6) -> None:
    """5: two DaemonSet writes and deletes, however many nodes; no node, registry or Prometheus is
    needed, and nobody else's write can make it fail.
    """
    with running(workers, **CHECKED) as sim:
        sim.publish("bad")
        exposed = until_moved(sim, workers - 1)
        requests = Requests()
        requests.watch(sim)
        sim.machines.unpullable.add("sha256")  # no registry answers
        sim.prometheus.error = "gone"
        for node in exposed[:-1]:
            sim.crash(node)
        sim.until("a fail", lambda: reverting(sim))
        began, attempt = sim.now, sim.record.rollout.attempt
        sim.run(FENCE_SECONDS)
        body = sim.daemon_set_of(attempt)
        if body is None or rules_of(body, sim.key) != NOTHING:
            raise BrokenInvariant(5, f"no fence {sim.now - began:.0f} s after the stored fail")
        sim.run(60)
        since = [r for r in requests.made if r[0] >= began - 1.0]
        sets = [r for r in since if "/daemonsets/" in r[2]]
        if len(sets) != 2:
            raise BrokenInvariant(5, f"a fence took {len(sets)} DaemonSet writes: {sets}")
        if any(step["op"] == "test" for _, _, _, body in sets for step in body):
            raise BrokenInvariant(5, f"a fence is conditional: {sets}")
        if nodes := [r for r in since if "/nodes/" in r[2]]:
            raise BrokenInvariant(5, f"a fence wrote to nodes: {nodes}")


def reverting(sim: Simulation) -> bool:
    """Whether the stored rollout is being reverted."""
    rollout = sim.record.rollout
    return rollout is not None and rollout.phase is Phase.Reverting


def kills_change_nothing(step: int = 3) -> None:
    """8: killed after every `step`th write of a bad release, the end is the same."""
    wanted, writes = _bad_release(None)
    for number in range(1, writes + 1, step):
        found, _ = _bad_release(number)
        if found != wanted:
            raise BrokenInvariant(8, f"killed after write {number}: {found}, else {wanted}")


def _bad_release(dies_after: int | None) -> tuple[tuple[str, Any], int]:
    """How a release ends that kills its canary, and how many writes it took."""
    with running(2) as sim:
        operator = sim.operators[0]
        sim.harm("bad", kills())
        before = operator.line.writes
        if dies_after is not None:
            operator.line.dies_after = before + dies_after
        sim.publish("bad")
        for _ in range(30):
            sim.run(10)
            if not operator.running:
                sim.act(operator.start)
            if not sim.machines.machines["canary-1"].alive and reverting(sim):
                sim.run(5)
                sim.boot("canary-1")
        phase = str(sim.status("bad").get("phase"))
        return (phase, sim.agents()), operator.writes + operator.line.writes - before


def a_quiet_cluster_gets_no_writes() -> None:
    """12: an hour after a release nothing was written but the Lease."""
    with running() as sim:
        sim.run(60)
        requests = Requests()
        requests.watch(sim)
        sim.run(3_600)
        others = [r for r in requests.made if "/leases" not in r[2]]
        if others:
            raise BrokenInvariant(12, f"{len(others)} writes in a quiet hour: {others[:3]}")
        assert requests.on("/leases")  # the operator does live


def without_the_operator_all_stays() -> None:
    """15: in the middle of a wave the operator is gone for an hour; new nodes get stable."""
    with running() as sim:
        sim.publish("b")
        until_moved(sim, 3)
        sim.act(sim.operators[0].kill)
        sim.run(30)
        before = {p["metadata"]["uid"] for p in sim.pods()}
        sim.run(3_600)
        if {p["metadata"]["uid"] for p in sim.pods()} != before:
            raise BrokenInvariant(15, "agents came and went without the operator")
        [name] = sim.add_nodes("workers", 1)
        sim.run(60)
        agents = sim.agents()
        unmoved = {n for n in agents if n not in moved(sim)}
        if name not in agents or len({agents[n] for n in unmoved}) != 1:
            raise BrokenInvariant(15, f"a node that joined has no stable agent: {agents}")


def what_cannot_be_fetched_leaves_no_node_bare() -> None:
    """16: while the registry lacks the content, no node is without an agent for longer than a try
    takes, and when it has it, the release goes on by itself.
    """
    with running() as sim:
        guard = Guard()
        sim.watchers.append(guard)
        sim.machines.unpullable.add(digest("b"))
        sim.publish("b")
        bare: dict[str, float] = {}
        for _ in range(120):
            sim.run(10)
            agents = sim.agents()
            bare = {n: bare.get(n, 0.0) + 10 for n in sim.machines.machines if n not in agents}
            if any(seconds > BARE_SECONDS for seconds in bare.values()):
                raise BrokenInvariant(16, f"without an agent for so many seconds: {bare}")
        sim.machines.unpullable.clear()
        sim.until_phase("b", "Completed", 1_200)


def a_wave_never_passes_on_a_name() -> None:
    """6: the canary can't fetch the content and is replaced under its name, so quickly that nobody
    sees a moment without it. No other node gets the content before it soaked there.
    """
    with running() as sim:
        sim.watchers.append(Guard())
        sim.machines.unpullable.add(digest("b"))
        sim.publish("b")
        sim.until("the canary goes back", lambda: sim.record.rollout and sim.record.rollout.stalls)
        sim.run(20)
        sim.remove_node("canary-1")
        sim.run(0.5)
        sim.act(lambda: sim.machines.add("canary-1", {"pool": "canary"}))
        sim.run(60)
        sim.machines.unpullable.clear()
        sim.until("a node runs b", lambda: digest("b") in sim.agents().values())
        if sim.agents().get("canary-1") != digest("b"):
            raise BrokenInvariant(6, f"the first wave passed, and {moved(sim)} have the content")
        sim.until_phase("b", "Completed", 1_200)


HOLDS: dict[str, Callable[[Simulation], None]] = {
    "release suspended": lambda sim: sim.patch("Release", "bad", suspend=True),
    "channel suspended": lambda sim: sim.patch("Channel", "rules", suspend=True),
    "paused by a decision": lambda sim: sim.decide("wait", "bad", "Pause"),
    "held without Prometheus": lambda sim: setattr(sim.prometheus, "error", "gone"),
}


def a_pause_never_stops_reverting(hold: str) -> None:
    """19: whatever keeps a release from moving, harm is seen and taken back as fast as ever."""
    with running(**CHECKED) as sim:
        sim.publish("bad")
        victims = until_moved(sim, 3)[:2]
        HOLDS[hold](sim)
        sim.run(120)
        for victim in victims:
            sim.crash(victim)
            sim.boot(victim)
        sim.run(SEEN_SECONDS)
        if not reverting(sim) and sim.status("bad").get("phase") != "Reverted":
            phase = sim.status("bad").get("phase")
            raise BrokenInvariant(19, f"{hold}: {SEEN_SECONDS} s after a reboot it is {phase}")
        sim.until_phase("bad", "Reverted", 300)


def a_circle_of_channels_ends() -> None:
    """19: two channels whose waves wait for each other do so for half an hour, and no longer."""
    with Story(workers=6, spec=HALVES) as story:
        circle(story)
        story.run(FREE_AFTER_SECONDS + 10)
        if in_a_circle(story):
            raise BrokenInvariant(19, f"two channels wait for each other\n{story.tail()}")


def guarded(play: Callable[[Simulation], None], **more: Any) -> None:
    """Play a run with all invariants that are about single changes."""
    with Simulation(3, **more) as sim:
        sim.watchers.append(Guard())
        sim.add_nodes("canary", 1)
        sim.add_nodes("workers", 6)
        sim.apply_channel()
        play(sim)
