"""A suspect is back when nothing of the content is left on it; one that never is stops nobody."""

import pytest

from support.builders import digest, make_decision
from support.carrying import carrying
from support.invariants import ended, in_wave, phase_of, with_stable
from wavegate.api import Reason
from wavegate.rollout import exposure, report, suspects
from wavegate.rollout.decide import decide

KEPT = {"content": {"imageVolume": {"volumeName": "content"}, "hostState": "Kernel"}}
BY_POD = KEPT | {"loadedProof": {"annotation": {}}}
BY_METRIC = KEPT | {
    "loadedProof": {"metric": {"series": 'content_info{node=~"$nodes"}'}},
    "prometheus": {"url": "http://prometheus"},
}
ONE = "workers-2"


def soaking(sim):
    """Release b is on all nodes, and its second wave soaks."""
    sim.publish("b", 2)
    sim.run(400, until=in_wave(sim, "all"))
    sim.run(3)
    return sim


@pytest.fixture(params=[BY_POD, BY_METRIC], ids=["annotation", "metric"])
def proven(request, make_sim):
    return soaking(with_stable(make_sim(**request.param)))


@pytest.fixture
def carried(make_sim):
    return soaking(with_stable(carrying(make_sim)))


def give_back(sim, says=None):
    """The node comes to harm alone, goes back, and says this of what it has loaded."""
    sim.nodes[ONE].boot += 1
    sim.step_until(lambda: sim.record.rollout.suspects)
    if says is not None:
        sim.says[ONE] = says
    sim.run(70)
    assert sim.running()[ONE] == "a"


def returning(sim):
    return suspects.returning(sim.observe(), sim.record.rollout, sim.now)


def message(sim):
    obs = sim.observe()
    status = report.release_status(obs, sim.releases["b"], decide(obs, sim.now), sim.now)
    return status["message"]


def in_flight(sim):
    return exposure.measure(sim.observe(), sim.record.rollout, sim.now).in_flight


@pytest.mark.parametrize("says", ["", digest("b")], ids=["nothing", "the candidate's"])
def test_one_that_does_not_report_stables_content_keeps_its_slot(proven, says):
    sim = proven
    give_back(sim, says)
    assert returning(sim) == (ONE,)
    assert ONE in in_flight(sim)
    assert "rid of" not in message(sim)
    del sim.says[ONE]
    for pod in sim.pods:
        pod.said = digest("a") if pod.node == ONE else pod.said
    sim.run(2)
    assert returning(sim) == ()


@pytest.mark.parametrize("says", ["", digest("b")], ids=["nothing", "the candidate's"])
def test_after_the_deadline_it_is_named_and_keeps_nobody_waiting(proven, says):
    sim = proven
    give_back(sim, says)
    sim.run(60)  # progressDeadline is two minutes
    assert returning(sim) == ()
    assert f"nothing proves that 1 nodes are rid of its content ({ONE})" in message(sim)
    sim.run(2_000, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Completed", "Completed")
    unproven = "without proof on workers-2" in sim.record.outcomes[0].message
    assert unproven is (says == "")  # tried again, it says what it has by then


def test_one_that_reports_stables_content_is_back_at_once(proven):
    give_back(proven)
    assert returning(proven) == ()
    assert "rid of" not in message(proven)


def test_a_prometheus_that_is_gone_proves_nothing_of_it(make_sim):
    sim = soaking(with_stable(make_sim(**BY_METRIC)))
    give_back(sim)
    sim.check_error = "could not be asked"
    sim.run(2)
    assert returning(sim) == (ONE,)


def test_one_that_is_down_past_its_deadline_is_named_too(make_sim):
    sim = soaking(with_stable(make_sim()))
    sim.die(ONE)
    sim.step_until(lambda: sim.record.rollout.suspects)
    sim.run(110)
    assert "need hands" not in message(sim)
    sim.run(20)
    assert f"1 nodes are not back on stable and need hands ({ONE})" in message(sim)


def tried_again_while_it_is_down(sim):
    """The node dies of the content, and the sweep takes it again, as ill as it is."""
    sim.die(ONE)
    sim.run(2_000, until=in_wave(sim, "rest-1"))
    assert sim.observe().nodes[ONE].attempt(sim.observe().key) == sim.record.rollout.attempt


@pytest.mark.parametrize("back", [True, False], ids=["in time", "never"])
def test_a_revert_waits_for_one_that_was_tried_again_while_it_was_down(make_sim, back):
    sim = soaking(with_stable(make_sim()))
    tried_again_while_it_is_down(sim)
    sim.decisions.append(make_decision("back", "b", "Revert"))
    sim.run(60)
    assert not ended(sim, "b")()
    if back:
        sim.revive(ONE)
    sim.run(200, until=ended(sim, "b"))
    lacks = Reason.Reverted if back else Reason.RevertedWithNodesDown
    assert phase_of(sim, "b") == ("Reverted", lacks)
    assert (f"need hands ({ONE})" in sim.record.outcomes[0].message) is not back


def test_a_revert_waits_for_none_that_was_replaced_before_it_was_tried_again(make_sim):
    sim = soaking(with_stable(make_sim()))
    sim.die(ONE)
    sim.step_until(lambda: sim.record.rollout.suspects)
    sim.nodes[ONE].uid = "another machine, which is down as well"
    sim.run(2_000, until=in_wave(sim, "rest-1"))
    sim.decisions.append(make_decision("back", "b", "Revert"))
    sim.run(20)
    assert phase_of(sim, "b") == ("Reverted", "Reverted")


def test_one_whose_selected_agent_is_not_well_again_keeps_its_slot(carried):
    sim = carried
    sim.change(ONE, restarts=8, ready=False, ready_since=None, unready_since=sim.now)
    sim.run(70)
    assert [s.node for s in sim.record.rollout.suspects] == [ONE]
    assert returning(sim) == (ONE,)
    sim.change(ONE, ready=True, ready_since=sim.now, unready_since=None)
    sim.run(4)
    assert returning(sim) == (ONE,)  # settle is 5 s
    sim.run(2)
    assert returning(sim) == ()


def test_one_whose_selected_agent_stays_ill_is_named_and_stops_nobody(carried):
    sim = carried
    sim.change(ONE, restarts=8, ready=False, ready_since=None, unready_since=sim.now)
    sim.run(130)
    assert f"selected agents on 1 nodes are well again ({ONE})" in message(sim)
    sim.run(2_000, until=ended(sim, "b"))
    assert phase_of(sim, "b") == ("Completed", "Completed")
    # Its agent was ill when it was tried again, so it said nothing of the content then either.
    assert "without proof on workers-2" in sim.record.outcomes[0].message
