"""Stories of nodes that leave or are rebooted as announced, and of one that is not."""

from simulation.cluster import Simulation
from simulation.scenarios import scenario
from simulation.story import Story
from wavegate.api import Phase, WaveState

TWO_CANARIES = [
    {"name": "canary", "pools": ["canary"], "upTo": 1},
    {"name": "all", "upTo": "100%"},
]
ANY_NODE = {"waves": [{"name": "one", "upTo": 1}, {"name": "all", "upTo": "100%"}]}

DEFAULT_WAVES = [
    {"name": "one", "upTo": 1, "soak": "15m"},
    {"name": "few", "upTo": "5%", "soak": "15m"},
    {"name": "quarter", "upTo": "25%", "soak": "10m"},
    {"name": "half", "upTo": "50%", "soak": "10m"},
    {"name": "all", "upTo": "100%", "soak": "10m"},
]


@scenario(canaries=0, workers=5, spec=ANY_NODE | {"pools": [{"name": "workers", "selector": {}}]})
def autoscaler_takes_the_first_node(story: Story) -> None:
    """Cluster Autoscaler drains and removes the only node of the first wave
    It was tainted while it was well, so its end is no harm. But it proves nothing either: the wave
    is done again on another node, with a whole soak.
    """
    story.publish("b")
    story.until_wave("one", WaveState.Soaking)
    story.run(5)
    [victim] = story.moved()
    story.say("autoscaler", "{} is cordoned and tainted; its machine goes in 15 s", [victim])
    story.act(lambda: story.autoscaler.shrink(victim))
    story.until_ended("b", Phase.Completed)
    assert story.everywhere("b")
    assert len(story.record.outcomes[0].waves) == 3
    [event] = [e for e in story.server.all("events") if e["reason"] == "NodeExcused"]
    assert event["note"] == f"left as announced: {victim}"


@scenario(workers=5)
def kured_reboots_a_node(story: Story) -> None:
    """kured drains a node that was moved, reboots it, and lets it back
    The cordon announced it. The node is down for two minutes; the others of its wave speak for the
    release, and what it is after the boot is its new baseline.
    """
    story.publish("b")
    victim = story.until_moved(5)[0]
    story.set_node(victim, "kured cordons {} and drains it", unschedulable=True)
    story.run(10)
    story.crash(victim)
    story.run(120)
    story.boot(victim)
    story.run(20)
    story.set_node(victim, "kured uncordons {}", unschedulable=False)
    story.until_ended("b", Phase.Completed)
    assert story.everywhere("b")


@scenario(canaries=2, workers=4, spec={"waves": TWO_CANARIES})
def kured_reboots_the_canary_quickly(story: Story) -> None:
    """kured reboots the only node of the first wave within seconds, and lets it back
    The restart of its agent is told eight seconds before its bootID. Until then it may be a crash,
    so nothing moves; then it is excused, and the wave is done again on another node.
    """
    story.publish("b")
    story.until_wave("canary", WaveState.Soaking)
    [canary] = story.moved("canary")
    story.set_node(canary, "kured cordons {} and drains it", unschedulable=True)
    story.run(5)
    story.reboot_in_parts(canary, 8)
    story.run(8.2)
    story.set_node(canary, "kured uncordons {}", unschedulable=False)
    story.until_ended("b", Phase.Completed)
    assert story.everywhere("b")
    assert not story.record.blocked


@scenario(canaries=2, workers=4, spec={"waves": TWO_CANARIES})
def canary_crashes_on_a_cordoned_node(story: Story) -> None:
    """The agent crashes once, on a canary that was cordoned for a reboot
    No other bootID follows, so it was the content. It is found half a minute later than on other
    nodes, and until then nothing moves.
    """
    story.publish("bad")
    story.until_wave("canary", WaveState.Soaking)
    [canary] = story.moved("canary")
    story.set_node(canary, "kured cordons {} and drains it", unschedulable=True)
    story.run(5)
    story.restart_agent(canary)
    story.until_ended("bad", Phase.Reverted)
    assert story.everywhere("a")
    assert story.record.blocked


@scenario(workers=5)
def repairer_removes_a_crashed_node(story: Story) -> None:
    """Auto-repair cordons and removes a node because the content killed it
    The cordon comes after the crash, so it hides nothing.
    """
    story.publish("bad")
    story.until_wave("canary", WaveState.Soaking)
    victim = "canary-1"
    story.crash(victim)
    story.run(35)
    story.set_node(victim, "auto-repair cordons {}, which does not answer it", unschedulable=True)
    story.run(5)
    story.remove_node(victim)
    story.until_ended("bad", Phase.Reverted)
    assert story.everywhere("a")
    assert story.record.blocked


@scenario(workers=5)
def kernel_deadlock_on_one_node(story: Story) -> None:
    """A node stays Ready, but its kernel hangs: the Node Problem Detector says so
    It did not say so when the wave opened. That another node had a problem before is no news.
    """
    story.condition("workers-5", "ReadonlyFilesystem")
    story.publish("bad")
    story.until_wave("canary", WaveState.Soaking)
    story.condition("canary-1", "KernelDeadlock")
    story.until_ended("bad", Phase.Reverted)
    assert story.everywhere("a")
    assert story.record.blocked


@scenario(canaries=0, workers=40, spec=ANY_NODE | {"pools": [{"name": "workers", "selector": {}}]})
def autoscaler_that_replaces_a_third_in_an_hour(story: Story) -> None:
    """An autoscaler replaces one of 40 nodes every four minutes: more than a third in an hour
    Soaks are those of the defaults. What leaves is excused, what joins is left for a sweep, and in
    each soaked sweep more join than may be moved at last. After four of them what is left is moved
    all the same, two at a time, each settled: so the release comes to its end.
    """
    pace = {"maxUnavailable": "5%", "settle": "60s", "bake": "0s"}
    story.people(
        "set the waves, soaks and limits that are the defaults",
        lambda: story.patch("Channel", "rules", waves=DEFAULT_WAVES, rollout=pace),
    )
    story.run(5)
    story.say("autoscaler", "replaces a node every four minutes, from now on")
    story.publish("b")
    replaced, ends = 0, story.now + 6 * 3600
    while story.status("b").get("phase") != "Completed":
        assert story.now < ends, "it stays open as long as nodes are replaced"
        present = sorted(name for _, name in story.server.objects["nodes"])
        leaves = present[replaced * 7 % len(present)]
        story.act(lambda name=leaves: story.autoscaler.shrink(name))
        [joined] = Simulation.add_nodes(story, "workers", 1)
        story.machines.machines[joined].beat = 0.0
        replaced += 1
        story.run(240)
    story.say("autoscaler", f"has replaced {replaced} nodes")
    names = [wave.name for wave in story.record.outcomes[0].waves]
    assert ("rest-4" in names, "rest-5" in names) == (True, False)
    assert story.everywhere("b")
