"""Stories in which the release passes in the end, whatever happens to nodes on the way."""

from simulation.scenarios import scenario
from simulation.story import Story
from wavegate.api import Phase, WaveState


@scenario(before="")
def first_release(story: Story) -> None:
    """The first release of a channel
    No node has an agent yet, so the waves bring it; nodes that are not moved yet have none.
    """
    story.people("create the channel", story.apply_channel)
    story.publish("a")
    story.until_ended("a", Phase.Completed)
    assert story.everywhere("a")


@scenario(workers=9)
def good_release(story: Story) -> None:
    """A good release
    One canary; then the rest, never more at once than are settled already: 1, 2, 4…
    """
    story.publish("b")
    story.until_ended("b", Phase.Completed)
    assert story.everywhere("b")


@scenario()
def node_not_ready_before(story: Story) -> None:
    """A node that was NotReady before is not chosen and not blamed
    It is labelled in the last sweep, so that it comes back with the new content.
    """
    story.crash("workers-2")
    story.run(70)
    story.publish("b")
    story.until_ended("b", Phase.Completed)
    story.boot("workers-2")
    story.run(20)
    assert story.everywhere("b")


@scenario()
def node_joins_mid_wave(story: Story) -> None:
    """A node joins while a wave is under way
    It gets stable at once, and the candidate in the sweep after the last wave.
    """
    story.publish("b")
    story.until_moved(1)
    [name] = story.add_nodes("workers", 1)
    story.run(15)
    story.say("kubelet", "{} runs a, the stable content", [name])
    assert story.agents()[name] != story.agents()["canary-1"]
    story.until_ended("b", Phase.Completed)
    assert story.everywhere("b")


@scenario()
def node_drained_before_its_move(story: Story) -> None:
    """A node of an open wave is drained and removed before it is moved
    It never had the candidate: nobody is blamed, the wave goes on without it.
    """
    story.publish("b")
    story.until_moved(1)
    victim = story.unmoved()[0]
    story.say("autoscaler", "{} is cordoned and tainted; its machine goes in 15 s", [victim])
    story.act(lambda: story.autoscaler.shrink(victim))
    story.until_ended("b", Phase.Completed)
    assert story.everywhere("b")


@scenario()
def node_cordoned(story: Story) -> None:
    """Two nodes are cordoned while the release runs, one moved and one not
    A cordon takes no agent away and is no harm: daemon pods ignore it.
    """
    story.publish("b")
    moved = story.until_moved(1)[0]
    story.set_node(moved, "cordon {}", unschedulable=True)
    story.set_node(story.unmoved()[0], "cordon {}", unschedulable=True)
    story.until_ended("b", Phase.Completed)
    assert story.everywhere("b")


@scenario()
def node_replaced_before_its_move(story: Story) -> None:
    """A node of an open wave is replaced under its name before it is moved
    The label carries the UID of the ledger, so the new machine is not moved under the old one's
    baseline; it comes in a sweep, with a baseline of its own.
    """
    story.publish("b")
    story.until_moved(1)
    victim = story.unmoved()[0]
    story.remove_node(victim)
    story.run(1)
    story.replace_node(victim)
    story.until_ended("b", Phase.Completed)
    assert story.everywhere("b")


@scenario()
def labelled_onto_the_candidate(story: Story) -> None:
    """Someone gives a node the candidate's label before its turn
    The DaemonSet controller obeys labels, so the node gets the candidate early; it counts as
    moved, and its health counts from the ledger that it stands in.
    """
    story.publish("b")
    story.until_moved(1)
    victim, attempt = story.unmoved()[-1], story.attempt_of("b")
    story.people("label {} for b by hand", lambda: story.label_node(victim, key=attempt), [victim])
    story.until_ended("b", Phase.Completed)
    assert story.everywhere("b")


@scenario()
def label_taken_away(story: Story) -> None:
    """Someone takes the label from a node that was moved
    That is respected: the node goes back to stable, and only the sweep at the end moves it again.
    """
    story.publish("b")
    victim = story.until_moved(1)[0]
    story.people("take our label from {}", lambda: story.label_node(victim, key=None), [victim])
    story.until_ended("b", Phase.Completed)
    assert story.everywhere("b")


@scenario()
def node_tainted_in_the_middle(story: Story) -> None:
    """A node gets a taint that the agent does not tolerate
    Its agent runs on, but no new one could start there: the node is not moved, and the promotion,
    which would take its agent away for ever, waits for a person.
    """
    story.publish("b")
    story.until_moved(1)
    victim = story.unmoved()[0]
    taint = {"key": "dedicated", "value": "gpu", "effect": "NoSchedule"}
    story.set_node(victim, "taint {}: dedicated=gpu:NoSchedule", taints=[taint])
    story.until("a hold", lambda: story.status("b").get("reason") == "NotMovable")
    story.run(300)
    story.set_node(victim, "take the taint from {}", taints=[])
    story.until_ended("b", Phase.Completed)
    assert story.everywhere("b")


@scenario()
def evicted_pod(story: Story) -> None:
    """An agent's pod is deleted by someone, as an eviction would
    On a node with the candidate the candidate comes back: no restart, no harm. The soak looks at
    its nodes again.
    """
    story.publish("b")
    story.until_wave("all", WaveState.Soaking)
    victim = story.moved()[0]
    story.people("delete the agent's pod on {}", lambda: story.delete_pod(victim), [victim])
    story.until_ended("b", Phase.Completed)
    assert story.everywhere("b")


@scenario()
def silent_kubelet(story: Story) -> None:
    """A kubelet is silent for two minutes, but its machine lives
    Its lease is not renewed: no further node is moved. Silence is no harm, and no evidence either.
    """
    story.publish("b")
    victim = story.until_moved(1)[0]
    story.say("machine", "the network eats the renewals of {}", [victim])
    story.machines.machines[victim].silent = True
    story.run(100)
    story.say("machine", "the renewals of {} get through again", [victim])
    story.machines.machines[victim].silent = False
    story.until_ended("b", Phase.Completed)
    assert story.everywhere("b")


CHECK = {"name": "errors", "query": 'errors{node=~"$nodes"}', "max": "1", "interval": "10s"}
CHECKED = {"checks": [CHECK], "prometheus": {"url": "http://prometheus.example"}}


@scenario(spec=CHECKED)
def prometheus_gone_and_back(story: Story) -> None:
    """Prometheus is gone for ten minutes
    No answer is a hold: nothing moves, nothing fails, and the release goes on when it is back.
    """
    story.publish("b")
    story.until_wave("canary", WaveState.Soaking)
    story.say("machine", "Prometheus is gone")
    story.prometheus.error = "the connection was refused"
    story.run(600)
    story.say("machine", "Prometheus is back")
    story.prometheus.error = ""
    story.until_ended("b", Phase.Completed)
    assert story.everywhere("b")


COMPARED = {
    **CHECKED,
    "checks": [{**CHECK, "control": {"maxRatio": 3}}],
    "pools": [{"name": "workers", "selector": {"matchLabels": {"pool": "workers"}}}],
    "waves": [{"name": "first", "upTo": 1}, {"name": "all", "upTo": "100%"}],
}


@scenario(canaries=0, workers=10, spec={**COMPARED, "rollout": {"bake": "0s"}})
def busy_everywhere(story: Story) -> None:
    """For a while every node has more errors than the limit
    The nodes of its pool without the content have them too, so nothing is taken back. In the last
    wave none is left to compare with, nor in a bake, which is why a does not bake here.
    """
    story.publish("b")
    story.until_wave("first", WaveState.Soaking)
    story.say("machine", "errors rise to 4 everywhere; at most 1 is allowed, or 3 times the rest's")
    story.prometheus.default = 4.0
    story.run(20)
    story.say("machine", "errors fall to 0 everywhere")
    story.prometheus.default = 0.0
    story.until_ended("b", Phase.Completed)
    assert story.everywhere("b")


@scenario(spec=CHECKED)
def not_scraped_yet(story: Story) -> None:
    """Prometheus knows nothing of a node for 40 s after its move
    Its new pod was not scraped yet: that is waited for. It is no hold, and no pass.
    """
    story.prometheus.values["canary-1"] = None
    story.publish("b")
    story.until_wave("canary", WaveState.Judging)
    story.run(20)
    story.say("machine", "Prometheus has scraped {}", ["canary-1"])
    del story.prometheus.values["canary-1"]
    story.until_ended("b", Phase.Completed)
    assert story.everywhere("b")


@scenario(spec={**CHECKED, "rollout": {"holdTimeout": "5m"}})
def nobody_looks(story: Story) -> None:
    """Prometheus stays away, and nobody looks
    After holdTimeout the release is paused and waits for a person, who sets suspend and unsets it.
    """
    story.publish("b")
    story.until_wave("canary", WaveState.Soaking)
    story.say("machine", "Prometheus is gone")
    story.prometheus.error = "the connection was refused"
    story.run(3_600)
    story.say("machine", "Prometheus is back")
    story.prometheus.error = ""
    story.run(600)
    story.suspend("Release", "b", on=True)
    story.run(5)
    story.suspend("Release", "b", on=False)
    story.until_ended("b", Phase.Completed)
    assert story.everywhere("b")
