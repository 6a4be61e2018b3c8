"""Stories of releases that list the layers of their images."""

from simulation.machines import crash_loops
from simulation.scenarios import scenario
from simulation.story import Story
from wavegate.api import Phase


@scenario()
def blocked_layer(story: Story) -> None:
    """The file that did harm comes again in an image that was built anew
    Its release lists the layer that holds it, and is refused by that, whatever else is in it. The
    base that the bad image shares with the one that runs well is not at fault, so a repair on the
    same base is free to run; nor is a release that lists no layers judged by them.
    """
    story.publish("good", layers=["base", "rules"])
    story.until_ended("good", Phase.Completed)
    story.bring("bad", "ends the agent one second after its start", crash_loops())
    story.publish("bad", layers=["base", "faulty rules"])
    story.until_ended("bad", Phase.Reverted)
    story.publish("rebuilt", layers=["newer base", "faulty rules"])
    story.until_ended("rebuilt", Phase.Rejected)
    story.publish("repaired", layers=["base", "mended rules"])
    story.until_ended("repaired", Phase.Completed)
    assert story.everywhere("repaired")
    story.publish("silent")
    story.until_ended("silent", Phase.Completed)
    assert story.everywhere("silent")


@scenario()
def layer_blocked_in_flight(story: Story) -> None:
    """While a release rolls out, a person blocks an older one that shares a layer with it
    They heard from elsewhere that the older one is bad. What rolls out goes back at once, and says
    which layer it was; the older one is unblocked later, and its layers with it.
    """
    story.publish("good", layers=["base", "rules"])
    story.until_ended("good", Phase.Completed)
    story.publish("older", layers=["base", "shared rules"])
    story.publish("b", layers=["base", "shared rules", "more rules"])
    story.until_moved(1)
    story.people("decide: Block older", lambda: story.decide("heard", "older", "Block"))
    story.until_ended("b", Phase.Reverted)
    story.run(30)
    assert story.everywhere("good")
    story.publish("c", layers=["base", "shared rules"])
    story.until_ended("c", Phase.Rejected)
    story.people(
        "decide: Unblock older", lambda: story.decide("fine", "older", "Unblock", incident="heard")
    )
    story.until_ended("c", Phase.Completed)
    assert story.everywhere("c")
