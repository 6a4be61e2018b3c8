"""Nodes that another channel has in an active wave are waited for; nothing waits for ever."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.builders import make_channel
from support.invariants import with_stable
from wavegate.api import Phase, Reason, WaveState
from wavegate.rollout import busy, exposure, report, waves
from wavegate.rollout.attempt import Stall, Suspect
from wavegate.rollout.busy import FREE_AFTER_SECONDS, Claim, claim, taken
from wavegate.rollout.decide import decide
from wavegate.rollout.steps import MoveNodes, StoreLedger

OTHERS = (make_channel(),)


@pytest.fixture
def sim(make_sim):
    """Release a is stable; b moves the workers, one of which has it."""
    sim = with_stable(make_sim(waves=[{"name": "all", "upTo": "100%"}]))
    sim.publish("b", 2)
    sim.step_until(lambda: sim.record.rollout and len(sim.observe().moved(attempt(sim))) == 1)
    return sim


def attempt(sim):
    return sim.record.rollout.attempt


def claims(sim, version=7, **changes):
    record, obs = sim.record, sim.observe()
    if changes:
        record = replace(record, rollout=replace(record.rollout, **changes))
    return claim(record, {n: (led, version) for n, led in obs.ledgers.items()}, sim.now)


def with_wave(sim, **changes):
    sim.record = replace(sim.record, rollout=sim.record.rollout.with_wave(**changes))


def unmoved(sim):
    return exposure.measure(sim.observe(), sim.record.rollout, sim.now).unmoved


def step_with(sim, keep, **more):
    obs = replace(sim.observe(), busy=dict.fromkeys(keep, "agents/models"), others=OTHERS, **more)
    return obs, decide(obs, sim.now)


def test_a_stored_ledger_claims_its_nodes_until_its_wave_has_passed(sim):
    found = claims(sim)
    assert set(found.nodes) == set(sim.nodes)
    assert sum(found.nodes.values()) == sim.record.rollout.waves[-1].moved
    with_wave(sim, state=WaveState.Passed)
    assert claims(sim) is None


def test_what_goes_back_or_was_excused_is_claimed_no_more(sim):
    ledger = sim.record.rollout.ledgers - 1
    one, two, *_ = sim.nodes
    back = Suspect(one, Reason.NodeNotReady, sim.now, blocks=False, ledger=ledger)
    found = claims(sim, suspects=(back,), excused={two: "drained"})
    assert {one, two} == set(sim.nodes) - set(found.nodes)


def test_a_revert_claims_all_that_may_have_been_moved_for_half_an_hour_at_most(sim):
    running = {"phase": Phase.Reverting, "reverting_since": sim.now}
    found = claims(sim, **running)
    assert set(found.nodes) == set(sim.nodes)
    assert all(found.nodes.values())
    late = running | {"reverting_since": sim.now - FREE_AFTER_SECONDS}
    assert claims(sim, **late) is None


def test_who_has_moved_a_node_keeps_it_and_else_the_first_ledger_has_it():
    older, younger = Claim("x", 1, {"n": False}), Claim("y", 2, {"n": False})
    assert taken([older], younger) == {"n": "x"}
    assert taken([younger], older) == {}
    assert taken([replace(younger, nodes={"n": True})], older) == {"n": "y"}
    assert taken([older], None) == {"n": "x"}


names = st.sampled_from("abcd")
of_nodes = st.dictionaries(names, st.booleans(), min_size=1)


@given(st.lists(of_nodes, min_size=2, max_size=4))
def test_each_node_is_kept_from_all_but_one_and_unmoved_ones_never_in_a_circle(all_nodes):
    found = [Claim(str(version), version, nodes) for version, nodes in enumerate(all_nodes)]
    kept = {c.channel: taken([o for o in found if o is not c], c) for c in found}
    for name in "abcd":
        wanting = [c for c in found if name in c.nodes]
        free = [c for c in wanting if name not in kept[c.channel]]
        assert len(free) == bool(wanting)
    fresh = [replace(c, nodes=dict.fromkeys(c.nodes, False)) for c in found]
    for one in fresh:  # whoever waits, waits for an older ledger
        theirs = taken([o for o in fresh if o is not one], one)
        assert all(int(theirs[name]) < one.version for name in theirs.keys() & one.nodes.keys())


def test_busy_nodes_come_last_in_a_wave_and_in_its_ledger(make_sim):
    sim = with_stable(make_sim())
    sim.publish("b", 2)
    sim.step_until(lambda: sim.record.rollout and sim.record.rollout.wave == 1)
    sim.step_until(lambda: any(isinstance(a, StoreLedger) for a in step_with(sim, [])[1].actions))
    obs, _ = step_with(sim, [])
    rollout = sim.record.rollout
    before, _ = waves.choose(obs, rollout, rollout.planned)
    first = before[0].name
    obs, step = step_with(sim, [first])
    after, _ = waves.choose(obs, rollout, rollout.planned)
    assert [n.name for n in after] == [n.name for n in before[1:]] + [first]
    assert isinstance(step.actions[0], StoreLedger)
    assert step.actions[0].ledger.nodes[-1].name == first


def test_a_wave_of_which_all_nodes_are_busy_stores_no_ledger_and_says_why(make_sim):
    sim = with_stable(make_sim())
    sim.publish("b", 2)
    sim.step_until(lambda: sim.record.rollout and sim.record.rollout.waves)
    obs, step = step_with(sim, sim.nodes)
    assert (step.record, step.actions) == (None, ())
    status = report.release_status(obs, sim.releases["b"], step, sim.now)
    assert (status["reason"], status["waitingFor"]) == ("NodeBusy", "Node")
    assert "channel agents/models" in status["message"]


def test_a_wave_moves_up_to_the_first_busy_node_and_waits_without_being_held(sim):
    sim.run(60, until=lambda: len(sim.observe().moved(attempt(sim))) > 1)
    left = [node.name for node in unmoved(sim)]
    assert left
    sim.run(30)
    for name in left[:1]:
        obs, step = step_with(sim, [name])
        moves = [a for a in step.actions if isinstance(a, MoveNodes)]
        assert all(name not in dict(move.nodes) for move in moves)
    obs = replace(obs, busy=dict.fromkeys(sim.nodes, "agents/models"))
    for later in (0.0, 10 * FREE_AFTER_SECONDS):
        assert not exposure.measure(obs, obs.record.rollout, sim.now + later).unmoved
    assert obs.record.rollout.waves[-1].held_since is None


@pytest.mark.parametrize("others", [(), OTHERS])
def test_a_wave_that_is_paused_for_half_an_hour_frees_its_nodes_if_somebody_else_is_there(
    sim, others
):
    rollout, obs = sim.record.rollout, replace(sim.observe(), others=others)
    since = replace(obs, paused_since=sim.now)
    soon, later = sim.now + FREE_AFTER_SECONDS - 1, sim.now + FREE_AFTER_SECONDS
    assert busy.freed(since, rollout, Reason.Suspended, soon) is rollout
    assert busy.freed(since, rollout, None, later) is rollout
    freed = busy.freed(since, rollout, Reason.Suspended, later)
    assert freed.waves[-1].freed_at == (later if others else None)
    held = rollout.with_wave(held_since=sim.now)
    assert busy.freed(obs, held, None, later).waves[-1].freed_at == (later if others else None)


def test_a_wave_that_was_free_moves_nothing_until_it_has_all_its_nodes_again(sim):
    with_wave(sim, freed_at=sim.now)
    assert claims(sim) is None
    assert not exposure.measure(sim.observe(), sim.record.rollout, sim.now).unmoved
    moved = next(iter(sim.observe().moved(attempt(sim)))).name
    _, step = step_with(sim, [moved])
    assert (step.record, step.actions) == (None, ())
    assert step.findings[0].reason is Reason.NodeBusy
    _, step = step_with(sim, [])
    assert step.record.rollout.waves[-1].freed_at is None


def test_what_a_record_is_about_to_claim_is_known_before_it_is_stored(sim):
    obs, rollout = sim.observe(), sim.record.rollout
    entries = obs.ledgers[rollout.waves[-1].ledger].nodes
    more = rollout.with_wave(moved=rollout.waves[-1].moved + 1)
    assert busy.claimed_by(obs, more) == {entries[rollout.waves[-1].moved].name}
    assert busy.claimed_by(obs, rollout.with_wave(labelled=1)) == set()
    freed = rollout.with_wave(freed_at=sim.now)
    assert busy.claimed_by(obs, freed) == set()
    with_wave(sim, freed_at=sim.now)
    assert busy.claimed_by(sim.observe(), rollout) == {entry.name for entry in entries}


def test_what_a_wave_moved_that_is_done_again_on_others_stays_claimed(sim):
    entries = sim.observe().ledgers[sim.record.rollout.waves[-1].ledger].nodes
    rollout = sim.record.rollout.with_wave(state=WaveState.Excused, moved=2).with_next_wave()
    sim.record = replace(sim.record, rollout=rollout)
    first, second, *_ = (entry.name for entry in entries)
    assert claims(sim).nodes == {first: True, second: True}
    assert claims(sim, excused={first: "drained"}).nodes == {second: True}
    with_wave(sim, freed_at=sim.now)
    assert claims(sim) is None


def test_a_wave_that_was_free_chooses_before_it_claims_all_that_it_has_and_needs(sim):
    had = sim.observe().ledgers[sim.record.rollout.waves[-1].ledger].nodes[0].name
    rollout = sim.record.rollout.with_wave(state=WaveState.Excused, moved=1).with_next_wave()
    sim.record = replace(sim.record, rollout=rollout.with_wave(freed_at=sim.now))
    _, step = step_with(sim, sim.nodes)  # there is none to choose yet
    assert (step.record, step.findings[0].reason) == (None, Reason.NodeBusy)
    sim.step_until(lambda: sim.record.rollout.waves[-1].ledger in sim.observe().ledgers)
    assert claims(sim) is None
    obs, step = step_with(sim, [had])
    assert (step.record, step.findings[0].reason) == (None, Reason.NodeBusy)
    _, step = step_with(sim, [])
    assert step.record.rollout.waves[-1].freed_at is None
    new = {entry.name for entry in obs.ledgers[rollout.waves[-1].ledger].nodes}
    assert busy.claimed_by(obs, step.record.rollout) == {had, *new}


def test_who_waits_for_half_an_hour_lets_the_other_go_first_so_that_a_circle_ends(sim):
    obs = replace(sim.observe(), others=OTHERS, busy_since=sim.now)
    rollout, later = sim.record.rollout, sim.now + FREE_AFTER_SECONDS
    assert busy.freed(obs, rollout, None, later - 1) is rollout
    freed = busy.freed(obs, rollout, None, later)
    assert freed.waves[-1].freed_at == later
    assert busy.freed(obs, freed, None, later + FREE_AFTER_SECONDS) is freed
    nothing = replace(obs, ledgers={})
    assert busy.freed(nothing, rollout, None, later) is rollout


def test_a_node_that_is_tried_again_is_claimed_though_the_wave_is_free(sim):
    ledger, node = sim.record.rollout.ledgers - 1, next(iter(sim.nodes))
    stall = Stall(node, Reason.CannotFetch, "no image", sim.now, sim.now, 1, ledger)
    with_wave(sim, freed_at=sim.now)
    assert claims(sim, stalls=(stall,)) is None
    tried = replace(stall, retrying=True)
    assert claims(sim, stalls=(tried,)).nodes == {node: True}
    obs = sim.observe()
    assert busy.claimed_by(obs, replace(sim.record.rollout, stalls=(tried,))) == {node}
