"""Stories of rollback drills: the way back is tried on a machine before many are moved."""

from simulation.machines import crash_loops
from simulation.scenarios import scenario
from simulation.story import Story
from wavegate.api import Phase

ALWAYS = {"spec": {"rollout": {"drill": "Always"}}}


def away(story: Story) -> bool:
    """Whether a node is back on stable for a drill."""
    rollout = story.record.rollout
    drill = rollout.drilling if rollout else None
    return drill is not None and drill.back_since is not None and drill.is_away


@scenario(**ALWAYS)
def rollback_drill(story: Story) -> None:
    """A release drills the way back before its first wave soaks
    The canary really goes back to stable, proves to be well there, and gets the release again; its
    soak begins after that. No other node is touched.
    """
    story.publish("b")
    story.until_ended("b", Phase.Completed)
    assert story.everywhere("b")


@scenario(**ALWAYS)
def drill_that_fails(story: Story) -> None:
    """Stable's image is gone from the registry, and from the canary's disk
    No dry run could tell. Only the canary is without an agent; the release ends before a second
    node gets it, and its content, which did no harm, is not blocked.
    """
    story.publish("b")
    story.until(
        "the candidate runs", lambda: story.agents().get("canary-1") == story.digest_of("b")
    )
    story.say("given", "the image of a is gone from the registry, and from the canary's disk")
    story.machines.unpullable.add(story.digest_of("a"))
    story.until_ended("b", Phase.Reverted)
    assert not story.record.blocked
    assert "canary-1" not in story.agents()
    story.say("people", "push the image of a again")
    story.machines.unpullable.clear()
    story.run(60)
    assert story.everywhere("a")


@scenario(**ALWAYS)
def stable_that_crashes_in_a_drill(story: Story) -> None:
    """Once the new content was on a host, stable's agent crashes there
    It is seen at once, and not after progressDeadline.
    """
    story.publish("b")
    has = story.digest_of("b")
    story.until("the candidate runs", lambda: story.agents().get("canary-1") == has)
    story.bring("a", "ends the agent where b has been", crash_loops(2.0))
    story.until_ended("b", Phase.Reverted)
    assert not story.record.blocked


@scenario(**ALWAYS)
def operator_dies_in_a_drill(story: Story) -> None:
    """The operator dies while a node is back for a drill
    The node stays on stable, as safe as all others. The record says what is next: a new process
    gives it the release again, and goes on.
    """
    story.publish("b")
    story.until("a node is away", lambda: away(story))
    story.kill()
    story.run(900)
    assert story.everywhere("a")
    story.start()
    story.until_ended("b", Phase.Completed)
    assert story.everywhere("b")


@scenario(canaries=2, **ALWAYS)
def drained_in_a_drill(story: Story) -> None:
    """The node of the drill is cordoned and rebooted while it is back
    Somebody announced it, so it proves nothing and blames nobody: the wave begins again on another
    node, with a drill of its own.
    """
    story.publish("b")
    story.until("a node is away", lambda: away(story))
    assert story.record.rollout is not None
    assert story.record.rollout.drill is not None
    node = story.record.rollout.drill.node
    story.set_node(node, "{}: cordoned, to be rebooted", unschedulable=True)
    story.run(5)
    story.reboot(node)
    story.run(60)
    story.set_node(node, "{}: uncordoned", unschedulable=False)
    story.until_ended("b", Phase.Completed)
    assert story.everywhere("b")


@scenario(
    spec={
        **ALWAYS["spec"],
        "pools": [
            {"name": "canary", "selector": {"matchLabels": {"pool": "canary"}}, "critical": True},
            {"name": "workers", "selector": {"matchLabels": {"pool": "workers"}}},
            {"name": "early", "selector": {"matchLabels": {"pool": "canary"}}},
        ],
        "waves": [
            {"name": "early", "pools": ["early"], "upTo": 1},
            {"name": "all", "upTo": "100%"},
        ],
    }
)
def drill_after_a_wave_without_nodes(story: Story) -> None:
    """All nodes of the first wave are critical, so they come last and it has none
    A wave without nodes proves nothing and tries no way back: the drill is made in the first wave
    that has some.
    """
    story.publish("b")
    story.until("a node is away", lambda: away(story))
    assert story.record.rollout is not None
    assert story.record.rollout.drill is not None
    assert story.record.rollout.drill.node.startswith("workers")
    story.until_ended("b", Phase.Completed)
    assert story.everywhere("b")
