"""Which nodes a wave takes, and in which order.

The order is a hash of node and release: not always the same victims, the same on every pass, so
that a batch that was half written is finished before anything else is begun, and known before the
release starts, so that its plan can be shown.
"""

import hashlib
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace

from wavegate.api import IntOrPercent, WaveState
from wavegate.evidence import Ledger, LedgerNode, NodeView, PodView, agents_then, is_well
from wavegate.rollout import busy, choice, groups, labels, workloads
from wavegate.rollout.attempt import PlannedWave, Revision, Rollout
from wavegate.rollout.movable import fleet, not_movable
from wavegate.rollout.observation import Observation
from wavegate.rollout.placement import membership
from wavegate.rollout.strata import code_of
from wavegate.rollout.wording import some

SOAKED_SWEEPS = 2
"""So many sweeps are soaked whatever is left."""
MAX_SOAKED_SWEEPS = 4
"""After so many none is soaked: what is left joined during the last one. Where a third of the nodes
is replaced in an hour, more join during each soaked sweep than may be moved at last.
"""
MAX_AGAIN = 6
"""So many times a wave comes again at most; of a small pool it takes three. What is left then is
swept: more expensive nodes must not stay unprotected for as long as a workload is on each node.
"""
PodsOn = Mapping[str | None, tuple[PodView, ...]]
"""Pods by their node."""
_FEW = IntOrPercent(5, is_percent=True)


def choose(obs: Observation, rollout: Rollout, wave: PlannedWave) -> tuple[list[NodeView], int]:
    """The nodes to add for `wave`, and how many it lacks. Healthy ones only, so that no node is
    blamed for what it had before; the count is 0 when enough nodes have it already. Nodes that
    can't be moved are no part of the wave: promotion waits for them. Nor are excused ones, which
    prove nothing. Those that another channel keeps come last.
    """
    turn, lacking = in_turn(obs, rollout, wave)
    return workloads.within(obs, rollout, turn)[:lacking], lacking


def in_turn(obs: Observation, rollout: Rollout, wave: PlannedWave) -> tuple[list[NodeView], int]:
    """The nodes that `wave` could take if no critical workload ran on them, in the order in which
    they have their turn; and how many it lacks.
    """
    members = _members(obs, rollout, wave)
    if not members:
        return [], int(not wave.again and not _is_empty(obs, rollout, wave))
    has, aside = _having(obs, rollout, members), labels.set_aside(obs, rollout)
    most = sum(1 for n in members if n.name not in aside)
    lacking = max(0, min(wave.up_to.resolve(len(members)), most) - len(has))
    fit = _free(members, has | aside)
    if wave.again:
        fit = [node for node in fit if _was_there(rollout, node)]
        lacking = len(fit)  # those that fell ill since are swept
    ordered = workloads.last(obs, choice.spread(in_order(fit, order_of(rollout.candidate))))
    if choice.is_early(rollout, wave):
        fresh = not is_first(rollout) and rollout.waves[-1].ledger not in obs.ledgers
        if fresh and choice.all_spared(n for n in members if n.name not in has):
            return [], 0  # they come after it, in a wave or a sweep
        ordered = choice.canaries(obs, ordered)
    if rollout.plan.agents:  # a node without one proves less: such come last
        theirs = obs.agents_on()
        ordered.sort(key=lambda node: not agents_then(theirs.get(node.name, ())))
    ordered = busy.last(obs, ordered)
    belongs = groups.groups_of(rollout.plan.pools)
    if wave.staged and rollout.wave == 0:
        ordered = choice.not_alone(belongs, ordered)
    ordered = choice.in_steps(belongs, wave, members, has, ordered)
    if rollout.wave == 0:
        return ordered, lacking
    firsts, others = choice.one_of_each(obs, rollout, ordered)
    if wave.per_stratum:
        return firsts, choice.lacking_of_each(wave, firsts, len(members), len(has))
    if ordered and not firsts and not others:
        return [], 0  # all wait for the first of their stratum
    return [*firsts, *others], lacking


def _members(obs: Observation, rollout: Rollout, wave: PlannedWave) -> list[NodeView]:
    """The nodes that this wave is about, and that can be moved and prove something."""
    stuck = not_movable(obs, rollout)
    nodes = (node for name, node in fleet(obs, rollout).items() if name not in stuck)
    return [
        node
        for node in groups.members(rollout.plan, wave, nodes)
        if node.name not in rollout.excused or node.attempt(obs.key) != rollout.attempt
    ]


def _having(obs: Observation, rollout: Rollout, members: Iterable[NodeView]) -> frozenset[str]:
    """Names of those that have the content."""
    # One that has the label and stands in no ledger must come into one: where nothing is stable,
    # its label is not taken back, and after a restored backup all nodes may be like that.
    known, key, attempt = baseline_of(obs), obs.key, rollout.attempt
    carrying = (n for n in members if n.attempt(key) == attempt)
    return frozenset(n.name for n in carrying if stands_in(known, n))


def _free(members: Iterable[NodeView], others: Container[str]) -> list[NodeView]:
    """Those that may be taken, without these others."""
    return [node for node in members if node.name not in others and is_fit(node)]


def left_behind(obs: Observation, rollout: Rollout, wave: PlannedWave) -> list[NodeView]:
    """The nodes of a wave that it could still take, and that were there when the rollout began. Who
    joined since is swept at the end, so that the expensive nodes do not wait for an autoscaler.
    """
    members = _members(obs, rollout, wave)
    others = _having(obs, rollout, members) | labels.set_aside(obs, rollout)
    return [node for node in _free(members, others) if _was_there(rollout, node)]


def _was_there(rollout: Rollout, node: NodeView) -> bool:
    """Whether a node did not join since the rollout began."""
    return node.created <= rollout.started_at


def _is_empty(obs: Observation, rollout: Rollout, wave: PlannedWave) -> bool:
    """Whether a wave has no nodes since each that its pools select comes later, or is gone by now.
    What only can't be moved now is awaited.
    """
    there, plan = fleet(obs, rollout).values(), rollout.plan
    if groups.members(plan, wave, there):
        return False
    pools_of = membership(pool for pool in plan.pools if pool.name in wave.pools)
    return wave.added or any(map(pools_of, there))


def unselected(obs: Observation, rollout: Rollout, wave: PlannedWave) -> str:
    """Why a wave has no nodes whose pools select none on which the agent runs, and what a person
    can do; empty when they select one.
    """
    pools = [pool for pool in rollout.plan.pools if pool.name in wave.pools]
    pools_of = membership(pools)
    if wave.added or any(map(pools_of, fleet(obs, rollout).values())):
        return ""
    named = some([f"{pool.name} ({pool.selector.query or 'all nodes'})" for pool in pools])
    elsewhere = any(map(pools_of, obs.nodes.values()))
    what = "only nodes on which the agent does not run" if elsewhere else "no node any more"
    return (
        f"the pools of wave {wave.name} select {what}: {named}. They are frozen in the plan: label "
        "a node so, and the wave goes on by itself; or decide Revert, correct spec.pools, and "
        "publish a new release"
    )


def rest(obs: Observation, rollout: Rollout) -> list[NodeView]:
    """All nodes of the fleet that were not moved by a wave, ill ones and labelled ones included;
    but none that can't be moved.
    """
    stuck, known = not_movable(obs, rollout), baseline_of(obs)
    key, attempt = obs.key, rollout.attempt
    nodes = (node for name, node in fleet(obs, rollout).items() if name not in stuck)
    left = (n for n in nodes if n.attempt(key) != attempt or not stands_in(known, n))
    return in_order(left, order_of(rollout.candidate))


def next_wave(obs: Observation, rollout: Rollout) -> Rollout | None:
    """The plan's next wave; the same one again, where its rules left nodes behind and it is the
    turn of more expensive ones; or a sweep over what is left; None when nothing is. Where nodes
    come and go all the time, soaked sweeps would never end: after two, what is left and is few goes
    into a last ledger, and after four whatever is left, so many at a time.
    """
    if _comes_again(obs, rollout):
        return replace(rollout, plan=rollout.plan.with_again(rollout.wave)).with_next_wave()
    sweeps = rollout.wave + 1 - len(rollout.plan.waves)
    if sweeps < 0:
        return rollout.with_next_wave()
    left = rest(obs, rollout)
    if not left:
        return None
    enough = sweeps >= MAX_SOAKED_SWEEPS or len(left) <= most_at_last(obs, rollout)
    few = sweeps >= SOAKED_SWEEPS and enough and _is_plain(obs, rollout, left)
    return rollout.with_next_wave(last=few)


def _comes_again(obs: Observation, rollout: Rollout) -> bool:
    """Whether the wave that has passed left nodes behind, and can take some of them: one that came
    again for nothing does not do so once more.
    """
    planned = rollout.planned if rollout.waves else None
    if planned is None or not planned.repeats or (planned.again and not rollout.waves[-1].nodes):
        return False
    often = rollout.plan.times_again(rollout.wave) >= MAX_AGAIN
    return not often and bool(left_behind(obs, rollout, planned))


def most_at_last(obs: Observation, rollout: Rollout) -> int:
    """How many nodes may be moved without a soak: min(maxUnavailable, 5 % of all), at least 1."""
    total = max(1, len(fleet(obs, rollout)))
    return max(1, min(rollout.plan.max_unavailable.resolve(total), _FEW.resolve(total)))


def sweep(obs: Observation, rollout: Rollout) -> list[NodeView]:
    """The nodes for the ledger of this sweep; a last one stays small whatever joined meanwhile.
    Critical and control-plane nodes wait for the others, most of a stratum for its first, and small
    pools go in steps, if they did so before.
    """
    turn, plan = groups.lowest(rollout.plan, rest(obs, rollout)), rollout.plan
    suspects = {suspect.node for suspect in rollout.suspects}
    turn = workloads.last(obs, turn)
    turn.sort(key=lambda node: (not is_fit(node), node.name in suspects))
    firsts, others = choice.one_of_each(obs, rollout, turn)
    fit = {code_of(node) for node in firsts if is_fit(node)}
    ill = [n for n in turn if not is_fit(n) and n not in others and code_of(n) not in fit]
    left = [*(node for node in firsts if is_fit(node)), *others, *ill]
    if plan.waves[0].staged and not rollout.waves[-1].last:
        all_pools = replace(plan.waves[0], pools=tuple(pool.name for pool in plan.pools))
        there = [n for n in fleet(obs, rollout).values() if not n.control_plane]
        names = {node.name for node in obs.moved(rollout.attempt)}
        left = choice.in_steps(groups.groups_of(plan.pools), all_pools, there, names, left)
    if rollout.waves[-1].last:
        left = [node for node in left if workloads.may_skip_soak(obs, node)]
        return left[: most_at_last(obs, rollout)]
    return workloads.within(obs, rollout, left)


def order_of(candidate: Revision) -> str:
    """What the order of nodes hangs on: the release, or the attempt of what is no release."""
    return candidate.release_uid or candidate.attempt


def _is_plain(obs: Observation, rollout: Rollout, left: Sequence[NodeView]) -> bool:
    """Whether these need no soak of their own: ordinary nodes of strata that are proven, on which
    no critical workload runs.
    """
    known = all(code_of(node) in rollout.proven for node in left)
    ordinary = known and groups.is_ordinary(rollout.plan, left)
    return ordinary and all(workloads.may_skip_soak(obs, node) for node in left)


def in_order(nodes: Iterable[NodeView], order: str) -> list[NodeView]:
    """The order in which nodes are taken; `order` is a release's UID, see `order_of`."""
    return sorted(nodes, key=lambda node: hashlib.sha256(f"{node.uid}/{order}".encode()).digest())


def ledger_for(obs: Observation, rollout: Rollout, nodes: Iterable[NodeView]) -> Ledger:
    """Freeze these nodes, as they are, as the ledger of the current wave."""
    theirs = obs.agents_on()
    frozen = tuple(
        LedgerNode(
            n.name,
            n.uid,
            n.boot_id,
            healthy=is_fit(n),
            bad=tuple(sorted(n.bad)),
            agents=agents_then(theirs.get(n.name, ())),
            stratum=code_of(n),
        )
        for n in nodes
    )
    sequence = rollout.candidate.sequence
    return Ledger(rollout.attempt, rollout.waves[-1].ledger, frozen, sequence)


def is_fit(node: NodeView) -> bool:
    """Whether it can speak for the content. The harm of one that was announced to leave would be
    excused, and its taint need be none that keeps the agent away.
    """
    return node.ready and not node.unschedulable and not node.announced


def baseline_of(obs: Observation) -> Mapping[str, LedgerNode]:
    """The baseline of the running attempt: its ledger nodes, by name."""
    return baseline(obs, obs.ledgers)


def baseline(obs: Observation, ledgers: Mapping[int, Ledger]) -> Mapping[str, LedgerNode]:
    """All ledger nodes so far. A node that a later wave took again counts with its newest entry."""
    return obs.kept.of(_baseline, *(ledgers[wave] for wave in sorted(ledgers)))


def _baseline(*ledgers: Ledger) -> dict[str, LedgerNode]:
    return {node.name: node for ledger in ledgers for node in ledger.nodes}


def stands_in(known: Mapping[str, LedgerNode], node: NodeView) -> bool:
    """Whether a baseline is this machine's. One that took another's name has none: what is asked of
    a ledger's nodes is not asked of it, so its label, which someone set, counts for nothing.
    """
    entry = known.get(node.name)
    return entry is not None and entry.uid == node.uid


def without_agents(obs: Observation, rollout: Rollout, nodes: Iterable[NodeView]) -> bool:
    """Whether agentSelector selects nothing that could speak for these nodes, nor for those that
    were taken before: it proves nothing then, and is wrong most likely.
    """
    if not rollout.plan.agents or any(entry.agents for entry in baseline_of(obs).values()):
        return False
    theirs = obs.agents_on()
    return not any(agents_then(theirs.get(node.name, ())) for node in nodes)


def changed_agents(obs: Observation, entries: Mapping[str, LedgerNode]) -> frozenset[str]:
    """Names of the nodes whose selected agents are not as good as these entries know them."""
    return obs.kept.of(_changed_agents, entries, obs.agents_on())


def _changed_agents(entries: Mapping[str, LedgerNode], theirs: PodsOn) -> frozenset[str]:
    judged = (entry for entry in entries.values() if entry.agents)
    return frozenset(e.name for e in judged if not is_well(e, theirs.get(e.name, ())))


def is_first(rollout: Rollout) -> bool:
    """Whether no wave that had nodes has passed: one without proves nothing, as where all nodes are
    of the control plane, which comes last.
    """
    return not any(wave.nodes and wave.state is WaveState.Passed for wave in rollout.waves)


def has_moved_any(obs: Observation, rollout: Rollout) -> bool:
    """Whether a node of the current wave's ledger carries the attempt's label, or was seen to."""
    if rollout.waves[-1].labelled:
        return True
    ledger = obs.ledgers.get(rollout.waves[-1].ledger)
    pairs = ((entry, obs.nodes.get(entry.name)) for entry in ledger.nodes) if ledger else ()
    same = (node for entry, node in pairs if node is not None and node.uid == entry.uid)
    return any(node.attempt(obs.key) == rollout.attempt for node in same)
