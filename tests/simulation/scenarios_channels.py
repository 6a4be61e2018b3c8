"""Stories about two channels on the same nodes."""

from simulation.cluster import another_agent
from simulation.scenarios import scenario
from simulation.story import Story
from wavegate.api import Phase, WaveState


def second_channel(story: Story) -> None:
    """Another agent, with content of its own, on all nodes."""
    what = "create channel models, of another agent on the same nodes"
    story.people(what, lambda: story.apply_channel("models", agent=another_agent("scanner")))


@scenario()
def two_channels_share_nodes(story: Story) -> None:
    """Two channels publish at the same time, for two agents on the same nodes
    No node gets both at once, as harm could be told to neither: who stores his ledger first goes
    first, wave by wave, and the other waits.
    """
    second_channel(story)
    story.publish("m", channel="models")
    story.publish("b")
    story.until_ended("b", Phase.Completed)
    story.until_ended("m", Phase.Completed)
    assert story.guard.counted[13]
    assert story.everywhere("b")


@scenario()
def a_paused_channel_frees_its_nodes(story: Story) -> None:
    """A release is suspended in the middle of a wave, and another channel wants the nodes
    It waits for half an hour, then it goes first; and the one that goes on later waits for it.
    """
    second_channel(story)
    story.publish("m", channel="models")
    story.until_ended("m", Phase.Completed)
    story.publish("b")
    story.until_moved(2)
    story.suspend("Release", "b", on=True)
    story.publish("n", channel="models")
    story.run(1_500)
    busy = [w for w in story.record_of("models").rollout.waves if w.state is WaveState.Moving]
    assert not busy or story.status("n")["reason"] == "NodeBusy"
    story.until("n moves on", lambda: story.status("n").get("reason") != "NodeBusy")
    story.run(30)
    story.suspend("Release", "b", on=False)
    story.until_ended("n", Phase.Completed)
    story.until_ended("b", Phase.Completed)
    assert story.everywhere("b")


@scenario()
def node_claimed_twice(story: Story) -> None:
    """A second channel is made for the same agent, by mistake
    It starts nothing, as two of the same agent would meet on each node. The first goes on as if
    nothing were. When the second is for another agent, its release starts by itself.
    """
    what = "create channel models, of the same agent on the same nodes"
    story.people(what, lambda: story.apply_channel("models"))
    story.publish("m", channel="models")
    story.publish("b")
    story.until_ended("b", Phase.Completed)
    assert story.record_of("models").rollout is None
    story.people(
        "give channel models the agent that was meant",
        lambda: story.apply_channel("models", agent=another_agent("scanner")),
    )
    story.until_ended("m", Phase.Completed)
    assert story.everywhere("b")
