"""Stories about two channels on the same nodes."""

from typing import Any

from simulation.cluster import another_agent
from simulation.scenarios import scenario
from simulation.story import Story
from wavegate.api import Phase, WaveState
from wavegate.cluster.projections import stored_config_map
from wavegate.rollout.names import ledger_name

HALVES = {
    "waves": [
        {"name": "half", "pools": ["workers"], "upTo": 3, "soak": "2m"},
        {"name": "all", "upTo": "100%"},
    ]
}


def second_channel(story: Story, **spec: Any) -> None:
    """Another agent, with content of its own, on all nodes."""
    agent = another_agent("scanner")
    what = "create channel models, of another agent on the same nodes"
    story.people(what, lambda: story.apply_channel("models", agent=agent, **spec))


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


@scenario(workers=6, spec=HALVES)
def two_channels_wait_for_each_other(story: Story) -> None:
    """Two channels have three workers each, and an autoscaler takes two from both
    Each has to do its wave again on another node, and keeps the one that it has left; the only
    other is the one that the other channel keeps. Neither is held, so nobody is asked. After half
    an hour of waiting their nodes are free: one goes on, and the other when that wave has passed.
    """
    circle(story)
    story.run(1_700)
    assert in_a_circle(story)
    story.until_ended("b", Phase.Completed)
    story.until_ended("m", Phase.Completed)
    assert story.everywhere("b")


def circle(story: Story) -> None:
    """Two channels wait for each other."""
    second_channel(story, **HALVES)
    story.publish("m", channel="models")
    story.until("m moves", lambda: _half(story, "models"))
    story.publish("b")
    story.until("both have three nodes", lambda: _soaks(story, "models") and _soaks(story, "rules"))
    victims = [n for channel in ("rules", "models") for n in _half(story, channel)[:2]]
    story.say("autoscaler", "{} are cordoned and tainted; their machines go in 15 s", victims)
    for victim in victims:
        story.act(lambda name=victim: story.autoscaler.shrink(name))
    story.until("each waits for the other", lambda: in_a_circle(story))


def in_a_circle(story: Story) -> bool:
    """Whether both wait for each other."""
    return {story.status(name).get("reason") for name in "bm"} == {"NodeBusy"}


def _half(story: Story, channel: str) -> list[str]:
    """The nodes in the ledger of a channel's first wave; empty: it has stored none."""
    rollout = story.record_of(channel).rollout
    name = ledger_name(rollout.attempt, rollout.waves[0].ledger) if rollout else ""
    body = story.server.find("configmaps", name, "agents")
    ledger = stored_config_map(body, None, 0.0).ledger if body else None
    return [entry.name for entry in ledger.nodes] if ledger else []


def _soaks(story: Story, channel: str) -> bool:
    rollout = story.record_of(channel).rollout
    return rollout is not None and rollout.waves[-1].state is WaveState.Soaking


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
