"""Defaults of the apiserver, in a parked DaemonSet, start no rollout; edits of people do."""

import copy
from dataclasses import replace

import pytest

from support.builders import agent_template, digest, make_channel
from wavegate.api import Reason
from wavegate.rollout import agent_same
from wavegate.rollout import agent_template as agents
from wavegate.rollout.decide import LOOK_AT_PARKED, decide
from wavegate.rollout.observation import AgentSource
from wavegate.rollout.record import Blocked
from wavegate.rollout.templates import bind, revision_template

FIRST, SECOND = "uid/1", "uid/2"


def with_default(template):
    """As an apiserver shows it that has one default more."""
    shown = copy.deepcopy(dict(template))
    shown["spec"]["newDefault"] = "Always"
    return shown


def with_image(agent):
    found = agent_template()
    found["spec"]["containers"][0]["image"] = f"registry.example/agent@{digest(agent)}"
    return found


@pytest.fixture
def parked(sim):
    """Release a is stable, its agent a parked DaemonSet; returns what is seen of a state of it."""
    sim.publish("a", 1)
    sim.step_until(lambda: sim.record.stable and sim.record.rollout is None)

    def seen(source, template, record=None, **changes):
        agent = AgentSource(template=template, source=source)
        obs = replace(sim.observe(), agent=agent, **changes)
        return replace(obs, record=record) if record is not None else obs

    return seen


def settled(obs):
    """The record once nothing of it changes any more, or a rollout has started."""
    for _ in range(5):
        step = decide(obs, 1_000_000.0)
        if step.record is None:
            return obs.record
        obs = replace(obs, record=step.record)
    return obs.record


def made_by_others(obs):
    """Stable's DaemonSet holds more than we sent: a webhook adds to each one."""
    view = obs.revision(obs.record.stable)
    template = {**view.template, "metadata": {**view.template["metadata"], "annotations": {}}}
    return {**obs.revisions, view.attempt: replace(view, template=template)}


def test_a_default_that_the_apiserver_adds_starts_nothing_and_an_edit_after_it_does(parked):
    obs = parked(FIRST, agent_template())
    revisions, record = made_by_others(obs), settled(obs)
    newer = parked(FIRST, with_default(agent_template()), record, revisions=revisions)
    assert agents.differs(newer)
    record = settled(newer)
    assert record.rollout is None
    assert record.stable.agent == agents.current(newer)
    edited = parked(SECOND, with_default(with_image("agent 2")), record, revisions=revisions)
    assert settled(edited).rollout.candidate.is_agent


def test_an_edit_of_the_binding_alone_is_no_default(parked):
    record = settled(parked(FIRST, agent_template()))
    binding = {"containerImage": {"containerName": "agent"}}
    channel = make_channel(content=binding)
    obs = parked(FIRST, agent_template(), record, channel=channel)
    assert settled(obs).stable.agent != agents.current(obs)


def test_a_template_that_failed_is_not_tried_again_because_a_default_was_added(parked):
    bad = parked(SECOND, with_image("bad"))
    entry = Blocked(agents.current(bad), "a", Reason.AgentRestarted, 1.0, "x2")
    record = settled(replace(bad, record=replace(bad.record, failed_agents=(entry,))))
    obs = parked(SECOND, with_default(with_image("bad")), record)
    record = settled(obs)
    assert record.rollout is None
    assert [b.digest for b in record.failed_agents] == [agents.current(obs)]
    assert agents.problem(replace(obs, record=record)).reason is Reason.AgentTemplateFailed


def test_one_that_is_made_anew_with_what_stable_runs_already_starts_nothing(parked):
    record = settled(parked(FIRST, agent_template()))
    obs = parked("another/1", with_default(agent_template()), record)
    view = obs.revision(record.stable)
    shown = {**obs.revisions, view.attempt: replace(view, template=with_default(view.template))}
    record = settled(replace(obs, revisions=shown))
    assert record.rollout is None
    assert record.stable.agent == agents.current(obs)
    record = settled(parked(FIRST, agent_template()))
    assert settled(replace(obs, record=record)).rollout.candidate.is_agent


def test_a_field_that_people_took_away_is_an_edit(parked):
    more = {"metadata": {"labels": {"more": "1"}}, **agent_template()}
    obs = parked(FIRST, more)
    view, stable = obs.revision(obs.record.stable), obs.record.stable
    labels = {"labels": {**view.template["metadata"]["labels"], "more": "1"}}
    shown = replace(view, template={**view.template, "metadata": labels})
    record = replace(obs.record, stable=replace(stable, agent=agents.current(obs)))
    revisions = {**obs.revisions, view.attempt: shown}
    less = parked(SECOND, agent_template(), record, revisions=revisions)
    assert settled(less).rollout.candidate.is_agent
    same = parked(SECOND, more, record, revisions=revisions)
    assert settled(same).rollout is None


def test_what_is_known_already_is_no_news(parked):
    obs = parked(FIRST, agent_template())
    record = settled(obs)
    assert agent_same.known(replace(obs, record=record)) is record


def test_a_parked_daemon_set_is_looked_at_again_as_nobody_tells_of_its_edits(parked):
    obs = parked(FIRST, agent_template())
    record = replace(settled(obs), bake=None)
    assert decide(replace(obs, record=record), 1_000_000.0).requeue == LOOK_AT_PARKED
    inline = parked("", agent_template(), record)
    assert decide(inline, 1_000_000.0).requeue is None


def completed_by(template, spec, extra=None):
    """As a dry run shows a revision of it: other content, other attempt, and both defaults."""
    trial = revision_template(bind(template, spec, f"trial.invalid/x@{digest('x')}"), "rules", "t")
    return {**trial, "spec": {**trial["spec"], **DEFAULTS, **(extra or {})}}


DEFAULTS = {"newDefault": "Always", "otherDefault": 30}


@pytest.fixture
def inline(parked):
    """As `parked`, of a template that is written inline; the apiserver completes what it stores."""

    def seen(template, record=None, extra=None):
        obs = parked("", template, record)
        completed = completed_by(template, obs.channel.spec, extra)
        view = obs.revision(obs.record.stable)
        shown = {**view.template, "spec": {**view.template["spec"], **DEFAULTS}}
        revisions = {**obs.revisions, view.attempt: replace(view, template=shown)}
        agent = replace(obs.agent, completed=completed)
        return replace(obs, agent=agent, revisions=revisions)

    return seen


def test_a_default_that_a_person_writes_out_inline_starts_nothing(inline):
    record = settled(inline(agent_template()))
    written = inline(with_default(agent_template()), record)
    assert agents.differs(written)
    record = settled(written)
    assert record.rollout is None
    assert record.stable.agent == agents.current(written)
    assert not agents.differs(replace(written, record=record))


def test_a_person_who_takes_the_default_out_again_starts_nothing(inline):
    record = settled(inline(agent_template()))
    record = settled(inline(with_default(agent_template()), record))
    assert record.rollout is None
    assert settled(inline(agent_template(), record)).rollout is None


@pytest.mark.parametrize(
    "change",
    [
        with_image("agent 2"),
        {"spec": {**agent_template()["spec"], "newDefault": "Never"}},
        {"spec": {**agent_template()["spec"], "hostNetwork": True}},
        {"metadata": {"labels": {"more": "1"}}, **agent_template()},
    ],
    ids=["image", "other value", "another field", "label"],
)
def test_a_change_inline_starts_a_rollout_however_the_apiserver_completes_it(inline, change):
    record = settled(inline(agent_template()))
    extra = {"newDefault": change["spec"].get("newDefault", "Always")}
    assert settled(inline(change, record, extra)).rollout.candidate.is_agent


def test_what_the_dry_run_did_not_tell_is_taken_for_a_change(inline):
    record = settled(inline(agent_template()))
    obs = inline(with_default(agent_template()), record)
    unknown = replace(obs, agent=replace(obs.agent, completed=None))
    assert settled(unknown).rollout.candidate.is_agent


def test_another_binding_is_no_default(inline):
    record = settled(inline(agent_template()))
    obs = inline(agent_template(), record)
    channel = make_channel(content={"containerImage": {"containerName": "agent"}})
    assert not agent_same._is_completed_to_it(replace(obs, channel=channel))
