"""What is too much for one object: nothing moves, and a person reads why."""

from dataclasses import replace

from support import fleet
from support.builders import make_decision
from wavegate.api import Phase, Reason, WaveState
from wavegate.rollout import report
from wavegate.rollout.decide import decide
from wavegate.rollout.decisions import MAX_DECISIONS


def test_decisions_in_any_number_leave_the_record_small_and_a_revert_is_still_noted():
    obs = fleet.observe(10, "soaking")
    pauses = [make_decision(f"pause-{n}", "new", "Pause") for n in range(5_000)]
    obs = replace(obs, decisions=tuple(pauses))
    while (step := decide(obs, fleet.NOW)).record is not None:
        assert len(step.record.decisions) <= MAX_DECISIONS
        obs = replace(obs, record=step.record)
    obs = replace(obs, decisions=(*pauses, make_decision("back", "new", "Revert")))
    obs = replace(obs, record=decide(obs, fleet.NOW).record)
    assert decide(obs, fleet.NOW).record.rollout.phase is Phase.Reverting


def test_a_wave_whose_ledger_does_not_fit_holds_then_asks_a_person_and_nothing_moves(sim):
    sim.publish("b", 2)
    sim.step_until(lambda: sim.record.rollout and sim.record.rollout.waves)
    sim.refused = (sim.record.rollout.attempt, "the ledger of 5000 nodes takes 1105 KiB")
    sim.run(20)
    obs = sim.observe()
    status = report.release_status(obs, sim.releases["b"], decide(obs, sim.now), sim.now)
    assert "the ledger of 5000 nodes takes 1105 KiB" in status["message"]
    sim.run(2_000, until=lambda: sim.record.rollout.paused is Reason.HoldTimeout)
    assert sim.record.rollout.waves[-1].state is WaveState.Pending
    assert set(sim.running().values()) == {"a"}
    assert not sim.record.rollout.waves[-1].nodes
