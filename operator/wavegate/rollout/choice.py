"""Which of the nodes that a wave could take come first: canaries, zones, and kinds of machine.

No second node of a stratum gets the content before its first one has soaked: a wave takes at most
one of each stratum that has proved nothing yet. Its others come in the wave after, or in a sweep. A
node that was only a suspect, or excused, proves nothing, so another one takes its place.

The first planned wave may take several: a channel's own first wave says by itself how many canaries
there are, and that of the default plan is one node.
"""

from collections import Counter
from collections.abc import Container, Iterable, Sequence
from itertools import zip_longest

from wavegate.evidence import NodeView
from wavegate.rollout.attempt import Group, PlannedWave, Rollout
from wavegate.rollout.groups import Groups
from wavegate.rollout.names import CANARY_LABEL
from wavegate.rollout.observation import Observation
from wavegate.rollout.strata import code_of, code_then

SMALL = 10
"""A pool with fewer nodes goes in steps of its own, whatever share the wave takes of all."""
PREFERRED, NEVER = "preferred", "never"
EARLY_WAVES = 2
"""In so many first waves a node that is labelled `never` is not taken."""


def canaries(obs: Observation, nodes: Iterable[NodeView]) -> list[NodeView]:
    """Of nodes in their order those for an early wave: not those that people spare. First come
    those that people prefer, then those whose agent has not restarted, so that it is clear what a
    restart comes from.
    """
    stable = obs.record.stable
    pods = obs.pods_of(stable.attempt) if stable else ()
    shaky = {pod.node for pod in pods if pod.restarts}
    fit = [node for node in nodes if node.labels.get(CANARY_LABEL) != NEVER]
    return sorted(fit, key=lambda n: (n.labels.get(CANARY_LABEL) != PREFERRED, n.name in shaky))


def spared(rollout: Rollout, wave: PlannedWave, nodes: Iterable[NodeView]) -> str:
    """How many nodes an early wave may not take as people spare them, for a person; or nothing."""
    count = sum(node.labels.get(CANARY_LABEL) == NEVER for node in nodes)
    early = count and is_early(rollout, wave)
    return f"{count} spared by label {CANARY_LABEL}: {NEVER}" if early else ""


def is_early(rollout: Rollout, wave: PlannedWave) -> bool:
    """Whether this is one of the first waves, which risk most."""
    return rollout.wave < EARLY_WAVES and wave.group is Group.Pools


def spread(nodes: Iterable[NodeView]) -> list[NodeView]:
    """The same nodes, one of each zone in turn; of a zone, in the order in which they come."""
    zones: dict[str, list[NodeView]] = {}
    for node in nodes:
        zones.setdefault(node.zone, []).append(node)
    return [node for turn in zip_longest(*zones.values()) for node in turn if node is not None]


def one_of_each(
    obs: Observation, rollout: Rollout, nodes: Iterable[NodeView]
) -> tuple[list[NodeView], list[NodeView]]:
    """Of nodes in their order: the first of each stratum that has proved nothing, and all of those
    that have. A stratum that is under way waits for what becomes of its first.
    """
    seen = _under_way(obs, rollout) - {*rollout.proven}
    firsts, rest = [], []
    for node in nodes:
        code = code_of(node)
        if code in rollout.proven:
            rest.append(node)
        elif code not in seen:
            seen.add(code)
            firsts.append(node)
    return firsts, rest


def _under_way(obs: Observation, rollout: Rollout) -> set[str]:
    """The strata of nodes that have the content in a wave that has not passed."""
    silent = {suspect.node for suspect in rollout.suspects} | rollout.excused.keys()
    ledgers = (obs.ledgers.get(wave.ledger) for wave in rollout.in_hand)
    entries = (entry for ledger in ledgers if ledger for entry in ledger.nodes)
    having = {node.name for node in obs.moved(rollout.attempt)} - silent
    return {
        code_then(entry, obs.nodes.get(entry.name))
        for entry in entries
        if entry.healthy and entry.name in having
    }


def in_steps(
    groups: Groups,
    wave: PlannedWave,
    members: Sequence[NodeView],
    having: Container[str],
    nodes: Iterable[NodeView],
) -> list[NodeView]:
    """Of nodes in their order those that small pools let go now: one, one more, then half of what
    is left. What stays behind comes in the wave after, or in a sweep.
    """
    if not wave.staged:
        return list(nodes)
    # Nodes are many, and the sets of pools that select one are few: these are counted.
    own, pools = frozenset(wave.pools), {node.name: groups.pools_of(node) for node in members}
    size = _of_each(own, Counter(pools.values()))
    has = _of_each(own, Counter(names for node, names in pools.items() if node in having))
    room = {
        pool: 1 if has[pool] < 2 else max(1, (count - has[pool]) // 2)
        for pool, count in size.items()
        if count < SMALL
    }
    if not room:
        return list(nodes)
    found = []
    for node in nodes:
        small = (pools.get(node.name) or groups.pools_of(node)) & room.keys()
        if all(room[pool] for pool in small):
            found.append(node)
            for pool in small:
                room[pool] -= 1
    return found


def _of_each(own: frozenset[str], counts: Counter[frozenset[str]]) -> Counter[str]:
    """How many nodes each of these pools selects, by how many each set of pools does."""
    each = Counter[str]()
    for names, count in counts.items():
        each.update(dict.fromkeys(names & own, count))
    return each


def not_alone(groups: Groups, nodes: Sequence[NodeView]) -> list[NodeView]:
    """Of nodes in their order those that are not the only one of their pool; all, if all are. A
    larger pool comes first.
    """
    size = Counter(pool for node in nodes for pool in groups.pools_of(node))
    found = [n for n in nodes if any(size[pool] > 1 for pool in groups.pools_of(n))]
    return found or list(nodes)


def lacking_of_each(
    wave: PlannedWave, firsts: Sequence[NodeView], members: int, having: int
) -> int:
    """How many nodes a wave for the strata lacks: one of each, at most `upTo` of its nodes, but at
    least one.
    """
    return min(max(1, wave.up_to.resolve(members) - having), len(firsts))
