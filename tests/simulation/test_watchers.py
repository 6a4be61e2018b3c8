"""What a watcher objects to fails the test, whoever made the change that it objects to."""

import pytest

from simulation.cluster import Simulation


@pytest.mark.parametrize("actor", ["operator-1", "daemonset-controller", "kubelet canary-1"])
def test_an_objection_to_a_write_of_the_engine_or_of_the_world_is_not_lost(actor) -> None:
    """The engine survives an error in a pass, and a loop one in a callback."""

    def object_to(_sim, change) -> None:
        assert change.actor != actor or change.plural not in ("configmaps", "pods")

    with Simulation(3) as sim:
        sim.watchers.append(object_to)
        sim.add_nodes("canary", 1)
        sim.add_nodes("workers", 1)
        sim.apply_channel()
        sim.publish("a")
        with pytest.raises(AssertionError):
            sim.run(60)
        sim.broken.clear()
        sim.watchers.clear()
