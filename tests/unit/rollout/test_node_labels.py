"""What becomes of a node whose label, taints or identity others change in the middle."""

from dataclasses import replace

import pytest

from support.invariants import Invariants, ended, phase_of, with_stable
from support.story_words import labelled, moving
from wavegate.api import Reason, WaveState
from wavegate.evidence import Taint
from wavegate.rollout import labels
from wavegate.rollout.decide import decide
from wavegate.rollout.steps import MoveNodes, UnlabelNodes


@pytest.fixture
def sim(make_sim):
    """Release b has left its canary and moves workers."""
    sim = with_stable(make_sim(workers=12))
    sim.publish("b", 2)
    sim.step_until(lambda: moving(sim, "all") and len(labelled(sim)) >= 4)
    return sim


def moved_worker(sim):
    return min(labelled(sim) - {"canary-0"})


def unmoved_worker(sim):
    return min(set(sim.nodes) - labelled(sim))


def moves_of(sim, name):
    """How often a node is labelled from now on, by wave."""
    found = []

    def watch(world, _obs, step):
        moves = (a for a in step.actions if isinstance(a, MoveNodes) and name in dict(a.nodes))
        found.extend(world.record.rollout.waves[-1].name for _ in moves)

    sim.watchers.append(watch)
    return found


def complete(sim):
    sim.run(900, until=ended(sim, "b"))
    sim.run(10)
    assert phase_of(sim, "b") == ("Completed", "Completed")
    assert sim.running() == dict.fromkeys(sim.nodes, "b")


def replaced(sim, name):
    """The same name, another machine; the label came with it."""
    sim.gone[name] = sim.node_view(sim.nodes[name])
    sim.nodes[name] = replace(sim.nodes[name], uid=f"new-{name}")


def relabel(attempt):
    def change(sim, name):
        sim.nodes[name].attempt = attempt

    return change


def taint(effect):
    def change(sim, name):
        sim.nodes[name].taints = (Taint("gpu", "", effect),)

    return change


def cordon(sim, name):
    sim.nodes[name].unschedulable = True


# What is changed on a node that is moved already; which waves label the node again. The release is
# completed.
CHANGES = [
    pytest.param(relabel(None), ["rest-1"], id="label removed"),
    pytest.param(relabel("other"), ["rest-1"], id="label of another attempt"),
    pytest.param(cordon, [], id="cordoned"),
    pytest.param(taint("NoSchedule"), [], id="tainted: the pod stays"),
    pytest.param(replaced, ["rest-1"], id="replaced under its name, with the label"),
]


@pytest.mark.parametrize(("change", "again"), CHANGES)
def test_a_change_of_a_moved_node(sim, change, again):
    victim = moved_worker(sim)
    sim.run(3)
    moves = moves_of(sim, victim)
    change(sim, victim)
    complete(sim)
    assert moves == again


def test_a_moved_node_from_which_a_taint_evicts_the_agent_is_a_suspect_and_is_left_out(sim):
    victim = moved_worker(sim)
    sim.run(3)
    moves = moves_of(sim, victim)
    taint("NoExecute")(sim, victim)
    without_invariants(sim)  # a person who evicts agents leaves a node without
    sim.run(900, until=lambda: sim.record.rollout.suspects)
    assert sim.record.rollout.suspects[0].reason is Reason.Unschedulable
    sim.run(900, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Completed", "Completed")
    assert moves == []


UNMOVED = [
    pytest.param(relabel("other"), "Completed", ["all"], id="label of another attempt"),
    pytest.param(cordon, "Completed", ["all"], id="cordoned after it was chosen"),
    pytest.param(taint("NoSchedule"), "Left", [], id="tainted"),
    pytest.param(replaced, "Completed", ["rest-1"], id="replaced under its name"),
]


@pytest.mark.parametrize(("change", "end", "again"), UNMOVED)
def test_a_change_of_a_node_that_stands_in_the_ledger_and_is_not_moved_yet(sim, change, end, again):
    victim = unmoved_worker(sim)
    moves = moves_of(sim, victim)
    change(sim, victim)
    if end == "Completed":
        complete(sim)
    else:
        sim.run(600)
        assert sim.running()[victim] == "a"
    assert moves == again


def test_a_node_from_which_the_label_is_taken_runs_stable_until_the_sweep(sim):
    victim = moved_worker(sim)
    sim.run(10)
    sim.nodes[victim].attempt = None
    sim.run(10)
    assert sim.running()[victim] == "a"
    sim.step_until(lambda: not moving(sim, "all"))
    assert sim.running()[victim] == "a"
    complete(sim)


def test_a_restart_of_the_operator_does_not_make_it_forget_that_a_label_was_taken(sim):
    victim = moved_worker(sim)
    sim.run(10)
    moves = moves_of(sim, victim)
    sim.nodes[victim].attempt = None
    for _ in range(10):
        sim.forget()
        sim.run(7)
    assert moves == []
    complete(sim)
    assert moves == ["rest-1"]


def test_a_later_wave_does_not_take_a_node_from_which_the_label_was_taken(make_sim):
    waves = [{"name": "half", "upTo": "50%"}, {"name": "all", "upTo": "100%"}]
    sim = with_stable(make_sim(workers=7, waves=waves))
    sim.publish("b", 2)
    sim.step_until(lambda: sim.record.rollout and "Soaking" in str(sim.record.rollout.waves))
    victim = min(labelled(sim))
    moves = moves_of(sim, victim)
    sim.nodes[victim].attempt = None
    complete(sim)
    assert moves == ["rest-1"]


def test_a_wave_whose_every_label_was_taken_holds_and_asks_a_person(make_sim):
    sim = with_stable(make_sim(rollout={"holdTimeout": "1m"}))
    sim.publish("b", 2)
    sim.step_until(lambda: sim.record.rollout and "Soaking" in str(sim.record.rollout.waves))
    sim.nodes["canary-0"].attempt = None
    sim.run(20)
    step = decide(sim.observe(), sim.now)
    assert step.findings[0].reason is Reason.LabelRemoved
    assert sim.record.rollout.waves[-1].state is WaveState.Held
    sim.run(120)
    assert sim.record.rollout.paused is Reason.HoldTimeout
    assert labelled(sim) == set()


def test_a_wave_with_nodes_left_to_move_goes_on_when_the_label_of_its_only_moved_one_is_taken(
    make_sim,
):
    sim = with_stable(make_sim(workers=4))
    sim.publish("b", 2)
    sim.step_until(lambda: moving(sim, "all") and len(labelled(sim)) == 2)
    sim.step_until(lambda: sim.record.rollout.waves[-1].labelled == 1)
    sim.nodes[moved_worker(sim)].attempt = None
    complete(sim)


def test_a_person_who_sets_the_label_again_lets_the_wave_go_on(make_sim):
    sim = with_stable(make_sim())
    sim.publish("b", 2)
    sim.step_until(lambda: sim.record.rollout and "Soaking" in str(sim.record.rollout.waves))
    sim.nodes["canary-0"].attempt = None
    sim.run(20)
    sim.nodes["canary-0"].attempt = sim.record.rollout.attempt
    complete(sim)


@pytest.mark.parametrize("suspended", [False, True])
def test_a_foreign_label_is_taken_back_and_the_node_runs_stable_again(sim, suspended):
    (joined,) = sim.add_nodes("workers", 1)
    sim.run(5)
    without_invariants(sim)
    if suspended:
        sim.publish("b", 2, suspend=True)
    sim.nodes[joined].attempt = sim.record.rollout.attempt
    sim.run(2)
    assert sim.nodes[joined].attempt is None
    sim.run(10)
    assert sim.running()[joined] == "a"
    sim.publish("b", 2)
    complete(sim)


def without_invariants(sim):
    """Whoever sets a label brings a pod to a node outside the ledgers for a moment."""
    sim.watchers[:] = [w for w in sim.watchers if not isinstance(w, Invariants)]


def test_foreign_labels_are_taken_back_in_batches(sim):
    attempt = sim.record.rollout.attempt
    for name in sim.add_nodes("workers", 70):
        sim.nodes[name].attempt = attempt
    obs = sim.observe()
    action = labels.repair(obs, obs.record.rollout)
    assert len(action.nodes) == labels.BATCH
    assert decide(obs, sim.now).actions == (action,)


@pytest.mark.parametrize("doubt", ["ledger gone", "blind", "promoting"])
def test_no_label_is_taken_back_in_doubt(sim, doubt):
    (joined,) = sim.add_nodes("workers", 1)
    sim.nodes[joined].attempt = sim.record.rollout.attempt
    obs = sim.observe()
    if doubt == "ledger gone":
        obs = replace(obs, ledgers={1: obs.ledgers[1]})
    elif doubt == "blind":
        obs = replace(obs, blind="the watch of nodes is interrupted")
    else:
        rollout = replace(obs.record.rollout, promoting=True)
        obs = replace(obs, record=replace(obs.record, rollout=rollout))
    step = decide(obs, sim.now)
    assert not any(isinstance(action, UnlabelNodes) for action in step.actions)


def test_a_node_of_a_ledger_whose_wave_is_not_open_yet_counts_as_labelled_by_others(make_sim):
    sim = with_stable(make_sim())
    sim.publish("b", 2)
    sim.step_until(lambda: sim.record.rollout and len(sim.ledgers) == 3)
    assert sim.record.rollout.waves[-1].state is WaveState.Pending
    canary = sim.nodes["canary-0"]
    canary.attempt, canary.label_seen = sim.record.rollout.attempt, sim.now
    step = decide(sim.observe(), sim.now)
    assert isinstance(step.actions[0], UnlabelNodes)


@pytest.fixture
def about_to_move(sim):
    """The observation of a pass that moves nodes after others of their wave."""
    found = []

    def watch(_world, obs, step):
        if any(isinstance(action, MoveNodes) for action in step.actions):
            found.append(obs)

    sim.watchers.append(watch)
    sim.step_until(lambda: found)
    return found[0]


def with_node(obs, name, **changes):
    return replace(obs, nodes={**obs.nodes, name: replace(obs.nodes[name], **changes)})


def test_a_node_that_was_labelled_and_is_seen_without_is_looked_at_before_others_follow(
    about_to_move,
):
    now, wave = about_to_move.seen_at, about_to_move.record.rollout.waves[-1]
    entry = about_to_move.ledgers[wave.ledger].nodes[wave.labelled - 1]
    read = {(wave.ledger, wave.labelled): now}
    late = replace(with_node(about_to_move, entry.name, sides={}), labelled_at=read)
    before, after = (decide(replace(late, seen_at=now + s), now) for s in (-1.0, 1.0))
    assert (before.look, before.actions, before.record) == (now, (), None)
    assert after.look is None
    assert after.actions or after.record.rollout.waves[-1].moved > wave.moved


def test_a_node_that_is_passed_over_is_stored_before_the_next_one_is_moved(about_to_move):
    obs, rollout = about_to_move, about_to_move.record.rollout
    wave = rollout.waves[-1]
    obs = replace(obs, record=replace(obs.record, rollout=rollout.with_wave(moved=wave.nodes)))
    assert isinstance(decide(obs, obs.seen_at).actions[0], MoveNodes)
    first = obs.ledgers[wave.ledger].nodes[wave.labelled]
    step = decide(with_node(obs, first.name, taints=(Taint("gpu", "", "NoSchedule"),)), obs.seen_at)
    assert step.actions == ()
    assert step.record.rollout.waves[-1].labelled == wave.labelled + 1
