"""The RoleBinding of the agents' namespace is missing, or taken away in the middle of things."""

import pytest

from simulation.cluster import Simulation
from simulation.invariants import Guard
from simulation.machines import kills
from support.builders import digest
from wavegate.api import WaveState
from wavegate.cluster.rights import agents_rights

COMMAND = "kubectl -n agents create rolebinding agents"
"""The simulated operators call the rest of it `agents`."""


def begin(sim):
    sim.watchers.append(Guard())
    sim.add_nodes("canary", 1)
    sim.add_nodes("workers", 3)
    sim.apply_channel()
    sim.publish("a")


def soaking(sim):
    """Release b soaks on the canary."""
    begin(sim)
    sim.until_phase("a", "Completed")
    sim.publish("b")
    sim.until("the canary soaks", lambda: state(sim) == ("canary", WaveState.Soaking))


def state(sim):
    rollout = sim.record.rollout
    return (rollout.waves[-1].name, rollout.waves[-1].state) if rollout and rollout.waves else None


def bind(sim, bound):
    sim.server.bound = bound


def writes(sim):
    return sim.operators[0].line.writes


def until_said(sim, release, words=COMMAND):
    sim.until("it says so", lambda: sim.status(release).get("reason") == "NamespaceNotBound", 60)
    status = sim.status(release)
    assert words in status["message"]
    assert status["waitingFor"] == "Person"
    return status


def test_without_the_binding_nothing_starts_and_with_it_the_release_goes_on_by_itself() -> None:
    with Simulation(3) as sim:
        bind(sim, False)
        begin(sim)
        assert until_said(sim, "a")["phase"] == "Pending"
        (ready,) = (c for c in sim.channel_status()["conditions"] if c["type"] == "Ready")
        assert (ready["status"], ready["reason"]) == ("False", "NamespaceNotBound")
        sim.run(300)
        assert not list(sim.server.all("configmaps"))
        assert sim.agents() == {}
        bind(sim, True)
        sim.until("it begins", lambda: sim.status("a").get("phase") == "Rolling", 20)
        sim.until_phase("a", "Completed")


def test_while_the_binding_is_gone_no_wave_opens_and_no_time_counts() -> None:
    with Simulation(3) as sim:
        soaking(sim)
        bind(sim, False)
        assert until_said(sim, "b")["phase"] == "Rolling"
        before, agents = writes(sim), sim.agents()
        sim.run(300)
        assert (writes(sim), sim.agents()) == (before, agents)
        assert state(sim)[0] == "canary"
        bind(sim, True)
        sim.run(20)
        assert state(sim) == ("canary", WaveState.Soaking), "its soak began again"
        sim.until_phase("b", "Completed")


def test_harm_without_the_binding_is_reverted_as_soon_as_it_is_back() -> None:
    with Simulation(3) as sim:
        soaking(sim)
        bind(sim, False)
        until_said(sim, "b")
        sim.crash("canary-1")
        sim.run(120)
        assert state(sim)[0] == "canary"
        assert "canary-1 is not Ready" in until_said(sim, "b")["message"]
        bind(sim, True)
        sim.until_phase("b", "Reverting", 20)
        sim.boot("canary-1")
        sim.until_phase("b", "Reverted")
        assert [entry.digest for entry in sim.record.blocked] == [digest("b")]


def test_a_revert_that_loses_the_binding_says_so_and_goes_on() -> None:
    with Simulation(3) as sim:
        soaking(sim)
        sim.crash("canary-1")
        sim.until("the decision", lambda: sim.record.rollout.phase == "Reverting")
        bind(sim, False)
        sim.until("it says so", lambda: COMMAND in sim.status("b")["message"], 60)
        assert sim.status("b")["phase"] == "Reverting"
        sim.boot("canary-1")
        sim.run(120)
        assert sim.status("b")["phase"] == "Reverting"
        bind(sim, True)
        sim.until_phase("b", "Reverted", 120)
        assert sim.everywhere("a"), "nodes had no time while nothing could be written"
        assert sim.status("b")["reason"] == "Reverted"


def without_deletion():
    """What a review says of a role of another version: it can't delete pods, but all else."""
    rules = [
        {"verbs": [right.verb], "apiGroups": [right.group], "resources": [right.resource]}
        for right in agents_rights("agents")
        if right.verb != "deletecollection"
    ]
    return {"status": {"resourceRules": rules, "incomplete": False}}


def test_one_missing_right_stops_what_moves_and_no_revert() -> None:
    with Simulation(3) as sim:
        soaking(sim)
        sim.server.rules = without_deletion
        sim.run(300)
        assert "deletecollection pods (in namespace agents)" in until_said(sim, "b", "")["message"]
        assert state(sim)[0] == "canary"
        sim.crash("canary-1")
        sim.until_phase("b", "Reverting", 120)
        sim.boot("canary-1")
        sim.until("stable is everywhere", lambda: sim.everywhere("a"), 120)


def test_a_new_leader_that_lacks_a_right_prepares_nothing_and_takes_nothing_back() -> None:
    with Simulation(3) as sim:
        begin(sim)
        sim.until_phase("a", "Completed")
        sim.publish("b")
        while sim.record.rollout is None:
            sim.run(0.005)
        operator, whole = sim.operators[0], sim.server.rules
        operator.kill()
        sim.server.rules = without_deletion
        sim.run(20)
        sim.act(operator.start)
        sim.run(120)
        assert sim.record.rollout.phase == "Pending"
        assert sim.daemon_set_of(sim.record.rollout.attempt) is None
        assert "deletecollection" in sim.status("b")["message"]
        sim.server.rules = whole
        sim.until_phase("b", "Completed")


def plays_with_the_binding(sim, every, ended):
    """Until the end: it is gone for 15 seconds after each so many-th write."""
    last = writes(sim)
    while not ended():
        assert sim.now < 5000, sim.tail()
        sim.run(0.05)
        if writes(sim) >= last + every:
            bind(sim, False)
            sim.run(1)  # labels of a batch may be on their way
            last = writes(sim)
            sim.run(14)
            assert writes(sim) == last
            bind(sim, True)
            last = writes(sim)
        for machine in sim.machines.machines.values():
            if not machine.alive and sim.loop.time() - machine.died_at > 90:
                sim.boot(machine.name)


@pytest.mark.parametrize("every", [1, 2, 3])
def test_a_binding_that_goes_after_any_write_keeps_no_good_release_from_its_end(every) -> None:
    """And nothing is reverted for that."""
    with Simulation(5) as sim:
        begin(sim)
        plays_with_the_binding(sim, every, lambda: sim.status("a").get("phase") == "Completed")
        assert [o.phase for o in sim.record.outcomes] == ["Completed"], sim.tail()
        assert sim.everywhere("a")


@pytest.mark.parametrize("every", [1, 2, 3])
def test_a_binding_that_goes_after_any_write_keeps_no_bad_release_from_its_end(every) -> None:
    with Simulation(5) as sim:
        begin(sim)
        sim.until_phase("a", "Completed")
        sim.harm("b", kills(8.0))
        sim.publish("b")
        plays_with_the_binding(sim, every, lambda: sim.status("b").get("phase") == "Reverted")
        assert [entry.digest for entry in sim.record.blocked] == [digest("b")]
        sim.until("stable is everywhere", lambda: sim.everywhere("a"), 120)
