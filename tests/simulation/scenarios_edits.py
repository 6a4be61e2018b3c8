"""Stories about people who change their mind while a release rolls out."""

from simulation.scenarios import scenario
from simulation.story import Story
from wavegate.api import Phase, WaveState


def edit(story: Story, what: str, **rollout: object) -> None:
    spec = story.channel_spec()["rollout"]
    story.people(what, lambda: story.patch("Channel", "rules", rollout={**spec, **rollout}))


@scenario(spec={"rollout": {"maxUnavailable": "100%"}})
def slower_in_flight(story: Story) -> None:
    """A person gets uneasy after the first wave: fewer nodes at once, and a longer soak
    Both act on the running release. When the person takes them back, they stay: nothing loosens
    what rolls out.
    """
    story.publish("b")
    story.until_moved(1)
    edit(story, "edit the channel: maxUnavailable 1, soak 2m", maxUnavailable=1, soak="2m")
    story.run(60)
    edit(story, "take both back", maxUnavailable="100%", soak="10s")
    story.run(5)
    plan = story.record.rollout.plan
    assert [wave.soak for wave in plan.waves] == [30.0, 120.0]
    assert str(plan.max_unavailable) == "1"
    story.until_ended("b", Phase.Completed)
    assert story.everywhere("b")


@scenario()
def approval_in_flight(story: Story) -> None:
    """A person asks for an approval of the last wave while the first one soaks
    The wave waits for a person. That the pools changed in the same edit waits for the next release,
    and the channel says so.
    """
    story.publish("b")
    story.until("the first wave soaks", lambda: _state(story) is WaveState.Soaking)
    spec = story.channel_spec()
    waves = [{**wave, "approval": "Required"} for wave in spec["waves"]]
    pools = [*spec["pools"], {"name": "more", "selector": {}}]
    story.people(
        "edit the channel: approval of both waves, one pool more",
        lambda: story.patch("Channel", "rules", waves=waves, pools=pools),
    )
    story.until("the last wave waits", lambda: _state(story) is WaveState.AwaitingApproval)
    [said] = [c for c in story.channel_status()["conditions"] if c["type"] == "PlanCurrent"]
    assert said["reason"] == "PlanOutdated"
    assert "spec.pools" in said["message"]
    story.people("decide: Approve all", lambda: story.decide("go", "b", "Approve", wave="all"))
    story.until_ended("b", Phase.Completed)
    assert story.everywhere("b")


def _state(story: Story) -> WaveState | None:
    rollout = story.record.rollout
    return rollout.waves[-1].state if rollout and rollout.waves else None


@scenario()
def blocked_in_flight(story: Story) -> None:
    """A person hears from another cluster that the content is bad, and blocks it here
    No node has shown harm, and no policy proves who decided; it tightens, so it is obeyed. The
    release goes back, and the same content does not start under another name.
    """
    story.policies = False
    story.publish("b")
    story.until_moved(1)
    story.people("decide: Block b", lambda: story.decide("heard", "b", "Block"))
    story.until_ended("b", Phase.Reverted)
    story.publish("b-again", "b")
    story.run(60)
    assert story.record.rollout is None
    assert story.everywhere("a")
