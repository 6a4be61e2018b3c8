"""After completion a release bakes; what harms more nodes than chance explains is taken back."""

import copy
from dataclasses import replace

import pytest

from support.builders import digest, make_channel, make_decision
from support.invariants import ended, phase_of, with_stable
from wavegate.api import Phase, Reason
from wavegate.evidence import Taint
from wavegate.rollout import bake as bakes
from wavegate.rollout import channel_report, report
from wavegate.rollout.decide import decide
from wavegate.rollout.names import HANDS_OFF_ANNOTATION
from wavegate.rollout.steps import DeletePods, Step

BAKE = {"bake": "10m"}
PER_NODE = {"name": "crashes", "query": "x", "max": 0, "interval": "1s"}
PER_WAVE = {"name": "errors", "query": "y", "max": 0, "per": "Wave", "interval": "1s"}
PROMETHEUS = {"url": "http://prometheus"}


@pytest.fixture
def baking(make_sim):
    """Build a cluster on which `b` is stable and bakes, after `a`; keywords are of the channel."""

    def make(workers=4, **spec):
        rollout = BAKE | spec.pop("rollout", {})
        sim = with_stable(make_sim(workers=workers, rollout=rollout, **spec))
        sim.publish("b", 2)
        sim.run(400, until=ended(sim, "b"))
        sim.run(20)
        assert set(sim.running().values()) == {"b"}
        return sim

    return make


def reboot(sim, *names):
    """Machines that restart so fast that nobody sees them NotReady; their agents start anew."""
    for name in names:
        sim.revive(name)


def status(sim, release):
    """Status of a release after a pass."""
    step = decide(sim.observe(), sim.now)
    return report.release_status(sim.observe(), sim.releases[release], step, sim.now)


def baked(sim, release):
    """A condition: this release is the last baked."""
    return lambda: sim.record.last_baked is not None and sim.record.last_baked.release == release


def condition(shown, kind):
    return next(c["status"] + " " + c["reason"] for c in shown["conditions"] if c["type"] == kind)


def test_a_completed_release_bakes_and_is_then_baked(baking):
    sim = baking()
    shown = status(sim, "b")
    assert (shown["phase"], shown["reason"]) == ("Completed", "Baking")
    assert "it bakes until 1970-01-12T" in shown["message"]
    assert condition(shown, "Complete") == "True Completed"
    assert condition(shown, "Baked") == "False Baking"
    sim.run(700, until=baked(sim, "b"))
    shown = status(sim, "b")
    assert (shown["phase"], shown["reason"]) == ("Completed", "Baked")
    assert condition(shown, "Baked") == "True Baked"
    assert channel_report.channel_status(sim.observe())["lastBaked"]["release"] == "b"


def test_a_release_is_baked_not_before_its_time(baking):
    sim = baking()
    until = sim.record.bake.until
    sim.run(700, until=baked(sim, "b"))
    assert until <= sim.now <= until + 1


def test_a_baked_release_costs_nothing(baking):
    sim = baking(checks=[PER_NODE], prometheus=PROMETHEUS)
    sim.run(700, until=baked(sim, "b"))
    sim.run(30)
    before = sim.writes
    for _ in range(100):
        assert decide(sim.observe(), sim.now) == Step()
        sim.run(1)
    assert sim.writes == before


def test_a_bake_without_events_writes_nothing_and_looks_seldom(baking):
    sim = baking()
    before = sim.writes
    for _ in range(500):
        step = decide(sim.observe(), sim.now)
        assert step == Step(requeue=step.requeue)
        assert 20 < step.requeue <= 30
        sim.run(1)
    assert sim.writes == before


def test_what_people_read_during_a_bake_does_not_tick(baking):
    sim = baking()
    first = status(sim, "b")
    sim.run(100)
    assert status(sim, "b") == first


def test_one_harmed_node_is_chance_and_is_noted_once(baking):
    sim = baking()
    sim.die("workers-2")
    sim.run(60)
    sim.revive("workers-2")
    sim.run(60)
    assert [(s.node, s.reason) for s in sim.record.bake.suspects] == [
        ("workers-2", Reason.NodeNotReady)
    ]
    assert "1 nodes came to harm, as chance explains (workers-2)" in status(sim, "b")["message"]
    sim.run(700, until=baked(sim, "b"))


@pytest.mark.parametrize("harm", ["reboot", "crash", "vanish", "loop"])
def test_harm_on_two_nodes_goes_back_to_the_earlier_content_and_blocks(baking, harm):
    sim = baking()
    victims = ["workers-2", "workers-4"]
    if harm == "reboot":
        reboot(sim, *victims)
    elif harm == "crash":
        for name in victims:
            sim.die(name)
    elif harm == "vanish":
        for name in victims:
            sim.remove_node(name)
    else:
        sim.harms[digest("b")] = "loop"
    sim.run(80, until=lambda: sim.record.rollout is not None)
    assert status(sim, "b")["phase"] == "Reverting"
    for name in victims if harm == "crash" else ():
        sim.revive(name)
    sim.run(200, until=ended(sim, "b"))
    sim.run(10)
    assert phase_of(sim, "b") == ("Reverted", "Reverted")
    assert sim.running() == dict.fromkeys(sim.nodes, "a")
    assert sim.record.stable.release == "a"
    assert sim.record.block_of(digest("b")).release == "b"
    assert [o.release for o in sim.record.outcomes] == ["b", "a"]
    assert (sim.record.bake, sim.record.history) == (None, ())
    assert set(sim.sets) == {sim.record.stable.attempt}
    gate = status(sim, "b")["gates"][0]
    kind = "Agents" if harm == "loop" else "Nodes"
    assert (gate["gate"], gate["verdict"]) == (kind, "Fail")
    assert set(victims) <= {bad["node"] for bad in gate["worst"]} or harm == "loop"


def test_pods_on_harmed_nodes_are_deleted_first_though_no_lease_was_watched(baking):
    """Of more nodes than are deleted one by one; they are the last by name."""
    sim = baking(workers=24)
    reboot(sim, "workers-8", "workers-9")
    sim.step_until(lambda: sim.record.rollout is not None)
    actions = decide(sim.observe(), sim.now).actions
    alone = [action.node for action in actions if isinstance(action, DeletePods) and action.node]
    assert alone[:2] == ["workers-8", "workers-9"]
    assert len(alone) == 20


def test_what_was_restored_is_left_alone_whatever_its_nodes_do(baking):
    """No loop: there is no second step back by itself."""
    sim = baking()
    reboot(sim, "workers-2", "workers-4")
    sim.run(200, until=ended(sim, "b"))
    before = sim.writes
    reboot(sim, *sim.nodes)
    sim.run(300)
    assert sim.writes - before <= 2
    assert sim.record.stable.release == "a"


def test_a_bake_that_fails_goes_back_past_an_unbaked_release_to_the_last_baked(baking):
    sim = baking()
    sim.run(700, until=baked(sim, "b"))
    for name, sequence in (("c", 3), ("d", 4)):
        sim.publish(name, sequence)
        sim.run(400, until=ended(sim, name))
    reboot(sim, "workers-2", "workers-4")
    sim.run(200, until=lambda: phase_of(sim, "d")[0] == "Reverted")
    sim.run(10)
    assert set(sim.running().values()) == {"b"}
    assert status(sim, "c")["reason"] == "Completed"
    assert condition(status(sim, "c"), "Baked") == "False NotBaked"


def test_a_release_that_is_replaced_before_its_bake_ended_is_not_baked(baking):
    sim = baking()
    sim.publish("c", 3)
    sim.run(400, until=ended(sim, "c"))
    sim.run(700, until=baked(sim, "c"))
    assert [o.baked_at is not None for o in sim.record.outcomes] == [True, False, False]


def test_the_last_baked_revision_is_kept_after_many_releases(baking):
    sim = baking()
    sim.run(700, until=baked(sim, "b"))
    kept = sim.record.last_baked.attempt
    for sequence in range(3, 10):
        sim.publish(f"r{sequence}", sequence)
        sim.run(400, until=ended(sim, f"r{sequence}"))
    sim.run(10)
    assert kept not in {revision.attempt for revision in sim.record.history}
    assert kept in sim.sets
    reboot(sim, "workers-2", "workers-4")
    sim.run(200, until=lambda: phase_of(sim, "r9")[0] == "Reverted")
    sim.run(10)
    assert set(sim.running().values()) == {"b"}


def test_the_ledgers_of_a_bake_are_kept_while_newer_releases_fail(baking):
    sim = baking(rollout={"bake": "2h"})
    attempt = sim.record.bake.attempt
    for sequence in range(3, 11):
        name = f"bad{sequence}"
        sim.harms[digest(name)] = "loop"
        sim.publish(name, sequence)
        sim.run(300, until=ended(sim, name))
    sim.run(10)
    assert attempt in {of for of, _ in sim.ledgers}
    assert phase_of(sim, "b") == ("Completed", "Completed")


def test_a_node_that_joined_after_completion_is_taken_back_too(baking):
    sim = baking()
    (joined,) = sim.add_nodes("workers", 1)
    sim.run(20)
    assert sim.running()[joined] == "b"
    reboot(sim, "workers-2", "workers-4")
    sim.step_until(lambda: sim.record.rollout is not None)
    sim.die(joined)
    sim.run(60)
    assert phase_of(sim, "b")[0] == "Completed" or sim.record.rollout is not None
    sim.revive(joined)
    sim.run(100, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Reverted", "Reverted")
    assert sim.running() == dict.fromkeys(sim.nodes, "a")


def test_a_joined_node_that_stays_down_is_named(baking):
    sim = baking()
    (joined,) = sim.add_nodes("workers", 1)
    sim.run(20)
    sim.die(joined)
    reboot(sim, "workers-2", "workers-4")
    sim.run(300, until=lambda: phase_of(sim, "b")[0] == "Reverted")
    assert phase_of(sim, "b")[1] == "RevertedWithNodesDown"
    assert joined in sim.record.outcomes[0].message


def test_a_kill_after_any_write_of_a_failed_bake_ends_alike(baking):
    base = baking()

    def told(kill_after):
        sim = copy.deepcopy(base)
        sim.kill_after = sim.writes + kill_after
        sim.die("workers-3")
        reboot(sim, "workers-2", "workers-4")
        sim.run(60)
        sim.revive("workers-3")
        sim.run(200, until=lambda: phase_of(sim, "b")[0] == "Reverted")
        sim.run(20)
        outcome = (phase_of(sim, "b"), sim.running(), set(sim.sets), sim.record.stable.release)
        return outcome, sim.writes - base.writes

    expected, writes = told(10_000)
    assert expected[1] == dict.fromkeys(base.nodes, "a")
    assert writes >= 6
    for number in range(1, writes + 1):
        outcome, _ = told(number)
        assert outcome == expected, f"killed after write {number} of {writes}"


def test_a_restart_forgets_no_suspect_and_sees_what_happened_meanwhile(baking):
    sim = baking()
    reboot(sim, "workers-2")
    sim.run(5)
    sim.forget()
    sim.run(100)
    assert [s.node for s in sim.record.bake.suspects] == ["workers-2"]
    sim.nodes["workers-4"].boot += 1
    sim.forget()
    sim.run(200, until=lambda: phase_of(sim, "b")[0] == "Reverted")


def test_harm_that_nobody_saw_happen_counts_over_the_whole_time(baking):
    """Else all of what a long absence gathers would look as if it had happened at once."""
    sim = baking()
    sim.run(300)
    sim.nodes["workers-4"].boot += 1
    sim.forget()
    sim.run(5)
    (suspect,) = sim.record.bake.suspects
    assert suspect.at == sim.record.bake.since


def test_a_first_release_that_fails_its_bake_stays_and_asks_a_person(make_sim):
    sim = with_stable(make_sim(rollout=BAKE))
    reboot(sim, "workers-2", "workers-4")
    sim.run(30)
    before = sim.writes
    sim.run(200)
    assert sim.writes == before
    assert sim.running() == dict.fromkeys(sim.nodes, "a")
    shown = status(sim, "a")
    assert (shown["phase"], shown["reason"], shown["waitingFor"]) == (
        "Completed",
        "BakeFailed",
        "Person",
    )
    assert "No earlier revision is left to go back to" in shown["message"]
    assert shown["incident"]["reason"] == "NodeRebooted"
    assert sim.record.last_baked is None
    assert sim.record.block_of(digest("a"))


def test_with_on_failure_pause_a_failed_bake_only_says_so(baking):
    sim = baking(rollout={"onFailure": "Pause"})
    reboot(sim, "workers-2", "workers-4")
    sim.run(900)
    assert (sim.record.rollout, sim.record.blocked) == (None, ())
    assert set(sim.running().values()) == {"b"}
    shown = status(sim, "b")
    assert (shown["reason"], shown["waitingFor"]) == ("BakeFailed", "Person")
    assert shown["gates"][0]["worst"] == [
        {"node": name, "what": "NodeRebooted"} for name in ("workers-2", "workers-4")
    ]
    assert sim.record.last_baked is None
    assert decide(sim.observe(), sim.now) == Step()


# A newer release is under way


def suspect_under_a_candidate(sim):
    """`c` is on its canary when `b`, which is stable, fails its bake."""
    sim.publish("c", 3)
    sim.run(200, until=lambda: sim.running().get("canary-0") == "c")
    reboot(sim, "workers-2", "workers-4")
    sim.run(5)
    assert sim.record.rollout.paused is Reason.StableSuspect
    sim.run(200)
    assert list(sim.running().values()).count("c") == 1
    return sim


def test_when_stable_fails_under_a_newer_release_that_one_is_paused(baking):
    sim = suspect_under_a_candidate(baking())
    shown = status(sim, "c")
    assert (shown["phase"], shown["reason"], shown["waitingFor"]) == (
        "Paused",
        "StableSuspect",
        "Person",
    )
    assert "Release c is paused. If it is the repair" in status(sim, "b")["message"]
    assert sim.record.block_of(digest("b"))


def test_a_person_who_resumes_the_repair_has_it_roll_out(baking):
    sim = suspect_under_a_candidate(baking())
    sim.publish("c", 3, suspend=True)
    sim.run(5)
    sim.publish("c", 3)
    sim.run(400, until=ended(sim, "c"))
    sim.run(5)
    assert phase_of(sim, "c") == ("Completed", "Completed")
    assert sim.running() == dict.fromkeys(sim.nodes, "c")
    assert "b" not in {revision.release for revision in sim.record.history}


def test_a_person_who_reverts_it_has_stable_go_back_too(baking):
    sim = suspect_under_a_candidate(baking())
    sim.decisions.append(make_decision("d", "c", "Revert"))
    sim.run(400, until=lambda: phase_of(sim, "b")[0] == "Reverted")
    sim.run(5)
    assert phase_of(sim, "c") == ("Reverted", "Reverted")
    assert sim.running() == dict.fromkeys(sim.nodes, "a")
    assert (sim.record.rollout, sim.record.bake) == (None, None)


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("removed", [False, True])
def test_what_a_newer_release_breaks_is_not_blamed_on_the_one_that_bakes(baking, removed, restart):
    sim = baking()
    sim.harms[digest("c")] = "kill"
    sim.publish("c", 3)
    sim.run(400, until=lambda: sim.record.block_of(digest("c")))
    if removed:
        sim.remove_node("canary-0")
    else:
        sim.revive("canary-0")
    sim.run(200, until=ended(sim, "c"))
    if restart:
        sim.forget()
    sim.run(100)
    assert sim.record.bake.suspects == ()
    assert phase_of(sim, "b") == ("Completed", "Completed")


def test_a_node_that_vanished_out_of_a_candidate_s_wave_unseen_is_the_candidate_s(baking):
    sim = baking()
    sim.publish("c", 3)
    sim.run(200, until=lambda: sim.running().get("canary-0") == "c")
    sim.remove_node("canary-0")
    sim.forget()
    sim.run(200, until=ended(sim, "c"))
    assert sim.record.outcomes[0].incident.reason is Reason.NodeVanished
    assert sim.record.bake.suspects == ()


def test_a_revert_under_way_is_finished_before_a_bake_is_judged(baking):
    sim = baking()
    sim.harms[digest("c")] = "loop"
    sim.publish("c", 3)
    sim.step_until(lambda: sim.record.rollout and sim.record.rollout.phase is Phase.Reverting)
    reboot(sim, "workers-2", "workers-4")
    step = decide(sim.observe(), sim.now)
    assert (step.record, bool(step.actions)) == (None, True)
    sim.run(400, until=lambda: phase_of(sim, "b")[0] == "Reverted")


def test_a_bake_ends_well_while_a_newer_release_rolls_out(baking):
    sim = baking()
    sim.publish("c", 3)
    sim.run(200, until=lambda: sim.running().get("canary-0") == "c")
    sim.publish("c", 3, suspend=True)
    sim.run(700, until=baked(sim, "b"))
    assert sim.record.rollout is not None


# Drained, not harmed


def drain(sim, name, taint=None):
    if taint:
        sim.nodes[name].taints = (Taint(taint, "", "NoSchedule"),)
    else:
        sim.nodes[name].unschedulable = True
    sim.run(2)


@pytest.mark.parametrize("restart", [False, True])
def test_nodes_that_are_cordoned_and_rebooted_are_excused(baking, restart):
    sim = baking(agent={"template": tolerant()})
    for name in ("workers-2", "workers-3", "workers-4"):
        drain(sim, name)
        sim.die(name)
        sim.run(130)
        sim.revive(name)
        sim.run(2)
        sim.nodes[name].unschedulable = False
        sim.run(5)
        if restart:
            sim.forget()
            sim.run(5)
    assert sim.record.bake.suspects == ()
    sim.run(700, until=baked(sim, "b"))


@pytest.mark.parametrize("boots", [True, False])
def test_a_restart_on_a_cordoned_node_waits_for_the_bootid_in_a_bake_too(baking, boots):
    sim = baking()
    drain(sim, "workers-2")
    sim.pod_on("workers-2").restarts = 1
    sim.run(20)
    assert sim.record.bake.suspects == ()
    sim.nodes["workers-2"].boot += boots
    sim.run(20)
    harmed = [suspect.node for suspect in sim.record.bake.suspects]
    assert harmed == ([] if boots else ["workers-2"])
    assert [*sim.record.bake.excused] == (["workers-2"] if boots else [])


def test_a_bake_does_not_end_well_while_bootids_are_awaited(baking):
    sim = baking()
    for name in ("workers-2", "workers-3"):
        drain(sim, name)
    sim.step_until(lambda: sim.now >= sim.record.bake.until - 5)
    for name in ("workers-2", "workers-3"):
        sim.pod_on(name).restarts = 1
    sim.run(20)
    assert "2 nodes to be Ready" in status(sim, "b")["message"]
    sim.run(30)
    assert sim.record.block_of(digest("b"))
    assert sim.record.last_baked is None or sim.record.last_baked.release != "b"


@pytest.mark.parametrize("taint", ["ToBeDeletedByClusterAutoscaler", "karpenter.sh/disrupted"])
def test_nodes_that_an_autoscaler_removes_are_excused_also_after_a_restart(baking, taint):
    sim = baking(agent={"template": tolerant()})
    for name in ("workers-2", "workers-3", "workers-4"):
        drain(sim, name, taint)
        sim.remove_node(name)
        sim.run(5)
    sim.forget()
    sim.run(5)
    assert sim.record.bake.suspects == ()
    assert sim.record.bake.excused == dict.fromkeys(("workers-2", "workers-3", "workers-4"), "")
    sim.run(700, until=baked(sim, "b"))


def test_a_node_that_was_drained_is_watched_again_from_what_it_is_then(baking):
    sim = baking()
    for name in ("workers-2", "workers-4"):
        drain(sim, name)
        reboot(sim, name)
        sim.run(5)
        sim.nodes[name].unschedulable = False
    sim.run(20)
    assert sim.record.bake.suspects == ()
    reboot(sim, "workers-2", "workers-4")
    sim.run(5)
    assert sim.record.block_of(digest("b"))


def test_a_drained_node_that_is_removed_while_nobody_watches_is_excused(baking):
    sim = baking()
    for name in ("workers-2", "workers-4"):
        drain(sim, name)
        reboot(sim, name)
        sim.run(5)
        sim.remove_node(name)
    sim.forget()
    sim.run(30)
    assert sim.record.bake.suspects == ()


def test_what_a_check_says_of_a_drained_node_counts_no_more(baking):
    """A counter of reboots, say, stays above its limit for good."""
    sim = baking(checks=[PER_NODE], prometheus=PROMETHEUS)
    for name in ("workers-2", "workers-4"):
        drain(sim, name)
        reboot(sim, name)
        sim.check_values[name] = 1.0
        sim.run(5)
        sim.nodes[name].unschedulable = False
    sim.run(700, until=baked(sim, "b"))


def test_a_bake_whose_nodes_were_all_replaced_has_no_evidence(baking):
    sim = baking(agent={"template": tolerant()})
    for name in tuple(sim.nodes):
        drain(sim, name, "karpenter.sh/disrupted")
        sim.remove_node(name)
        sim.add_nodes(name.split("-", maxsplit=1)[0], 1)
        sim.run(5)
    sim.run(900)
    assert sim.record.last_baked is None
    assert "waiting: a node that has had it since its waves" in status(sim, "b")["message"]


def test_a_node_that_is_cordoned_only_after_it_crashed_is_not_excused(baking):
    """Both come into sight at once, as after a short absence."""
    sim = baking()
    sim.die("workers-2")
    sim.nodes["workers-2"].died_at -= 60
    sim.nodes["workers-2"].unschedulable = True
    sim.run(5)
    assert [s.node for s in sim.record.bake.suspects] == ["workers-2"]
    assert not sim.record.bake.excused


def test_a_bake_in_which_too_many_were_drained_proves_nothing(baking, monkeypatch):
    monkeypatch.setattr(bakes, "MAX_EXCUSED", 40)
    sim = baking()
    for name in ("workers-2", "workers-4"):
        drain(sim, name)
        reboot(sim, name)
        sim.run(5)
    sim.run(900)
    shown = status(sim, "b")
    assert (shown["reason"], shown["waitingFor"]) == ("BakeUnproven", "Person")
    assert (sim.record.rollout, sim.record.blocked, sim.record.last_baked) == (None, (), None)


# Checks


def test_a_check_of_the_whole_wave_above_its_limit_goes_back_without_a_block(baking):
    sim = baking(checks=[PER_WAVE], prometheus=PROMETHEUS)
    sim.check_value = 1.0
    sim.run(200, until=lambda: phase_of(sim, "b")[0] == "Reverted")
    assert sim.record.outcomes[0].incident.reason is Reason.CheckAboveMax
    gate = status(sim, "b")["gates"][0]
    assert (gate["check"], gate["value"], gate["threshold"]) == ("errors", "1", "<= 0")
    assert sim.record.blocked == ()
    assert sim.record.stable.release == "a"


def test_a_check_above_its_limit_on_one_node_is_chance_and_on_two_it_is_not(baking):
    sim = baking(checks=[PER_NODE], prometheus=PROMETHEUS)
    sim.check_values["workers-2"] = 1.0
    sim.run(100)
    assert [s.node for s in sim.record.bake.suspects] == ["workers-2"]
    sim.check_values["workers-4"] = 1.0
    sim.run(200, until=lambda: phase_of(sim, "b")[0] == "Reverted")
    assert {bad["node"] for bad in status(sim, "b")["gates"][0]["worst"]} == {
        "workers-2",
        "workers-4",
    }
    assert sim.record.blocked == ()


def test_a_dry_run_above_its_limit_on_all_nodes_harms_no_bake(baking):
    """Was: a bake read the samples past `judge_check`."""
    dry = [{**check, "dryRun": True} for check in (PER_NODE, PER_WAVE)]
    sim = baking(checks=dry, prometheus=PROMETHEUS)
    sim.check_value = 9.0
    sim.run(700, until=baked(sim, "b"))
    assert sim.record.outcomes[0].incident is None


def test_a_value_below_min_on_two_nodes_fails_a_bake_too(baking):
    check = {"name": "alive", "query": "q", "min": 0, "interval": "5s", "timeout": "5s"}
    sim = baking(checks=[check], prometheus=PROMETHEUS)
    for name in ("workers-2", "workers-4"):
        sim.check_values[name] = -1.0
    sim.run(200, until=lambda: phase_of(sim, "b")[0] == "Reverted")
    assert sim.record.outcomes[0].incident.reason is Reason.CheckBelowMin


def test_a_node_counts_once_and_by_the_worst_that_it_showed(baking):
    sim = baking(checks=[PER_NODE], prometheus=PROMETHEUS)
    sim.check_values["workers-2"] = 1.0
    sim.run(20)
    reboot(sim, "workers-2")
    sim.run(20)
    assert [(s.node, s.blocks) for s in sim.record.bake.suspects] == [("workers-2", True)]
    reboot(sim, "workers-4")
    sim.run(200, until=lambda: phase_of(sim, "b")[0] == "Reverted")
    assert sim.record.block_of(digest("b"))


def test_a_check_on_one_node_and_a_crash_on_another_go_back_without_a_block(baking):
    sim = baking(checks=[PER_NODE], prometheus=PROMETHEUS)
    sim.check_values["workers-2"] = 1.0
    sim.run(5)
    reboot(sim, "workers-4")
    sim.run(200, until=lambda: phase_of(sim, "b")[0] == "Reverted")
    assert sim.record.blocked == ()


def test_without_prometheus_a_bake_neither_fails_nor_ends(baking):
    sim = baking(checks=[PER_NODE, PER_WAVE], prometheus=PROMETHEUS)
    sim.check_error = "could not be asked"
    before = sim.writes
    sim.run(900)
    assert (sim.writes, sim.record.last_baked) == (before, None)
    shown = status(sim, "b")
    assert (shown["reason"], shown["waitingFor"]) == ("Baking", "Evidence")
    assert "waiting: check crashes could not be asked" in shown["message"]
    sim.check_error = ""
    sim.run(5, until=baked(sim, "b"))


def test_an_answer_from_before_the_end_does_not_end_a_bake_well(baking):
    sim = baking(checks=[PER_NODE], prometheus=PROMETHEUS)
    obs = sim.observe()
    late = sim.record.bake.until + 1
    assert "no fresh answer" in bakes.watch.missing(
        obs, obs.record.bake, bakes.watch.watched(obs, obs.record.bake), late
    )
    assert decide(obs, late).record is None


# No evidence, no pass


def at_the_end(sim, **changes):
    obs = replace(sim.observe(), **changes)
    return decide(obs, sim.record.bake.until + 1)


def test_a_bake_ends_well_only_with_a_sight_of_everything(baking):
    sim = baking()
    ledgers = sim.observe().bake_ledgers
    assert at_the_end(sim, blind="the watch of nodes is interrupted").record is None
    assert at_the_end(sim, bake_ledgers={0: ledgers[0]}).record is None
    assert at_the_end(sim, pods=()).record is None
    assert at_the_end(sim).record.last_baked.release == "b"


def test_silent_nodes_count_like_harmed_ones_at_the_end(baking):
    sim = baking()
    one_less = tuple(p for p in sim.observe().pods if p.node != "workers-2")
    two_less = tuple(p for p in one_less if p.node != "workers-4")
    assert at_the_end(sim, pods=two_less).record is None
    assert at_the_end(sim, pods=one_less).record.last_baked.release == "b"


def test_a_bake_ends_with_its_channel(baking):
    sim = baking()
    sim.channel = None
    reboot(sim, "workers-2", "workers-4")
    sim.run(30)
    assert (sim.record.bake, sim.record.rollout) == (None, None)
    assert set(sim.running().values()) == {"b"}


def test_a_channel_that_can_t_be_read_does_not_end_the_bake(baking):
    sim = baking()
    obs = replace(sim.observe(), channel=None, unreadable=True)
    assert decide(obs, sim.now).record is None


def test_a_channel_may_do_without(make_sim):
    sim = with_stable(make_sim(rollout={"bake": "0s"}))
    assert sim.record.bake is None
    assert condition(status(sim, "a"), "Baked") == "False NotBaked"
    assert decide(sim.observe(), sim.now) == Step()


def test_a_suspended_channel_still_goes_back(baking):
    sim = baking()
    sim.channel = make_channel(suspend=True)
    reboot(sim, "workers-2", "workers-4")
    sim.run(200, until=lambda: phase_of(sim, "b")[0] == "Reverted")


def test_under_hands_off_a_bake_writes_nothing_and_its_harm_is_not_forgotten(baking):
    sim = baking()
    channel = sim.channel
    metadata = channel.metadata.model_copy(update={"annotations": {HANDS_OFF_ANNOTATION: "true"}})
    sim.channel = channel.model_copy(update={"metadata": metadata})
    before = sim.writes
    reboot(sim, "workers-2", "workers-4")
    sim.run(100)
    assert sim.writes == before
    sim.channel = channel
    sim.run(200, until=lambda: phase_of(sim, "b")[0] == "Reverted")


def test_an_older_record_does_not_have_another_revision_bake(baking):
    """It is of the time when `a` was stable and baked; `b` runs, and is adopted."""
    sim = baking()
    old = replace(sim.record, stable=sim.record.history[0], history=(), attempts=1)
    first = replace(old.bake.rollout, candidate=old.stable)
    outcomes = tuple(o for o in old.outcomes if o.release == "a")
    sim.restore(replace(old, bake=replace(old.bake, rollout=first), outcomes=outcomes))
    sim.run(5)
    assert sim.record.stable.release == "b"
    assert (sim.record.lost is not None, sim.record.bake) == (True, None)


def test_a_last_baked_revision_that_is_in_no_list_any_more_is_no_lost_state(baking):
    sim = baking()
    sim.run(700, until=baked(sim, "b"))
    sim.publish("c", 3)
    sim.run(400, until=ended(sim, "c"))
    sim.record = replace(sim.record, history=(), outcomes=sim.record.outcomes[:1])
    sim.sets = {a: s for a, s in sim.sets.items() if s.revision.release != "a"}
    sim.ledgers = {k: v for k, v in sim.ledgers.items() if k[0] == sim.record.stable.attempt}
    sim.run(5)
    assert sim.record.lost is None
    assert {found.revision.release for found in sim.sets.values()} == {"b", "c"}


def test_a_blocked_digest_is_nothing_to_go_back_to(baking):
    sim = baking()
    sim.harms[digest("a")] = "loop"
    sim.publish("a-again", 3, content="a")
    sim.run(300, until=ended(sim, "a-again"))
    assert sim.record.block_of(digest("a"))
    reboot(sim, "workers-2", "workers-4")
    sim.run(100)
    assert sim.record.rollout is None
    assert set(sim.running().values()) == {"b"}
    assert status(sim, "b")["reason"] == "BakeFailed"


def test_a_revision_without_its_daemon_set_is_nothing_to_go_back_to(baking):
    sim = baking()
    (before,) = sim.record.history
    del sim.sets[before.attempt]
    reboot(sim, "workers-2", "workers-4")
    sim.run(100)
    assert set(sim.running().values()) == {"b"}
    assert status(sim, "b")["reason"] == "BakeFailed"


def test_the_phase_stays_completed_until_the_revert_begins(baking):
    sim = baking()
    phases = set()
    sim.watchers.append(lambda sim, _obs, _step: phases.add(status(sim, "b")["phase"]))
    sim.run(2)
    reboot(sim, "workers-2", "workers-4")
    sim.run(200, until=lambda: phase_of(sim, "b")[0] == "Reverted")
    sim.run(1)
    assert phases == {"Completed", "Reverting", "Reverted"}
    assert sim.record.outcomes[0].phase is Phase.Reverted


def tolerant():
    """The agent stays on nodes that are about to be removed."""
    image = f"registry.example/agent@{digest('agent')}"
    volumes = [{"name": "content", "image": {"reference": "set-by-wavegate"}}]
    containers = [{"name": "agent", "image": image}]
    tolerations = [{"operator": "Exists"}]
    return {"spec": {"containers": containers, "volumes": volumes, "tolerations": tolerations}}
