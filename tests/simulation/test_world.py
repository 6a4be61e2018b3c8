"""The simulated world itself: the main job goes through it, under all invariants."""

from simulation.cluster import Simulation
from simulation.invariants import APART, CHECKS, Guard
from simulation.machines import crash_loops, kills, only_on


def test_a_good_and_a_bad_release_go_through_the_world_and_ask_every_invariant() -> None:
    with Simulation(3) as sim:
        guard = Guard()
        sim.watchers.append(guard)
        sim.add_nodes("canary", 1)
        sim.add_nodes("workers", 4)
        sim.apply_channel()
        for good in ("a", "b"):
            sim.publish(good)
            sim.until_phase(good, "Completed")
            assert sim.everywhere(good)
            if good == "a":
                sim.publish("replaced")
                sim.until_phase("replaced", "Rolling")
        sim.harm("bad", kills())
        sim.publish("bad")
        sim.until_phase("bad", "Reverting")
        sim.boot("canary-1")
        sim.until_phase("bad", "Reverted")
        sim.run(30)
        assert sim.everywhere("b")
        sim.harm("worse", only_on(frozenset({"workers-1", "workers-2"}), crash_loops()))
        sim.publish("worse")
        sim.until_phase("worse", "Reverted")
        sim.run(30)
        assert sim.everywhere("b")
        asked = {number for number, _ in CHECKS} - {APART}  # of two channels: test_mutations.py
        assert set(guard.counted) >= asked


def story(seed: int) -> list[str]:
    with Simulation(seed) as sim:
        sim.add_nodes("canary", 1)
        sim.add_nodes("workers", 3)
        sim.apply_channel()
        sim.publish("a")
        sim.until_phase("a", "Completed")
        return sim.log


def test_the_same_seed_gives_the_same_story_and_another_seed_another() -> None:
    assert story(5) == story(5)
    assert story(5) != story(6)
