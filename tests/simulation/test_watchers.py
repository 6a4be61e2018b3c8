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


@pytest.mark.parametrize("lag", [3.0, 60.0])
def test_a_release_that_is_seen_before_an_edit_of_its_channel_starts_by_the_new_plan(lag) -> None:
    """Channels and releases are watched apart; both were applied in this order."""
    with Simulation(3) as sim:
        sim.add_nodes("canary", 1)
        sim.add_nodes("workers", 3)
        sim.apply_channel()
        sim.publish("a")
        sim.until_phase("a", "Completed")
        before = sim.record.attempts
        sim.weather.lag = lambda path: lag if path.endswith("channels") else 0.0
        rollout = {"maxUnavailable": "100%", "settle": "7s", "soak": "44s"}
        sim.patch("Channel", "rules", rollout=rollout)
        sim.publish("b")
        sim.until("b starts", lambda: sim.record.rollout is not None)
        assert (sim.record.rollout.plan.settle, sim.record.rollout.plan.waves[0].soak) == (7, 44)
        assert sim.record.attempts == before + 1
        sim.until_phase("b", "Completed", 600)


def test_a_release_that_is_seen_before_its_channel_is_suspended_does_not_start() -> None:
    with Simulation(3) as sim:
        sim.add_nodes("canary", 1)
        sim.add_nodes("workers", 1)
        sim.apply_channel()
        sim.run(5)
        sim.weather.lag = lambda path: 60.0 if path.endswith("channels") else 0.0
        sim.patch("Channel", "rules", suspend=True)
        sim.publish("a")
        sim.run(30)
        assert sim.record.attempts == 0
        assert sim.status("a")["reason"] == "ChannelSuspended"
