"""Stories of agents that say which content they have loaded, or do not."""

from simulation.machines import crash_loops, only_on
from simulation.scenarios import scenario
from simulation.story import Story
from wavegate.api import Phase, WaveState

REPORTED = {"loadedProof": {"annotation": {}}}
IN_THE_KERNEL = {
    **REPORTED,
    "content": {"imageVolume": {"volumeName": "content"}, "hostState": "Kernel"},
}


@scenario(reporting=True, spec=REPORTED)
def content_that_is_not_loaded(story: Story) -> None:
    """The agent of one node goes on with its old content
    It is Ready, and says honestly what it runs. It may take progressDeadline (two minutes here);
    then the release is taken back. Nothing was harmed, so nothing is blocked.
    """
    story.reporter.says["canary-1"] = story.digest_of("a")
    story.say("given", "the agent on {} can't load b, and keeps a", ["canary-1"])
    story.publish("b")
    story.until_ended("b", Phase.Reverted)
    assert story.everywhere("a")
    assert set(story.moves) == {"canary-1"}
    assert not story.record.blocked


@scenario(reporting=True, spec=REPORTED)
def silent_about_its_content(story: Story) -> None:
    """The agent of one node is Ready but does not say what it has loaded
    Silence is never success: the wave is held after progressDeadline. When the report comes, it
    goes on by itself.
    """
    story.reporter.says["canary-1"] = ""
    story.say("given", "the agent on {} can't write its report", ["canary-1"])
    story.publish("b")
    story.until_wave("canary", WaveState.Held)
    story.run(300)
    del story.reporter.says["canary-1"]
    story.say("machine", "the agent on {} can write its report again", ["canary-1"])
    for pod in story.pods("canary-1"):
        story.act(lambda pod=pod: story.reporter.report(story.machines, "canary-1", pod))
    story.until_ended("b", Phase.Completed)
    assert story.everywhere("b")


@scenario(reporting=True, spec=IN_THE_KERNEL)
def content_that_stays_in_the_kernel(story: Story) -> None:
    """Content that is loaded into the kernel survives its pod
    The stable agent is Ready again within seconds, but what it finds loaded is the content that
    was taken back. The revert waits for its report; a boot of the machine brings it.
    """
    story.reporter.sticks.add(story.digest_of("bad"))
    broken = only_on(frozenset({"canary-1"}), crash_loops(5.0))
    story.bring("bad", "stays in the kernel until a boot, and ends one agent", broken)
    story.publish("bad")
    story.until_phase("bad", Phase.Reverting)
    story.run(60)
    assert story.everywhere("a")
    assert story.status("bad")["phase"] == Phase.Reverting
    story.reboot("canary-1")
    story.until_ended("bad", Phase.Reverted)
    assert story.everywhere("a")


@scenario(reporting=True, spec=IN_THE_KERNEL)
def suspect_that_keeps_the_content(story: Story) -> None:
    """A suspect goes back, but its kernel keeps the content
    Its stable agent is Ready, and reports what it finds: the candidate's content. So it counts as
    in flight for progressDeadline (two minutes here) and is named. One node stops no fleet: the
    wave soaks then, and the node is tried again at the end.
    """
    story.reporter.sticks.add(story.digest_of("b"))
    story.say("given", "b stays in the kernel until a boot")
    story.publish("b")
    story.until_wave("all", WaveState.Soaking)
    victim = next(node for node in story.moves if node != "canary-1")
    story.say("machine", "the agent on {} crashes once", [victim])
    for pod in story.pods(victim):
        story.act(lambda pod=pod: story.machines.restart_container(victim, pod))
    story.run(110)
    assert story.record.rollout.waves[-1].state is WaveState.Moving
    assert "rid of its content" not in story.status("b")["message"]
    story.until_wave("all", WaveState.Soaking)
    assert "proves that 1 nodes are rid of its content" in story.status("b")["message"]
    story.until_ended("b", Phase.Completed)
    assert story.everywhere("b")
