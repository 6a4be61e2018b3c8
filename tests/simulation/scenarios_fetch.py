"""Stories of nodes that can't fetch the content: it never ran there, so it is nobody's harm."""

from simulation.apiserver import Body
from simulation.machines import kills
from simulation.prefetches import pulls
from simulation.scenarios import scenario
from simulation.story import Story
from wavegate.api import Phase, WaveState


@scenario()
def content_cannot_be_fetched(story: Story) -> None:
    """The registry does not have the content at first
    The content never ran, so nothing fails and nothing is blocked. The node is back on stable after
    two minutes, and is tried again; when the registry has it, the release goes on by itself.
    """
    story.say("given", "the registry has no content late")
    story.machines.unpullable.add(story.digest_of("late"))
    story.publish("late")
    story.until("it is to go back", story.stalled)
    story.run(20)
    assert story.everywhere("a")
    story.say("people", "push content late")
    story.machines.unpullable.clear()
    story.until_ended("late", Phase.Completed)
    assert story.everywhere("late")


@scenario()
def content_that_is_never_there(story: Story) -> None:
    """The registry never has the content
    The node is tried again, ever more seldom, and runs stable in between. After holdTimeout a
    person is asked, and nothing is tried any more; nobody needs to unblock anything.
    """
    story.say("given", "the registry has no content lost")
    story.machines.unpullable.add(story.digest_of("lost"))
    story.publish("lost")
    story.until_phase("lost", "Paused", 7_200)
    story.run(600)
    assert story.everywhere("a")
    assert not story.record.blocked
    story.people("delete release lost", lambda: story.delete("Release", "lost"))
    story.until("it is over", lambda: story.record.rollout is None)
    story.run(20)
    assert story.everywhere("a")


@scenario(workers=8)
def one_node_that_cannot_fetch(story: Story) -> None:
    """One node of the second wave has no way to the registry
    It must not hold the release for ever: past progressDeadline it is set aside like a suspect, the
    others go on, and a sweep at the end tries it once more.
    """
    story.publish("b")
    story.until_wave("all", WaveState.Moving)
    story.until_moved(1)
    deaf = story.unmoved()[0]
    story.deafen(deaf)
    story.until("it is set aside", lambda: story.suspects() == [deaf])
    story.run(60)
    assert story.agents()[deaf] == story.digest_of("a")
    story.hear(deaf)
    story.until_ended("b", Phase.Completed)
    assert story.everywhere("b")


@scenario(workers=6)
def operator_dies_with_a_stall(story: Story) -> None:
    """The operator dies right after it noted that a node can't fetch the content
    The record says what is to be done: a new process gives the node back, and tries it again.
    """
    story.say("given", "the registry has no content late")
    story.machines.unpullable.add(story.digest_of("late"))
    story.publish("late")
    story.until("it is noted", story.stalled)
    story.kill()
    story.run(300)
    story.start()
    story.run(30)
    assert story.everywhere("a")
    story.machines.unpullable.clear()
    story.until_ended("late", Phase.Completed)
    assert story.everywhere("late")


AHEAD = {"spec": {"rollout": {"prefetch": "NextWave"}}}


def _message(story: Story, release: str) -> str:
    return str(story.status(release).get("message", ""))


@scenario(**AHEAD)
def images_pulled_ahead(story: Story) -> None:
    """The images of the next wave are pulled while the first one soaks
    Each node of the next wave pulls, by a pod that runs nothing, and stable's agent runs on beside
    it. When the wave has passed these pods are deleted.
    """
    story.publish("b")
    story.until("all have pulled", lambda: "ahead on 4 nodes" in _message(story, "b"))
    assert story.agents() == {
        name: story.digest_of("b" if name == "canary-1" else "a") for name in story.agents()
    }
    story.until_ended("b", Phase.Completed)
    assert story.everywhere("b")


@scenario(**AHEAD)
def a_node_that_cannot_pull_ahead(story: Story) -> None:
    """A node of the next wave has no way to the registry while the first one soaks
    The release's message names it, while its agent still runs; nothing waits for it and nothing is
    blamed. Here it is mended before its turn.
    """
    deaf = "workers-2"
    story.deafen(deaf)
    story.publish("b")
    story.until("it is told", lambda: f"not on {deaf} (ErrImagePull" in _message(story, "b"))
    story.run(10)
    assert story.agents()[deaf] == story.digest_of("a")
    story.hear(deaf)
    story.until_ended("b", Phase.Completed)
    assert story.everywhere("b")


@scenario(**AHEAD)
def bad_content_pulled_ahead(story: Story) -> None:
    """Content that stops machines is on the disks of the next wave when it is taken back
    What is pulled runs nowhere. The fence comes first; then the pods that pulled are deleted.
    """
    story.bring("bad", "stops the machine after 20 s", kills(20.0))
    story.publish("bad")
    story.until("all have pulled", lambda: "ahead on 4 nodes" in _message(story, "bad"))
    story.until_phase("bad", "Reverting")
    story.boot("canary-1")
    story.until_ended("bad", Phase.Reverted)
    assert story.everywhere("a")


@scenario(**AHEAD)
def pods_that_pull_are_refused(story: Story) -> None:
    """A policy of the cluster refuses the pods that pull images ahead
    It is told, tried again a minute later, and stops nothing: nodes pull when they are moved.
    """
    story.say("given", "a policy refuses pods that pull images ahead")
    story.server.refuses.append(
        lambda verb, plural, body: "no such pods here" if _pulls(verb, plural, body) else ""
    )
    story.publish("b")
    story.until("it is told", lambda: "no such pods here" in _message(story, "b"))
    story.until_ended("b", Phase.Completed)
    assert story.everywhere("b")


@scenario(**AHEAD)
def operator_dies_while_images_are_pulled(story: Story) -> None:
    """The operator dies while images are pulled ahead
    What was pulled is read off the pods, so a new process makes none a second time. The soak begins
    anew.
    """
    story.publish("b")
    story.until("all have pulled", lambda: "ahead on 4 nodes" in _message(story, "b"))
    made = {pod["metadata"]["uid"] for pod in story.server.all("pods") if pulls(pod)}
    story.kill()
    story.run(120)
    story.start()
    story.run(20)
    assert made == {pod["metadata"]["uid"] for pod in story.server.all("pods") if pulls(pod)}
    story.until_ended("b", Phase.Completed)
    assert story.everywhere("b")


def _pulls(verb: str, plural: str, body: Body) -> bool:
    return (verb, plural) == ("POST", "pods") and pulls(body)


@scenario()
def canary_replaced_while_it_cannot_fetch(story: Story) -> None:
    """A person replaces the canary's machine, as it can't fetch the content
    It is another machine under the same name, so what the ledger knows is of another one. The first
    wave takes it by a new ledger when the registry has the content: it does not pass on no node.
    """
    story.say("given", "the registry has no content late")
    story.machines.unpullable.add(story.digest_of("late"))
    story.publish("late")
    story.until("it is to go back", story.stalled)
    story.run(20)
    story.remove_node("canary-1")
    story.run(0.5)
    story.replace_node("canary-1")
    story.run(150)
    assert story.agents()["canary-1"] == story.digest_of("a")
    story.say("people", "push content late")
    story.machines.unpullable.clear()
    story.until_wave("all", WaveState.Moving)
    assert story.agents()["canary-1"] == story.digest_of("late")
    story.until_ended("late", Phase.Completed)
    assert story.everywhere("late")
