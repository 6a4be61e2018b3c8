"""Runs and bugs for test_mutations: whose turn it is (turns.py)."""

import pytest

from simulation.cluster import Simulation
from wavegate.rollout import choice, groups, waves
from wavegate.rollout.names import CANARY_LABEL, CONTROL_PLANE_LABEL, ZONE_LABEL

ZONES = ("east", "south", "west")


def _pools(*names: str, critical: str = "") -> list[dict[str, object]]:
    """Pools by label, of which one is critical."""
    return [
        {"name": name, "selector": {"matchLabels": {"pool": name}}, "critical": name == critical}
        for name in names
    ]


def a_critical_pool(sim: Simulation) -> None:
    """A good release in a fleet of which a part is expensive."""
    sim.add_nodes("payments", 3)
    pools = _pools("canary", "workers", "payments", critical="payments")
    _completes(sim, pools=pools)


def a_small_pool(sim: Simulation) -> None:
    """A good release by the default plan: six nodes beside a pool of a dozen."""
    sim.add_nodes("workers", 8)
    sim.add_nodes("payments", 6)
    _completes(sim, pools=_pools("workers", "payments"), waves=[])


def a_small_pool_beside_expensive_nodes(sim: Simulation) -> None:
    """A good release by the default plan: five nodes beside a dozen, a critical pool and a node of
    the control plane.
    """
    sim.add_nodes("workers", 8)
    sim.add_nodes("payments", 5)
    sim.add_nodes("till", 2)
    sim.add_nodes("workers", 1, "master", labels={CONTROL_PLANE_LABEL: ""})
    _completes(sim, pools=_pools("workers", "payments", "till", critical="till"), waves=[])


def three_zones(sim: Simulation) -> None:
    """A good release whose third wave takes three of nine nodes in three zones."""
    for zone in ZONES:
        sim.add_nodes("zoned", 3, zone, labels={ZONE_LABEL: zone})
    waves = [
        {"name": "canary", "pools": ["canary"], "upTo": "100%"},
        {"name": "workers", "pools": ["workers"], "upTo": "100%"},
        {"name": "three", "pools": ["zoned"], "upTo": 3},
        {"name": "six", "pools": ["zoned"], "upTo": 6},
        {"name": "all", "upTo": "100%"},
    ]
    _completes(sim, pools=_pools("canary", "workers", "zoned"), waves=waves)


def canaries_of_people(sim: Simulation) -> None:
    """A good release, where people prefer one node as the canary and spare others."""
    sim.add_nodes("workers", 1, "chosen", labels={CANARY_LABEL: "preferred"})
    sim.add_nodes("workers", 6, "spared", labels={CANARY_LABEL: "never"})
    waves = [{"name": "first", "upTo": 1}, {"name": "three", "upTo": 3}]
    waves += [{"name": "all", "upTo": "100%"}]
    _completes(sim, pools=_pools("workers"), waves=waves)


def _completes(sim: Simulation, **spec: object) -> None:
    sim.patch("Channel", "rules", **spec)
    sim.run(30)
    sim.publish("a")
    sim.until_phase("a", "Completed", 1_800)


def brings_the_expensive_first(patch: pytest.MonkeyPatch) -> None:
    """Waves for critical pools stand at the beginning of the plan."""
    expand = groups.expand

    def turned(*args, **more):  # type: ignore[no-untyped-def]
        waves = expand(*args, **more)
        return (*(w for w in waves if w.added), *(w for w in waves if not w.added))

    patch.setattr(groups, "expand", turned)


def mixes_them(patch: pytest.MonkeyPatch) -> None:
    """A wave takes whatever its pools select, and all pools are the same."""
    patch.setattr(groups.Groups, "has", lambda _self, _wave, node: not node.control_plane)


def takes_a_small_pool_at_once(patch: pytest.MonkeyPatch) -> None:
    """A pool is never too small for the share of a wave."""
    patch.setattr(choice, "in_steps", lambda *args: list(args[-1]))


def takes_each_wave_once(patch: pytest.MonkeyPatch) -> None:
    """What small pools, strata and critical workloads keep from a wave comes in a sweep."""
    patch.setattr(waves, "_comes_again", lambda *_: False)


def asks_no_zone(patch: pytest.MonkeyPatch) -> None:
    """One zone after the other."""
    patch.setattr(choice, "spread", lambda nodes: sorted(nodes, key=lambda node: node.zone))


def asks_no_label(patch: pytest.MonkeyPatch) -> None:
    """The hash alone says who is a canary."""
    patch.setattr(choice, "canaries", lambda _obs, nodes: list(nodes))


def takes_the_spared(patch: pytest.MonkeyPatch) -> None:
    """Whom people prefer comes first; whom they spare is taken like any other."""

    def canaries(_obs, nodes):  # type: ignore[no-untyped-def]
        return sorted(nodes, key=lambda node: node.labels.get(CANARY_LABEL) != "preferred")

    patch.setattr(choice, "canaries", canaries)


BUGS = (
    (brings_the_expensive_first, a_critical_pool),
    (mixes_them, a_critical_pool),
    (takes_a_small_pool_at_once, a_small_pool),
    (takes_each_wave_once, a_small_pool_beside_expensive_nodes),
    (asks_no_zone, three_zones),
    (asks_no_label, canaries_of_people),
    (takes_the_spared, canaries_of_people),
)
