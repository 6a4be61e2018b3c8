"""The decision record: why a wave stopped is answered from the status alone, also much later."""

import json
import re
from dataclasses import replace

import pytest

from support.builders import digest
from support.invariants import ended, phase_of, with_stable
from wavegate.api import Phase, Reason, WaveState
from wavegate.cluster.projections import encode_record, stored_config_map
from wavegate.rollout import report
from wavegate.rollout.steps import Step

CHECKS = {
    "checks": [
        {"name": "up", "query": 'up{node=~"$nodes"}', "min": 0, "interval": "1s"},
        {"name": "crashes", "query": 'rate(crashes{node=~"$nodes"}[5m])', "max": 2, "min": 0},
        {"name": "slow", "query": "sum(x)", "max": 50, "per": "Wave"},
    ],
    "prometheus": {"url": "http://prometheus"},
}


@pytest.fixture
def sim(make_sim):
    return with_stable(make_sim(**CHECKS))


def status_of(sim, release):
    """What kubectl shows, and nothing else: neither the simulation nor the operator's memory."""
    found = report.release_status(sim.observe(), sim.releases[release], Step(), sim.now)
    return json.loads(json.dumps(found))


def in_wave(sim, number, release="b"):
    """Run until some nodes of the wave with this number have the release."""
    sim.run(
        300,
        until=lambda: (
            sim.record.rollout
            and len(sim.record.rollout.waves) == number
            and sum(found == release for found in sim.running().values()) >= 2 * number - 1
        ),
    )


def is_held(rollout):
    return bool(rollout and rollout.waves and rollout.waves[-1].held_since)


def restart(sim):
    """The operator is another process: what it knows is what the cluster stores."""
    body = {"metadata": {"labels": {"wavegate.dev/kind": "record"}, "resourceVersion": "1"}}
    stored = stored_config_map(body | {"data": encode_record(sim.record)}, None, 0.0)
    assert stored.record == sim.record
    sim.record = stored.record
    sim.forget()


def fails_in_wave_2(sim, sequence=2):
    sim.publish("b", sequence)
    in_wave(sim, 2)
    have = [n for n, found in sim.running().items() if found == "b" and n != "canary-0"]
    bad = sorted(have)[:2]  # one alone would be a suspect
    sim.check_values |= dict.fromkeys(bad, 7.0)
    sim.run(100, until=ended(sim, "b"))
    sim.check_values.clear()
    return bad


def test_the_status_alone_says_why_wave_2_stopped(sim):
    bad = fails_in_wave_2(sim)
    for name, sequence in (("c", 3), ("d", 4)):  # and it says so much later, too
        restart(sim)
        sim.publish(name, sequence)
        sim.run(400, until=ended(sim, name))
        assert phase_of(sim, name)[0] == "Completed"
    status = status_of(sim, "b")

    assert (status["phase"], status["reason"]) == ("Reverted", "Reverted")
    incident, (stopped,) = status["incident"], status["gates"]
    assert incident["wave"] == {"number": 2, "name": "all"}
    assert (stopped["gate"], stopped["check"]) == ("Check", "crashes")
    assert (stopped["verdict"], stopped["reason"]) == ("Fail", "CheckAboveMax")
    assert (stopped["value"], stopped["threshold"]) == ("7", ">= 0 and <= 2")
    assert re.fullmatch(r'rate\(crashes\{node=~"canary.*0.*workers.*"\}\[5m\]\)', stopped["query"])
    assert stopped["worst"] == [{"node": node, "what": "7"} for node in bad]
    assert sorted(incident["nodes"]) == bad
    assert stopped["sampledAt"] == stopped["at"] == incident["at"]
    assert stopped["reporting"] == stopped["expected"] >= 3


def test_until_the_next_release_every_gate_is_told_and_each_wave_has_its_lines(sim):
    fails_in_wave_2(sim)
    restart(sim)
    status = status_of(sim, "b")
    said = [(gate["gate"], gate.get("check"), gate["verdict"]) for gate in status["gates"]]
    assert said == [
        ("Check", "crashes", "Fail"),
        ("Nodes", None, "Pass"),
        ("Agents", None, "Pass"),
        ("Check", "up", "Pass"),
        ("Check", "slow", "Pass"),
    ]
    first, second = status["waves"]
    assert (first["state"], second["state"]) == ("Passed", "Failed")
    assert first["gates"] == [
        "Nodes: Pass, 1 of 1",
        "Agents: Pass, 1 of 1",
        "check up: Pass, 0 (>= 0), 1 of 1",
        "check crashes: Pass, 0 (>= 0 and <= 2), 1 of 1",
        "check slow: Pass, 0 (<= 50), 1 of 1",
    ]
    assert second["gates"][0].startswith("check crashes: Fail CheckAboveMax, 7 (>= 0 and <= 2), ")


@pytest.mark.parametrize(
    ("harm", "gate", "reasons"),
    [
        ("kill", "Nodes", {"NodeNotReady"}),
        ("loop", "Agents", {"AgentRestarted"}),
        ("unready", "Agents", {"AgentNotReady"}),
    ],
)
def test_what_nodes_and_agents_show_is_a_gate_too(sim, harm, gate, reasons):
    sim.harms[digest("b")] = harm
    sim.publish("b", 2)
    sim.run(400, until=ended(sim, "b"))
    status = status_of(sim, "b")
    stopped = status["gates"][0]
    assert (stopped["gate"], stopped["verdict"]) == (gate, "Fail")
    assert stopped["reason"] in reasons
    assert stopped["worst"] == [{"node": "canary-0", "what": stopped["reason"]}]
    assert (stopped["reporting"], stopped["expected"]) == (0, 1)
    assert status["incident"]["wave"] == {"number": 1, "name": "canary"}


def test_a_hold_says_which_gate_holds_and_a_pass_takes_it_back(sim):
    sim.publish("b", 2)
    in_wave(sim, 1)
    sim.check_error = "could not be asked: refused"
    sim.run(60, until=lambda: sim.record.rollout.waves[-1].state is WaveState.Held)
    restart(sim)
    held = status_of(sim, "b")
    assert {gate["check"] for gate in held["gates"][:3]} == {"up", "crashes", "slow"}
    assert held["gates"][0]["reason"] == "CheckUnreachable"
    assert held["gates"][0]["message"] == "check up could not be asked: refused"
    assert "check up: Hold CheckUnreachable, 0 of 1" in held["waves"][0]["gates"]
    sim.check_error = ""
    sim.run(400, until=ended(sim, "b"))
    status = status_of(sim, "b")
    assert {gate["verdict"] for gate in status["gates"]} == {"Pass"}
    assert not any("Hold" in line for wave in status["waves"] for line in wave["gates"])


def test_a_wave_that_finds_no_node_says_so_in_its_gates(make_sim):
    sim = with_stable(make_sim())
    for node in sim.nodes.values():
        node.unschedulable = True
    sim.publish("b", 2)
    sim.run(60, until=lambda: is_held(sim.record.rollout))
    gate = status_of(sim, "b")["gates"][0]
    assert (gate["gate"], gate["verdict"], gate["reason"]) == ("Sight", "Hold", "WaveHeld")
    assert "no healthy node" in gate["message"]


def test_a_dry_run_is_recorded_last_and_decides_nothing(make_sim):
    checks = [CHECKS["checks"][0], {**CHECKS["checks"][1], "dryRun": True}]
    sim = with_stable(make_sim(**CHECKS | {"checks": checks}))
    sim.check_value = 9.0
    sim.publish("b", 2)
    sim.run(400, until=ended(sim, "b"))
    status = status_of(sim, "b")
    assert status["phase"] == "Completed"
    *others, dry = status["gates"]
    assert (dry["check"], dry["dryRun"], dry["verdict"]) == ("crashes", True, "Fail")
    assert {gate["verdict"] for gate in others} == {"Pass"}


def test_a_person_s_revert_keeps_what_the_evidence_said_before(sim):
    sim.publish("b", 2)
    in_wave(sim, 2)
    del sim.releases["b"]
    sim.run(100, until=ended(sim, "b"))
    outcome = sim.record.outcomes[0]
    assert (outcome.incident.reason, outcome.incident.wave) == ("ReleaseDeleted", 2)
    assert {gate.verdict.name for gate in outcome.gates} == {"PASS"}


def test_the_record_of_a_failure_goes_only_after_many_releases(sim):
    sim.publish("c", 3)
    in_wave(sim, 1, "c")
    other = sim.record.rollout
    del sim.releases["c"]
    sim.run(100, until=ended(sim, "c"))
    fails_in_wave_2(sim, 4)
    found = []
    for _ in range(12):
        later = replace(sim.record, rollout=other)
        sim.record = later.ended(Phase.Reverted, Reason.Reverted, "as well", sim.now)
        found.append(len(status_of(sim, "b").get("gates", ())))
    assert found == [1] * 8 + [0] * 4
    assert all(wave.soak_began is None for o in sim.record.outcomes[1:] for wave in o.waves)
    assert status_of(sim, "b")["incident"]["wave"]["number"] == 2
