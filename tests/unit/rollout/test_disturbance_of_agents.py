"""Agents that are not Ready with and without the content, ours or selected ones: the cluster's."""

import pytest

from support.builders import digest
from support.carrying import carrying
from support.invariants import ended, in_wave, phase_of, with_stable
from wavegate.api import Reason, WaveState

NO_BAKE = {"bake": "0s", "soak": "90s"}
WAVES = [
    {"name": "canary", "pools": ["canary"], "upTo": "100%"},
    {"name": "some", "pools": ["workers"], "upTo": 4},
    {"name": "all", "upTo": "100%"},
]


@pytest.fixture
def sim(make_sim):
    """One canary and 20 workers that carry content `a` to someone else's agent."""
    return with_stable(carrying(make_sim, workers=20, waves=WAVES, rollout=NO_BAKE))


def soaking(sim):
    sim.publish("b", 2)
    sim.run(900, until=in_wave(sim, "some"))
    sim.run(3)


def groups(sim):
    """The nodes that have the content, and those that have not."""
    having = [n for n in sim.nodes if sim.nodes[n].attempt == sim.record.rollout.attempt]
    return having, [n for n in sim.nodes if n not in having]


def unready(sim, *nodes, **changes):
    for node in nodes:
        sim.change(node, ready=False, ready_since=None, unready_since=sim.now, **changes)


def ready(sim, *nodes):
    for node in nodes:
        sim.change(node, ready=True, ready_since=sim.now, unready_since=None)


def failed_by(sim):
    incident = sim.record.rollout.incident if sim.record.rollout else None
    return incident and incident.reason


def test_agents_that_are_not_ready_anywhere_hold_the_wave_until_they_are(sim):
    soaking(sim)
    unready(sim, *sim.nodes)
    sim.run(300)
    assert sim.record.rollout.waves[-1].state is WaveState.Held
    assert not sim.record.rollout.suspects
    ready(sim, *sim.nodes)
    sim.run(3_000, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Completed", "Completed")
    assert not sim.record.blocked


def test_it_is_so_in_the_first_wave_and_for_agents_of_our_own(make_sim):
    pools, waves = [{"name": "workers", "selector": {}}], [{"name": "one", "upTo": 1}]
    sim = with_stable(make_sim(workers=20, pools=pools, waves=waves, rollout=NO_BAKE))
    sim.publish("b", 2)
    sim.run(900, until=in_wave(sim, "one"))
    sim.harms = dict.fromkeys((digest("a"), digest("b")), "unready")
    sim.run(200)
    assert sim.record.rollout.waves[-1].state is WaveState.Held
    assert failed_by(sim) is None


def test_a_crash_is_the_contents_though_agents_of_the_control_are_not_ready(sim):
    soaking(sim)
    having, control = groups(sim)
    unready(sim, *control)
    sim.run(5)
    unready(sim, *having, restarts=8, waiting="CrashLoopBackOff")
    sim.run(3)
    assert failed_by(sim) is Reason.AgentRestarted


def test_agents_that_were_not_ready_before_the_wave_excuse_nobody(sim):
    sim.observe()
    unready(sim, *[n for n in sim.nodes if n.startswith("workers")][-12:])
    soaking(sim)
    having, _ = groups(sim)
    unready(sim, *having)
    sim.run(125)
    assert failed_by(sim) is Reason.AgentNotReady


def test_agents_that_were_not_ready_later_excuse_nobody(sim):
    soaking(sim)
    having, control = groups(sim)
    unready(sim, *having)
    sim.run(30)
    unready(sim, *control)
    sim.run(95)
    assert failed_by(sim) is Reason.AgentNotReady


def test_what_a_new_leader_finds_not_ready_is_no_news_of_the_control(sim):
    soaking(sim)
    having, control = groups(sim)
    sim.forget()
    unready(sim, *control)  # for days, but it sees that for the first time
    sim.run(30)
    unready(sim, *having)
    sim.run(125)
    assert failed_by(sim) is Reason.AgentNotReady


def test_jobs_that_are_done_are_no_agents_of_the_control(sim):
    soaking(sim)
    having, control = groups(sim)
    unready(sim, *having)
    unready(sim, *control, phase="Succeeded")
    sim.run(125)
    assert failed_by(sim) is Reason.AgentNotReady
