"""What people do by hand to our objects is put right, whatever else is the matter."""

import pytest

from simulation.cluster import Simulation
from simulation.invariants import Guard
from simulation.machines import crash_loops


def test_a_stable_revision_that_is_pointed_elsewhere_is_taken_back_while_a_failure_is_paused() -> (
    None
):
    with Simulation(2) as sim:
        sim.watchers.append(Guard())
        sim.add_nodes("canary", 1)
        sim.add_nodes("workers", 3)
        sim.apply_channel(rollout={"onFailure": "Pause"})
        sim.publish("a")
        sim.until_phase("a", "Completed")
        sim.harm("b", crash_loops())
        sim.publish("b")
        sim.until_phase("b", "Paused")
        stable = sim.record.stable.attempt
        sim.retarget(stable, [{"key": sim.key, "operator": "Exists"}])
        sim.run(20)
        sim.add_nodes("workers", 1)
        sim.until("a node that joins has an agent", lambda: "workers-4" in sim.agents(), 60)


@pytest.mark.parametrize("canaries", [1, 3])
def test_a_label_on_a_machine_that_took_a_ledgers_name_keeps_no_first_release_waiting(
    canaries,
) -> None:
    """Nothing is stable yet, so the label is not taken back; the next wave takes the machine."""
    with Simulation(2) as sim:
        sim.watchers.append(Guard())
        names = sim.add_nodes("canary", canaries)
        sim.add_nodes("workers", 1)
        sim.apply_channel()
        sim.publish("a")
        unmoved = _until_the_last_of_the_ledger_is_its_turn(sim, canaries)
        assert unmoved in names
        sim.act(sim.operators[0].kill)
        sim.remove_node(unmoved)
        sim.act(lambda: sim.machines.add(unmoved, {"pool": "canary"}))
        sim.label_node(unmoved, key=sim.record.rollout.attempt)
        sim.act(sim.operators[0].start)
        sim.until_phase("a", "Completed")
        assert sim.everywhere("a")


def _until_the_last_of_the_ledger_is_its_turn(sim: Simulation, canaries: int) -> str:
    """Let the first wave move all but the last node of its ledger; return that one's name."""
    labelled = canaries - 1

    def its_turn() -> bool:
        rollout = sim.record.rollout
        wave = rollout.waves[-1] if rollout is not None and rollout.waves else None
        return wave is not None and wave.nodes == canaries and wave.moved == labelled

    while not its_turn():
        sim.run(0.001)  # that moment is over as soon as the next pass has stored
        assert sim.now < 60
    nodes = [n["metadata"] for n in sim.server.all("nodes")]
    pool = [n for n in nodes if n["labels"]["pool"] == "canary" and sim.key not in n["labels"]]
    return str(pool[0]["name"])
