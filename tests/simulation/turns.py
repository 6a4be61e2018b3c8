"""Whose turn it is (3): critical pools after all others, small pools in steps, zones in turn, and
canaries by their label.

The guard asks when a ledger is stored, and takes nodes as they are then. What binds a wave beside
these rules (strata, critical workloads) makes it take fewer, so each is asked only where it must
hold whatever binds it, or where nothing else does.
"""

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from simulation.apiserver import Change
from simulation.bodies import ledger_in
from simulation.cluster import Simulation
from simulation.critical import served
from wavegate.api import Phase, WaveState
from wavegate.evidence import NodeView
from wavegate.rollout.attempt import Group, PlannedWave, Rollout
from wavegate.rollout.names import CANARY_LABEL
from wavegate.rollout.strata import stratum_of

if TYPE_CHECKING:
    from simulation.invariants import Guard

SMALL = 10


def critical_pools_come_last(guard: "Guard", sim: Simulation, change: Change) -> Iterator[str]:
    """3: no ledger mixes nodes of critical pools with others, and none has them before an ordinary
    wave has passed; but a wave that names such a pool.
    """
    rollout, taken = _chosen(guard, sim, change)
    if rollout is None:
        return
    critical = {pool.name for pool in rollout.plan.pools if pool.critical}
    expensive = [node for node in taken if _pool(node) in critical and not node.control_plane]
    planned = rollout.planned
    if not expensive or (planned and not planned.added and critical & {*planned.pools}):
        return
    guard.counted[3] += 1
    if len(expensive) < len(taken):
        yield f"{expensive[0].name} of a critical pool is in a ledger with other nodes"
    before = [wave for wave in rollout.waves if wave.state is WaveState.Passed and wave.nodes]
    ordinary = [n for n in guard.nodes(sim) if _pool(n) not in critical and not n.control_plane]
    if ordinary and not before:
        yield f"{expensive[0].name} of a critical pool comes before all others"


def small_pools_go_in_steps(guard: "Guard", sim: Simulation, change: Change) -> Iterator[str]:
    """3: in the default plan a ledger takes one, one, then half of what is left of a small pool."""
    rollout, taken = _chosen(guard, sim, change)
    if rollout is None or rollout.waves[-1].last or not (rollout.planned or _first(rollout)).staged:
        return
    having = guard.books.on_side[rollout.attempt]
    there = [node for node in guard.nodes(sim) if not node.control_plane]
    size, has = Counter(map(_pool, there)), Counter(_pool(n) for n in there if n.name in having)
    for pool, count in Counter(_pool(n) for n in taken if not n.control_plane).items():
        if pool not in {pool.name for pool in rollout.plan.pools} or size[pool] >= SMALL:
            continue
        guard.counted[3] += 1
        most = 1 if has[pool] < 2 else max(1, (size[pool] - has[pool]) // 2)
        if count > most:
            yield f"a ledger takes {count} of {size[pool]} nodes of {pool}, {has[pool]} have it"


def zones_take_turns(guard: "Guard", sim: Simulation, change: Change) -> Iterator[str]:
    """3: after the early waves a ledger has nodes of as many zones as it can."""
    rollout, taken = _chosen(guard, sim, change)
    planned = rollout.planned if rollout else None
    if rollout is None or planned is None or planned.staged or rollout.wave < 2 or served(sim):
        return
    free = _free(guard, sim, rollout, set(planned.pools))
    soaked = guard.books.kinds.soaked[rollout.attempt]
    bound = rollout.plan.agents or not {stratum_of(node) for node in (*free, *taken)} <= soaked
    zones = {node.zone for node in (*free, *taken)}
    if bound or planned.again or planned.group is not Group.Pools or len(zones) < 2:
        return
    guard.counted[3] += 1
    found = {node.zone for node in taken}
    if len(found) < min(len(taken), len(zones)):
        yield f"a ledger of {len(taken)} nodes has {len(found)} of {len(zones)} zones"


def canaries_go_by_label(guard: "Guard", sim: Simulation, change: Change) -> Iterator[str]:
    """3: the first two waves take no node that people spare, and the first one of the channel's own
    those that people prefer.
    """
    rollout, taken = _chosen(guard, sim, change)
    planned = rollout.planned if rollout else None
    if rollout is None or planned is None or planned.group is not Group.Pools or rollout.wave > 1:
        return
    asked = [node.labels.get(CANARY_LABEL, "") for node in taken]
    guard.counted[3] += 1
    if "never" in asked:
        yield f"{taken[asked.index('never')].name} is spared by its label, and is in an early wave"
    if rollout.wave > 0 or planned.staged or rollout.plan.agents or served(sim):
        return
    free = _free(guard, sim, rollout, set(planned.pools))
    there = {node.name for node in taken}
    left = [n for n in free if n.labels.get(CANARY_LABEL) == "preferred" and n.name not in there]
    if left and set(asked) != {"preferred"}:
        yield f"{left[0].name} is preferred by its label, and another node is the canary"


def _chosen(
    guard: "Guard", sim: Simulation, change: Change
) -> tuple[Rollout | None, list[NodeView]]:
    """The rollout, and the nodes of the ledger that this change stored; None if it stored none."""
    ledger, rollout = ledger_in(change), guard.rollout
    if ledger is None or rollout is None or rollout.phase is not Phase.Rolling:
        return None, []
    if ledger.attempt != rollout.attempt or guard.books.hands.travelled:
        return None, []
    names = {entry.name for entry in ledger.nodes}
    return rollout, [node for node in guard.nodes(sim) if node.name in names]


def _free(guard: "Guard", sim: Simulation, rollout: Rollout, pools: set[str]) -> list[NodeView]:
    """Nodes of these pools that are well and do not have the content, nor ever stood in a ledger of
    this attempt; those of the newest one are told from them by the caller.
    """
    having = guard.books.on_side[rollout.attempt] | guard.books.healthy[rollout.attempt]
    return [
        node
        for node in guard.nodes(sim)
        if _pool(node) in pools and node.name not in having and not node.control_plane
        if node.ready and not node.unschedulable and not node.announced
    ]


def _first(rollout: Rollout) -> PlannedWave:
    return rollout.plan.waves[0]


def _pool(node: NodeView) -> str:
    """The pool that selects it: here each is named as its label says."""
    return node.labels.get("pool", "")
