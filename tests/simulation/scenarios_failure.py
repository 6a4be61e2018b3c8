"""Stories about what comes after a failure: the cool-down, the breaker, and a person."""

from simulation.machines import crash_loops, only_on
from simulation.scenarios import scenario
from simulation.story import Story
from support.builders import digest
from wavegate.api import Phase

OLD = digest("a")
HALF_AN_HOUR = {"rollout": {"coolDown": "30m"}}


def _resume(story: Story, name: str, release: str) -> None:
    story.people(f"decide: Resume, naming {release}", lambda: story.decide(name, release, "Resume"))


@scenario(spec=HALF_AN_HOUR)
def repair_that_comes_at_once(story: Story) -> None:
    """Bad content is taken back, and another release is there a minute later
    A repair in a hurry is often the next fault, so the channel cools down for half an hour. Then
    the newest release starts by itself.
    """
    story.bring("bad", "ends the agent one second after its start", crash_loops())
    story.publish("bad")
    story.until_ended("bad", Phase.Reverted)
    story.run(60)
    story.publish("repair")
    story.run(600)
    assert story.record.rollout is None
    story.publish("better")
    story.until_ended("better", Phase.Completed)
    assert story.everywhere("better")


@scenario(spec=HALF_AN_HOUR)
def cool_down_cut_short(story: Story) -> None:
    """A person knows that the next release is the repair, and does not wait for half an hour
    The decision names what was taken back, so that it is about this failure and no later one.
    """
    story.bring("bad", "ends the agent one second after its start", crash_loops())
    story.publish("bad")
    story.until_ended("bad", Phase.Reverted)
    story.publish("repair")
    story.run(120)
    _resume(story, "go", "bad")
    story.until_ended("repair", Phase.Completed)
    assert story.everywhere("repair")


@scenario()
def breaker_opens(story: Story) -> None:
    """Two releases in a row do harm; the third waits until a person has looked
    Neither time nor a restart of the operator closes the breaker, and a Resume that names the
    older failure does not.
    """
    for name in ("bad", "worse"):
        story.bring(name, "ends the agent one second after its start", crash_loops())
        story.publish(name)
        story.until_ended(name, Phase.Reverted)
    story.publish("good")
    story.run(600)
    story.kill()
    story.run(10)
    story.start()
    story.run(7_200)
    assert story.record.rollout is None
    _resume(story, "early", "bad")
    story.run(60)
    assert story.record.rollout is None
    _resume(story, "go", "worse")
    story.until_ended("good", Phase.Completed)
    assert story.everywhere("good")


@scenario(spec=HALF_AN_HOUR)
def taken_back_by_a_person(story: Story) -> None:
    """A person takes a release back; the next one starts at once
    No harm was seen, so the channel does not cool down.
    """
    story.publish("b")
    story.until_moved(1)
    story.people("decide: Revert b", lambda: story.decide("back", "b", "Revert"))
    story.until_ended("b", Phase.Reverted)
    story.publish("c")
    story.until_ended("c", Phase.Completed)
    assert story.everywhere("c")


def _fails_on_stable(story: Story) -> None:
    """Content that harms machines is taken back, and two that went back fail on stable too."""
    story.publish("bad")
    exposed = story.until_moved(4)
    story.crash(*exposed[:2])
    story.until_phase("bad", Phase.Reverting)
    story.until("two are back", lambda: all(story.agents().get(n) == OLD for n in exposed[2:4]))
    story.restart_agent(exposed[2])
    story.restart_agent(exposed[3])
    story.until_ended("bad", Phase.Reverted)
    story.boot(*exposed[:2])
    story.run(30)


@scenario(workers=8)
def stable_fails_too(story: Story) -> None:
    """Nodes that went back to stable fail on it too: going back has not helped
    What fails may be the machines, so nothing goes back further by itself. Nothing starts, and a
    person who finds a broken power supply lets the next release start.
    """
    _fails_on_stable(story)
    story.publish("next")
    story.run(3_600)
    assert story.record.rollout is None
    _resume(story, "go", "bad")
    story.until_ended("next", Phase.Completed)
    assert story.everywhere("next")


@scenario(before="old", workers=8, spec={"rollout": {"bake": "2m"}})
def stable_taken_back_by_a_person(story: Story) -> None:
    """Nodes that went back to stable fail on it too, and a person goes back one release further
    The last release that ended its bake well is stable on all nodes, also on those that never had
    the bad one. Nothing starts until the person lets go on.
    """
    story.run(150)
    story.publish("a")
    story.until_ended("a", Phase.Completed)
    _fails_on_stable(story)
    story.people("decide: Revert a", lambda: story.decide("further", "a", "Revert"))
    story.until("a is taken back", lambda: story.status("a").get("phase") == "Reverted")
    story.run(20)
    assert story.everywhere("old")
    story.publish("next")
    story.run(600)
    assert story.record.rollout is None
    _resume(story, "go", "bad")
    story.until_ended("next", Phase.Completed)
    assert story.everywhere("next")


def _two_kernels(story: Story) -> list[str]:
    """Four workers with an older kernel join, on which the agent crashes with the new content."""
    older = story.add_nodes("workers", 4, kernelVersion="6.1.0")
    story.run(30)
    story.bring("bad", "ends the agent on kernel 6.1.0", only_on(frozenset(older), crash_loops(2)))
    return older


@scenario(spec={"rollout": {"onFailure": "RevertFailing"}})
def only_the_older_kernel_goes_back(story: Story) -> None:
    """Content crashes the agent on one kernel only, on a channel with onFailure: RevertFailing
    The nodes of that kernel go back to stable, the others keep the content and nothing moves any
    more, whatever people set. When a person has seen enough, they revert the rest.
    """
    older = _two_kernels(story)
    story.publish("bad")
    story.until_phase("bad", Phase.Paused)
    story.run(60)
    agents = story.agents()
    assert {agents[name] for name in older} == {OLD}
    assert digest("bad") in agents.values()
    _resume(story, "go", "bad")
    story.run(1_800)
    assert story.agents() == agents
    story.people("decide: Revert bad", lambda: story.decide("back", "bad", "Revert"))
    story.until_ended("bad", Phase.Reverted)
    assert story.everywhere("a")


@scenario(spec={"rollout": {"onFailure": "RevertFailing"}})
def harm_on_the_others_too(story: Story) -> None:
    """The nodes of one kernel went back, and then a node of the other comes to harm
    That is one too many: all go back at once, and the content is blocked.
    """
    _two_kernels(story)
    story.publish("bad")
    story.until_phase("bad", Phase.Paused)
    story.run(120)
    story.reboot("canary-1")
    story.until_ended("bad", Phase.Reverted)
    assert story.everywhere("a")
