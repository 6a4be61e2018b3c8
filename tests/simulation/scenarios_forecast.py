"""Stories about the plan that is shown before anything starts, and whether it is kept to."""

from typing import Any

from simulation.scenarios import scenario
from simulation.scenarios_plan import NEW_KERNEL, pools
from simulation.story import Story
from wavegate.api import Phase
from wavegate.rollout.names import CONTROL_PLANE_LABEL


def shown_plan(story: Story) -> dict[str, Any]:
    """What the channel's status says of the next release, told wave by wave."""
    story.until("a plan names the nodes", lambda: _first_of(story))
    plan = dict(story.channel_status()["plan"])
    story.say("plan of the channel", f"release {plan['release']}, least {plan['least']}")
    for wave in plan["waves"]:
        story.say(
            "plan of the channel", f"{wave['name']}: {wave['summary']}; {{}}", wave.get("first", [])
        )
    return plan


def _first_of(story: Story) -> list[str]:
    waves = story.channel_status().get("plan", {}).get("waves") or [{}]
    return list(waves[0].get("first", []))


@scenario(canaries=0, workers=7, before="")
def planned_and_followed(story: Story) -> None:
    """A channel that is suspended shows which nodes come when, and then they do
    Two kernels, expensive nodes, one that no pool selects, one of the control plane. Nothing moves
    as long as the channel is suspended; afterwards each node comes at its place.
    """
    story.add_nodes("workers", 3, "newer", **NEW_KERNEL)
    story.add_nodes("payments", 3)
    story.add_nodes("spare", 1)
    story.add_nodes("workers", 1, "master", labels={CONTROL_PLANE_LABEL: ""})
    story.run(30)
    story.apply_channel(waves=[], pools=pools("payments")[1:], suspend=True)
    story.publish("a")
    plan = shown_plan(story)
    assert plan["nodes"] == 15
    story.run(1_800)
    assert not story.moves
    story.suspend("Channel", "rules", on=False)
    story.until_ended("a", Phase.Completed)
    planned = [name for wave in plan["waves"] for name in wave.get("first", [])]
    assert story.moves == planned, f"not as planned: {planned}"
    assert story.everywhere("a")
