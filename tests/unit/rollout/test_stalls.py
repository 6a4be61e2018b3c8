"""What can't be fetched is nobody's harm: the node goes back, and is tried again."""

from itertools import pairwise

import pytest

from support.builders import SimNode, digest
from support.invariants import ended, in_wave, phase_of, with_stable
from wavegate.api import Reason, WaveState
from wavegate.rollout import stalls
from wavegate.rollout.decide import decide
from wavegate.rollout.steps import MoveNodes, UnlabelNodes


@pytest.fixture
def unpullable(sim):
    """Release b can't be pulled by anybody."""
    sim.harms[digest("b")] = "unpullable"
    sim.publish("b", 2)
    sim.step_until(lambda: sim.record.rollout and sim.record.rollout.stalls)
    return sim


def actions(sim, kind):
    seen = []
    sim.watchers.append(
        lambda world, _obs, step: seen.extend(
            (world.now, action.nodes[0][0]) for action in step.actions if isinstance(action, kind)
        )
    )
    return seen


def test_a_node_that_cannot_fetch_is_noted_before_its_label_is_taken(unpullable):
    sim = unpullable
    (stall,) = sim.record.rollout.stalls
    assert (stall.node, stall.reason, stall.tries) == ("canary-0", Reason.CannotFetch, 1)
    assert sim.nodes["canary-0"].attempt == sim.record.rollout.attempt
    sim.forget()
    step = decide(sim.observe(), sim.now)
    assert isinstance(step.actions[0], UnlabelNodes)
    sim.run(10)
    assert sim.running() == dict.fromkeys(sim.nodes, "a")
    assert sim.record.rollout.waves[-1].state is WaveState.Held


def test_it_is_tried_again_ever_more_seldom_and_not_after_a_person_is_asked(unpullable):
    sim = unpullable
    moves = actions(sim, MoveNodes)
    sim.run(7_200)
    assert sim.record.rollout.paused is Reason.HoldTimeout
    pauses = [later - earlier for (earlier, _), (later, _) in pairwise(moves)]
    assert len(moves) <= 4
    assert pauses == sorted(pauses)
    assert sim.running() == dict.fromkeys(sim.nodes, "a")
    assert sim.record.blocked == ()


def test_it_goes_on_by_itself_when_the_image_is_there(unpullable):
    sim = unpullable
    sim.harms.clear()
    sim.run(2_000, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Completed", "Completed")


def test_two_nodes_that_cannot_fetch_hold_and_do_not_fail(make_sim):
    sim = with_stable(make_sim(workers=12))
    sim.publish("b", 2)
    sim.run(400, until=in_wave(sim, "all", WaveState.Moving))
    sim.harms[digest("b")] = "unpullable"
    sim.run(3_600, until=lambda: sim.record.rollout is None or sim.record.rollout.paused)
    assert sim.record.rollout.paused is Reason.HoldTimeout
    assert sim.record.rollout.incident is None
    sim.run(200)
    assert set(sim.running()) == set(sim.nodes)


def test_what_could_not_be_fetched_does_not_corroborate_a_crash(make_sim):
    sim = with_stable(make_sim(workers=12))
    sim.publish("b", 2)
    sim.run(400, until=in_wave(sim, "all", WaveState.Moving))
    sim.victims = {"workers-3"}
    sim.harms[digest("b")] = "unpullable"
    sim.run(2_000, until=lambda: sim.record.rollout.suspects)
    (suspect,) = sim.record.rollout.suspects
    assert (suspect.node, suspect.reason) == ("workers-3", Reason.CannotFetch)
    other = next(n for n, release in sim.running().items() if release == "b" and n != "canary-0")
    sim.nodes[other].boot += 1
    sim.run(30)
    assert sim.record.rollout is not None
    assert sim.record.rollout.incident is None
    assert {s.node for s in sim.record.rollout.suspects} == {"workers-3", other}


def test_where_nothing_is_stable_it_waits_where_it_is(make_sim):
    sim = make_sim()
    sim.harms[digest("a")] = "unpullable"
    sim.publish("a", 1)
    taken = actions(sim, UnlabelNodes)
    sim.run(600)
    assert taken == []
    assert sim.record.rollout.stalls == ()
    assert stalls.GIVE_BACK_SECONDS < 600
    sim.harms.clear()
    sim.run(2_000, until=ended(sim, "a"))
    assert phase_of(sim, "a") == ("Completed", "Completed")


def _names(ledger):
    return [entry.name for entry in ledger.nodes]


def reboot(sim, name):
    sim.die(name)
    sim.run(5)
    sim.revive(name)


def replace_machine(sim, name):
    labels = sim.nodes[name].labels
    sim.remove_node(name)
    sim.run(3)
    sim.nodes[name] = SimNode(name, "uid-of-the-new-one", labels)


@pytest.mark.parametrize("deed", [reboot, replace_machine])
@pytest.mark.parametrize("canaries", [1, 2])
def test_a_canary_that_is_rebooted_or_replaced_on_stable_is_tried_by_a_new_ledger(
    make_sim, canaries, deed
):
    """What an on-call person does with a node that can't fetch. The wave neither waits for a try
    that never comes, nor passes without a canary.
    """
    sim = with_stable(make_sim(canaries=canaries))
    sim.harms[digest("b")] = "unpullable"
    sim.publish("b", 2)
    sim.step_until(lambda: sim.record.rollout and sim.record.rollout.stalls)
    attempt, node = sim.record.rollout.attempt, sim.record.rollout.stalls[0].node
    sim.run(30)
    deed(sim, node)
    sim.run(60)
    sim.harms.clear()
    sim.run(1_500, until=in_wave(sim, "all", WaveState.Moving))
    soaked = {name for name, release in sim.running().items() if release == "b"}
    assert {f"canary-{i}" for i in range(canaries)} & soaked
    assert not any(name.startswith("workers") for name in soaked)
    sim.run(1_500, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Completed", "Completed")
    assert sim.running() == dict.fromkeys(sim.nodes, "b")
    again = [
        n for (of, n), ledger in sim.ledgers.items() if of == attempt and node in _names(ledger)
    ]
    assert len(again) == 2


def test_a_node_that_could_not_fetch_twice_goes_back_twice(make_sim):
    """Also by the ledger that took it after its reboot."""
    sim = with_stable(make_sim())
    sim.harms[digest("b")] = "unpullable"
    sim.publish("b", 2)
    sim.step_until(lambda: sim.record.rollout and sim.record.rollout.stalls)
    sim.run(30)
    reboot(sim, "canary-0")
    sim.run(20)
    sim.run(60, until=lambda: "canary-0" not in sim.running())
    sim.run(200, until=lambda: sim.running().get("canary-0") == "a")
    assert sim.record.rollout.stalls[0].ledger > 0


def test_a_node_of_a_sweep_that_is_rebooted_on_stable_holds_no_release(make_sim):
    sim = with_stable(make_sim(workers=2))
    sim.publish("b", 2)
    sim.run(900, until=in_wave(sim, "all", WaveState.Soaking))
    (late,) = sim.add_nodes("workers", 1)
    sim.victims, sim.harms[digest("b")] = frozenset({late}), "unpullable"
    sim.run(900, until=lambda: sim.record.rollout.stalls)
    sim.run(30)
    reboot(sim, late)
    sim.run(60)
    sim.harms.clear()
    sim.run(1_500, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Completed", "Completed")
    assert sim.running() == dict.fromkeys(sim.nodes, "b")
