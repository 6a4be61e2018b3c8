"""A change of the agent's template is a rollout of its own, with stable's content."""

from dataclasses import replace

import pytest

from support.builders import agent_template, digest, make_channel, make_decision, make_release
from wavegate.api import Phase, Reason, WaveState
from wavegate.rollout import channel_report, decisions, edits, forecast, succession
from wavegate.rollout.agent_template import fingerprint
from wavegate.rollout.record import Blocked


def template(agent, **more):
    found = agent_template()
    found["spec"]["containers"][0]["image"] = f"registry.example/agent@{digest(agent)}"
    return {**found, **more}


def edit(sim, agent):
    """People set another image of the agent."""
    spec = sim.channel.spec.model_dump(by_alias=True)
    sim.channel = make_channel(agent={"template": template(agent)}, rollout=spec["rollout"])


def images(sim, attempt):
    """The agent's image and the content's in the DaemonSet of an attempt."""
    pod = sim.sets[attempt].template["spec"]
    return pod["containers"][0]["image"], pod["volumes"][0]["image"]["reference"]


def agent_image(name):
    return f"registry.example/agent@{digest(name)}"


def content_image(name):
    return f"registry.example/content@{digest(name)}"


@pytest.fixture
def stable(sim):
    """Release a is stable."""
    sim.publish("a", 1)
    sim.step_until(lambda: sim.record.stable and sim.record.rollout is None)
    return sim


def begun(sim):
    sim.step_until(lambda: sim.record.rollout and sim.record.rollout.phase is Phase.Rolling)
    return sim.record.rollout


def test_a_new_template_is_rolled_out_with_the_content_that_is_stable(stable):
    edit(stable, "agent 2")
    candidate = begun(stable).candidate
    assert candidate.is_agent
    assert candidate.digest == stable.record.stable.digest
    assert images(stable, candidate.attempt) == (agent_image("agent 2"), content_image("a"))


def test_a_release_keeps_the_template_that_is_stable_though_another_one_failed(stable):
    edit(stable, "agent 2")
    begun(stable)
    stable.channel = make_channel()
    stable.step_until(lambda: stable.record.rollout is None)
    edit(stable, "agent 3")
    fails(stable)
    stable.publish("b", 2)
    candidate = begun(stable).candidate
    assert not candidate.is_agent
    assert candidate.agent == stable.record.stable.agent
    assert images(stable, candidate.attempt) == (agent_image("agent"), content_image("b"))
    terms = stable.sets[candidate.attempt].template["spec"]["affinity"]["podAntiAffinity"]
    assert [len(found) for found in terms.values()] == [1], "ours does not pile up"


def fails(sim):
    """Someone fences the candidate: a revert without any harm."""
    rollout = begun(sim)
    del sim.sets[rollout.attempt]
    sim.step_until(lambda: sim.record.rollout is None)


def test_a_template_that_was_reverted_is_not_tried_again_and_no_content_is_blocked(stable):
    edit(stable, "agent 2")
    fails(stable)
    stable.run(200)
    assert stable.record.rollout is None
    assert not stable.record.blocked
    (entry,) = stable.record.failed_agents
    assert entry.digest == fingerprint(template("agent 2"), stable.channel.spec)
    status, condition = channel_report.channel_status(stable.observe()), current(stable)
    assert condition["reason"] == "AgentTemplateFailed"
    assert entry.incident in condition["message"]
    assert status["agentRollout"]["phase"] == "Reverted"


def test_a_template_that_nobody_knows_is_taken_for_the_present_one_and_nothing_starts(stable):
    record = stable.record
    stable.record = replace(record, stable=replace(record.stable, agent=""))
    stable.sets[record.stable.attempt].revision = replace(record.stable, agent="")
    edit(stable, "agent 2")
    stable.run(30)
    assert stable.record.rollout is None
    assert stable.record.stable.agent == fingerprint(template("agent 2"), stable.channel.spec)
    assert current(stable)["reason"] == "AgentTemplateAssumed"
    edit(stable, "agent 3")
    assert begun(stable).candidate.is_agent


def current(sim):
    """The condition that says whether stable runs the channel's template."""
    conditions = channel_report.channel_status(sim.observe())["conditions"]
    return next(c for c in conditions if c["type"] == "AgentCurrent")


def test_a_record_that_does_not_know_the_template_believes_the_daemon_set(stable):
    record = stable.record
    stable.record = replace(record, stable=replace(record.stable, agent=""))
    edit(stable, "agent 2")
    assert begun(stable).candidate.is_agent


def test_a_decision_names_the_template_and_not_the_content(stable):
    edit(stable, "agent 2")
    candidate = begun(stable).candidate
    by_content = make_decision("wrong", "a", "Revert")
    by_template = make_decision("back", "a", "Revert", digest=candidate.agent)
    obs, now = stable.observe(), stable.now
    assert candidate.agent in decisions.refusal(obs, by_content, now).message
    assert decisions.refusal(obs, by_template, now) is None


def test_the_release_that_is_stable_may_be_deleted_while_the_agent_changes(stable):
    edit(stable, "agent 2")
    begun(stable)
    stable.releases.clear()
    stable.step_until(lambda: stable.record.rollout is None)
    assert stable.record.stable.is_agent
    assert stable.record.outcomes[0].phase is Phase.Completed


def test_a_template_that_is_changed_back_under_way_is_taken_back_and_may_be_tried_again(stable):
    edit(stable, "agent 2")
    begun(stable)
    stable.channel = make_channel()
    stable.step_until(lambda: stable.record.rollout is None)
    assert stable.record.outcomes[0].incident.reason == "AgentTemplateChanged"
    assert not stable.record.failed_agents


@pytest.mark.parametrize(
    "spec",
    [
        {"agent": {"template": template("agent 2")}},
        {"content": {"containerImage": {"containerName": "agent"}}},
    ],
    ids=["template", "binding"],
)
def test_another_template_and_another_binding_have_another_digest(spec):
    before, after = make_channel().spec, make_channel(**spec).spec
    found = [fingerprint(s.agent.template, s) for s in (before, after)]
    assert found[0] != found[1]


def test_the_wave_of_a_new_agent_is_told_on_the_channel(stable):
    edit(stable, "agent 2")
    stable.step_until(
        lambda: begun(stable).waves and begun(stable).waves[-1].state is WaveState.Soaking
    )
    status = channel_report.channel_status(stable.observe())
    assert status["agentRollout"]["wave"]["name"] == "canary"
    assert status["candidate"]["kind"] == "Agent"
    assert status["stable"]["kind"] == "Content"


@pytest.fixture
def in_first_wave(stable):
    """A new agent is in its first wave, and an emergency waits that counts as one."""
    edit(stable, "agent 2")
    stable.step_until(lambda: begun(stable).waves)
    obs = stable.observe()
    spec = obs.channel.spec.model_dump(by_alias=True)
    agent, rollout = spec["agent"], spec["rollout"] | {"maxSeverity": "Emergency"}
    channel = make_channel(agent=agent, rollout=rollout)
    newer = make_release("b", 2, severity="Emergency")
    return replace(obs, channel=channel, releases=(*obs.releases, newer))


def test_no_release_takes_the_place_of_an_agents_change(in_first_wave):
    rollout = in_first_wave.record.rollout
    assert succession.successor(in_first_wave, rollout, 0.0) is None
    said = succession.why_it_waits(in_first_wave, paused=False)
    assert said == "It starts when the change of the agent has ended, which goes before releases"


def test_a_release_that_replaced_another_is_not_replaced_though_an_agent_came_between(sim):
    sim.publish("b", 2)
    sim.run(60, until=lambda: sim.record.rollout and sim.record.rollout.waves)
    obs = replace(sim.observe(), releases=(*sim.releases.values(), make_release("c", 3)))
    ended = obs.record.ended(Phase.Superseded, Reason.Replaced, "", 1.0).outcomes[0]
    agent = replace(ended, agent=digest("agent 2"), phase=Phase.Completed)
    after = replace(obs, record=replace(obs.record, outcomes=(agent, ended)))
    rollout = obs.record.rollout
    assert succession.successor(obs, rollout, 0.0).name == "c"
    assert succession.successor(after, rollout, 0.0) is None


def test_an_agents_change_obeys_what_is_tightened_under_way(in_first_wave):
    slower = make_channel(
        agent={"template": template("agent 2")}, rollout={"bake": "48h", "settle": "20s"}
    )
    obs = replace(in_first_wave, channel=slower)
    rollout = edits.apply(obs, obs.record.rollout)
    assert rollout.plan.bake == 48 * 3600.0
    assert rollout.candidate == obs.record.rollout.candidate
    looser = make_channel(agent={"template": template("agent 2")}, rollout={"settle": "1s"})
    assert "The change of the agent goes on" in edits.outdated(replace(obs, channel=looser)).message


def test_the_plan_that_is_shown_is_that_of_the_agent_where_it_goes_first(stable):
    stable.publish("b", 2)
    assert forecast.plan(stable.observe())["release"] == "b"
    edit(stable, "agent 2")
    plan = forecast.plan(stable.observe())
    assert "release" not in plan
    assert all("first" not in wave for wave in plan["waves"])


def test_content_that_is_blocked_ends_the_change_and_the_template_did_not_fail(stable):
    edit(stable, "agent 2")
    content = begun(stable).candidate.digest
    entry = Blocked(content, "a", Reason.BlockedByDecision, stable.now, "no-more")
    stable.record = replace(stable.record, blocked=(entry,))
    stable.step_until(lambda: stable.record.rollout is None)
    assert stable.record.outcomes[0].incident.reason is Reason.DigestBlocked
    assert not stable.record.failed_agents
    stable.run(60)
    assert stable.record.rollout is None, "no new agent gets content that is blocked"
    stable.record = replace(stable.record, blocked=())
    assert begun(stable).candidate.is_agent


def test_no_new_agent_gets_content_that_agents_report_as_what_is_blocked(stable):
    record, said = stable.record, digest("what both load")
    entry = Blocked(digest("other"), "b", Reason.AgentRestarted, stable.now, "x9", loaded=said)
    stable.record = replace(record, stable=replace(record.stable, loaded=said), blocked=(entry,))
    edit(stable, "agent 2")
    stable.run(60)
    assert stable.record.rollout is None
    assert current(stable)["reason"] == "DigestBlocked"
