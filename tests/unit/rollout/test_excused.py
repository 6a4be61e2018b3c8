"""A node that leaves as announced is no harm to a rollout, and no evidence for it either."""

from dataclasses import replace

import pytest

from support.builders import agent_template, digest
from support.invariants import ended, phase_of, with_stable
from wavegate.api import Phase, WaveState
from wavegate.evidence import Taint
from wavegate.rollout import excused, marks, report
from wavegate.rollout.decide import decide
from wavegate.rollout.judge import judge, witnesses

ONE_THEN_ALL = [{"name": "one", "upTo": 1}, {"name": "all", "upTo": "100%"}]
CORDON = ""


@pytest.fixture
def soaking(make_sim):
    """Release b soaks on the canary; there are more nodes of its pool."""

    def make(canaries=2, **spec):
        waves = [
            {"name": "canary", "pools": ["canary"], "upTo": 1},
            {"name": "all", "upTo": "100%"},
        ]
        sim = with_stable(make_sim(canaries=canaries, **{"waves": waves, **spec}))
        sim.publish("b", 2)
        sim.step_until(lambda: wave(sim) and wave(sim).state is WaveState.Soaking)
        return sim

    return make


def wave(sim):
    rollout = sim.record.rollout
    return rollout.waves[-1] if rollout and rollout.waves else None


def moved(sim):
    rollout = sim.record.rollout
    return {n.name for n in sim.nodes.values() if rollout and n.attempt == rollout.attempt}


def announce(sim, name, taint=CORDON):
    if taint:
        sim.nodes[name].taints = (Taint(taint, "", "NoSchedule"),)
    else:
        sim.nodes[name].unschedulable = True
    sim.run(1)


def incident(sim):
    rollout = sim.record.rollout
    return rollout.incident if rollout else sim.record.outcomes[0].incident


def canary(sim):
    (name,) = moved(sim)
    return name


@pytest.mark.parametrize(
    "taint",
    [CORDON, "ToBeDeletedByClusterAutoscaler", "karpenter.sh/disrupted", "medik8s.io/drain"],
)
def test_a_wave_whose_node_is_removed_as_announced_is_done_again_on_another(soaking, taint):
    sim = soaking()
    gone = canary(sim)
    announce(sim, gone, taint)
    sim.remove_node(gone)
    sim.run(10)
    assert [w.state for w in sim.record.rollout.waves][:1] == [WaveState.Excused]
    assert wave(sim).name == "canary"
    assert wave(sim).soaked == 0.0
    obs = sim.observe()
    shown = report.release_status(obs, sim.releases["b"], decide(obs, sim.now), sim.now)
    assert shown["nodes"]["excused"] == 1
    assert shown["waves"][0]["state"] == "Excused"
    assert len(moved(sim)) == 1
    sim.run(400, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Completed", "Completed")
    assert [w.name for w in sim.record.outcomes[0].waves] == ["canary", "canary", "all"]


@pytest.mark.parametrize("taint", ["ToBeDeletedByClusterAutoscaler", "karpenter.sh/disrupted"])
def test_no_wave_takes_a_node_that_was_announced_to_leave_before_it_opened(make_sim, taint):
    """Its harm would be excused, so content that kills each of them would be found by none. The
    agent tolerates the taint, and the tools need not cordon.
    """
    template = agent_template()
    template["spec"]["tolerations"] = [{"operator": "Exists"}]
    sim = with_stable(make_sim(canaries=4, agent={"template": template}))
    leaving = ["canary-0", "canary-1", "canary-2"]
    for name in leaving:
        announce(sim, name, taint)
    sim.publish("b", 2)
    sim.step_until(lambda: wave(sim) and wave(sim).state is WaveState.Soaking)
    assert moved(sim) == {"canary-3"}


def test_a_wave_that_loses_its_only_node_holds_until_another_joins(soaking):
    sim = soaking(canaries=1, rollout={"holdTimeout": "5m"})
    announce(sim, "canary-0")
    sim.remove_node("canary-0")
    sim.run(200)
    assert wave(sim).state is WaveState.Held
    assert moved(sim) == set()
    sim.add_nodes("canary", 1)
    sim.run(400, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Completed", "Completed")


def test_nobody_comes_so_a_person_is_asked(soaking):
    sim = soaking(canaries=1, rollout={"holdTimeout": "5m"})
    announce(sim, "canary-0")
    sim.remove_node("canary-0")
    sim.run(400)
    assert sim.record.rollout.paused == "HoldTimeout"


def test_a_node_that_is_rebooted_as_announced_is_watched_again_but_proves_nothing(soaking):
    sim = soaking()
    gone = canary(sim)
    announce(sim, gone)
    sim.die(gone)
    sim.run(60)
    assert [w.state for w in sim.record.rollout.waves][:1] == [WaveState.Excused]
    sim.revive(gone)
    sim.run(3)
    sim.nodes[gone].unschedulable = False
    sim.run(5)
    assert gone in moved(sim)
    assert gone not in witnesses(sim.observe(), sim.record.rollout)
    sim.revive(gone)  # and again, unannounced
    sim.run(3)
    assert incident(sim).reason == "NodeRebooted"


def test_a_drained_node_keeps_nobody_waiting_while_it_is_down(soaking):
    sim = soaking()
    gone = canary(sim)
    announce(sim, gone)
    sim.die(gone)
    sim.run(600, until=lambda: wave(sim) is None or wave(sim).name == "all")
    sim.run(600, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Completed", "Completed")


@pytest.mark.parametrize("harm", ["dead", "rebooted", "removed"])
def test_what_comes_before_its_announcement_is_harm(soaking, harm):
    """All of it comes into sight at once, as after a short absence."""
    sim = soaking()
    node = sim.nodes[canary(sim)]
    node.unschedulable = True
    if harm == "removed":
        sim.remove_node(node.name)
    elif harm == "rebooted":
        node.boot += 1
    else:
        sim.die(node.name)
        node.died_at -= 60
    sim.run(5)
    assert incident(sim) is not None


def test_a_cordon_that_comes_when_the_lease_is_stale_already_excuses_nothing(soaking):
    sim = soaking()
    gone = canary(sim)
    sim.die(gone)
    sim.run(40)  # still Ready, for ten more seconds
    assert sim.record.rollout.phase is Phase.Rolling
    announce(sim, gone)
    sim.run(20)
    assert incident(sim) is not None


def test_a_cordon_that_is_followed_by_a_crash_of_the_agent_excuses_nothing(soaking):
    sim = soaking()
    announce(sim, canary(sim))
    sim.pod_on(canary(sim)).restarts = 1
    sim.run(int(marks.REBOOT_SECONDS) + 2)
    assert incident(sim).reason == "AgentRestarted"


def test_a_restart_on_a_cordoned_node_waits_for_the_bootid_that_explains_it(soaking):
    """A kubelet that boots may tell of its pods before it tells of its node."""
    sim = soaking()
    gone = canary(sim)
    announce(sim, gone)
    sim.pod_on(gone).restarts = 1
    sim.run(20)
    obs = sim.observe()
    shown = report.release_status(obs, sim.releases["b"], decide(obs, sim.now), sim.now)
    assert (shown["phase"], shown["nodes"]["failed"]) == ("Rolling", 0)
    assert "its bootID is awaited" in shown["message"]
    sim.nodes[gone].boot += 1
    sim.run(5)
    assert [w.state for w in sim.record.rollout.waves][:1] == [WaveState.Excused]
    sim.run(400, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Completed", "Completed")


def test_while_a_bootid_is_awaited_nothing_moves_and_no_wave_passes(make_sim):
    sim = with_stable(make_sim(workers=6, waves=[{"name": "all", "upTo": "100%"}]))
    sim.publish("b", 2)
    sim.run(400, until=lambda: "b" in sim.running().values())
    (cordoned,) = before = moved(sim)
    announce(sim, cordoned)
    sim.pod_on(cordoned).restarts = 1
    sim.run(int(marks.REBOOT_SECONDS) - 2)
    assert moved(sim) == before
    assert wave(sim).state is WaveState.Moving


def test_a_crash_that_ends_a_soak_on_a_cordoned_node_passes_no_wave(soaking):
    sim = soaking()
    gone = canary(sim)
    announce(sim, gone)
    sim.step_until(lambda: wave(sim).state is WaveState.Judging)
    sim.pod_on(gone).restarts = 1
    sim.run(int(marks.REBOOT_SECONDS) + 5)
    sim.run(400, until=ended(sim, "b"))
    assert [w.state for w in sim.record.outcomes[0].waves] == [WaveState.Failed]
    assert sim.record.block_of(digest("b"))


@pytest.mark.parametrize("how", ["loop", "memory", "not announced"])
def test_what_no_reboot_looks_like_is_harm_at_once_on_a_cordoned_node(soaking, how, monkeypatch):
    sim = soaking()
    gone = canary(sim)
    if how != "not announced":
        announce(sim, gone)
    sim.harms[digest("b")], sim.victims = "loop" if how == "loop" else "", frozenset({gone})
    if how == "memory":
        view = type(sim.pod_on(gone)).view
        monkeypatch.setattr(
            type(sim.pod_on(gone)),
            "view",
            lambda pod: replace(view(pod), last_exit="OOMKilled" if pod.restarts else ""),
        )
    pod = sim.pod_on(gone)
    pod.restarts, pod.waiting = 1, "CrashLoopBackOff" if how == "loop" else ""
    sim.work()
    sim.work()
    assert incident(sim).reason == ("AgentOOMKilled" if how == "memory" else "AgentRestarted")


def test_an_agent_that_goes_on_crashing_on_a_cordoned_node_is_not_waited_for_again(soaking):
    sim = soaking()
    announce(sim, canary(sim))
    sim.pod_on(canary(sim)).restarts = 1
    sim.run(10)
    sim.pod_on(canary(sim)).restarts = 2
    sim.pod_on(canary(sim)).waiting = "CrashLoopBackOff"
    sim.work()
    sim.work()
    assert incident(sim).reason == "AgentRestarted"


def test_a_node_that_booted_and_was_let_back_between_two_passes_is_excused(soaking):
    """The watch has told of both, one after the other."""
    sim = soaking()
    gone = canary(sim)
    announce(sim, gone)
    sim.revive(gone)
    sim.tick()
    sim.nodes[gone].unschedulable = False
    sim.run(5)
    assert [w.state for w in sim.record.rollout.waves][:1] == [WaveState.Excused]
    sim.revive(gone)  # and again, unannounced
    sim.run(3)
    assert incident(sim).reason == "NodeRebooted"


def test_a_node_that_was_down_as_announced_may_come_back_at_any_time(soaking):
    """Nobody looked between its boot and the end of its cordon."""
    sim = soaking()
    gone = canary(sim)
    announce(sim, gone)
    sim.die(gone)
    sim.run(60)
    assert sim.record.rollout.excused
    sim.revive(gone)
    sim.nodes[gone].unschedulable = False
    sim.run(5)
    assert incident(sim) is None


def test_a_boot_that_is_seen_with_the_end_of_the_cordon_only_is_harm(soaking):
    """The cordon may have been taken back before the machine died."""
    sim = soaking()
    gone = canary(sim)
    announce(sim, gone)
    sim.revive(gone)
    sim.nodes[gone].unschedulable = False
    sim.run(3)
    assert incident(sim).reason == "NodeRebooted"


@pytest.mark.parametrize(
    "taint",
    [
        "medik8s.io/remediation",
        "medik8s.io/fence-agents-remediation",
        "remediation.medik8s.io/self-node-remediation",
        "remediation.medik8s.io/fence-agents-remediation",
        "node.kubernetes.io/out-of-service",
    ],
)
def test_a_node_that_a_repairer_takes_is_not_excused(soaking, taint):
    sim = soaking()
    gone = canary(sim)
    sim.nodes[gone].unschedulable = True
    announce(sim, gone, taint)
    sim.remove_node(gone)
    sim.run(3)
    assert incident(sim).reason == "NodeVanished"


def test_a_node_that_is_taken_for_a_condition_is_not_excused(soaking):
    """Repair may act on it while the node is Ready; all of it comes into sight at once."""
    sim = soaking()
    node = sim.nodes[canary(sim)]
    node.unschedulable, node.bad = True, frozenset({"KernelDeadlock"})
    sim.tick()
    sim.remove_node(node.name)
    sim.run(3)
    assert incident(sim).reason == "NodeVanished"


def test_a_condition_that_was_there_when_the_wave_opened_is_no_harm(make_sim):
    sim = with_stable(make_sim())
    sim.nodes["canary-0"].bad = frozenset({"FrequentKubeletRestart"})
    sim.publish("b", 2)
    sim.run(400, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Completed", "Completed")


def test_a_new_condition_takes_the_release_back(soaking):
    sim = soaking()
    sim.nodes[canary(sim)].bad = frozenset({"KernelDeadlock"})
    sim.run(3)
    assert incident(sim).reason == "NodeCondition"
    assert sim.record.block_of(digest("b"))


def test_a_cordon_that_was_taken_back_excuses_nothing(soaking):
    sim = soaking()
    gone = canary(sim)
    announce(sim, gone)
    sim.nodes[gone].unschedulable = False
    sim.run(2)
    sim.remove_node(gone)
    sim.run(3)
    assert incident(sim).reason == "NodeVanished"


def test_harm_on_another_node_is_not_delayed_by_an_excuse(make_sim):
    sim = with_stable(make_sim(workers=6, waves=[{"name": "all", "upTo": "100%"}]))
    sim.publish("b", 2)
    sim.run(400, until=lambda: len(moved(sim)) >= 4)
    one, other = sorted(moved(sim))[:2]
    announce(sim, one)
    sim.remove_node(one)
    sim.remove_node(other)
    sim.work()
    assert incident(sim).nodes == (other,)


def test_a_few_of_many_may_leave_and_the_wave_goes_on(make_sim):
    sim = with_stable(make_sim(workers=20, waves=[{"name": "all", "upTo": "100%"}]))
    sim.publish("b", 2)
    sim.run(800, until=lambda: wave(sim) and wave(sim).state is WaveState.Soaking)
    for name in sorted(moved(sim))[:2]:
        announce(sim, name)
        sim.remove_node(name)
    sim.run(400, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Completed", "Completed")
    assert [w.name for w in sim.record.outcomes[0].waves] == ["all"]


def test_of_more_than_a_tenth_the_wave_is_done_again(make_sim):
    waves = [{"name": "half", "upTo": "50%"}, {"name": "all", "upTo": "100%"}]
    sim = with_stable(make_sim(workers=19, waves=waves))
    sim.publish("b", 2)
    sim.run(800, until=lambda: wave(sim) and wave(sim).state is WaveState.Soaking)
    leaving = sorted(moved(sim))[:3]
    for name in leaving:
        announce(sim, name)
    for name in leaving:
        sim.remove_node(name)
    sim.run(600, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Completed", "Completed")
    assert [w.name for w in sim.record.outcomes[0].waves] == ["half", "half", "all"]


def test_excuses_are_kept_over_a_restart_of_the_operator(soaking):
    sim = soaking()
    gone = canary(sim)
    announce(sim, gone)
    sim.remove_node(gone)
    sim.step_until(lambda: sim.record.rollout.excused)
    sim.forget()
    sim.run(500, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Completed", "Completed")


def test_what_rolled_out_well_excuses_the_same_nodes_while_it_bakes(soaking):
    sim = soaking(rollout={"bake": "10m"})
    gone = canary(sim)
    announce(sim, gone)
    sim.remove_node(gone)
    sim.run(500, until=ended(sim, "b"))
    sim.forget()
    sim.run(30)
    assert sim.record.bake.excused == {gone: marks.NOT_WATCHED}
    assert sim.record.bake.suspects == ()


def test_a_node_that_joins_under_the_name_of_an_excused_one_is_judged(soaking):
    sim = soaking()
    gone = canary(sim)
    announce(sim, gone)
    old = sim.nodes[gone]
    sim.remove_node(gone)
    sim.run(5)
    sim.nodes[gone] = type(old)(gone, "another-machine", dict(old.labels))
    sim.run(500, until=lambda: wave(sim) and wave(sim).name == "all" and gone in moved(sim))
    assert gone not in sim.record.rollout.excused
    sim.run(60, until=lambda: sim.running().get(gone) == "b")
    sim.revive(gone)
    sim.run(3)
    (suspect,) = sim.record.rollout.suspects
    assert (suspect.node, suspect.reason) == (gone, "NodeRebooted")


def test_more_drains_than_a_record_holds_are_harm(soaking, monkeypatch):
    monkeypatch.setattr(excused, "MAX_MARKS", 10)
    sim = soaking()
    gone = canary(sim)
    announce(sim, gone)
    sim.remove_node(gone)
    sim.run(3)
    assert incident(sim).reason == "NodeVanished"


def test_a_check_hears_no_more_of_an_excused_node(soaking):
    check = {"name": "boots", "query": "q", "max": 0, "interval": "1s"}
    sim = soaking(checks=[check], prometheus={"url": "http://prometheus"})
    gone = canary(sim)
    announce(sim, gone)
    sim.revive(gone)
    sim.check_values[gone] = 1.0
    sim.run(3)
    assert not [f for f in judge(sim.observe(), sim.record.rollout, sim.now) if f.node == gone]
    sim.run(500, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Completed", "Completed")


def test_what_stays_harmed_after_its_drain_is_still_harm(soaking):
    """The agent comes up in a crash loop after the reboot."""
    sim = soaking()
    gone = canary(sim)
    announce(sim, gone)
    sim.die(gone)
    sim.run(60)
    sim.harms[digest("b")], sim.victims = "loop", frozenset({gone})
    sim.revive(gone)
    sim.pod_on(gone).waiting = "CrashLoopBackOff"
    sim.work()
    sim.work()
    assert incident(sim) is not None


def test_a_wave_of_excused_nodes_and_suspects_has_nobody_to_speak_for_it(make_sim):
    waves = [
        {"name": "one", "upTo": 1},
        {"name": "few", "upTo": 3},
        {"name": "all", "upTo": "100%"},
    ]
    sim = with_stable(make_sim(workers=8, waves=waves))
    sim.publish("b", 2)
    sim.run(400, until=lambda: wave(sim) and wave(sim).name == "few" and wave(sim).soak_since)
    ledger = sim.ledgers[sim.record.rollout.attempt, wave(sim).ledger]
    crashed, leaving = (entry.name for entry in ledger.nodes)
    sim.pod_on(crashed).restarts = 1
    sim.run(5)
    assert [s.node for s in sim.record.rollout.suspects] == [crashed]
    announce(sim, leaving)
    sim.remove_node(leaving)
    sim.run(5)
    assert [w.state for w in sim.record.rollout.waves[1:2]] == [WaveState.Excused]
    assert wave(sim).name == "few"
