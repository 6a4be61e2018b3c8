"""A record from an older backup never takes an agent away."""

from collections.abc import Iterable

from simulation.apiserver import Body
from simulation.cluster import Simulation
from simulation.invariants import Guard
from wavegate.rollout.names import record_name


def publish_first(sim: Simulation) -> None:
    """Under all invariants, a canary and three workers get their first release."""
    sim.watchers.append(Guard())
    sim.add_nodes("canary", 1)
    sim.add_nodes("workers", 3)
    sim.apply_channel()
    sim.publish("a")


def find_record(sim: Simulation) -> Body:
    return sim.server.find("configmaps", record_name("rules"), "agents")


def before_its_first_wave(past: Iterable[tuple[int, Body]], attempt: str) -> Body:
    """The record as it was first stored with this attempt."""
    return next(b for _, b in past if '"Pending"' in str(b.get("data")) and attempt in str(b))


def restore(sim: Simulation, old: Body) -> None:
    """The record is as it was in a backup."""
    new = find_record(sim)
    sim.act(lambda: sim.server.update("people", "configmaps", new, data=old["data"]))


def test_an_old_record_of_a_channels_first_release_takes_no_agent_away() -> None:
    with Simulation(5) as sim:
        publish_first(sim)
        sim.until("the canary soaks", lambda: "Soaking" in sim.log[-1])
        old = find_record(sim)
        sim.until_phase("a", "Completed")
        restore(sim, old)
        sim.run(60)
        assert sim.everywhere("a")
        assert sim.channel_status()["conditions"][0]["reason"] == "StateLost"


def test_an_old_record_of_the_first_release_is_found_out_while_the_second_begins() -> None:
    with Simulation(5) as sim:
        publish_first(sim)
        sim.until("all soak", lambda: "wave all Soaking" in sim.log[-1])
        old = find_record(sim)
        sim.until_phase("a", "Completed")
        sim.add_nodes("workers", 1)
        sim.until("a runs on all", lambda: sim.everywhere("a"))
        attempt = sim.record.stable.attempt
        sim.publish("b")
        sim.until("stable makes room", lambda: "NotIn" in " ".join(sim.targets(attempt)))
        for body in list(sim.server.all("daemonsets")):
            if body["metadata"]["labels"]["wavegate.dev/attempt"] != attempt:
                sim.act(lambda b=body: sim.server.remove("people", "daemonsets", b))
        restore(sim, old)
        sim.run(60)
        assert sim.everywhere("a")


def test_an_old_namespace_of_a_channels_first_release_takes_no_agent_away() -> None:
    with Simulation(5) as sim:
        publish_first(sim)
        sim.until("all have it", lambda: sim.everywhere("a"))
        before = next(
            body
            for _, body in sim.server.history("configmaps")
            if "Soaking" in str(body.get("data"))
        )
        later = [b for b in sim.server.all("configmaps") if b["metadata"]["name"].endswith("-1")]
        restore(sim, before)
        sim.act(lambda: [sim.server.remove("people", "configmaps", b) for b in later])
        sim.run(20)
        assert sim.everywhere("a")
        sim.until_phase("a", "Completed")
        assert sim.everywhere("a")


def test_when_stable_is_gone_and_another_revision_runs_the_message_says_how_it_is_adopted() -> None:
    with Simulation(5) as sim:
        sim.watchers.append(Guard())
        sim.add_nodes("canary", 1)
        sim.add_nodes("workers", 3)
        sim.apply_channel()
        for release in ("a", "b"):
            sim.publish(release)
            sim.until_phase(release, "Completed")
        newest, oldest = sim.record.stable, sim.record.history[0]
        gone = sim.daemon_set_of(newest.attempt)
        sim.act(lambda: sim.server.delete("people", "daemonsets", gone))
        sim.retarget(oldest.attempt, [])
        sim.until("all run a", lambda: sim.everywhere("a"))
        message = sim.channel_status()["conditions"][0]["message"]
        assert f"{oldest.daemon_set}, which is for all nodes, is adopted" in message
        record = find_record(sim)
        sim.act(lambda: sim.server.remove("people", "configmaps", record))
        sim.until("it is adopted", lambda: sim.record.stable is not None, 60)
        assert sim.record.stable.attempt == oldest.attempt
        assert sim.everywhere("a")


def test_an_attempt_that_a_backup_brings_back_gets_no_node_that_still_has_its_label() -> None:
    with Simulation(5) as sim:
        publish_first(sim)
        sim.until_phase("a", "Completed")
        sim.publish("b")
        sim.until("b is on all nodes", lambda: sim.everywhere("b"))
        attempt, past = sim.record.rollout.attempt, sim.server.history("configmaps")
        sim.decide("back", "b", "Revert")
        sim.until_phase("b", "Reverted")
        sim.until("its DaemonSet is forgotten", lambda: sim.daemon_set_of(attempt) is None)
        ledgers = [b for b in sim.server.all("configmaps") if attempt in b["metadata"]["name"]]
        old = before_its_first_wave(past, attempt)
        sim.delete("Decision", "back")
        sim.run(1)
        restore(sim, old)
        sim.act(lambda: [sim.server.remove("people", "configmaps", b) for b in ledgers])
        begun = len(sim.log)
        sim.until_phase("b", "Completed")
        assert not [line for line in sim.log[begun:] if f"pod rules-{attempt}" in line]


def test_an_attempt_of_which_nothing_is_left_goes_on_when_a_backup_brings_it_back() -> None:
    with Simulation(5) as sim:
        publish_first(sim)
        sim.until("it is stored", lambda: sim.record.rollout is not None)
        attempt, past = sim.record.rollout.attempt, sim.server.history("configmaps")
        sim.until("its DaemonSet", lambda: sim.daemon_set_of(attempt) is not None)
        sim.delete("Channel", "rules")
        sim.until("its DaemonSet is forgotten", lambda: sim.daemon_set_of(attempt) is None)
        old = before_its_first_wave(past, attempt)
        sim.apply_channel()
        restore(sim, old)
        sim.until_phase("a", "Completed")
        assert sim.record.stable.attempt == attempt
