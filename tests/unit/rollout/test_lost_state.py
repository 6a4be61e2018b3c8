"""What is remembered is gone, contradicts what runs, or was planted: nothing may be begun on it."""

from dataclasses import replace

import pytest

from support.builders import digest, make_decision, make_release
from support.invariants import ended, phase_of
from wavegate.api import Phase, Release, WaveState
from wavegate.rollout import queue
from wavegate.rollout.decide import decide
from wavegate.rollout.names import content_name
from wavegate.rollout.observation import ContentView
from wavegate.rollout.record import Record
from wavegate.rollout.steps import CreateRevision


@pytest.fixture
def lost(sim):
    """The record of a channel with a running agent is gone."""
    return replace(sim.observe(), record_lost=True, record=Record("agents", "rules"))


def test_a_lost_record_starts_nothing_and_says_so(sim, lost):
    newer = replace(lost, releases=(*lost.releases, make_release("b", 2)))
    assert decide(newer, sim.now).record.rollout is None
    assert queue.channel_problem(newer).reason == "StateLost"


# Was: `_note_decisions` runs first and stores a new, empty record; the loss is then forgotten, and
# the next pass starts a rollout without stable.
def test_a_lost_record_is_not_begun_anew_because_of_an_old_decision(sim, lost):
    decided = replace(lost, decisions=(make_decision("d", "a", "Pause"),))
    assert decide(decided, sim.now).record.decisions == ()


# Was: `_tidy` guards the DaemonSets of a lost record, but not its ledgers.
def test_a_lost_record_keeps_its_ledgers(sim, lost):
    assert lost.old_ledgers
    assert decide(lost, sim.now).actions == ()


# Was: `revert.advance` takes a missing stable DaemonSet for "no agent wanted": Reverted is claimed
# while the nodes have no agent at all.
def test_a_revert_without_the_stable_daemon_set_does_not_claim_to_be_done(sim):
    sim.publish("b", 2)
    sim.run(300, until=lambda: sim.running().get("canary-0") == "b")
    sim.watchers.clear()
    del sim.sets[sim.record.stable.attempt]
    sim.pods = [pod for pod in sim.pods if pod.attempt in sim.sets]
    del sim.releases["b"]
    sim.run(60)
    assert phase_of(sim, "b") != ("Reverted", "Reverted")


# Was: `_create` looks only at the name of our copy. Whoever may create ConfigMaps can plant it.
def test_a_planted_copy_of_the_content_is_not_rolled_out(make_sim):
    volumes = [{"name": "content", "configMap": {"name": "set-by-wavegate"}}]
    image = f"registry.example/agent@{digest('agent')}"
    template = {"spec": {"containers": [{"name": "c", "image": image}], "volumes": volumes}}
    sim = make_sim(content={"configMap": {"volumeName": "content"}}, agent={"template": template})
    copy = content_name(digest("good"))
    sim.contents["mine"] = ContentView("mine", digest("good"), immutable=True)
    sim.contents[copy] = ContentView(copy, digest("planted"), immutable=False)
    release = make_release("a", 1).model_dump(by_alias=True)
    release["spec"]["content"] = {"configMap": {"name": "mine"}}
    sim.releases["a"] = Release.parse(release)
    assert sim.work()
    step = decide(sim.observe(), sim.now)
    assert not any(isinstance(action, CreateRevision) for action in step.actions)


# Was: the wave soaks without a node, then goes round Held → Moving → Soaking → Judging for ever:
# four record writes each 25 s, no other node is chosen, no person is asked.
@pytest.mark.parametrize("fate", ["reboots", "vanishes"])
def test_a_wave_whose_only_node_is_lost_before_its_move_asks_a_person_or_takes_another(
    make_sim, fate
):
    sim = make_sim(rollout={"holdTimeout": "5m"}, waves=[{"name": "first", "upTo": 1}])
    sim.publish("a", 1)
    sim.step_until(lambda: sim.ledgers)
    (ledger,) = sim.ledgers.values()
    (node,) = ledger.nodes
    if fate == "reboots":
        sim.revive(node.name)
    else:
        sim.remove_node(node.name)
    sim.run(900)
    rollout = sim.record.rollout
    assert rollout is None or rollout.paused is not None or len(rollout.waves) > 1


def test_the_state_of_a_wave_is_known(sim):
    assert sim.record.outcomes[0].phase is Phase.Completed
    assert {wave.state for wave in sim.record.outcomes[0].waves} == {WaveState.Passed}
    assert ended(sim, "a")()
