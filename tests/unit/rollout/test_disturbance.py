"""Harm that nodes without the content show as well is the cluster's: it holds and goes on."""

import pytest

from support.invariants import ended, in_wave, phase_of, with_stable
from wavegate.api import Reason, WaveState

NO_BAKE = {"bake": "0s", "soak": "90s"}
"""A bake has no control: it would take the disturbance for harm by the stable release."""


@pytest.fixture
def sim(make_sim):
    """One canary and 20 workers on stable content `a`, in three waves."""
    waves = [
        {"name": "canary", "pools": ["canary"], "upTo": "100%"},
        {"name": "some", "pools": ["workers"], "upTo": 4},
        {"name": "all", "upTo": "100%"},
    ]
    return with_stable(make_sim(workers=20, waves=waves, rollout=NO_BAKE))


def soaking(sim, wave):
    sim.publish("b", 2)
    sim.run(900, until=in_wave(sim, wave))
    sim.run(3)


def on(sim, pool="workers", *, candidate):
    attempt = sim.record.rollout.attempt
    names = [n for n in sim.nodes if n.startswith(pool)]
    return [n for n in names if (sim.nodes[n].attempt == attempt) == candidate]


def lose(sim, *names):
    for name in names:
        sim.die(name)


def boot(sim, *names):
    """They are back, and nobody takes it for a reboot: the network was away, not they."""
    for name in names:
        sim.nodes[name].alive = True


def complete(sim):
    sim.run(3_000, until=ended(sim, "b"))
    sim.run(10)
    assert phase_of(sim, "b") == ("Completed", "Completed")
    assert sim.running() == dict.fromkeys(sim.nodes, "b")
    assert not sim.record.blocked


def test_a_zone_that_fails_holds_the_wave_and_it_goes_on_when_it_is_back(sim):
    soaking(sim, "some")
    sim.run(3)
    control, victim = on(sim, candidate=False)[:4], on(sim, candidate=True)[0]
    lose(sim, *control, victim)
    sim.run(60)
    rollout = sim.record.rollout
    assert rollout.waves[-1].state is WaveState.Held
    assert not rollout.suspects
    assert not rollout.incident
    boot(sim, *control, victim)
    complete(sim)


def test_nodes_of_other_pools_are_no_control(sim):
    soaking(sim, "canary")
    lose(sim, "canary-0", *[n for n in sim.nodes if n.startswith("workers")][:5])
    sim.run(60)
    assert sim.record.rollout.incident.reason is Reason.NodeNotReady


def test_it_holds_also_in_the_first_wave(make_sim):
    pools = [{"name": "workers", "selector": {}}]
    sim = with_stable(
        make_sim(
            workers=20,
            pools=pools,
            waves=[{"name": "one", "upTo": 1}, {"name": "all", "upTo": "100%"}],
            rollout=NO_BAKE,
        )
    )
    soaking(sim, "one")
    [victim] = [n for n in sim.nodes if sim.nodes[n].attempt == sim.record.rollout.attempt]
    others = [n for n in sim.nodes if n != victim][:5]
    lose(sim, victim, *others)
    sim.run(60)
    assert sim.record.rollout.waves[-1].state is WaveState.Held
    boot(sim, victim, *others)
    complete(sim)


def test_what_lasts_is_excused_when_the_disturbance_is_over(sim):
    soaking(sim, "some")
    control, victim = on(sim, candidate=False)[:4], on(sim, candidate=True)[0]
    lose(sim, *control, victim)
    sim.run(60)
    for name in (*control, victim):
        sim.revive(name)  # with another bootID
    sim.run(5)
    (suspect,) = sim.record.rollout.suspects
    assert (suspect.node, suspect.reason, suspect.excused) == (victim, Reason.NodeRebooted, True)
    complete(sim)


def test_a_zone_that_failed_before_the_wave_excuses_nobody(sim):
    workers = [n for n in sim.nodes if n.startswith("workers")][:4]
    lose(sim, *workers)
    sim.run(60)
    boot(sim, *workers)
    soaking(sim, "some")
    victim = on(sim, candidate=True)[0]
    lose(sim, victim)
    sim.run(60)
    assert [s.node for s in sim.record.rollout.suspects] == [victim]


def test_two_lost_soon_after_loading_fail_whatever_the_control_does(sim):
    soaking(sim, "some")
    control, victims = on(sim, candidate=False)[:10], on(sim, candidate=True)[:2]
    lose(sim, *control, *victims)
    sim.run(60)
    assert sim.record.rollout.incident.reason is Reason.NodeNotReady


def test_a_crash_of_the_agent_is_the_contents_whatever_the_control_does(sim):
    soaking(sim, "some")
    control, victim = on(sim, candidate=False)[:10], on(sim, candidate=True)[0]
    lose(sim, *control)
    sim.run(50)
    sim.pod_on(victim).restarts = 1
    sim.run(2)
    assert [s.reason for s in sim.record.rollout.suspects] == [Reason.AgentRestarted]


def test_control_nodes_that_are_lost_later_excuse_nobody(sim):
    soaking(sim, "some")
    control, victim = on(sim, candidate=False)[:6], on(sim, candidate=True)[0]
    lose(sim, victim)
    sim.run(20)
    lose(sim, *control)
    sim.run(60)
    assert [s.node for s in sim.record.rollout.suspects] == [victim]
    assert not sim.record.rollout.suspects[0].excused


def test_one_lost_node_of_the_control_excuses_nobody(sim):
    soaking(sim, "some")
    control, victim = on(sim, candidate=False)[0], on(sim, candidate=True)[0]
    lose(sim, control, victim)
    sim.run(60)
    assert [s.node for s in sim.record.rollout.suspects] == [victim]


def test_a_disturbance_that_lasts_asks_a_person(make_sim):
    waves = [
        {"name": "canary", "pools": ["canary"], "upTo": "100%"},
        {"name": "some", "pools": ["workers"], "upTo": 4},
    ]
    sim = with_stable(make_sim(workers=20, waves=waves, rollout=NO_BAKE | {"holdTimeout": "2m"}))
    soaking(sim, "some")
    lose(sim, *on(sim, candidate=False)[:4], on(sim, candidate=True)[0])
    sim.run(200)
    assert sim.record.rollout.paused is Reason.HoldTimeout
