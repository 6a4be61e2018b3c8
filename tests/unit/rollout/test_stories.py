"""Whole rollouts on a simulated cluster, each pass held against the invariants."""

import pytest

from support.builders import digest, make_channel
from support.invariants import ended, phase_of, with_stable
from support.world import Conflict
from wavegate.api import Phase, Reason, WaveState
from wavegate.evidence import Taint
from wavegate.rollout.decide import decide
from wavegate.rollout.steps import Target

CHECK = {"name": "crashes", "query": "x", "max": 0, "interval": "1s"}
CHECKED = {"checks": [CHECK], "prometheus": {"url": "http://prometheus"}}


def rolling(sim, wave=0):
    """A condition: this wave (from 0) has a node on the candidate."""

    def reached():
        rollout = sim.record.rollout
        if rollout is None or rollout.wave < wave:
            return False
        ledger = sim.ledgers.get((rollout.attempt, wave))
        names = {node.name for node in ledger.nodes} if ledger else set()
        return any(p.node in names and p.ready for p in sim.pods if p.attempt == rollout.attempt)

    return reached


def state(sim):
    """State of the running wave."""
    rollout = sim.record.rollout
    return rollout.waves[-1].state if rollout and rollout.waves else None


def exposed(sim):
    """Nodes that were labelled with the attempt of release b."""
    rollout = sim.record.rollout
    outcome = next((o for o in sim.record.outcomes if o.release == "b"), None)
    attempt = rollout.attempt if rollout else outcome.attempt
    return {node.name for node in sim.nodes.values() if node.attempt == attempt}


def test_a_first_release_goes_wave_by_wave_onto_nodes_without_an_agent(make_sim):
    sim = make_sim()
    sim.publish("a", 1)
    sim.run(300, until=rolling(sim))
    assert set(sim.running()) == {"canary-0"}
    sim.run(300, until=ended(sim, "a"))
    assert phase_of(sim, "a") == ("Completed", "Completed")
    assert sim.running() == dict.fromkeys(sim.nodes, "a")


def test_a_release_completes_and_restarts_an_agent_only_at_its_own_move(sim):
    uids = {pod.node: pod.uid for pod in sim.pods}
    changed_early, uids_after = [], {}

    def watch(sim, _obs, _step):
        for pod in sim.pods:
            candidate = sim.record.rollout and pod.attempt == sim.record.rollout.attempt
            if candidate:
                uids_after.setdefault(pod.node, pod.uid)
            if pod.uid not in (uids[pod.node], uids_after.get(pod.node)):
                changed_early.append(pod.node)

    sim.watchers.append(watch)
    sim.publish("b", 2)
    sim.run(400, until=ended(sim, "b"))
    sim.run(30)
    assert sim.running() == dict.fromkeys(sim.nodes, "b")
    assert changed_early == []
    assert {pod.node: pod.uid for pod in sim.pods} == uids_after


def test_a_quiet_cluster_gets_no_writes(sim):
    sim.run(30)
    before = sim.writes
    sim.run(600)
    assert sim.writes == before


def test_a_canary_that_crashes_reverts_and_blocks_with_one_node_exposed(sim):
    sim.harms[digest("b")] = "kill"
    sim.publish("b", 2)
    sim.run(300, until=lambda: sim.record.blocked)
    assert exposed(sim) == {"canary-0"}
    sim.run(60)
    assert sim.record.rollout.phase is Phase.Reverting
    sim.revive("canary-0")
    sim.run(60, until=ended(sim, "b"))
    sim.run(5)
    assert phase_of(sim, "b") == ("Reverted", "Reverted")
    assert sim.running() == dict.fromkeys(sim.nodes, "a")
    assert exposed(sim) == {"canary-0"}
    assert sim.record.block_of(digest("b")).release == "b"
    assert sim.nodes["canary-0"].alive


def test_a_node_that_stays_down_is_named_after_the_deadline(sim):
    sim.harms[digest("b")] = "kill"
    sim.publish("b", 2)
    sim.run(600, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Reverted", "RevertedWithNodesDown")
    assert "canary-0" in sim.record.outcomes[0].message
    sim.revive("canary-0")
    sim.run(30)
    assert sim.running() == dict.fromkeys(sim.nodes, "a")


def test_a_crash_in_the_second_wave_reverts_the_first_too(sim):
    sim.harms[digest("b")] = "loop"
    sim.victims = frozenset(name for name in sim.nodes if name.startswith("workers"))
    sim.publish("b", 2)
    sim.run(400, until=ended(sim, "b"))
    sim.run(5)
    assert phase_of(sim, "b") == ("Reverted", "Reverted")
    assert len(sim.record.outcomes[0].incident.nodes) == 2  # a suspect, and one more
    assert len(exposed(sim)) == 2  # the suspect had gone back
    assert sim.record.block_of(digest("b"))
    assert sim.running() == dict.fromkeys(sim.nodes, "a")


def test_an_agent_that_restarts_reverts_at_once(sim):
    sim.harms[digest("b")] = "loop"
    sim.publish("b", 2)
    sim.run(300, until=lambda: sim.record.blocked)
    assert sim.record.rollout.incident.reason is Reason.AgentRestarted
    assert sim.record.rollout.incident.nodes == ("canary-0",)


def test_a_node_that_crashed_while_the_operator_was_away_is_seen(sim):
    sim.publish("b", 2)
    sim.run(200, until=lambda: state(sim) is WaveState.Soaking)
    sim.nodes["canary-0"].boot += 1
    sim.forget()
    sim.run(60, until=ended(sim, "b"))
    assert sim.record.outcomes[0].incident.reason is Reason.NodeRebooted


def test_an_image_that_cannot_be_pulled_holds_and_in_the_end_asks_a_person(sim):
    sim.harms[digest("b")] = "unpullable"
    sim.publish("b", 2)
    sim.run(60, until=lambda: state(sim) is WaveState.Held)
    sim.run(3_600, until=lambda: sim.record.rollout.paused)
    assert sim.record.rollout.paused is Reason.HoldTimeout
    assert sim.record.rollout.incident is None
    assert sim.record.blocked == ()
    sim.run(200)
    assert exposed(sim) == set()
    assert sim.running() == dict.fromkeys(sim.nodes, "a")


def test_an_image_that_can_be_pulled_later_goes_on(sim):
    sim.harms[digest("b")] = "unpullable"
    sim.publish("b", 2)
    sim.run(60, until=lambda: state(sim) is WaveState.Held)
    sim.harms.clear()
    sim.run(400, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Completed", "Completed")


def test_an_agent_that_is_never_ready_reverts_at_the_deadline_and_blocks(sim):
    sim.harms[digest("b")] = "unready"
    sim.publish("b", 2)
    sim.run(300, until=ended(sim, "b"))
    assert sim.record.outcomes[0].incident.reason is Reason.AgentNotReady
    assert sim.record.block_of(digest("b"))


def test_a_node_that_joins_gets_stable_and_is_swept_before_promotion(sim):
    sim.publish("b", 2)
    sim.run(300, until=rolling(sim, 1))
    (joined,) = sim.add_nodes("workers", 1)
    sim.run(10)
    assert sim.running()[joined] == "a"
    sim.run(400, until=ended(sim, "b"))
    assert [wave.name for wave in sim.record.outcomes[0].waves] == ["canary", "all", "rest-1"]
    sim.run(5)
    assert sim.running() == dict.fromkeys(sim.nodes, "b")


def test_a_node_that_joins_while_it_is_promoted_has_one_agent_in_the_end(sim):
    sim.publish("b", 2)
    sim.step_until(lambda: sim.record.rollout and sim.record.rollout.promoting)
    (joined,) = sim.add_nodes("workers", 1)
    sim.run(400, until=ended(sim, "b"))
    sim.run(10)
    assert sim.running()[joined] == "b"


def test_a_node_outside_all_pools_is_swept(sim):
    sim.publish("b", 2)
    sim.run(50)
    (other,) = sim.add_nodes("nobodys", 1)
    sim.run(600, until=ended(sim, "b"))
    sim.run(5)
    assert sim.running()[other] == "b"


def test_a_stable_pod_that_is_deleted_in_the_middle_comes_back_stable(sim):
    sim.publish("b", 2)
    sim.run(300, until=rolling(sim))
    (victim, *_) = (name for name, release in sim.running().items() if release == "a")
    sim.delete_pod(victim)
    sim.run(10)
    assert sim.running()[victim] == "a"
    sim.run(400, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Completed", "Completed")


@pytest.mark.parametrize("wave", [0, 1])
def test_a_release_that_is_deleted_in_the_middle_reverts_and_blocks_nothing(sim, wave):
    sim.publish("b", 2)
    sim.run(300, until=rolling(sim, wave))
    del sim.releases["b"]
    sim.run(60, until=ended(sim, "b"))
    sim.run(5)
    assert sim.record.outcomes[0].incident.reason is Reason.ReleaseDeleted
    assert sim.running() == dict.fromkeys(sim.nodes, "a")
    assert sim.record.blocked == ()


def test_a_channel_that_is_deleted_leaves_stable_everywhere(sim):
    sim.publish("b", 2)
    sim.run(300, until=rolling(sim))
    sim.channel = None
    sim.run(60, until=ended(sim, "b"))
    (joined,) = sim.add_nodes("workers", 1)
    sim.run(60)
    assert sim.running() == dict.fromkeys(sim.nodes, "a")
    assert joined in sim.running()


def test_a_first_release_that_fails_leaves_no_agent_and_a_repaired_one_completes(make_sim):
    sim = make_sim()
    sim.harms[digest("a")] = "loop"
    sim.publish("a", 1)
    sim.run(200, until=ended(sim, "a"))
    sim.run(5)
    assert (sim.running(), sim.record.stable) == ({}, None)
    sim.publish("b", 2)
    sim.run(300, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Completed", "Completed")


def test_a_node_that_died_on_stable_is_neither_chosen_nor_blamed(sim):
    sim.die("workers-2")
    sim.run(60)
    sim.publish("b", 2)
    sim.run(600, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Completed", "Completed")
    sim.revive("workers-2")
    sim.run(10)
    assert sim.running() == dict.fromkeys(sim.nodes, "b")


def test_a_fenced_daemon_set_counts_as_a_revert(sim):
    sim.publish("b", 2)
    sim.run(300, until=rolling(sim))
    sim.retarget(sim.record.rollout.attempt, Target.NOTHING)
    sim.run(60, until=ended(sim, "b"))
    sim.run(5)
    assert sim.record.outcomes[0].incident.reason is Reason.FencedByHand
    assert sim.running() == dict.fromkeys(sim.nodes, "a")


def test_a_node_that_the_template_does_not_tolerate_is_left_alone(sim):
    (other,) = sim.add_nodes("workers", 1)
    sim.nodes[other].taints = (Taint("gpu", "", "NoSchedule"),)
    sim.publish("b", 2)
    sim.run(400, until=ended(sim, "b"))
    assert other not in sim.running()
    assert sim.nodes[other].attempt is None


def test_nodes_in_flight_follow_1_1_2_4_8(make_sim):
    sim = with_stable(make_sim(canaries=1, workers=24))
    sizes = []
    sim.watchers.append(
        lambda _sim, _obs, step: sizes.extend(
            len(action.nodes) for action in step.actions if hasattr(action, "nodes")
        )
    )
    sim.publish("b", 2)
    sim.run(600, until=ended(sim, "b"))
    assert sum(sizes) == 25
    assert sizes[:2] == [1, 1]
    assert phase_of(sim, "b") == ("Completed", "Completed")


def test_max_unavailable_bounds_a_big_wave(make_sim):
    sim = with_stable(make_sim(workers=12, rollout={"maxUnavailable": 2}))
    most = []

    def watch(sim, _obs, step):
        rollout = sim.record.rollout
        if rollout:
            nodes = {node.name for node in sim.nodes.values() if node.attempt == rollout.attempt}
            ready = {pod.node for pod in sim.pods if pod.ready and pod.attempt == rollout.attempt}
            most.append(len(nodes - ready))

    sim.watchers.append(watch)
    sim.publish("b", 2)
    sim.run(900, until=ended(sim, "b"))
    assert max(most) == 2


def test_the_newest_of_several_releases_wins(sim):
    for name, sequence in (("b", 2), ("d", 4), ("c", 3)):
        sim.publish(name, sequence)
    sim.run(400, until=ended(sim, "d"))
    sim.run(60)
    assert [o.release for o in sim.record.outcomes] == ["d", "a"]
    assert set(sim.running().values()) == {"d"}


def test_a_digest_that_failed_does_not_come_back_under_another_name(sim):
    sim.harms[digest("b")] = "loop"
    sim.publish("b", 2)
    sim.run(300, until=ended(sim, "b"))
    sim.publish("again", 3, content="b")
    before = sim.writes
    sim.run(60)
    assert sim.record.rollout is None
    assert sim.writes - before <= 2


def test_a_failed_check_reverts_and_does_not_block(make_sim):
    sim = with_stable(make_sim(**CHECKED))
    sim.publish("b", 2)
    sim.run(300, until=lambda: state(sim) is WaveState.Soaking)
    sim.check_value = 3.0
    sim.run(60, until=ended(sim, "b"))
    assert sim.record.outcomes[0].incident.reason is Reason.CheckAboveMax
    assert sim.record.blocked == ()


def test_a_silent_prometheus_holds_and_the_wave_resumes(make_sim):
    sim = with_stable(make_sim(**CHECKED))
    sim.publish("b", 2)
    sim.run(300, until=lambda: state(sim) is WaveState.Soaking)
    sim.check_error = "could not be asked"
    sim.run(10, until=lambda: state(sim) is WaveState.Held)
    moved = exposed(sim)
    sim.run(120)
    assert (state(sim), exposed(sim)) == (WaveState.Held, moved)
    sim.check_error = ""
    sim.run(400, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Completed", "Completed")


def test_a_hold_that_lasts_too_long_pauses_and_a_person_resumes_it(make_sim):
    sim = with_stable(make_sim(**CHECKED, rollout={"holdTimeout": "2m"}))
    sim.publish("b", 2)
    sim.run(300, until=lambda: state(sim) is WaveState.Soaking)
    sim.check_error = "could not be asked"
    sim.run(130, until=lambda: sim.record.rollout.paused is Reason.HoldTimeout)
    sim.check_error = ""
    sim.run(200)
    assert sim.record.rollout.paused is Reason.HoldTimeout
    sim.publish("b", 2, suspend=True)
    sim.run(5)
    sim.publish("b", 2)
    sim.run(400, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Completed", "Completed")


def test_a_check_may_hold_a_wave_for_longer_or_shorter_than_the_rest(make_sim):
    patient, hasty = ({**CHECKED["checks"][0], "holdTimeout": t} for t in ("20m", "1m"))
    for check, least, most in ((patient, 1200, 1230), (hasty, 60, 90)):
        checked = {**CHECKED, "checks": [check]}
        sim = with_stable(make_sim(**checked, rollout={"holdTimeout": "5m"}))
        sim.publish("b", 2)
        sim.run(300, until=lambda sim=sim: state(sim) is WaveState.Soaking)
        sim.check_error = "could not be asked"
        sim.run(10, until=lambda sim=sim: state(sim) is WaveState.Held)
        sim.run(least - 20)
        assert sim.record.rollout.paused is None
        sim.run(most - least + 20, until=lambda sim=sim: sim.record.rollout.paused is not None)
        assert sim.record.rollout.paused is Reason.HoldTimeout


def test_of_two_that_hold_a_wave_the_one_that_asks_first_counts(make_sim):
    check = {**CHECKED["checks"][0], "holdTimeout": "20m"}
    checks = [check, {**check, "name": "other", "holdTimeout": "2m"}]
    sim = with_stable(make_sim(**{**CHECKED, "checks": checks}, rollout={"holdTimeout": "5m"}))
    sim.publish("b", 2)
    sim.run(300, until=lambda: state(sim) is WaveState.Soaking)
    sim.check_error = "could not be asked"
    sim.run(10, until=lambda: state(sim) is WaveState.Held)
    sim.run(100)
    assert sim.record.rollout.paused is None
    sim.run(40, until=lambda: sim.record.rollout.paused is not None)
    assert sim.record.rollout.paused is Reason.HoldTimeout


@pytest.mark.parametrize("what", ["release", "channel"])
def test_a_suspended_rollout_moves_nothing_but_still_reverts_on_harm(sim, what):
    sim.publish("b", 2)
    sim.run(300, until=rolling(sim))
    if what == "release":
        sim.publish("b", 2, suspend=True)
    else:
        sim.channel = make_channel(suspend=True)
    sim.run(200)
    assert exposed(sim) == {"canary-0"}
    sim.nodes["canary-0"].boot += 1
    sim.run(60, until=ended(sim, "b"))
    assert phase_of(sim, "b")[0] == "Reverted"
    assert sim.record.block_of(digest("b"))


def test_a_stale_leader_can_move_nothing_after_a_revert(sim):
    """A leader that slept since before the Fail wakes up and acts on what it saw."""
    sim.publish("b", 2)
    stale = []
    sim.watchers.append(lambda s, obs, _step: stale.append((obs, s.now, s.record_version)))
    sim.run(400, until=rolling(sim, 1))
    seen = list(stale)
    sim.harms[digest("b")] = "loop"
    sim.run(300, until=ended(sim, "b"))
    sim.run(10)
    for obs, then, version in seen:
        try:
            sim.apply(obs, decide(obs, then), version)
        except (Conflict, KeyError):
            continue
    sim.run(10)
    assert set(sim.running().values()) == {"a"}
