"""What the guard itself counts: a node in flight is one that the operator can know of."""

import pytest

from simulation.apiserver import Change
from simulation.bodies import record_in, side
from simulation.cluster import Simulation
from simulation.invariants import BrokenInvariant, Guard
from simulation.promises import until_moved

STRANGER, LATE, SEEN = "another machine of that name", "a moment ago", "long ago"


@pytest.mark.parametrize("labelled", [STRANGER, LATE, SEEN])
def test_a_label_by_hand_is_in_flight_if_it_is_the_ledgers_node_and_the_operator_can_know(
    labelled,
) -> None:
    """No operator runs any more, so that the test alone moves nodes, in its name."""
    with Simulation(3) as sim:
        guard = Guard()
        sim.watchers.append(guard)
        names = sim.add_nodes("canary", 4)
        sim.add_nodes("workers", 1)
        sim.apply_channel()
        sim.publish("a")
        until_moved(sim, 1)
        sim.act(sim.operators[0].kill)
        attempt = sim.record.rollout.attempt
        unmoved = [name for name in names if name not in _moved(sim)]
        by_hand, other = unmoved[:2]
        if labelled == STRANGER:
            sim.remove_node(by_hand)
            sim.run(guard.lag)
            sim.act(lambda: sim.machines.add(by_hand, {"pool": "canary"}))
        for name in (*_moved(sim), by_hand):
            sim.act(lambda name=name: sim.machines.crash(name))  # so that none of them settles
        sim.label_node(by_hand, key=attempt)
        sim.run(0.0 if labelled == LATE else guard.lag + 1.0)
        guard.books.settled[attempt].clear()
        _move(sim, other, attempt)
        broken = list(sim.broken)
        sim.broken.clear()
        assert [type(error) for error in broken] == [BrokenInvariant]
        said = str(broken[0]).splitlines()[0]
        assert (by_hand in said) == (labelled == SEEN)


def test_what_crashes_as_a_drilled_node_gets_the_candidate_again_is_known_too_late() -> None:
    crashed = []

    def crash(sim: Simulation, change: Change) -> None:
        record = record_in(change)
        drill = record.rollout.drilling if record and record.rollout else None
        if drill is not None and drill.again_since is not None and not crashed:
            crashed.append(drill.node)
            [pod] = sim.pods(drill.node)
            sim.loop.call_soon(sim.machines.restart_container, drill.node, pod)

    with Simulation(3) as sim:
        guard = Guard()
        sim.watchers += [guard, crash]
        sim.add_nodes("canary", 1)
        sim.add_nodes("workers", 1)
        sim.apply_channel(rollout={"drill": "Always"})
        sim.publish("a")
        sim.until_phase("a", "Completed")
        sim.publish("b")
        sim.until_phase("b", "Completed")
        assert guard.books.drills.drilled[sim.record.stable.attempt] == set(crashed) != set()


def _moved(sim: Simulation) -> list[str]:
    return [n["metadata"]["name"] for n in sim.server.all("nodes") if side(n, sim.key)]


def _move(sim: Simulation, name: str, attempt: str) -> None:
    """As the operator would."""
    body = sim.server.find("nodes", name)
    assert body is not None
    metadata = {**body["metadata"], "labels": {**body["metadata"]["labels"], sim.key: attempt}}
    sim.act(lambda: sim.server.update("operator-1", "nodes", body, metadata=metadata))
