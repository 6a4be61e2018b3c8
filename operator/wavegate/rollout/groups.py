"""Groups: which nodes a wave is about, beside the pools that it names.

The expensive nodes come last. A node of the control plane is in a wave of its own at the end,
whatever pool selects it; one in a pool that is `critical` only in waves that name such a pool. What
no pool selects is a group, too, so that nothing is left to chance.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from wavegate.api import IntOrPercent, Pool, Wave
from wavegate.evidence import NodeView
from wavegate.rollout.attempt import Group, Plan, PlannedWave
from wavegate.rollout.placement import membership

FIRST_NODE, EACH_STRATUM, NO_POOL = "first-node", "each-stratum", "no-pool"
MAX_CONTROL_PLANE = 9
"""More are left for sweeps, which take one at a time, too."""
_HALF, _ALL = (IntOrPercent(share, is_percent=True) for share in (50, 100))


@dataclass(frozen=True, slots=True)
class Groups:
    """Tells for the pools of a channel where a node belongs."""

    pools_of: Callable[[NodeView], frozenset[str]]
    critical: frozenset[str]
    """Names of the critical pools."""

    def stage(self, node: NodeView) -> int:
        """When its turn comes at the earliest: 0 ordinary, 1 critical, 2 control plane."""
        if node.control_plane:
            return 2
        return 1 if self.critical_of(node) else 0

    def critical_of(self, node: NodeView) -> frozenset[str]:
        """The critical pools that select it: what else does, does not matter then."""
        return self.pools_of(node) & self.critical

    def has(self, wave: PlannedWave, node: NodeView) -> bool:
        """Whether this node may be taken by this wave."""
        if wave.group is Group.ControlPlane or node.control_plane:
            return wave.group is Group.ControlPlane and node.control_plane
        pools = self.pools_of(node)
        if wave.group is Group.NoPool or not pools:
            return wave.group is Group.NoPool and not pools
        own = self.critical_of(node)
        return not (own or pools).isdisjoint(wave.pools)


def groups_of(pools: Iterable[Pool]) -> Groups:
    """The groups of these pools."""
    pools = tuple(pools)
    return Groups(membership(pools), frozenset(pool.name for pool in pools if pool.critical))


def members(plan: Plan, wave: PlannedWave, nodes: Iterable[NodeView]) -> list[NodeView]:
    """The nodes that this wave is about."""
    groups = groups_of(plan.pools)
    return [node for node in nodes if groups.has(wave, node)]


def lowest(plan: Plan, nodes: Sequence[NodeView]) -> list[NodeView]:
    """Of nodes that are left, in their order, those whose turn it is: a node of the control plane
    alone, and only when no other is left.
    """
    groups = groups_of(plan.pools)
    stages = [groups.stage(node) for node in nodes]
    turn = min(stages, default=0)
    found = [node for node, stage in zip(nodes, stages, strict=True) if stage == turn]
    return found[:1] if turn == 2 else found


def is_ordinary(plan: Plan, nodes: Iterable[NodeView]) -> bool:
    """Whether none of these has to wait for others."""
    groups = groups_of(plan.pools)
    return all(groups.stage(node) == 0 for node in nodes)


def has_no_canary(pools: Iterable[Pool], nodes: Iterable[NodeView]) -> bool:
    """Whether no pool of these nodes has two: nothing could notice harm before all is lost. What no
    pool selects, and the control plane, count as pools.
    """
    groups = groups_of(pools)
    size = Counter(
        pool
        for node in nodes
        for pool in (["control plane"] if node.control_plane else groups.pools_of(node) or ["none"])
    )
    return max(size.values(), default=0) == 1


def expand(
    pools: tuple[Pool, ...],
    waves: tuple[Wave, ...],
    nodes: Sequence[NodeView],
    *,
    by_default: bool,
) -> tuple[PlannedWave, ...]:
    """The frozen waves: the channel's, and after them those for the nodes, of all that would carry
    the agent now, which none of these takes. Who joins later is swept.
    """
    planned = [
        PlannedWave(
            w.name,
            w.pools,
            w.up_to,
            float(w.soak or 0.0),
            w.approval is not None,
            per_stratum=by_default and w.name == EACH_STRATUM,
            staged=by_default,
        )
        for w in waves
    ]
    if by_default and has_no_canary(pools, nodes):
        planned[0] = replace(planned[0], approval=True, no_canary=True)
    groups, soak = groups_of(pools), planned[-1].soak
    named = {name for wave in planned for name in wave.pools}
    critical = tuple(pool.name for pool in pools if pool.critical and pool.name not in named)
    last = _expensive(groups, critical, nodes, soak, by_default=by_default)
    repeats = by_default and bool(last)
    planned[-1] = replace(planned[-1], repeats=repeats)
    unselected = any(not n.control_plane and not groups.pools_of(n) for n in nodes)
    if unselected and (last or by_default):
        planned.append(
            PlannedWave(NO_POOL, (), _ALL, soak, group=Group.NoPool, added=True, repeats=repeats)
        )
    return (*planned, *last)


def _expensive(
    groups: Groups,
    critical: tuple[str, ...],
    nodes: Sequence[NodeView],
    soak: float,
    *,
    by_default: bool,
) -> tuple[PlannedWave, ...]:
    """The waves for these critical pools, and those for the control plane."""
    masters = sum(node.control_plane for node in nodes)
    found: list[PlannedWave] = []
    if any(groups.stage(n) == 1 and groups.critical_of(n) <= {*critical} for n in nodes):
        repeats = by_default and masters > 0
        found = [
            PlannedWave("critical-first", critical, IntOrPercent(1), soak, added=True),
            PlannedWave("critical-half", critical, _HALF, soak, added=True),
            PlannedWave("critical-all", critical, _ALL, soak, added=True, repeats=repeats),
        ]
    found += [
        PlannedWave(
            f"control-plane-{n}", (), IntOrPercent(n), soak, group=Group.ControlPlane, added=True
        )
        for n in range(1, min(masters, MAX_CONTROL_PLANE) + 1)
    ]
    return tuple(found)
