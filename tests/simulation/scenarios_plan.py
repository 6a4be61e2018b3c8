"""Stories about the plan: kinds of machines, zones, critical pools, the control plane, canaries."""

from simulation.machines import crash_loops
from simulation.scenarios import scenario
from simulation.story import Story
from wavegate.api import Phase, WaveState
from wavegate.rollout.names import CANARY_LABEL, CONTROL_PLANE_LABEL, ZONE_LABEL

NEW_KERNEL = {"kernelVersion": "6.18.1"}
POOLS = ("canary", "workers", "payments")


def pools(*critical: str) -> list[dict[str, object]]:
    """Pools by label; these are critical."""
    found = []
    for name in POOLS:
        pool: dict[str, object] = {"name": name, "selector": {"matchLabels": {"pool": name}}}
        found.append(pool | ({"critical": True} if name in critical else {}))
    return found


@scenario(workers=6)
def content_that_crashes_on_one_kernel(story: Story) -> None:
    """Content breaks one kernel only, which no canary has
    The wave takes one node of it, not ten. That one alone is a suspect; the one that takes its
    place fails too, so it is the content, and the other eight never get it.
    """
    new = story.add_nodes("workers", 10, "newer", **NEW_KERNEL)
    story.run(30)
    story.bring(
        "bad",
        "ends the agent on a new kernel, again and again",
        lambda machines, name, pod: (
            crash_loops()(machines, name, pod) if name.startswith("newer") else None
        ),
    )
    story.publish("bad")
    story.until_ended("bad", Phase.Reverted)
    assert len({n for n in story.moves if n in new}) == 2
    assert story.record.blocked


@scenario(workers=4)
def control_plane_last(story: Story) -> None:
    """Three nodes of the control plane are in the same pool as all others
    They come last, one by one, and each soaks before the next one.
    """
    story.add_nodes("workers", 3, "master", labels={CONTROL_PLANE_LABEL: ""})
    story.run(30)
    story.publish("b")
    story.until_ended("b", Phase.Completed)
    assert [n.partition("-")[0] for n in story.moves][-3:] == ["master"] * 3
    assert story.everywhere("b")


@scenario(canaries=0, workers=14, before="")
def the_default_plan(story: Story) -> None:
    """A channel without waves of its own
    One node; one of each kind of machine; a quarter, a half, all; what no pool selects; then the
    critical pool, and the control plane last.
    """
    story.add_nodes("workers", 4, "newer", **NEW_KERNEL)
    story.add_nodes("payments", 3)
    story.add_nodes("spare", 2)
    story.add_nodes("spare", 1, "master", labels={CONTROL_PLANE_LABEL: ""})
    story.apply_channel(waves=[], pools=pools("payments")[1:])
    story.publish("a")
    story.until_ended("a", Phase.Completed)
    assert story.everywhere("a")


@scenario(canaries=0, workers=5, before="")
def canaries_by_label(story: Story) -> None:
    """People say which nodes are canaries, and which must not be
    The preferred one is the first; the one that is spared is in none of the first two waves, and
    gets the content with the others after them.
    """
    story.add_nodes("canary", 1, "chosen", labels={CANARY_LABEL: "preferred"})
    story.add_nodes("canary", 1, "spared", labels={CANARY_LABEL: "never"})
    waves = [
        {"name": "first", "upTo": 1},
        {"name": "half", "upTo": "50%"},
        {"name": "all", "upTo": "100%"},
    ]
    story.apply_channel(waves=waves)
    story.publish("a")
    story.until_ended("a", Phase.Completed)
    assert story.moves[0] == "chosen-1"
    assert story.moves.index("spared-1") >= 4


@scenario(canaries=1, workers=1)
def a_wave_in_three_zones(story: Story) -> None:
    """Nine workers in three zones, and one that names none
    A wave of four takes one of each.
    """
    zones = ("east", "south", "west")
    for zone in zones:
        story.add_nodes("workers", 3, zone, labels={ZONE_LABEL: zone})
    story.run(30)
    _give_three_waves(story, "four", 4)
    story.publish("b")
    story.until_ended("b", Phase.Completed)
    moved = [n.partition("-")[0] for n in story.moves if not n.startswith("canary")]
    assert sorted(moved[:4]) == [*zones, "workers"]


@scenario(canaries=0, workers=1, before="")
def a_fleet_of_one_node(story: Story) -> None:
    """One node, and a channel without waves of its own
    Nothing else could notice harm before all is lost, so a person is asked, for as long as it
    takes.
    """
    story.apply_channel(waves=[], pools=pools()[1:2])
    story.publish("a")
    story.run(7_200)
    assert not story.moved()
    story.people(
        "decide: Approve wave first-node of a",
        lambda: story.decide("fine", "a", "Approve", wave="first-node"),
    )
    story.until_ended("a", Phase.Completed)
    assert story.everywhere("a")


@scenario(canaries=0, workers=30, before="")
def small_pools_in_steps(story: Story) -> None:
    """A pool of one node and one of six, beside one of thirty
    The single node waits for a larger pool; of the six at most one, one and two get the content in
    one wave, whatever share of all a wave takes.
    """
    story.add_nodes("canary", 1)
    six = story.add_nodes("payments", 6)
    story.apply_channel(waves=[], pools=pools())
    story.publish("a")
    counts: list[int] = []
    for wave in ("25-percent", "half", "all"):
        story.until_wave(wave, WaveState.Soaking)
        counts.append(len({n for n in story.moves if n in six}))
    story.until_ended("a", Phase.Completed)
    steps = [after - before for before, after in zip([0, *counts], counts, strict=False)]
    assert max(steps) <= 2, counts
    assert story.everywhere("a")


@scenario(canaries=0, workers=20, before="")
def small_pool_before_a_critical_one(story: Story) -> None:
    """A pool of nine beside one of twenty, a critical pool, and a node of the control plane
    The nine go one, one, and then by halves. Those that the last wave over ordinary pools leaves
    behind come in that wave once more, and again, until none is left: only then the critical pool
    has its turn. A node that joins meanwhile keeps nobody waiting: it is swept at the end.
    """
    nine = story.add_nodes("canary", 9)
    story.add_nodes("payments", 2)
    story.add_nodes("workers", 1, "master", labels={CONTROL_PLANE_LABEL: ""})
    story.apply_channel(waves=[], pools=pools("payments"))
    story.publish("a")
    story.until_wave("all-2", WaveState.Soaking)
    late = story.add_nodes("workers", 1, "late")
    story.until_ended("a", Phase.Completed)
    first = min(place for place, name in enumerate(story.moves) if name.startswith("payments"))
    assert {*nine} <= {*story.moves[:first]}
    assert story.moves[-1:] == late
    assert story.everywhere("a")


@scenario()
def start_that_is_given_up(story: Story) -> None:
    """A pool selects no node in the moment in which a release starts
    That is nothing about the release: nothing of it was made yet, so it is as if it had not
    started. It starts again by itself when the pool has nodes.
    """
    none = {"name": "none", "selector": {"matchLabels": {"pool": "none"}}}
    right = story.channel_spec()["pools"]
    story.publish("b")
    while story.record.rollout is None:
        story.run(0.01)
    story.people(
        "give the channel a pool that selects no node",
        lambda: story.patch("Channel", "rules", pools=[*right, none]),
    )
    story.run(60)
    assert story.record.rollout is None
    assert story.status("b")["phase"] == Phase.Pending
    assert story.status("b")["reason"] == "PoolMatchesNoNode"
    story.people("take it away again", lambda: story.patch("Channel", "rules", pools=right))
    story.until_ended("b", Phase.Completed)
    assert story.everywhere("b")


WORKERS = {
    "waves": [
        {"name": "canary", "pools": ["canary"], "upTo": "100%"},
        {"name": "workers", "pools": ["workers"], "upTo": "100%"},
    ]
}


@scenario(workers=2, spec=WORKERS)
def pool_that_selects_no_node_any_more(story: Story) -> None:
    """While the first wave soaks, people give all workers another label
    The plan is frozen, so the next wave has no node. It is held, and says which pool that is and
    what to do; labelled again, one of them is enough for it to go on, and a sweep takes the other.
    """
    story.publish("b")
    story.until_wave("canary", WaveState.Soaking)
    for name in ("workers-1", "workers-2"):
        set_pool(story, name, "batch")
    story.run(120)
    assert "workers (pool=workers)" in story.status("b")["message"]
    set_pool(story, "workers-1", "workers")
    story.until_ended("b", Phase.Completed)
    assert story.everywhere("b")


def set_pool(story: Story, node: str, pool: str) -> None:
    """People move a node to another pool."""
    story.people(f"{{}}: labelled pool={pool}", lambda: story.label_node(node, pool=pool), [node])


@scenario(canaries=1, workers=3)
def second_wave_of_spared_nodes(story: Story) -> None:
    """People spare all nodes but the canary, and the second wave is about those
    Who spares them means: after the first two waves. The wave is passed over, not held for ever,
    and the nodes come in the next one.
    """
    for name in ("workers-1", "workers-2", "workers-3"):
        spare = lambda name=name: story.label_node(name, **{CANARY_LABEL: "never"})  # noqa: E731
        story.people("{}: spared", spare, [name])
    _give_three_waves(story, "one", 1)
    story.publish("b")
    story.until_ended("b", Phase.Completed)
    assert story.everywhere("b")


@scenario(canaries=0, workers=16, before="")
def critical_pool_inside_another(story: Story) -> None:
    """A critical pool whose nodes another pool selects as well
    They come after all others, and in steps of their own: one, half, all.
    """
    story.add_nodes("workers", 4, "pay", labels={"tier": "pay"})
    inside = {"name": "pay", "selector": {"matchLabels": {"tier": "pay"}}, "critical": True}
    story.apply_channel(waves=[], pools=[*pools()[1:2], inside])
    story.publish("a")
    story.until_ended("a", Phase.Completed)
    moved = [name.startswith("pay") for name in story.moves]
    assert moved == sorted(moved), story.moves
    assert story.everywhere("a")


def _give_three_waves(story: Story, name: str, up_to: int) -> None:
    """The canary, so many workers, and all."""
    waves = [
        {"name": "canary", "pools": ["canary"], "upTo": "100%"},
        {"name": name, "pools": ["workers"], "upTo": up_to},
        {"name": "all", "upTo": "100%"},
    ]
    story.people(
        "give the channel three waves", lambda: story.patch("Channel", "rules", waves=waves)
    )
