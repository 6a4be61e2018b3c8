"""After the first wave one harmed node is a suspect: it goes back, the rest goes on."""

import pytest

from support.builders import digest, make_channel
from support.invariants import ended, in_wave, phase_of, with_stable
from wavegate.api import Phase, Reason, WaveState
from wavegate.rollout import report, suspect_report, suspects
from wavegate.rollout.decide import decide
from wavegate.rollout.steps import MoveNodes, UnlabelNodes

CHECKED = {
    "checks": [{"name": "crashes", "query": "x", "max": 0, "per": "Node", "interval": "1s"}],
    "prometheus": {"url": "http://prometheus"},
}


@pytest.fixture
def soaking(sim):
    """Release b is on all nodes, and its second wave soaks."""
    sim.publish("b", 2)
    sim.run(400, until=in_wave(sim, "all"))
    sim.run(3)
    return sim


def reboot(sim, *names):
    for name in names:
        sim.nodes[name].boot += 1


def noted(sim):
    """Wait until there is a suspect, before anything is done about it."""
    sim.step_until(lambda: sim.record.rollout is None or sim.record.rollout.suspects)
    return sim.record.rollout.suspects


def complete(sim, unwell=()):
    sim.run(2_000, until=ended(sim, "b"))
    sim.run(10)
    assert phase_of(sim, "b") == ("Completed", "Completed")
    assert sim.running() == {n: "b" for n in sim.nodes if n not in unwell}
    assert not sim.record.blocked


def test_a_node_that_is_harmed_alone_goes_back_and_is_tried_once_more(soaking):
    sim = soaking
    reboot(sim, "workers-2")
    (suspect,) = noted(sim)
    assert (suspect.node, suspect.reason, suspect.blocks) == (
        "workers-2",
        Reason.NodeRebooted,
        True,
    )
    assert suspect.soon
    sim.run(5)
    assert sim.running()["workers-2"] == "a"
    complete(sim)
    assert [wave.name for wave in sim.record.outcomes[0].waves] == ["canary", "all", "rest-1"]


def test_it_is_stored_before_the_label_is_taken_and_a_new_leader_goes_on(soaking):
    sim = soaking
    reboot(sim, "workers-2")
    noted(sim)
    assert sim.nodes["workers-2"].attempt == sim.record.rollout.attempt
    sim.forget()
    step = decide(sim.observe(), sim.now)
    assert step.actions == (
        UnlabelNodes((("workers-2", sim.nodes["workers-2"].uid),), sim.record.rollout.attempt),
    )
    complete(sim)


def test_the_waves_soak_begins_again_once(soaking):
    sim = soaking
    sim.run(20)
    reboot(sim, "workers-2")
    noted(sim)
    first = sim.record.rollout
    assert (first.waves[-1].state, first.waves[-1].soaked) == (WaveState.Moving, 0.0)
    assert first.waves[-1].soak_began is None


def test_nothing_moves_for_a_minute_after_harm(make_sim):
    sim = with_stable(make_sim(workers=12))
    sim.publish("b", 2)
    sim.run(400, until=in_wave(sim, "all", WaveState.Moving))
    sim.step_until(lambda: len(sim.observe().moved(sim.record.rollout.attempt)) >= 4)
    moves = []
    sim.watchers.append(
        lambda world, _obs, step: moves.extend(
            world.now for a in step.actions if isinstance(a, MoveNodes)
        )
    )
    victim = next(
        n
        for n, node in sim.nodes.items()
        if node.attempt and n != "canary-0" and node.attempt == sim.record.rollout.attempt
    )
    reboot(sim, victim)
    noted(sim)
    at = sim.now
    complete(sim)
    assert moves
    assert min(moves) >= at + suspects.BRAKE_SECONDS


def test_two_nodes_corroborate_each_other(soaking):
    sim = soaking
    reboot(sim, "workers-2")
    noted(sim)
    sim.run(10)
    reboot(sim, "workers-3")
    sim.run(100, until=ended(sim, "b"))
    outcome = sim.record.outcomes[0]
    assert outcome.phase is Phase.Reverted
    assert set(outcome.incident.nodes) == {"workers-2", "workers-3"}
    assert sim.record.block_of(digest("b"))
    sim.run(10)
    assert sim.running() == dict.fromkeys(sim.nodes, "a")


def test_a_node_that_lies_again_and_again_stops_no_release(soaking):
    """It is harmed at each try, whatever is rolled out."""
    sim = soaking
    liar = "workers-2"
    sim.victims, sim.harms[digest("b")] = frozenset({liar}), "loop"
    sim.delete_pod(liar)
    complete(sim, unwell={liar})
    assert f"without proof on {liar}" in sim.record.outcomes[0].message
    assert [wave.name for wave in sim.record.outcomes[0].waves] == ["canary", "all", "rest-1"]
    sim.run(300)
    assert not sim.record.bake.suspects
    sim.harms[digest("c")] = "loop"
    sim.publish("c", 3)
    sim.run(3_000, until=ended(sim, "c"))
    assert phase_of(sim, "c") == ("Completed", "Completed")


def test_a_suspect_that_stays_down_keeps_nobody_waiting(soaking):
    sim = soaking
    sim.die("workers-2")
    noted(sim)
    complete(sim, unwell={"workers-2"})
    sim.revive("workers-2")
    sim.run(30)
    assert sim.running()["workers-2"] == "b"


def test_a_suspect_counts_as_in_flight_until_it_is_back_or_its_deadline_is_over(soaking):
    sim = soaking
    sim.die("workers-2")
    noted(sim)
    at, rollout = sim.now, sim.record.rollout
    deadline = rollout.plan.progress_deadline
    for seconds, expected in ((0, ("workers-2",)), (deadline, ("workers-2",)), (deadline + 1, ())):
        assert suspects.returning(sim.observe(), sim.record.rollout, at + seconds) == expected
    sim.revive("workers-2")
    sim.run(20)
    assert suspects.returning(sim.observe(), sim.record.rollout, sim.now) == ()


def test_a_node_that_vanishes_after_the_first_wave_is_only_a_suspect(soaking):
    sim = soaking
    sim.remove_node("workers-2")
    assert noted(sim)[0].reason is Reason.NodeVanished
    complete(sim)


def test_a_wave_whose_only_node_is_a_suspect_takes_another(make_sim):
    waves = [
        {"name": "canary", "pools": ["canary"], "upTo": "100%"},
        {"name": "one", "pools": ["workers"], "upTo": 1},
        {"name": "all", "upTo": "100%"},
    ]
    sim = with_stable(make_sim(waves=waves))
    sim.publish("b", 2)
    sim.run(400, until=in_wave(sim, "one"))
    first = next(
        n
        for n, node in sim.nodes.items()
        if n != "canary-0" and node.attempt == sim.record.rollout.attempt
    )
    reboot(sim, first)
    noted(sim)
    sim.run(400, until=in_wave(sim, "one"))
    moved = {n for n, node in sim.nodes.items() if node.attempt == sim.record.rollout.attempt}
    assert len(moved) == 2
    assert first not in moved
    complete(sim)


def test_a_wave_for_which_no_other_node_is_there_passes_without(make_sim):
    waves = [
        {"name": "many", "pools": ["workers"], "upTo": "100%"},
        {"name": "one", "pools": ["canary"], "upTo": "100%"},
    ]
    sim = with_stable(make_sim(waves=waves))
    sim.publish("b", 2)
    sim.run(400, until=in_wave(sim, "one"))
    reboot(sim, "canary-0")
    complete(sim)


def test_harm_in_the_first_wave_fails_whatever_shows_it(sim):
    sim.publish("b", 2)
    sim.run(300, until=in_wave(sim, "canary"))
    reboot(sim, "canary-0")
    sim.run(60, until=ended(sim, "b"))
    assert phase_of(sim, "b")[0] == "Reverted"


def test_a_canary_that_is_harmed_later_stops_no_release_either(soaking):
    reboot(soaking, "canary-0")
    complete(soaking)


def test_the_first_release_has_nothing_to_go_back_to_so_any_harm_fails_it(make_sim):
    sim = make_sim()
    sim.publish("b", 2)
    sim.run(400, until=in_wave(sim, "all"))
    reboot(sim, "workers-2")
    sim.run(60, until=ended(sim, "b"))
    assert phase_of(sim, "b")[0] == "Reverted"


@pytest.mark.parametrize("pause", [True, False])
def test_a_suspect_goes_back_also_during_a_pause(soaking, pause):
    sim = soaking
    sim.channel = make_channel(suspend=pause)
    reboot(sim, "workers-2")
    noted(sim)
    sim.run(10)
    assert sim.running()["workers-2"] == "a"
    assert not sim.record.rollout.paused


def test_one_node_does_not_pause_a_release_that_only_pauses_on_failure(make_sim):
    sim = with_stable(make_sim(rollout={"onFailure": "Pause"}))
    sim.publish("b", 2)
    sim.run(400, until=in_wave(sim, "all"))
    reboot(sim, "workers-2")
    complete(sim)


def test_two_nodes_pause_it_and_are_left_as_they_are(make_sim):
    sim = with_stable(make_sim(rollout={"onFailure": "Pause"}))
    sim.publish("b", 2)
    sim.run(400, until=in_wave(sim, "all"))
    reboot(sim, "workers-2", "workers-3")
    sim.run(1_200)
    assert sim.record.rollout.paused is Reason.NodeRebooted
    assert sim.record.rollout.suspects == ()
    assert sim.running()["workers-2"] == "b"


def test_harm_by_queries_alone_reverts_and_does_not_block(make_sim):
    sim = with_stable(make_sim(**CHECKED))
    sim.publish("b", 2)
    sim.run(400, until=in_wave(sim, "all"))
    sim.check_values = {"workers-2": 7.0}
    (suspect,) = noted(sim)
    assert (suspect.node, suspect.blocks) == ("workers-2", False)
    sim.run(5)
    reboot(sim, "workers-3")  # this one does: but of those that block it is one alone
    sim.run(100, until=ended(sim, "b"))
    assert phase_of(sim, "b")[0] == "Reverted"
    assert not sim.record.blocked


def test_one_silent_node_does_not_hold_a_wave_for_ever(soaking):
    """Ready, and its lease is not renewed: past progressDeadline it is a suspect."""
    sim = soaking
    silence(sim, "workers-2")
    sim.run(60)
    assert not sim.record.rollout.suspects
    sim.run(400, until=lambda: sim.record.rollout.suspects)
    assert sim.record.rollout.suspects[0].reason is Reason.LeaseStale


def test_many_silent_nodes_hold_and_nobody_is_blamed(soaking):
    sim = soaking
    silence(sim, "workers-2", "workers-3", "workers-4")
    sim.run(400, until=in_wave(sim, "all", WaveState.Held))
    sim.run(300)
    assert not sim.record.rollout.suspects
    assert not sim.record.rollout.incident


def flaps(sim, name, every, ready):
    """The agent on this node is Ready for so many of each so many seconds."""

    sim.victims = frozenset({name})

    def flap(world, _obs, _step):
        world.harms[digest("b")] = "" if world.now % every < ready else "unready"

    sim.watchers.append(flap)


def test_one_node_that_interrupts_the_soak_again_and_again_pauses_no_release(soaking):
    sim = soaking
    flaps(sim, "workers-2", 26, 22)
    sim.run(600, until=lambda: sim.record.rollout.suspects)
    assert sim.record.rollout.suspects[0].reason is Reason.Unsteady
    sim.run(4_000, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Completed", "Completed")


def test_one_node_that_never_settles_holds_no_wave_for_ever(sim):
    sim.publish("b", 2)
    sim.run(400, until=in_wave(sim, "all", WaveState.Moving))
    flaps(sim, "workers-2", 4, 2)
    sim.run(900, until=lambda: sim.record.rollout.suspects)
    assert [s.node for s in sim.record.rollout.suspects] == ["workers-2"]
    assert sim.record.rollout.suspects[0].reason is Reason.Unsteady
    sim.run(4_000, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Completed", "Completed")


def test_an_agent_that_became_unready_late_is_called_so_at_its_own_deadline(sim):
    """Not Unsteady before that, which blocks nothing and sends people to look for a flapping."""
    sim.publish("b", 2)
    sim.run(400, until=in_wave(sim, "all", WaveState.Soaking))
    sim.run(20)
    sim.harms[digest("b")], sim.victims = "unready", frozenset({"workers-2"})
    sim.run(400, until=lambda: sim.record.rollout.suspects)
    (suspect,) = sim.record.rollout.suspects
    assert (suspect.reason, suspect.blocks) == (Reason.AgentNotReady, True)


@pytest.mark.parametrize("value", [None, float("nan")])
def test_one_node_without_data_for_a_check_holds_no_wave_for_ever(make_sim, value):
    sim = with_stable(make_sim(**CHECKED, rollout={"progressDeadline": "1m"}))
    sim.publish("b", 2)
    sim.run(400, until=in_wave(sim, "all"))
    sim.check_values = {"workers-2": value}
    sim.run(60, until=in_wave(sim, "all", WaveState.Held))
    sim.run(40)
    assert not sim.record.rollout.suspects
    sim.run(600, until=lambda: sim.record.rollout.suspects)
    (suspect,) = sim.record.rollout.suspects
    assert (suspect.node, suspect.reason) == ("workers-2", Reason.CheckNoData)
    sim.run(4_000, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Completed", "Completed")


def silence(sim, *names):
    """From now on these nodes' leases are not renewed."""

    class Leases(dict):
        def __setitem__(self, name, at):
            if name not in names:
                super().__setitem__(name, at)

    sim.leases = Leases(sim.leases)


def test_a_suspect_is_told_once_and_says_where_it_goes(soaking):
    sim = soaking
    before = sim.record.rollout
    reboot(sim, "workers-2")
    noted(sim)
    after = sim.record.rollout
    reason, message, warns = suspect_report.news(before, after)
    assert (reason, warns) == (Reason.Suspect, True)
    assert message.startswith("workers-2 (NodeRebooted) goes back to stable")
    assert suspect_report.news(after, after) is None
    assert suspect_report.news(None, after) is None


def test_status_says_the_smallest_harm_that_each_wave_sees(soaking):
    obs = soaking.observe()
    status = report.release_status(
        obs, soaking.releases["b"], decide(obs, soaking.now), soaking.now
    )
    assert [wave["sees"] for wave in status["waves"]] == ["95%", "75.2%"]


def test_status_names_suspects_and_where_they_are(soaking):
    sim = soaking
    reboot(sim, "workers-2")
    noted(sim)
    sim.run(3)
    obs = sim.observe()
    status = report.release_status(obs, sim.releases["b"], decide(obs, sim.now), sim.now)
    (entry,) = status["suspects"]
    assert (entry["node"], entry["reason"], entry["side"]) == (
        "workers-2",
        "NodeRebooted",
        "Stable",
    )
    assert "1 suspect (workers-2)" in status["message"]
