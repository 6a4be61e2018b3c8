"""The rollback drill: a node of the first wave goes back and comes again before that wave soaks."""

from dataclasses import replace

import pytest

from support.builders import agent_template, digest, make_channel
from support.invariants import ended, in_wave, phase_of, with_stable
from wavegate.api import Reason, WaveState
from wavegate.rollout import suspects
from wavegate.rollout.compatible import VERSION_LABEL
from wavegate.rollout.decide import decide
from wavegate.rollout.steps import MoveNodes, UnlabelNodes
from wavegate.rollout.waves import is_first

DRILL = {"rollout": {"drill": "Always"}}


@pytest.fixture
def sim(make_sim):
    return with_stable(make_sim(**DRILL))


def drill(sim):
    return sim.record.rollout.drill if sim.record.rollout else None


def until_away(sim):
    sim.publish("b", 2)
    sim.run(200, until=lambda: drill(sim))


def sides(sim):
    """What the canary ran, each change."""
    seen = []

    def note(world, _obs, _step):
        running = world.running().get("canary-0")
        if running and (not seen or seen[-1] != running):
            seen.append(running)

    sim.watchers.append(note)
    return seen


def test_the_first_node_goes_back_and_gets_it_again_before_its_wave_soaks(sim):
    seen = sides(sim)
    sim.publish("b", 2)
    sim.run(300, until=in_wave(sim, "canary", WaveState.Soaking))
    assert seen == ["a", "b", "a", "b"]
    done = drill(sim)
    assert done.began <= done.back_since <= done.again_since < done.done_at
    assert sim.record.rollout.waves[-1].soak_began >= done.done_at + sim.record.rollout.plan.settle
    sim.run(600, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Completed", "Completed")


def test_where_nothing_is_stable_there_is_no_way_back_to_try(make_sim):
    sim = make_sim(**DRILL)
    sim.publish("a", 1)
    sim.run(400, until=lambda: drill(sim) or sim.record.stable)
    assert drill(sim) is None
    assert phase_of(sim, "a")[0] == "Completed"


@pytest.mark.parametrize(
    ("mode", "version", "known", "drilled"),
    [
        ("Never", "1.0", (), False),
        ("Always", "", (), True),
        ("Always", "1.0", ("1.0",), True),
        ("NewAgentVersion", "", (), False),
        ("NewAgentVersion", "1.0", (), True),
        ("NewAgentVersion", "1.0", ("2.0", "1.0"), False),
    ],
)
def test_which_releases_are_drilled(make_sim, mode, version, known, drilled):
    template = agent_template()
    template["metadata"] = {"labels": {VERSION_LABEL: version} if version else {}}
    sim = with_stable(make_sim(rollout={"drill": mode}, agent={"template": template}))
    sim.record = replace(sim.record, drilled=known)
    sim.publish("b", 2)
    sim.run(600, until=lambda: drill(sim) or ended(sim, "b")())
    assert bool(drill(sim)) is drilled
    sim.run(600, until=ended(sim, "b"))
    new = (version,) if drilled and version and version not in known else ()
    assert sim.record.drilled == (*new, *known)


def test_each_step_is_stored_before_it_is_done(sim):
    sim.publish("b", 2)
    sim.step_until(lambda: drill(sim))
    assert sim.nodes["canary-0"].attempt == sim.record.rollout.attempt
    sim.forget()
    (action,) = decide(sim.observe(), sim.now).actions
    assert isinstance(action, UnlabelNodes)
    sim.step_until(lambda: drill(sim).again_since)
    assert sim.nodes["canary-0"].attempt is None
    sim.forget()
    sim.step_until(lambda: sim.nodes["canary-0"].attempt)
    assert sim.nodes["canary-0"].attempt == sim.record.rollout.attempt


def test_a_node_that_does_not_come_back_in_time_fails_the_wave_and_blocks_nothing(sim):
    until_away(sim)
    sim.harms[digest("a")], sim.victims = "unready", {"canary-0"}
    sim.run(2_000, until=ended(sim, "b"))
    outcome = sim.record.outcomes[0]
    assert outcome.incident.reason is Reason.DrillFailed
    assert "canary-0: it is not back on stable" in outcome.incident.message
    assert sim.record.blocked == ()
    assert [wave.nodes for wave in outcome.waves] == [1]


def test_a_suspended_release_does_not_fail_for_being_away(sim):
    until_away(sim)
    sim.run(30, until=lambda: drill(sim).again_since)
    sim.channel = make_channel(**DRILL, suspend=True)
    sim.run(3_600)
    assert sim.record.rollout.incident is None
    sim.channel = make_channel(**DRILL)
    sim.run(600, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Completed", "Completed")


def test_a_node_that_is_away_is_asked_nothing_and_keeps_its_slot(sim):
    until_away(sim)
    obs = sim.observe()
    assert suspects.aside(obs, sim.record.rollout) == {"canary-0"}
    moved = []
    sim.watchers.append(
        lambda _w, _o, step: moved.extend(a for a in step.actions if isinstance(a, MoveNodes))
    )
    sim.run(300, until=in_wave(sim, "canary", WaveState.Soaking))
    assert [action.nodes[0][0] for action in moved] == ["canary-0"]


def test_a_first_wave_without_nodes_is_no_first_wave(make_sim):
    """Where its nodes come last, as critical ones or those of the control plane do."""
    pools = [
        {"name": pool, "selector": {"matchLabels": {"pool": pool}}}
        for pool in ("canary", "workers")
    ]
    pools.append({"name": "pay", "selector": {"matchLabels": {"pool": "canary"}}, "critical": True})
    waves = [{"name": "early", "pools": ["canary"], "upTo": 1}, {"name": "all", "upTo": "100%"}]
    sim = with_stable(make_sim(pools=pools, waves=waves, **DRILL))
    sim.publish("b", 2)
    sim.run(300, until=lambda: drill(sim) and drill(sim).done_at)
    assert [(w.name, w.nodes > 0) for w in sim.record.rollout.waves] == [
        ("early", False),
        ("all", True),
    ]
    assert drill(sim).node.startswith("workers")
    assert is_first(sim.record.rollout), "so a newer release still takes its place"
    sim.run(900, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Completed", "Completed")
