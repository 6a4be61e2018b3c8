"""What is seen late is no sign of life: outages and watches that lag never pass a wave."""

from simulation.cluster import Simulation
from simulation.invariants import Guard
from wavegate.api import WaveState
from wavegate.cluster import paths


def judging(sim):
    """Release b has soaked on the canary, whose last sign of life is still awaited."""
    sim.add_nodes("canary", 1)
    sim.add_nodes("workers", 3)
    if not sim.channel_status():
        sim.apply_channel()
    sim.publish("a")
    sim.until_phase("a", "Completed")
    sim.publish("b")
    sim.until("the canary soaks", lambda: wave(sim) == ("canary", WaveState.Soaking))


def wave(sim):
    rollout = sim.record.rollout
    return (rollout.waves[-1].name, rollout.waves[-1].state) if rollout and rollout.waves else None


def test_a_machine_that_died_while_leases_could_not_be_read_is_not_taken_for_alive() -> None:
    for seed in range(1, 9):
        with Simulation(seed) as sim:
            sim.watchers.append(Guard())
            judging(sim)
            sim.run(5)
            sim.weather.fails = lambda _verb, path: 500 if "kube-node-lease" in path else None
            sim.run(12 + seed)  # it renews its lease, in the outage, and dies before the soak ends
            sim.crash("canary-1")
            sim.run(12)
            sim.weather.fails = lambda _verb, _path: None
            sim.until_phase("b", "Reverting")


def test_a_watch_that_is_interrupted_in_a_soak_does_not_make_records_spin() -> None:
    with Simulation(2) as sim:
        sim.watchers.append(Guard())
        judging(sim)
        sim.run(5)
        begun = len(sim.log)
        sim.weather.fails = lambda verb, path: 500 if (verb, path) == ("GET", paths.PODS) else None
        sim.act(sim.server.break_watches)
        sim.run(10)
        assert sum("wavegate-record-rules is written" in line for line in sim.log[begun:]) <= 2
        sim.weather.fails = lambda _verb, _path: None
        sim.until_phase("b", "Completed")


def test_time_in_which_there_was_harm_is_no_soak_when_a_failed_wave_only_pauses() -> None:
    with Simulation(2) as sim:
        sim.watchers.append(Guard())
        sim.apply_channel(rollout={"onFailure": "Pause"})
        sim.run(1)
        judging(sim)
        sim.run(5)
        pod = sim.pods("canary-1")[0]
        sim.act(lambda: sim.machines.restart_container("canary-1", pod))
        sim.until_phase("b", "Paused")
        sim.run(60)
        sim.delete_pod("canary-1")  # the harm is out of sight
        sim.run(60)
        for suspended in (True, False):
            sim.patch("Release", "b", suspend=suspended)
            sim.run(1)
        sim.until("it soaks again", lambda: wave(sim) == ("canary", WaveState.Soaking))
        began = sim.now
        sim.until("it has soaked", lambda: wave(sim) != ("canary", WaveState.Soaking))
        assert sim.now - began >= 29  # looked at every half second


def test_a_crash_that_a_late_watch_has_not_shown_yet_passes_no_wave() -> None:
    with Simulation(2) as sim:
        sim.watchers.append(Guard())
        judging(sim)
        sim.run(5)
        sim.weather.lag = lambda path: 60.0 if path == paths.PODS else 0.0
        pod = sim.pods("canary-1")[0]
        sim.act(lambda: sim.machines.restart_container("canary-1", pod))
        sim.until_phase("b", "Reverting")
        assert sim.record.rollout.wave == 0


def test_a_wave_that_waits_for_evidence_after_its_soak_counts_no_more_minutes() -> None:
    with Simulation(2) as sim:
        judging(sim)
        sim.weather.fails = lambda verb, path: 500 if (verb, path) == ("GET", paths.PODS) else None
        sim.run(90)
        assert wave(sim) == ("canary", WaveState.Judging)
        sim.run(100)
        releases = sim.server.history("securitycontentreleases")
        waves = [((body.get("status") or {}).get("wave") or {}) for _, body in releases]
        assert {wave["soaked"] for wave in waves if wave.get("state") == "Judging"} == {"0s"}
