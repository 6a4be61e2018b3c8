"""Stories of content that our pods only carry: someone else's agent loads it."""

from simulation import carried
from simulation.scenarios import scenario
from simulation.story import Story
from wavegate.api import Phase, WaveState


def unlisted(verb: str, path: str) -> int | None:
    """Nobody can list the pods of the channel's namespace."""
    return 503 if (verb, path) == ("GET", "/api/v1/namespaces/agents/pods") else None


@scenario(other_agent=True, spec=carried.SELECTED)
def carried_content_crashes_the_agent(story: Story) -> None:
    """Our pods carry the content, and the agent of someone else crashes on it
    Our own pods stay Ready, but agentSelector names that agent: its restart since the wave opened
    counts like one of ours, and the content is blocked. The fence waits for nothing; the end of
    the revert waits until that agent is well again.
    """
    story.bring("bad", "ends the agent that reads it", carried.crashes_it())
    story.publish("bad")
    story.until_phase("bad", Phase.Reverting)
    story.run(60)
    assert story.everywhere("a")
    assert story.status("bad")["phase"] == Phase.Reverting
    story.say("machine", "the agent on {} starts again, and finds a", ["canary-1"])
    carried.recover(story, "canary-1")
    story.until_ended("bad", Phase.Reverted)
    assert story.everywhere("a")
    assert set(story.moves) == {"canary-1"}
    assert [block.release for block in story.record.blocked] == ["bad"]


@scenario(other_agent=True, spec=carried.SELECTED)
def agent_that_does_not_recover(story: Story) -> None:
    """What the content left on the host keeps the agent of someone else in its crash loop
    It is Ready for a moment between two crashes, which is not well. After progressDeadline (two
    minutes here) the release ends with the node's name, and a person has to look there.
    """
    story.bring("bad", "ends the agent that reads it, and stays in its cache", carried.crashes_it())
    story.publish("bad")
    story.until_phase("bad", Phase.Reverting)
    story.say("machine", "the agent on {} starts and crashes every 20 s", ["canary-1"])
    for _ in range(6):
        story.run(20)
        carried.recover(story, "canary-1")
        story.run(0.5)
        carried.crash(story, "canary-1")
    story.until_ended("bad", Phase.Reverted)
    assert story.status("bad")["reason"] == "RevertedAgentsUnwell"
    assert story.everywhere("a")


@scenario(other_agent=True, spec=carried.SELECTED | {"rollout": {"bake": "0s"}})
def agent_that_crashed_before(story: Story) -> None:
    """The agent that loads the content crashed before, on two nodes
    What the ledger knows is no news. One that runs again is judged by what it counts from then
    on; one that is still in its back-off is not judged.
    """
    story.say("given", "the agent on {} crashed before, and runs again", ["canary-1"])
    carried.crash(story, "canary-1")
    carried.recover(story, "canary-1")
    story.say("given", "the agent on {} is in a crash loop", ["workers-1"])
    carried.crash(story, "workers-1")
    story.publish("b")
    story.until_ended("b", Phase.Completed)
    assert story.everywhere("b")
    assert not story.suspects()


@scenario(other_agent=True, spec=carried.SELECTED)
def agent_that_nobody_watches(story: Story) -> None:
    """The watch of the agent that loads the content breaks in the soak, and hides its crash
    The other watches live. Nothing passes until it is back; then the restart shows.
    """
    story.publish("b")
    story.until_wave("canary", WaveState.Soaking)
    story.say("machine", "the watch of pods in the channel's namespace breaks")
    story.weather.fails = unlisted
    story.act(story.server.break_watches)
    story.run(1)
    story.say("machine", "the agent on {} crashes, and runs again", ["canary-1"])
    carried.crash(story, "canary-1")
    carried.recover(story, "canary-1")
    story.run(120)
    assert story.status("b")["phase"] == Phase.Rolling
    assert set(story.moves) == {"canary-1"}
    story.mend()
    story.until_ended("b", Phase.Reverted)
    assert story.everywhere("a")


@scenario(other_agent=True, spec=carried.SELECTED)
def crash_that_no_operator_saw(story: Story) -> None:
    """The leader dies in two soaks; in the second the agents crash while no operator runs
    The first soak goes on, though these agents can't be listed at once: the new leader waits a
    moment for them before it decides. In the second their counts of restarts tell what happened.
    """
    story.publish("b")
    story.until_wave("canary", WaveState.Soaking)
    story.run(5)
    story.kill()
    story.run(1)
    story.weather.fails = unlisted
    story.start()
    story.run(16)
    story.weather.fails = lambda _verb, _path: None
    story.until_wave("all", WaveState.Soaking)
    story.kill()
    victims = story.moved()[:2]
    story.say("machine", "the agents on {} crash, and run again", victims)
    for victim in victims:
        carried.crash(story, victim)
        carried.recover(story, victim)
    story.run(60)
    story.start()
    story.until_ended("b", Phase.Reverted)
    assert story.everywhere("a")


@scenario(before="", spec=carried.SELECTED)
def selector_that_selects_nothing(story: Story) -> None:
    """agentSelector selects no pod, so nothing could speak for the content
    The wave is not opened, and says so. When the agent is installed, it goes on by itself.
    """
    story.apply_channel(**carried.SELECTED)
    story.publish("a")
    story.run(60)
    assert not story.moves
    assert story.record.rollout.waves[-1].held_since is not None
    story.people("install the agent that the selector selects", lambda: carried.install(story))
    story.until_ended("a", Phase.Completed)
    assert story.everywhere("a")
