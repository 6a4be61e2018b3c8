"""A channel with a loaded proof: no wave passes, and no revert ends well, without the reports."""

from dataclasses import replace

import pytest

from support.builders import digest, make_channel
from support.invariants import ended, phase_of, with_stable
from wavegate.api import WaveState
from wavegate.evidence import Verdict
from wavegate.rollout import channel_report, report
from wavegate.rollout.decide import decide
from wavegate.rollout.judge import judge

BY_POD = {"loadedProof": {"annotation": {}}}
BY_METRIC = {
    "loadedProof": {"metric": {"series": 'content_info{node=~"$nodes"}'}},
    "prometheus": {"url": "http://prometheus"},
}


@pytest.fixture(params=[BY_POD, BY_METRIC], ids=["annotation", "metric"])
def proven(request, make_sim):
    """Build a cluster with either kind of proof; keywords are of the channel."""
    return lambda **spec: with_stable(make_sim(**request.param, **spec))


def wave(sim):
    return sim.record.rollout.waves[-1]


def moved(sim):
    attempt = sim.record.rollout.attempt
    return [n.name for n in sim.nodes.values() if n.attempt == attempt]


def found(sim):
    findings = judge(sim.observe(), sim.record.rollout, sim.now)
    return [(f.verdict.name, f.reason.value) for f in findings]


def test_a_wave_passes_on_the_report_of_each_node(proven):
    sim = proven()
    sim.publish("b", 2)
    sim.run(400, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Completed", "Completed")


def test_a_node_that_reports_nothing_waits_then_holds_and_never_passes(proven):
    sim = proven(rollout={"holdTimeout": "5m"})
    sim.says["canary-0"] = ""
    sim.publish("b", 2)
    sim.run(60)
    assert found(sim) == [("WAIT", "LoadedNotReported")]
    assert wave(sim).soak_began is None  # what is not loaded does not soak
    sim.run(100)
    assert found(sim) == [("HOLD", "LoadedNotReported")]
    assert wave(sim).state is WaveState.Held
    sim.run(600)
    assert sim.record.rollout.paused == "HoldTimeout"
    assert moved(sim) == ["canary-0"]


def test_it_goes_on_by_itself_when_the_report_comes(proven):
    sim = proven()
    sim.says["canary-0"] = ""
    sim.publish("b", 2)
    sim.run(200)
    del sim.says["canary-0"]
    sim.run(400, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Completed", "Completed")


def test_a_node_that_reports_other_content_waits_then_goes_back_and_blocks_nothing(proven):
    sim = proven()
    sim.says["canary-0"] = digest("a")
    sim.publish("b", 2)
    sim.run(60)
    assert found(sim) == [("WAIT", "OtherContentLoaded")]
    sim.run(200, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Reverted", "Reverted")
    assert sim.record.outcomes[0].incident.reason == "OtherContentLoaded"
    assert not sim.record.blocked


def test_a_node_without_report_keeps_its_slot(proven):
    sim = proven(rollout={"maxUnavailable": "50%"})
    sim.publish("b", 2)
    sim.step_until(lambda: sim.record.rollout and sim.record.rollout.wave == 1)
    sim.says = dict.fromkeys(set(sim.nodes) - {"canary-0"}, "")
    sim.run(100)
    assert len(moved(sim)) == 2  # the canary, and one in flight that says nothing


def test_content_that_stays_on_its_host_is_no_reverted_release(proven):
    sim = proven(content={"imageVolume": {"volumeName": "content"}, "hostState": "Kernel"})
    sim.harms[digest("b")] = "loop"
    sim.publish("b", 2)
    sim.run(60, until=lambda: sim.record.rollout and sim.record.rollout.incident)
    sim.says["canary-0"] = digest("b")
    sim.run(60)
    assert sim.running()["canary-0"] == "a"
    assert "1 nodes to report stable's content (canary-0)" in decide(sim.observe(), sim.now).waiting
    sim.run(100, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Reverted", "RevertedNotProven")
    assert "nothing proves that 1 nodes are rid of its content (canary-0)" in (
        sim.record.outcomes[0].message
    )


def test_a_revert_ends_well_as_soon_as_the_node_reports_stable(proven):
    sim = proven(content={"imageVolume": {"volumeName": "content"}, "hostState": "Kernel"})
    sim.harms[digest("b")] = "loop"
    sim.publish("b", 2)
    sim.run(60, until=lambda: sim.record.rollout and sim.record.rollout.incident)
    sim.says["canary-0"] = digest("b")
    sim.run(60)
    del sim.says["canary-0"]
    sim.run(5, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Reverted", "Reverted")


def test_nodes_that_never_had_the_content_need_not_prove_that_it_is_gone(proven):
    sim = proven(waves=[{"name": "all", "upTo": "100%"}])
    sim.harms[digest("b")] = "loop"
    sim.publish("b", 2)
    sim.run(60, until=lambda: sim.record.rollout and sim.record.rollout.incident)
    had = set(moved(sim))
    sim.says = dict.fromkeys(set(sim.nodes) - had, "")
    sim.run(60, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Reverted", "Reverted")


def test_what_outlives_its_pod_is_proven_gone_by_nobody_where_nothing_is_stable(make_sim):
    content = {"imageVolume": {"volumeName": "content"}, "hostState": "Cache"}
    sim = make_sim(**BY_POD, content=content)
    sim.harms[digest("a")] = "loop"
    sim.publish("a", 1)
    sim.run(300, until=ended(sim, "a"))
    assert phase_of(sim, "a") == ("Reverted", "RevertedNotProven")


def test_a_release_may_say_what_its_agents_report(make_sim):
    sim = with_stable(make_sim(**BY_POD))
    sim.publish("b", 2)
    release = sim.releases["b"]
    content = release.spec.content.model_copy(update={"loaded_digest": "RULES-7"})
    spec = release.spec.model_copy(update={"content": content})
    sim.releases["b"] = release.model_copy(update={"spec": spec})
    sim.says = dict.fromkeys(sim.nodes, "rules-7")
    sim.run(400, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Completed", "Completed")
    assert sim.record.stable.reports == "RULES-7"


def test_a_bake_ends_well_only_with_the_reports(proven):
    sim = proven(rollout={"bake": "10m"})
    sim.publish("b", 2)
    sim.run(400, until=ended(sim, "b"))
    sim.says = dict.fromkeys(sim.nodes, digest("other"))
    sim.run(900)
    assert sim.record.bake is not None
    sim.says = {}
    sim.run(60, until=lambda: sim.record.bake is None)
    assert sim.record.last_baked.release == "b"


def test_a_prometheus_that_is_gone_holds_the_proof(make_sim):
    sim = with_stable(make_sim(**BY_METRIC))
    sim.publish("b", 2)
    sim.run(60, until=lambda: sim.running().get("canary-0") == "b")
    sim.check_error = "could not be asked"
    sim.run(5)
    (finding,) = judge(sim.observe(), sim.record.rollout, sim.now)
    assert (finding.verdict, finding.reason) == (Verdict.HOLD, "CheckUnreachable")


def test_status_counts_the_reports_and_the_channel_says_whether_any_are_asked_for(make_sim):
    sim = with_stable(make_sim(**BY_POD))
    sim.publish("b", 2)
    sim.run(60, until=lambda: sim.running().get("canary-0") == "b")
    obs, step = sim.observe(), decide(sim.observe(), sim.now)
    status = report.release_status(obs, sim.releases["b"], step, sim.now)
    assert status["nodes"]["loaded"] == 1
    assert condition(obs) == ("True", "Accepted")
    without = replace(obs, channel=make_channel())
    assert condition(without) == ("False", "NotProven")


def condition(obs):
    found = channel_report.channel_status(obs)["conditions"]
    return next((c["status"], c["reason"]) for c in found if c["type"] == "LoadedProof")
