"""Stories about releases that come while another one rolls out."""

from simulation.scenarios import scenario
from simulation.story import Story
from wavegate.api import Phase, WaveState

URGENT = {"rollout": {"maxSeverity": "Urgent"}}


@scenario()
def replaced_in_the_first_wave(story: Story) -> None:
    """A newer release comes while the first wave of another soaks
    Little was learned yet, so the newer one takes its place: the canary goes back to stable first,
    there is never a third revision, and nothing is blocked.
    """
    story.publish("b")
    story.until_wave("canary", WaveState.Soaking)
    story.publish("c")
    story.until_ended("c", Phase.Completed)
    assert story.status("b")["phase"] == Phase.Superseded
    assert not story.record.blocked
    assert story.everywhere("c")


@scenario(spec=URGENT)
def more_urgent_in_a_later_wave(story: Story) -> None:
    """An emergency comes while the second wave of a routine release is moved
    The channel lets `Urgent` count, so that is what the emergency is; still more urgent than what
    runs, which goes back on all nodes that have it.
    """
    story.publish("b")
    story.until_moved(2)
    story.publish("c", severity="Emergency")
    story.until_ended("c", Phase.Completed)
    assert story.status("b")["reason"] == "Replaced"
    assert story.status("c")["severity"] == "Urgent"
    assert story.everywhere("c")


@scenario()
def claims_that_do_not_count(story: Story) -> None:
    """An emergency comes in a later wave, on a channel that takes every release as routine
    Who publishes content does not decide how fast it spreads: it waits for its turn.
    """
    story.publish("b")
    story.until_moved(2)
    story.publish("c", severity="Emergency")
    story.until_ended("c", Phase.Completed)
    assert story.status("b")["phase"] == Phase.Completed
    assert story.everywhere("c")


@scenario()
def fast_feed(story: Story) -> None:
    """A release is published every 20 seconds, faster than a first wave passes
    One that has replaced another is not replaced itself by one as urgent, so that some release
    ends all the same.
    """
    for number in range(1, 10):
        story.publish(f"r{number}")
        story.run(20)
    story.until_ended("r9", Phase.Completed)
    ended = [o.release for o in story.record.outcomes if o.phase is Phase.Completed]
    assert len(ended) > 2  # one beside the last, and the one before all
    assert story.everywhere("r9")


@scenario()
def paused_and_not_replaced(story: Story) -> None:
    """A person pauses a release in its first wave to look at it, and a newer one comes
    What is looked at stays as it is. Its soak goes on, so that it has passed its first wave when
    the person lets it go on, and the newer one comes after it.
    """
    story.publish("b")
    story.until_wave("canary", WaveState.Soaking)
    story.suspend("Release", "b", on=True)
    story.publish("c")
    story.run(120)
    assert story.record.rollout.candidate.release == "b"
    story.suspend("Release", "b", on=False)
    story.until_ended("c", Phase.Completed)
    assert story.status("b")["phase"] == Phase.Completed
    assert story.everywhere("c")
