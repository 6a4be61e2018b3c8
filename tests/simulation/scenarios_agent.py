"""Stories of the agent's own template: a new binary goes through waves as content does."""

from typing import Any

from simulation.machines import crash_loops
from simulation.scenarios import scenario
from simulation.story import Story
from support.builders import digest
from wavegate.api import Phase, WaveState


def template(agent: str) -> dict[str, Any]:
    """The channel's template with another binary."""
    image = f"registry.example/agent@{digest(agent)}"
    volumes = [{"name": "content", "image": {"reference": "set-by-wavegate"}}]
    spec = {"containers": [{"name": "agent", "image": image}], "volumes": volumes}
    return {"template": {"spec": spec}}


def edit(story: Story, agent: str, what: str) -> None:
    """People change the channel's template."""
    story.people(what, lambda: story.patch("Channel", "rules", agent=template(agent)))


def binaries(story: Story) -> set[str]:
    """Digests of the binaries that run."""
    pods = [pod for pod in story.pods() if "deletionTimestamp" not in pod["metadata"]]
    return {p["spec"]["containers"][0]["image"].partition("@")[2] for p in pods}


def until_agent(story: Story, phase: Phase) -> None:
    """Wait for the end of the newest change of the agent."""
    story.until(
        f"the agent is {phase}",
        lambda: (story.channel_status().get("agentRollout") or {}).get("phase") == phase,
    )
    story.run(20)


def current(story: Story) -> dict[str, Any]:
    """The condition that says whether stable runs the channel's template."""
    conditions = story.channel_status()["conditions"]
    return next(c for c in conditions if c["type"] == "AgentCurrent")


@scenario()
def new_binary(story: Story) -> None:
    """The platform team changes the agent's image
    No release is published: the new template with stable's content goes through the same waves. The
    release that is stable stays Completed, and deleting it changes nothing.
    """
    edit(story, "agent 2", "set another image in spec.agent.template")
    story.until_wave("canary", WaveState.Soaking)
    assert story.channel_status()["candidate"]["kind"] == "Agent"
    assert story.status("a")["phase"] == Phase.Completed
    story.people("delete release a", lambda: story.delete("Release", "a"))
    until_agent(story, Phase.Completed)
    assert story.everywhere("a")
    assert binaries(story) == {digest("agent 2")}
    assert current(story)["status"] == "True"


@scenario()
def new_binary_crashes(story: Story) -> None:
    """The new agent crashes with content that was good
    It is reverted like a release, but no content is blocked: the template is, so it is not tried
    again. Releases go on with stable's template, until a person unblocks or changes it.
    """
    story.harm("bad agent", crash_loops())
    edit(story, "bad agent", "set an image that crashes in spec.agent.template")
    until_agent(story, Phase.Reverted)
    assert not story.record.blocked
    assert current(story)["reason"] == "AgentTemplateFailed"
    story.publish("b")
    story.until_ended("b", Phase.Completed)
    assert story.everywhere("b")
    assert binaries(story) == {digest("agent")}
    edit(story, "agent 3", "set a repaired image")
    until_agent(story, Phase.Completed)
    assert story.everywhere("b")
    assert binaries(story) == {digest("agent 3")}


@scenario()
def release_while_the_agent_changes(story: Story) -> None:
    """A release is published while a new agent rolls out, and the agent changes while it runs
    One after the other: what runs ends first, the template goes before the release that waits, and
    a release that began keeps the template that was stable. So each candidate differs from stable
    in one thing only.
    """
    edit(story, "agent 2", "set another image in spec.agent.template")
    story.until_wave("canary", WaveState.Soaking)
    story.publish("b")
    until_agent(story, Phase.Completed)
    story.until_moved(1)
    edit(story, "agent 3", "set a third image")
    story.until_ended("b", Phase.Completed)
    until_agent(story, Phase.Completed)
    assert story.everywhere("b")
    assert binaries(story) == {digest("agent 3")}


@scenario(spec={"rollout": {"maxSeverity": "Emergency"}})
def emergency_while_the_agent_changes(story: Story) -> None:
    """An emergency is published while a new agent is in its first wave
    Not even that takes its place: the release may need the new agent. A person who can't wait takes
    the agent back by a decision; then the release starts with the old one.
    """
    edit(story, "agent 2", "set another image in spec.agent.template")
    story.until_wave("canary", WaveState.Soaking)
    story.publish("b", severity="Emergency")
    story.run(20)
    assert story.record.rollout.candidate.is_agent
    assert "change of the agent has ended" in story.status("b")["message"]
    agent = story.channel_status()["candidate"]["agent"]
    story.people(
        "decide: Revert a, by the digest of the template",
        lambda: story.decide("back", "a", "Revert", digest=agent),
    )
    story.until_ended("b", Phase.Completed)
    assert story.everywhere("b")
    assert binaries(story) == {digest("agent")}


@scenario(spec={"rollout": {"coolDown": "30m"}})
def cool_down_after_an_agent(story: Story) -> None:
    """A new agent crashes, and a release is there already
    The channel cools down as after any harm. The Resume names the release whose content the agent
    came with, and the template's digest.
    """
    story.harm("bad agent", crash_loops())
    edit(story, "bad agent", "set an image that crashes in spec.agent.template")
    until_agent(story, Phase.Reverted)
    story.publish("b")
    story.run(120)
    assert story.record.rollout is None
    assert story.status("b")["reason"] == "CoolingDown"
    story.people("decide: Resume a, by its content", lambda: story.decide("wrong", "a", "Resume"))
    story.run(30)
    assert story.record.rollout is None
    failed = story.record.failed_agents[0].digest
    story.people(
        "decide: Resume a, by the digest of the template",
        lambda: story.decide("go", "a", "Resume", digest=failed),
    )
    story.until_ended("b", Phase.Completed)
    assert story.everywhere("b")
    assert binaries(story) == {digest("agent")}


@scenario()
def template_changed_back(story: Story) -> None:
    """People change the template, think better of it, and change it again
    Back to stable's while it rolls out: it is taken back, and may be tried again. To a third one
    while it rolls out: that one waits for its turn.
    """
    edit(story, "agent 2", "set another image in spec.agent.template")
    story.until_wave("canary", WaveState.Soaking)
    edit(story, "agent", "set the old image again")
    until_agent(story, Phase.Reverted)
    assert binaries(story) == {digest("agent")}
    assert not story.record.failed_agents
    edit(story, "agent 2", "set the new image once more")
    story.until_moved(1)
    edit(story, "agent 3", "set a third image")
    story.until("both have come", lambda: binaries(story) == {digest("agent 3")})
    until_agent(story, Phase.Completed)
    assert story.everywhere("a")


@scenario()
def decisions_on_an_agent(story: Story) -> None:
    """People pause and revert a new agent, and later unblock its template
    It has no release of its own: a decision names the release whose content it carries, and the
    template's digest.
    """
    edit(story, "agent 2", "set another image in spec.agent.template")
    story.until_wave("canary", WaveState.Soaking)
    agent = story.channel_status()["candidate"]["agent"]
    story.people("decide: Revert a, by its content", lambda: story.decide("wrong", "a", "Revert"))
    story.run(5)
    assert story.record.rollout is not None
    story.people(
        "decide: Revert a, by the digest of the template",
        lambda: story.decide("back", "a", "Revert", digest=agent),
    )
    until_agent(story, Phase.Reverted)
    incident = story.record.failed_agents[0].incident
    story.run(60)
    assert story.record.rollout is None
    story.people(
        "decide: Unblock the template",
        lambda: story.decide("again", "a", "Unblock", digest=agent, incident=incident),
    )
    until_agent(story, Phase.Completed)
    assert story.everywhere("a")
    assert binaries(story) == {digest("agent 2")}
