"""What the nodes show while a release bakes: stable on all of them, with nobody waiting for it.

Judged are the nodes of its ledgers that still have it; not those that a newer candidate has taken.
A node that was drained or removed as announced is excused, and what it is afterwards is its new
baseline. Silence proves nothing: the bake ends well only on a last look at everything.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from wavegate.api import GateKind, Reason
from wavegate.evidence import (
    Finding,
    Gate,
    LedgerNode,
    Verdict,
    is_beyond_chance,
    judge_check,
    most_by_chance,
    outside_limits,
)
from wavegate.rollout import gates, loaded
from wavegate.rollout.attempt import Suspect
from wavegate.rollout.judge import judge_nodes, judged_nodes
from wavegate.rollout.marks import NOT_WATCHED, anew, excuse, softened
from wavegate.rollout.observation import FIRST_LOOK_SECONDS, Observation
from wavegate.rollout.record import Bake
from wavegate.rollout.waves import baseline, baseline_of, changed_agents

MAX_SUSPECTS = 1_000
"""As many harmed nodes are beyond chance on any fleet: more than chance explains on 5,000 nodes in
a week."""
_SHOWN_BY = {
    Reason.NodeVanished: GateKind.Nodes,
    Reason.NodeReplaced: GateKind.Nodes,
    Reason.NodeRebooted: GateKind.Nodes,
    Reason.NodeNotReady: GateKind.Nodes,
    Reason.NodeCondition: GateKind.Nodes,
    Reason.AgentRestarted: GateKind.Agents,
    Reason.AgentOOMKilled: GateKind.Agents,
    Reason.AgentNotReady: GateKind.Agents,
}


def watched(obs: Observation, bake: Bake) -> dict[str, LedgerNode]:
    """The nodes that the baking content answers for, by name, each with its baseline."""
    return obs.once(_watched, bake)


def _watched(obs: Observation, bake: Bake) -> dict[str, LedgerNode]:
    entries, elsewhere = baseline(obs, obs.bake_ledgers), baseline_of(obs)
    found = {}
    judged = judged_nodes(obs.once(_as_baking, bake), bake.rollout)
    for name, entry in entries.items():  # in the order of the ledgers: it shows in the record
        if name not in judged:
            continue
        mark = bake.excused.get(name)
        if _is_taken(obs, bake, entry) or (name in elsewhere and name not in obs.nodes):
            continue
        if mark is None:
            found[name] = entry
        elif mark != NOT_WATCHED:
            found[name] = anew(name, obs.nodes.get(name), mark)
    return found


def fleet_size(obs: Observation) -> int:
    """How many nodes the bake began with: chance is measured by them."""
    return sum(1 for entry in baseline(obs, obs.bake_ledgers).values() if entry.healthy)


def note(obs: Observation, bake: Bake, nodes: Mapping[str, LedgerNode], now: float) -> Bake:
    """The bake with what is new about its `watched` nodes; the same object when nothing is."""
    known = {suspect.node: suspect for suspect in bake.suspects}
    excused, fresh = dict(bake.excused), dict(known)
    for finding in _harm(obs, bake, nodes, now):
        name = finding.node or ""
        was = fresh.get(name)
        if was is not None and was.blocks >= finding.blocks:
            continue
        left = excuse(obs, bake.excused, nodes[name], finding)
        if left is not None:
            excused[name] = left
        elif was is not None or len(fresh) < MAX_SUSPECTS:
            fresh[name] = Suspect(name, finding.reason, _when(obs, bake, now), finding.blocks)
    if fresh == known and excused == bake.excused:
        return bake
    return replace(bake, suspects=tuple(fresh.values()), excused=excused)


def beyond_chance(obs: Observation, bake: Bake, now: float, *, blocking: bool = False) -> bool:
    """Whether more nodes came to harm than chance explains; with `blocking`, by nodes and agents
    themselves.
    """
    ages = [now - suspect.at for suspect in bake.suspects if suspect.blocks or not blocking]
    elapsed, length = max(0.0, now - bake.since), bake.until - bake.since
    size = fleet_size(obs)
    return len(ages) >= MAX_SUSPECTS or is_beyond_chance(ages, size, elapsed, length)


def check_above(obs: Observation, bake: Bake, nodes: Mapping[str, LedgerNode]) -> Finding | None:
    """A check of the whole wave that is above its limit."""
    for check in bake.rollout.plan.checks if nodes else ():
        if not check.per_node:
            found = judge_check(check, obs.bake_checks.get(check.name), frozenset(nodes), 0.0)
            for finding in found:
                if finding.verdict is Verdict.FAIL:
                    return finding
    return None


def gates_of(
    obs: Observation, bake: Bake, nodes: Mapping[str, LedgerNode], now: float
) -> tuple[Gate, ...]:
    """What each gate says when the bake fails: of nodes and agents, all harm since its start."""
    asked = frozenset(nodes.keys() - bake.excused.keys())
    findings = [
        Finding(Verdict.FAIL, s.reason, f"node {s.node}: {s.reason}", s.node, gate=kind)
        for s in reversed(bake.suspects)
        if (kind := _SHOWN_BY.get(s.reason)) is not None
    ]
    for check in bake.rollout.plan.checks:
        findings += judge_check(check, obs.bake_checks.get(check.name), asked, 0.0)
    baking = obs.once(_as_baking, bake)
    return gates.look_at(baking, bake.rollout, asked, findings, since=0.0, now=now)


def missing(obs: Observation, bake: Bake, nodes: Mapping[str, LedgerNode], now: float) -> str:
    """What keeps the bake from ending well, in words; empty when every proof is there. Nodes that
    are not proven well count like harmed ones: they may be as many as chance explains.
    """
    blind = obs.blind or obs.bake_agents.blind
    if blind:
        return f"a sight of the nodes: {blind}"
    for wave in bake.rollout.waves:
        if wave.nodes and wave.ledger not in obs.bake_ledgers:
            return f"the ledger of wave {wave.name}, which is gone or can't be read"
    harmed = {suspect.node for suspect in bake.suspects}
    ready = {p.node for p in obs.pods_of(bake.attempt) if p.ready and not p.terminating}
    well = {n for n in nodes if n in ready and n in obs.nodes and obs.nodes[n].ready} - harmed
    baking = obs.once(_as_baking, bake)
    well -= loaded.unproven(baking, bake.rollout, well) | changed_agents(baking, nodes)
    found = judge_nodes(baking, bake.rollout, nodes, now)
    well -= {f.node for f in found if f.reason is Reason.RebootAwaited}
    unproven = sorted(set(nodes) - well - harmed)
    if not well:
        return "a node that has had it since its waves and could give evidence"
    if len(harmed) + len(unproven) > most_by_chance(fleet_size(obs), now - bake.since):
        with_proof = " that reports its content" if bake.rollout.plan.loaded_proof else ""
        names = ", ".join(unproven[:5])
        return f"{len(unproven)} nodes to be Ready with their agent{with_proof} ({names})"
    asked = frozenset(well - set(bake.excused))
    for check in bake.rollout.plan.checks:
        answer = obs.bake_checks.get(check.name)
        for finding in judge_check(check, answer, asked, bake.until):
            return finding.message
    return ""


def _as_baking(obs: Observation, bake: Bake) -> Observation:
    """The observation as of a rollout of the attempt that bakes."""
    pods = softened(obs.pods, bake.excused)
    return replace(
        obs,
        ledgers=obs.bake_ledgers,
        checks=obs.bake_checks,
        pods=pods,
        agents=obs.bake_agents,
    )


def _is_taken(obs: Observation, bake: Bake, entry: LedgerNode) -> bool:
    """Whether another attempt has taken the node since: its label tells, and stays on it."""
    node, before = obs.nodes.get(entry.name), obs.gone.get(entry.name)
    views = [node] if before is None or before.uid != entry.uid else [node, before]
    own = (bake.attempt, None)
    return any(view is not None and view.attempt(obs.key) not in own for view in views)


def _harm(
    obs: Observation, bake: Bake, nodes: Mapping[str, LedgerNode], now: float
) -> Iterator[Finding]:
    """Findings of harm, each about one of the nodes: by the node or its agent, or by a check."""
    for finding in judge_nodes(obs.once(_as_baking, bake), bake.rollout, nodes, now):
        if finding.verdict is Verdict.FAIL and finding.blocks:
            yield finding
    asked = nodes.keys() - bake.excused.keys()
    for check in bake.rollout.plan.checks:
        if check.per_node and not check.dry_run:
            yield from outside_limits(check, obs.bake_checks.get(check.name), asked)


def _when(obs: Observation, bake: Bake, now: float) -> float:
    return bake.since if now - obs.watching_since < FIRST_LOOK_SECONDS else now
