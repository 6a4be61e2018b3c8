"""Stories in which single nodes come to harm: one alone stops nothing, two are believed."""

from simulation.machines import crash_loops, only_on
from simulation.scenarios import scenario
from simulation.story import Story
from wavegate.api import Phase, Reason, WaveState


@scenario(workers=8)
def one_bad_node_in_the_second_wave(story: Story) -> None:
    """A machine dies after the first wave, as machines do
    Harm on one node proves nothing: it is a suspect and goes back to stable, which is only a write.
    The others go on. A sweep at the end tries the machine once more.
    """
    story.publish("b")
    victim = story.until_moved(4)[-1]
    story.crash(victim)
    story.until("there is a suspect", lambda: story.suspects() == [victim])
    story.run(60)
    story.boot(victim)
    story.run(30)
    assert story.agents()[victim] == story.digest_of("a")
    story.until_ended("b", Phase.Completed)
    assert story.everywhere("b")


@scenario(workers=8)
def two_bad_nodes_in_the_second_wave(story: Story) -> None:
    """Two machines die soon after they got the content
    The second one corroborates the first: it fails, and the content is blocked.
    """
    story.publish("bad")
    exposed = story.until_moved(4)
    story.crash(exposed[-1])
    story.until("there is a suspect", lambda: story.suspects() == [exposed[-1]])
    story.run(20)
    story.crash(exposed[0])
    story.until_phase("bad", Phase.Reverting)
    story.run(20)
    story.boot(exposed[-1], exposed[0])
    story.until_ended("bad", Phase.Reverted)
    assert story.everywhere("a")
    assert story.record.blocked


@scenario(workers=6)
def node_that_fails_every_release(story: Story) -> None:
    """A compromised node feigns a crash of its agent at each release
    It can't stop one, nor have one blocked. It is tried twice, and named.
    """
    liar = "workers-3"
    for name in ("b", "c"):
        story.bring(
            name,
            "ends the agent on worker A, again and again",
            only_on(frozenset({liar}), crash_loops()),
        )
    for name in ("b", "c"):
        story.publish(name)
        story.until_ended(name, Phase.Completed)
    assert not story.record.blocked
    assert story.agents()["workers-1"] == story.digest_of("c")


@scenario(workers=6)
def node_that_stays_dead(story: Story) -> None:
    """A machine dies in the second wave and never comes back
    It keeps its slot for progressDeadline, then nobody waits for it.
    """
    story.publish("b")
    victim = story.until_moved(3)[-1]
    story.crash(victim)
    story.until_ended("b", Phase.Completed)
    story.run(600)
    story.boot(victim)
    story.run(30)
    assert story.everywhere("b")


@scenario(workers=6)
def taken_back_while_one_is_dead(story: Story) -> None:
    """A machine dies in the second wave, and a person takes the release back
    The sweep tried the machine again while it was down. It was well before it had the content, so
    the revert waits for it as for all others, and names it in the end.
    """
    story.publish("b")
    victim = story.until_moved(3)[-1]
    story.crash(victim)
    story.until_wave("rest-1", WaveState.Soaking)
    story.people("decide: Revert b", lambda: story.decide("back", "b", "Revert"))
    story.until_ended("b", Phase.Reverted)
    ended = story.record.outcomes[0]
    assert ended.reason is Reason.RevertedWithNodesDown
    assert victim in ended.message
    story.boot(victim)
    story.run(30)
    assert story.everywhere("a")


@scenario(workers=6)
def operator_dies_with_a_suspect(story: Story) -> None:
    """The operator dies right after it noted a suspect
    The record says what is to be done: a new process gives the node back.
    """
    story.publish("b")
    victim = story.until_moved(3)[-1]
    story.reboot(victim)
    story.until("there is a suspect", lambda: story.suspects() == [victim])
    story.kill()
    story.run(120)
    story.start()
    story.run(30)
    assert story.agents()[victim] == story.digest_of("a")
    story.until_ended("b", Phase.Completed)
    assert story.everywhere("b")


@scenario(
    canaries=0,
    workers=24,
    spec={
        "pools": [{"name": "workers", "selector": {}}],
        "waves": [
            {"name": "one", "upTo": 1},
            {"name": "quarter", "upTo": "25%", "soak": "20m"},
            {"name": "all", "upTo": "100%"},
        ],
        "rollout": {"bake": "0s"},
    },
)
def zone_that_is_cut_off(story: Story) -> None:
    """A zone loses its network while a wave soaks: nodes with and without the content
    Both are hit alike, so it is the cluster. The wave is held, nobody is blamed, and it goes on by
    itself when the zone is back.
    """
    story.publish("b")
    story.until_wave("quarter", WaveState.Soaking)
    story.run(16 * 60)
    zone = [*story.moved()[:3], *story.unmoved()[:9]]
    story.cut_off(*zone)
    story.until_wave("quarter", WaveState.Held)
    story.run(300)
    story.reach(*zone)
    story.until_ended("b", Phase.Completed)
    assert story.everywhere("b")


@scenario(
    canaries=0,
    workers=24,
    spec={
        "pools": [{"name": "workers", "selector": {}}],
        "waves": [{"name": "one", "upTo": 1}, {"name": "all", "upTo": "100%"}],
        "rollout": {"bake": "0s"},
    },
)
def power_is_gone_in_the_first_wave(story: Story) -> None:
    """Half of the cluster loses its power, the one node of the first wave too
    Alone it would fail the release. The machines boot with another bootID, which lasts: the node is
    excused, goes back, and the wave takes another.
    """
    story.publish("b")
    story.until_wave("one", WaveState.Soaking)
    dark = [*story.moved(), *story.unmoved()[:12]]
    story.crash(*dark)
    story.until_wave("one", WaveState.Held)
    story.run(60)
    story.boot(*dark)
    story.until_ended("b", Phase.Completed)
    assert story.everywhere("b")
