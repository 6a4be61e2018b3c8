"""The table of states: what it forbids, and that each of its rows is reached by some story."""

import copy
from dataclasses import replace

import pytest

from support.builders import digest, make_channel, make_decision
from support.invariants import ended, with_stable
from wavegate.api import MAX_LAYERS, Phase, Reason, WaveState
from wavegate.rollout import blocks, report, transitions
from wavegate.rollout.decide import decide
from wavegate.rollout.record import MAX_BLOCKED_LAYERS, Blocked
from wavegate.rollout.steps import Target

CHECK = {"name": "crashes", "query": "x", "max": 0, "interval": "1s"}
CHECKED = {
    "checks": [CHECK],
    "prometheus": {"url": "http://prometheus"},
    "rollout": {"holdTimeout": "1m"},
}


# Rows that no story reaches, and why.
UNREACHED = {
    (Phase.Reverting, Phase.Completed): "the candidate of a revert is fenced before it ends, so it "
    "is adopted only after somebody pointed it at all nodes by hand",
}


class Reached:
    """Collects the rows of a world's stories; those of the status too."""

    def __init__(self):
        self.rows = set()
        self.phases = {}

    def watch(self, sim):
        sim.watchers.append(self)
        self.phases = {}
        return sim

    def __call__(self, sim, obs, step):
        self.rows |= sim.crossed
        if step.record is not None:
            return
        for release in sim.releases.values():
            status = report.release_status(sim.observe(), release, step, sim.now)
            self.note(release.uid, Phase(status["phase"]), Reason(status["reason"]))

    def note(self, uid, phase, reason):
        if uid not in self.phases:  # whatever its first status says, it was pending before
            self.rows |= {row for row in transitions.RELEASE_ROWS if row.source is None}
        was, why = self.phases.get(uid, (Phase.Pending, None))
        self.phases[uid] = (phase, reason)
        for row in transitions.RELEASE_ROWS:
            words = (reason, why)
            if not row.stored and (row.source, row.to) == (was, phase):
                self.rows |= {row} if set(words) & set(row.reasons) else set()


def a_good_release(sim):
    sim.publish("b", 2)
    sim.run(400, until=ended(sim, "b"))


def a_crash_loop_and_its_digest_again(sim):
    sim.harms[digest("b")] = "loop"
    a_good_release(sim)
    sim.publish("again", 3, content="b")
    sim.run(5)


def until_state(sim, state, wave=0):
    sim.step_until(
        lambda: (
            sim.record.rollout
            and len(sim.record.rollout.waves) > wave
            and sim.record.rollout.waves[wave].state is state
        )
    )


def harm_in_each_state(sim):
    for number, state in enumerate((WaveState.Moving, WaveState.Soaking, WaveState.Judging)):
        name = f"r{number}"
        sim.publish(name, 10 + number)
        sim.run(60, until=lambda: any(p.ready and sim.record.rollout for p in candidate_pods(sim)))
        until_state(sim, state)
        reboot_the_canary(sim)
        sim.run(100, until=ended(sim, name))
        sim.run(30)
    sim.publish("passed", 20)
    until_state(sim, WaveState.Passed, wave=1)
    reboot_two(sim)
    sim.run(100, until=ended(sim, "passed"))
    sim.run(30)
    sim.publish("pending", 21)
    until_state(sim, WaveState.Soaking, wave=1)
    sim.add_nodes("workers", 1)
    until_state(sim, WaveState.Pending, wave=2)
    reboot_two(sim)
    sim.run(100, until=ended(sim, "pending"))


def reboot_two(sim):
    reboot_the_canary(sim)
    sim.nodes["workers-2"].boot += 1


def candidate_pods(sim):
    rollout = sim.record.rollout
    return [p for p in sim.pods if rollout and p.attempt == rollout.attempt]


def reboot_the_canary(sim):
    sim.nodes["canary-0"].boot += 1


def held_in_each_state(sim):
    sim.publish("b", 2)
    for state in (WaveState.Moving, WaveState.Soaking, WaveState.Judging):
        until_state(sim, state)
        if state is WaveState.Moving:
            sim.run(300, until=lambda: sim.running().get("canary-0") == "b")
        sim.check_error = "could not be asked"
        sim.run(5)
        sim.check_error = ""
        sim.run(1)
    sim.check_error = "could not be asked"
    sim.run(10)
    reboot_the_canary(sim)
    sim.run(100, until=ended(sim, "b"))


def paused_and_resumed(sim):
    sim.publish("b", 2)
    until_state(sim, WaveState.Soaking)
    sim.check_error = "could not be asked"
    sim.run(80)
    sim.check_error = ""
    sim.publish("b", 2, suspend=True)
    sim.run(5)
    sim.publish("b", 2)
    sim.run(400, until=ended(sim, "b"))


def paused_then(act):
    def story(sim):
        sim.publish("b", 2)
        until_state(sim, WaveState.Soaking)
        sim.check_error = "could not be asked"
        sim.run(80)
        act(sim)
        sim.run(200, until=ended(sim, "b"))

    story.__name__ = f"paused_then_{act.__name__}"
    return story


def fence(sim):
    sim.retarget(sim.record.rollout.attempt, Target.NOTHING)


def block_it(sim):
    sim.decisions.append(make_decision("heard", "b", "Block"))


def delete_release(sim):
    del sim.releases["b"]


def agent_changed_back(sim):
    """Another image of the agent rolls out, and people set the old one again."""
    before = another_agent(sim)
    until_state(sim, WaveState.Soaking)
    sim.channel = before
    sim.run(200, until=lambda: sim.record.rollout is None)


def agent_changed_back_in_a_pause(sim):
    before = another_agent(sim)
    until_state(sim, WaveState.Soaking)
    sim.check_error = "could not be asked"
    sim.run(80)
    sim.channel = before
    sim.run(200, until=lambda: sim.record.rollout is None)


def another_agent(sim):
    """Returns the channel as it was."""
    before = sim.channel
    template = copy.deepcopy(dict(before.spec.agent.template))
    template["spec"]["containers"][0]["image"] = f"registry.example/agent@{digest('agent 2')}"
    agent = before.spec.agent.model_copy(update={"template": template})
    spec = before.spec.model_copy(update={"agent": agent})
    sim.channel = before.model_copy(update={"spec": spec})
    return before


def rolling_then(act):
    def story(sim):
        sim.publish("b", 2)
        until_state(sim, WaveState.Soaking)
        act(sim)
        sim.run(200, until=ended(sim, "b"))

    story.__name__ = f"rolling_then_{act.__name__}"
    return story


def a_template_that_is_refused(sim):
    sim.refuses = "no"
    a_good_release(sim)


def a_pool_that_is_empty_at_the_start(sim):
    sim.publish("b", 2)
    sim.step_until(lambda: sim.record.rollout is not None)
    sim.nodes["canary-0"].labels["pool"] = "none"
    sim.step_until(lambda: sim.record.rollout is None)
    sim.nodes["canary-0"].labels["pool"] = "canary"
    sim.run(400, until=ended(sim, "b"))


def a_node_that_stays_down(sim):
    sim.harms[digest("b")] = "kill"
    sim.publish("b", 2)
    sim.run(600, until=ended(sim, "b"))


def an_eviction_in_the_soak(sim):
    sim.publish("b", 2)
    until_state(sim, WaveState.Soaking)
    sim.delete_pod("canary-0")
    sim.run(400, until=ended(sim, "b"))


def a_clock_that_goes_back(sim):
    sim.publish("b", 2)
    until_state(sim, WaveState.Judging)
    ahead = sim.record.rollout.with_wave(judged_since=sim.now + 1000)
    sim.record = replace(sim.record, rollout=ahead)
    sim.run(400, until=ended(sim, "b"))


def a_node_that_is_lost_before_its_move(sim):
    sim.publish("b", 2)
    sim.step_until(lambda: sim.record.rollout and (sim.record.rollout.attempt, 0) in sim.ledgers)
    sim.revive("canary-0")
    sim.run(400, until=ended(sim, "b"))


def a_wave_that_has_enough_already(sim):
    waves = [
        {"name": "one", "upTo": "50%"},
        {"name": "two", "upTo": "50%"},
        {"name": "all", "upTo": "100%"},
    ]
    sim.channel = make_channel(waves=waves)
    a_good_release(sim)


def pauses_from_outside(sim):
    sim.publish("b", 2)
    until_state(sim, WaveState.Soaking)
    sim.decisions.append(make_decision("wait", "b", "Pause"))
    sim.run(5)
    sim.decisions.clear()
    sim.run(400, until=ended(sim, "b"))


def one_that_is_superseded(sim):
    sim.publish("c", 3)
    sim.publish("b", 2, suspend=True)
    sim.run(5)
    sim.publish("b", 2)
    sim.run(400, until=ended(sim, "c"))


def one_that_is_replaced(sim):
    sim.publish("b", 2)
    until_state(sim, WaveState.Soaking)
    sim.publish("c", 3)
    sim.run(400, until=ended(sim, "c"))


def stable_that_fails_too(sim):
    sim.publish("b", 2)
    sim.run(400, until=ended(sim, "b"))
    sim.run(20)
    sim.publish("c", 3)
    sim.run(400, until=lambda: list(sim.running().values()).count("c") >= 4)
    moved = [name for name, content in sim.running().items() if content == "c"]
    for name in moved[:2]:
        sim.die(name)
    sim.run(100, until=lambda: sim.record.rollout.incident)
    sim.run(30, until=lambda: all(sim.running().get(n) == "b" for n in moved[2:]))
    for name in moved[2:]:
        sim.pod_on(name).restarts += 1
    sim.run(20, until=ended(sim, "c"))
    for name in moved[:2]:
        sim.revive(name)
    sim.decisions.append(make_decision("further", "b", "Revert"))
    sim.run(100, until=lambda: sim.record.stable.release == "a" and sim.record.rollout is None)


def pause_on_failure(sim):
    sim.channel = make_channel(rollout={"onFailure": "Pause"})
    sim.harms[digest("b")] = "loop"
    sim.publish("b", 2)
    sim.run(100, until=lambda: sim.record.rollout and sim.record.rollout.paused)


def a_lost_record(sim):
    a_good_release(sim)
    sim.run(20)
    sim.restore()
    sim.run(5)


def older_records(phase, paused=None, other=False):
    def story(sim):
        sim.publish("b", 2)
        until_state(sim, WaveState.Soaking)
        since = sim.now
        rollout = replace(sim.record.rollout, phase=phase, paused=paused, reverting_since=since)
        old = replace(sim.record, rollout=rollout)
        if other:
            del sim.releases["b"]
            sim.run(60, until=ended(sim, "b"))
        last = "c" if other else "b"
        if other:
            sim.publish("c", 3)
        sim.run(400, until=ended(sim, last))
        sim.run(20)
        sim.restore(old)
        sim.run(10)

    story.__name__ = f"older_record_{phase}_{paused}_{other}"
    return story


def awaits_approval(sim):
    waves = [{"name": "canary", "upTo": 2}, {"name": "all", "upTo": "100%", "approval": "Required"}]
    sim.channel = make_channel(waves=waves)
    sim.publish("b", 2)
    until_state(sim, WaveState.AwaitingApproval, wave=1)


def an_approved_wave(sim):
    awaits_approval(sim)
    approval = {"made": sim.now, "decidedBy": "alice", "wave": "all"}
    sim.decisions.append(make_decision("fine", "b", "Approve", **approval))
    sim.run(400, until=ended(sim, "b"))


def harm_while_a_wave_waits(sim):
    awaits_approval(sim)
    for name in [n for n, release in sim.running().items() if release == "b"]:
        sim.nodes[name].boot += 1
    sim.run(100, until=ended(sim, "b"))


def drained(state):
    def story(sim):
        sim.publish("b", 2)
        sim.step_until(lambda: sim.running().get("canary-0") == "b")
        sim.add_nodes("canary", 1)
        if state is WaveState.Held:
            sim.harms[digest("b")] = "unpullable"
            sim.delete_pod("canary-0")
        until_state(sim, state)
        sim.nodes["canary-0"].unschedulable = True
        sim.tick()
        sim.remove_node("canary-0")
        sim.harms.clear()
        sim.run(400, until=ended(sim, "b"))

    story.__name__ = f"drained_while_{state}"
    return story


def a_bake_that_fails(sim):
    a_good_release(sim)
    sim.run(20)
    sim.revive("workers-2")
    sim.revive("workers-4")
    sim.run(100, until=lambda: sim.record.stable.release == "a" and sim.record.rollout is None)


def a_bake_that_fails_under_a_newer_release(sim):
    a_good_release(sim)
    sim.run(20)
    sim.publish("c", 3)
    sim.run(200, until=lambda: sim.running().get("canary-0") == "c")
    sim.revive("workers-2")
    sim.revive("workers-4")
    sim.run(5)


STORIES = [
    a_good_release,
    a_bake_that_fails,
    a_bake_that_fails_under_a_newer_release,
    a_crash_loop_and_its_digest_again,
    harm_in_each_state,
    rolling_then(fence),
    rolling_then(delete_release),
    agent_changed_back,
    a_template_that_is_refused,
    a_pool_that_is_empty_at_the_start,
    a_node_that_stays_down,
    an_eviction_in_the_soak,
    a_clock_that_goes_back,
    a_node_that_is_lost_before_its_move,
    a_wave_that_has_enough_already,
    pauses_from_outside,
    one_that_is_superseded,
    one_that_is_replaced,
    pause_on_failure,
    stable_that_fails_too,
    a_lost_record,
    an_approved_wave,
    harm_while_a_wave_waits,
    *(drained(state) for state in (WaveState.Moving, WaveState.Soaking, WaveState.Judging)),
    drained(WaveState.Held),
    older_records(Phase.Rolling),
    older_records(Phase.Rolling, Reason.HoldTimeout),
    older_records(Phase.Rolling, other=True),
    older_records(Phase.Rolling, Reason.HoldTimeout, other=True),
    older_records(Phase.Reverting, other=True),
]
CHECKED_STORIES = [
    agent_changed_back_in_a_pause,
    held_in_each_state,
    paused_and_resumed,
    paused_then(fence),
    paused_then(delete_release),
    paused_then(block_it),
    rolling_then(block_it),
    paused_then(reboot_the_canary),
]


def test_each_row_is_reached_by_a_story_or_its_reason_is_given(make_sim):
    reached = Reached()
    for story in STORIES + CHECKED_STORIES:
        sim = reached.watch(with_stable(make_sim(**(CHECKED if story in CHECKED_STORIES else {}))))
        story(sim)
        reached.rows |= sim.crossed
    rows = {*transitions.RELEASE_ROWS, *transitions.WAVE_ROWS}
    missing = {(r.source, r.to, r.when) for r in rows - reached.rows}
    excused = {found for found in missing if found[:2] in UNREACHED}
    assert missing - excused == set()
    assert {found[:2] for found in excused} == set(UNREACHED), "an excuse is not needed any more"


@pytest.fixture
def soaking(sim):
    """The second wave of release b soaks."""
    sim.publish("b", 2)
    until_state(sim, WaveState.Soaking, wave=1)
    return sim.record


def rollout_with(record, **changes):
    return replace(record, rollout=replace(record.rollout, **changes))


def wave_with(record, **changes):
    return replace(record, rollout=record.rollout.with_wave(**changes))


FORBIDDEN = [
    pytest.param(lambda r: wave_with(r, state=WaveState.Passed), "no row", id="pass without judge"),
    pytest.param(lambda r: wave_with(r, moved=0), "forgets nodes", id="forget what was moved"),
    pytest.param(lambda r: wave_with(r, labelled=99), "never set", id="claim labels"),
    pytest.param(lambda r: wave_with(r, name="x"), "becomes x", id="rename a wave"),
    pytest.param(lambda r: wave_with(r, ledger=9), "another ledger", id="exchange a ledger"),
    pytest.param(
        lambda r: replace(r, rollout=r.rollout.with_next_wave()), "did not pass", id="next wave"
    ),
    pytest.param(lambda r: rollout_with(r, waves=()), "waves go from", id="lose waves"),
    pytest.param(
        lambda r: rollout_with(
            r, waves=(replace(r.rollout.waves[0], nodes=9), *r.rollout.waves[1:])
        ),
        "that is over",
        id="change an old wave",
    ),
    pytest.param(lambda r: rollout_with(r, promoting=True), "last wave passed", id="promote"),
    pytest.param(lambda r: rollout_with(r, started_at=0.0), "the attempt changes", id="its start"),
    pytest.param(
        lambda r: rollout_with(r, plan=replace(r.rollout.plan, settle=0.0)),
        "frozen plan",
        id="loosen the plan",
    ),
    pytest.param(lambda r: rollout_with(r, phase=Phase.Pending), "again", id="prepare again"),
    pytest.param(
        lambda r: rollout_with(r, phase=Phase.Reverting), "no row", id="revert unreasoned"
    ),
    pytest.param(lambda r: rollout_with(r, paused=Reason.Completed), "no row", id="pause oddly"),
    pytest.param(lambda r: replace(r, attempts=9), "attempts go", id="count attempts"),
    pytest.param(lambda r: replace(r, floor=-2), "floor", id="lower the floor"),
    pytest.param(lambda r: replace(r, stable=None), "stable changes", id="lose stable"),
    pytest.param(lambda r: replace(r, outcomes=()), "outcomes are lost", id="lose outcomes"),
    pytest.param(lambda r: replace(r, blocked=()), "blocked digest", id="lose a block"),
    pytest.param(
        lambda r: replace(r, blocked=(replace(r.blocked[0], layers=()),)),
        "layers of blocked sha256:x are lost",
        id="lose the layers of a block",
    ),
    pytest.param(
        lambda r: replace(r, blocked=(replace(r.blocked[0], layers=("one",)),)),
        "layers of blocked sha256:x are lost",
        id="lose a layer of a block",
    ),
    pytest.param(
        lambda r: r.ended(Phase.Completed, Reason.Superseded, "", 0.0), "no row", id="end oddly"
    ),
]


@pytest.mark.parametrize(("change", "why"), FORBIDDEN)
def test_what_has_no_row_is_forbidden_and_named(soaking, change, why):
    block = Blocked("sha256:x", "x", Reason.AgentRestarted, 0.0, layers=("one", "two"))
    before = replace(soaking, blocked=(block,))
    assert transitions.check(before, before) == ""
    assert why in transitions.check(before, change(before))


def test_layers_that_a_full_list_has_no_room_for_may_be_lost(soaking):
    def entry(number):
        names = tuple(f"{number}.{layer}" for layer in range(MAX_LAYERS))
        return Blocked(f"sha256:{number}", "x", Reason.AgentRestarted, 0.0, layers=names)

    record = soaking
    for number in range(MAX_BLOCKED_LAYERS // MAX_LAYERS + 3):
        after = blocks.add(record, entry(number))
        assert transitions.check(record, after) == ""
        record = after
    assert record.blocked[-1].layers == ()


def test_a_revert_only_ends(soaking):
    before = rollout_with(soaking, phase=Phase.Reverting, reverting_since=1.0)
    assert "happens to a revert" in transitions.check(
        before, rollout_with(before, paused=None, promoting=True)
    )
    assert transitions.check(before, before.ended(Phase.Reverted, Reason.Reverted, "", 0.0)) == ""


def test_nothing_goes_forward_during_a_pause(soaking):
    before = rollout_with(soaking, paused=Reason.HoldTimeout)
    assert "during a pause" in transitions.check(before, wave_with(before, moved=99))


def test_a_world_whose_record_breaks_the_table_fails(sim):
    sim.publish("b", 2)
    until_state(sim, WaveState.Soaking)
    step = decide(sim.observe(), sim.now)
    broken = replace(step, record=replace(sim.record, stable=None))
    with pytest.raises(AssertionError, match="stable changes"):
        sim.apply(sim.observe(), broken)


def test_no_two_rows_of_one_change_share_a_reason():
    for rows in (transitions.RELEASE_ROWS, transitions.WAVE_ROWS):
        seen = [(row.source, row.to, reason) for row in rows for reason in row.reasons]
        assert len(seen) == len(set(seen))
        assert len(rows) == len(set(rows))


def test_no_row_leads_out_of_an_end_but_what_takes_stable_back():
    out = [row for row in transitions.RELEASE_ROWS if row.source and row.source.is_final]
    assert [(row.source, row.to) for row in out] == [(Phase.Completed, Phase.Reverting)] * 2
    ends = {WaveState.Failed}
    assert all(row.source not in ends for row in transitions.WAVE_ROWS)
