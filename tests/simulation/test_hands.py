"""What people do by hand to our objects is put right, whatever else is the matter."""

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
