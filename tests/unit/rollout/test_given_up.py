"""What is wrong with the channel when a release starts does not end it: it starts later."""

from dataclasses import replace

import pytest

from support.builders import KEY, make_channel
from wavegate.api import Phase, Pool
from wavegate.rollout import queue, report
from wavegate.rollout.decide import decide
from wavegate.rollout.observation import AgentSource
from wavegate.rollout.prepare import given_up
from wavegate.rollout.record import MAX_HISTORY
from wavegate.rollout.steps import Step, Target


@pytest.fixture
def started(sim):
    """Release b has started, and nothing of it is made yet."""
    sim.publish("b", 2)
    sim.step_until(lambda: sim.record.rollout is not None)
    return sim


def empty_pool(sim):
    """A channel with one pool more, that selects no node."""
    before = sim.channel
    none = Pool.model_validate({"name": "none", "selector": {"matchLabels": {"pool": "none"}}})
    spec = before.spec.model_copy(update={"pools": (*before.spec.pools, none)})
    sim.channel = before.model_copy(update={"spec": spec})
    return before


@pytest.mark.parametrize("passes", [0, 1, 2], ids=["at once", "aside", "later"])
def test_a_pool_that_is_empty_at_the_start_ends_no_release(started, passes):
    sim = started
    for _ in range(passes):
        sim.work()
    before = empty_pool(sim)
    sim.run(30)
    assert sim.record.outcomes[0].release == "a"
    assert sim.record.rollout is None
    assert len(sim.sets) == 1
    [stable] = sim.observe().revisions.values()
    assert stable.targets(KEY, Target.ALL)
    sim.channel = before
    sim.run(600, until=lambda: sim.record.stable.release == "b" and sim.record.rollout is None)
    assert set(sim.running().values()) == {"b"}


def test_the_status_says_what_is_wrong_with_the_channel_meanwhile(started):
    sim = started
    empty_pool(sim)
    sim.run(30)
    status = report.release_status(sim.observe(), sim.releases["b"], Step(), sim.now)
    assert (status["phase"], status["reason"]) == ("Pending", "PoolMatchesNoNode")
    assert "pool 'none' selects no node" in status["message"]


@pytest.mark.parametrize(
    "changes",
    [
        {"agent": AgentSource(missing="agent")},
        {"revisions": {}},
        {"soak_floor": 1_000.0},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_whatever_is_wrong_with_the_channel_is_no_outcome(started, changes):
    obs = replace(started.observe(), **changes)
    step = decide(obs, started.now)
    assert step.record.rollout is None
    assert step.record.outcomes == obs.record.outcomes
    start = step.record.given_up[0]
    assert start.reason == queue.channel_problem(obs).reason
    assert start.at == started.now
    assert given_up(obs.record, step.record)[0] == start.reason


def test_a_newer_release_comes_before_one_whose_start_was_given_up(started):
    sim = started
    before = empty_pool(sim)
    sim.run(10)
    sim.publish("c", 3)
    sim.channel = before
    sim.run(600, until=lambda: sim.record.stable.release == "c" and sim.record.rollout is None)
    assert sim.record.outcome_of(sim.releases["b"].uid) is None


def test_a_daemon_set_that_was_made_in_the_same_moment_is_tidied_away(started):
    """By a process that believed to lead: the attempt is known, so no state counts as lost."""
    sim = started
    twin = replace(sim.record)
    sim.step_until(lambda: len(sim.sets) == 2)
    made = dict(sim.sets)
    sim.sets.pop(twin.rollout.attempt)
    sim.record = twin
    before = empty_pool(sim)
    sim.step_until(lambda: sim.record.rollout is None)
    sim.sets = made
    sim.run(30)
    assert len(sim.sets) == 1
    assert sim.record.lost is None
    sim.channel = before
    sim.run(600, until=lambda: sim.record.stable.release == "b" and sim.record.rollout is None)


def test_only_the_last_ones_are_remembered(started):
    sim = started
    for _ in range(MAX_HISTORY + 2):
        before = empty_pool(sim)
        sim.step_until(lambda: sim.record.rollout is None)
        sim.channel = before
        sim.step_until(lambda: sim.record.rollout is not None)
    assert len(sim.record.given_up) == MAX_HISTORY
    assert sim.record.knows(sim.record.given_up[0].attempt)


def test_an_agents_change_that_can_not_be_made_just_now_is_not_kept_as_failed(sim):
    template = {"spec": {**sim.channel.spec.agent.template["spec"], "hostNetwork": True}}
    sim.channel = make_channel(agent={"template": template})
    sim.step_until(lambda: sim.record.rollout is not None)
    assert sim.record.rollout.candidate.is_agent
    before = empty_pool(sim)
    sim.run(30)
    assert sim.record.rollout is None
    assert sim.record.failed_agents == ()
    sim.channel = before
    sim.run(600, until=lambda: sim.record.rollout is None and sim.record.outcomes[0].agent)
    assert sim.record.outcomes[0].phase is Phase.Completed


def test_a_start_that_goes_on_is_told_of_as_ever(started):
    obs = started.observe()
    step = decide(obs, started.now)
    assert given_up(obs.record, step.record or obs.record) is None
