"""Three golden stories, replayed on a fleet of 200 nodes."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fidelity import fleet_waves, orders
from fidelity.fleet import NEW_KERNEL, Fleet, kind_of
from fidelity.trace import Life, Trace

BOMBED = 4
"""So many machines of a wave stop."""


@dataclass(frozen=True, slots=True)
class FleetStory:
    """A story; what it is a replay of is the golden story of its name."""

    play: Callable[[Fleet], None]
    release: str

    @property
    def name(self) -> str:
        """The golden story's name."""
        return self.play.__name__.replace("_", "-")


def the_default_plan(stage: Fleet) -> None:
    """A good release. Its plan is read while it is suspended; then it goes through all waves, and
    just so.
    """
    stage.publish("b", suspend=True)
    plan = stage.until_planned("b")
    assert plan["nodes"] == len(stage.nodes)
    stage.suspend("b", suspend=False)
    stage.until_phase("b", "Completed")
    stage.until_rest("b")
    fleet_waves.check_plan(plan, fleet_waves.waves(stage.trace(), "b"))


def content_that_crashes_on_one_kernel(stage: Fleet) -> None:
    """The agent ends on both kinds of machine with the new kernel, while one of each kind soaks.
    So it is the content: what had it goes back, and the other nodes never get it.
    """
    stage.publish("c")
    _soak(stage, "each-stratum")
    taken = fleet_waves.waves(stage.trace(), "c")[-1].nodes
    for node in taken:
        if kind_of(node).name in NEW_KERNEL:
            stage.crash_agent(node)
    stage.until_phase("c", "Reverted")
    stage.until_rest("b")
    stage.until_deleted("c")
    assert [block.release for block in stage.record().blocked] == ["c"]


def mass_crash_of_a_quarter(stage: Fleet) -> None:
    """Machines of the 25 % wave stop while it soaks. All others go back at once; those that stopped
    do so when they come back, one of them when nobody waits for it any more.
    """
    stage.publish("d")
    _soak(stage, "25-percent")
    stopped = fleet_waves.waves(stage.trace(), "d")[-1].nodes[:BOMBED]
    for node in stopped:
        stage.crash(node)
    stage.until_phase("d", "Reverting")
    for node in stopped:
        stage.until_lost(node)
    stage.until_runs("b", set(stage.nodes) - {*stopped})
    for node in stopped[1:]:
        stage.boot(node)
    stage.until_phase("d", "Reverted")
    stage.boot(stopped[0])
    stage.until_rest("b")
    stage.until_deleted("d")


STORIES = (
    FleetStory(the_default_plan, "b"),
    FleetStory(content_that_crashes_on_one_kernel, "c"),
    FleetStory(mass_crash_of_a_quarter, "d"),
)
RECORDED_AS = "fleet-"
"""What the names of their recordings begin with."""
Result = dict[str, Any] | BaseException
"""What was seen of a story, or why it could not be played."""


def play(
    stage: Fleet,
    stories: Sequence[FleetStory] = STORIES,
    note: Callable[[str], None] = lambda _name: None,
) -> Mapping[str, Result]:
    """Play stories one after the other; by name, what came of it. After one that could not be
    played there are no more. `note` is told of each that ends.
    """
    results: dict[str, Result] = {}
    try:
        stage.begin()
        note("begin")
        for story in stories:
            stage.cut()
            story.play(stage)
            results[story.name] = seen(story, stage.trace())
            note(story.name)
    except BaseException as error:  # noqa: BLE001 - shown by the stories' own tests
        return {story.name: results.get(story.name, error) for story in stories}
    return results


def seen(story: FleetStory, trace: Trace) -> dict[str, Any]:
    """What is recorded and compared. Raises when causality was broken, or a wave's nodes are not
    as every plan has them. A wave may be held for a moment by machines that are about to be found
    lost: that is not told.
    """
    orders.check(trace)
    taken = fleet_waves.waves(trace, story.release)
    fleet_waves.check(taken)
    told = {"waves": [wave.told() for wave in taken], **trace.observable()}
    record = Life()
    for state in told["record"]:
        if not state.endswith(" Held"):
            record.add(state)  # what it was before, and is again, is one state
    return told | {"record": record.states, "nodes": _folded(told["nodes"], story.release)}


def _folded(nodes: list[dict[str, Any]], release: str) -> list[dict[str, Any]]:
    """Without what is left open: the side that an earlier story left behind, whether who is harmed
    first is a suspect for a moment (its label is taken back), and whether a lost node's pod is
    told to be not Ready before it is deleted.
    """
    counts: Counter[str] = Counter()
    for node in nodes:
        pods = [life.replace("→ not ready → ending", "→ ending") for life in node["pods"]]
        folded = {**node, "side": "moved" if release in node["side"] else "", "pods": pods}
        counts[json.dumps(folded | {"count": 0})] += node["count"]
    return [json.loads(text) | {"count": count} for text, count in sorted(counts.items())]


def _soak(stage: Fleet, wave: str) -> None:
    """Wait until a wave soaks, and give it time: a longer soak acts at once, for this release."""
    stage.until_wave(wave)
    spec = stage.channel()
    stage.edit_channel({**spec, "rollout": {**spec["rollout"], "soak": "60s"}})
    stage.until_wave(wave, "Soaking")
    stage.edit_channel(spec)
