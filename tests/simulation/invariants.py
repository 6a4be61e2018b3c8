"""What must hold after every single change of the cluster, whoever made it (DESIGN §10).

The guard keeps its own books from the changes alone (records, ledgers, pods, renewals) and knows
what is true of the machines, which the operator can only guess. Numbers are those of DESIGN §10.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from simulation.apart import Apart, two_channels_keep_apart
from simulation.apiserver import Change
from simulation.bodies import (
    NOTHING,
    attempt_of,
    is_agent,
    is_foreign,
    only_our_label,
    record_in,
    restarts,
    side,
)
from simulation.clock import START
from simulation.cluster import CHANNEL, SPACE, Simulation, is_ready, rules_of
from simulation.critical import Places, critical_workloads_stay
from simulation.daemonsets import fits, target_of
from simulation.drills import (
    Drills,
    a_drill_fails_for_a_cause,
    no_soak_without_its_drill,
    nothing_else_moves_before_a_drill,
    what_is_drilled_was_back,
)
from simulation.edited import a_running_plan_never_loosens, nothing_moves_to_what_is_blocked
from simulation.expensive import Takeable, nobody_waits_for_expensive_nodes
from simulation.fences import a_fence_stays, the_way_back_is_proven
from simulation.hands import Hands, drained
from simulation.images import Images
from simulation.kinds import Kinds, control_plane_comes_alone, no_second_of_a_stratum, view
from simulation.machines import HOST, images
from simulation.others import Others
from simulation.prefetches import (
    images_are_pulled_by_what_runs_nothing,
    images_are_pulled_in_a_soak_only,
    pulls,
)
from simulation.reasons import changes_carry_reasons
from simulation.starts import (
    Reverts,
    nothing_moves_where_strata_were_left_out,
    nothing_starts_too_soon,
    stable_is_doubted,
)
from simulation.stored import stored_in
from simulation.succession import Published, replaced_only_when_it_may_be
from simulation.turns import (
    canaries_go_by_label,
    critical_pools_come_last,
    small_pools_go_in_steps,
    zones_take_turns,
)
from wavegate.api import Phase, Reason, WaveState
from wavegate.evidence import Ledger, NodeView
from wavegate.rollout import groups
from wavegate.rollout.attempt import Rollout, WaveRun
from wavegate.rollout.names import KIND_LABEL, LOADED_DIGEST_ANNOTATION, ledger_name
from wavegate.rollout.record import Record
from wavegate.rollout.transitions import HARM

LAG_SECONDS = 1.0
"""A change is not held against the operator before it can have seen it."""

OWED = {
    7: "the admission policy is real Kubernetes' (tests/e2e/test_admission.py)",
}
"""Invariants that are not asserted here yet, and what brings them."""


APART = 13
"""The invariant that is about all channels; the others are asked about one."""

PROVEN = (Reason.Reverted, Reason.Replaced)
"""A revert that ends with one of these has ended well."""


class BrokenInvariant(AssertionError):  # noqa: N818 (what happened)
    """An invariant does not hold; `number` is the one of DESIGN §10."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = number


@dataclass(slots=True)
class Books:
    """What the guard has seen so far."""

    record: Record = field(default_factory=lambda: Record(SPACE, "rules"))
    ledgers: dict[tuple[str, int], Ledger] = field(default_factory=dict)
    healthy: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """By attempt: nodes that stand healthy in a ledger."""
    on_side: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """By attempt: nodes that carry its label."""
    settled: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """By attempt: those of them that were seen settled, and whose pods did not change since."""
    ready_since: dict[str, float] = field(default_factory=dict)
    """By pod UID: since when its Ready condition is True without a break."""
    unready_at: dict[tuple[str, str], float] = field(default_factory=dict)
    """By node and attempt: when an agent on it last stopped being Ready."""
    crashed_at: dict[str, float] = field(default_factory=dict)
    """By pod UID: when a container of it was first restarted."""
    down_since: dict[str, float] = field(default_factory=dict)
    """By node: since when it is not Ready."""
    others: Others = field(default_factory=Others)
    """Agents of someone else."""
    had_agent: set[str] = field(default_factory=set)
    hands: Hands = field(default_factory=Hands)
    kinds: Kinds = field(default_factory=Kinds)
    places: Places = field(default_factory=Places)
    apart: Apart = field(default_factory=Apart)
    reverts: Reverts = field(default_factory=Reverts)
    published: Published = field(default_factory=Published)
    drills: Drills = field(default_factory=Drills)
    images: Images = field(default_factory=Images)
    takeable: Takeable = field(default_factory=Takeable)
    begun: set[tuple[str, int]] = field(default_factory=set)
    """Waves of which a node was labelled: attempt and number of the ledger."""
    late_pulls: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    """By attempt and ledger: pods that pull images, made when the wave's soak was over."""
    fenced: set[str] = field(default_factory=set)
    """Attempts that a Reverting was stored for."""
    proven_fenced: set[str] = field(default_factory=set)
    """Attempts whose fence the DaemonSet controller has seen."""


Check = Callable[["Guard", Simulation, Change], Iterator[str]]


class Guard:
    """A watcher for `Simulation.watchers`. `skip`: numbers that a test suspends, with a reason."""

    def __init__(self, skip: dict[int, str] | None = None, *, two_leaders: bool = False) -> None:
        self.books = Books()
        self.skip = skip or {}
        self.two_leaders = two_leaders
        """A second process believes to lead: its labels may come after a fence, and arm nothing."""
        self.lag = LAG_SECONDS
        """By how many seconds the operator may see a change late."""
        self.counted: dict[int, int] = defaultdict(int)
        """How often each invariant was asked about something that could have broken it."""
        self._known: tuple[object, dict[str, str]] = (None, {})
        self._nodes: list[NodeView] | None = None

    def __call__(self, sim: Simulation, change: Change) -> None:
        self._nodes, foreign = None, is_foreign(change, CHANNEL, sim.key)
        for number, check in CHECKS:
            if number in self.skip or (foreign and number != APART):
                continue
            for broken in check(self, sim, change):
                message = f"invariant {number}: {broken} (seed {sim.seed})\n{sim.tail()}"
                raise BrokenInvariant(number, message)
        self.books.apart.note(sim, change)
        if not foreign:
            self._note(sim, change)

    @property
    def rollout(self) -> Rollout | None:
        """The rollout under way, as it is stored."""
        return self.books.record.rollout

    def was_well(self, sim: Simulation, node: str, attempt: str) -> bool:
        """Whether an agent on it was Ready so lately that no watch need have told yet that it is
        not.
        """
        unready_at = self.books.unready_at.get((node, attempt), -math.inf)
        return sim.now - unready_at < self.lag

    def ledger_nodes(self, attempt: str) -> dict[str, str]:
        """Nodes (name → UID) in the ledgers of the opened waves of an attempt."""
        rollout = self.rollout
        if rollout is None or rollout.attempt != attempt:
            return {}
        opened = {w.ledger for w in rollout.waves if w.state is not WaveState.Pending}
        asked = (attempt, opened, len(self.books.ledgers))
        if self._known[0] != asked:  # 5,000 nodes ask for it 10,000 times
            found = (self.books.ledgers.get((attempt, number)) for number in sorted(opened))
            nodes = {node.name: node.uid for ledger in found if ledger for node in ledger.nodes}
            self._known = (asked, nodes)
        return self._known[1]

    def nodes(self, sim: Simulation) -> list[NodeView]:
        """All nodes, as they are at this change; several invariants ask for them."""
        if self._nodes is None:
            self._nodes = [view(body) for body in sim.server.all("nodes")]
        return self._nodes

    def _note(self, sim: Simulation, change: Change) -> None:
        self.books.hands.note(sim.now, change, sim.key)
        self.books.kinds.note(self, sim, change)
        self.books.places.note(sim, change)
        self.books.reverts.note(self, sim, change)
        self.books.published.note(change)
        self.books.drills.note(sim, change)
        self.books.images.note(change)
        self.books.takeable.note(sim, change)
        if change.plural == "configmaps":
            self._note_stored(sim, change)
        elif change.plural == "pods":
            self._note_pod(sim, change)
        elif change.plural == "nodes":
            self._note_side(change, sim.key)
            if change.after is not None and not is_ready(change.after):
                self.books.down_since.setdefault(change.key[1], sim.now)
            else:
                self.books.down_since.pop(change.key[1], None)
            if change.after is None:
                self.books.had_agent.discard(change.key[1])
        elif change.plural == "daemonsets":
            self._note_set(sim, change)

    def _note_stored(self, sim: Simulation, change: Change) -> None:
        stored = stored_in(change.after or change.before or {})
        if stored.kind == "record":
            self.books.hands.note_record(change)
        if change.after is None:
            if stored.kind == "record":
                self.books.record = Record(SPACE, "rules")
            return
        if stored.ledger is not None:
            ledger = stored.ledger
            self.books.ledgers[ledger.attempt, ledger.number] = ledger
            self._known = (None, {})
            well = {n.name for n in ledger.nodes if n.healthy}
            known = self.books.healthy[ledger.attempt]
            # A suspect that a sweep takes again has a new baseline: it may be down since its harm.
            self.books.healthy[ledger.attempt] = (known - {n.name for n in ledger.nodes}) | well
        if stored.record is None:
            return
        self.books.record = stored.record
        rollout, stable = stored.record.rollout, stored.record.stable
        if self.books.hands.travelled and stable is not None:
            self.books.fenced.discard(stable.attempt)
            self.books.proven_fenced.discard(stable.attempt)
        if rollout is None and stable is None:
            self.books.had_agent.clear()  # a first release that was reverted leaves none
        if rollout is not None and rollout.phase is Phase.Reverting:
            self.books.fenced.add(rollout.attempt)
        elif rollout is not None and change.actor == "people" and self._is_gone(sim, rollout):
            self.books.fenced.discard(rollout.attempt)  # restored to before it was begun
            self.books.proven_fenced.discard(rollout.attempt)

    def _is_gone(self, sim: Simulation, rollout: Rollout) -> bool:
        """Whether an attempt has neither a DaemonSet nor a node: as if it had never begun."""
        attempt = rollout.attempt
        return sim.daemon_set_of(attempt) is None and not self.books.on_side[attempt]

    def _note_side(self, change: Change, key: str) -> None:
        old, new, name = side(change.before, key), side(change.after, key), change.key[1]
        if old is not None and old != new:
            self.books.on_side[old].discard(name)
            self.books.settled[old].discard(name)
        if new is not None:
            self.books.on_side[new].add(name)

    def _note_pod(self, sim: Simulation, change: Change) -> None:
        pod = change.after or change.before
        if pod is None:
            return
        if pulls(pod):
            return
        if not is_agent(pod):
            self.books.others.note(sim.now, change)
            return
        uid, node = pod["metadata"]["uid"], target_of(pod)
        if restarts(pod):
            self.books.crashed_at.setdefault(uid, sim.now)
        for names in self.books.settled.values():
            names.discard(node)
        if change.after is not None and is_ready(change.after):
            self.books.ready_since.setdefault(uid, sim.now)
            if attempt_of(pod) not in self.books.hands.sets:
                self.books.had_agent.add(node)
        elif self.books.ready_since.pop(uid, None) is not None:
            self.books.unready_at[node, attempt_of(pod)] = sim.now

    def _note_set(self, sim: Simulation, change: Change) -> None:
        body, attempt = change.after, attempt_of(change.after or change.before or {})
        if body is None:
            if change.actor == "people":  # that person took the agents away
                staying = [p for p in sim.pods() if "deletionTimestamp" not in p["metadata"]]
                self.books.had_agent &= {target_of(p) for p in staying if attempt_of(p) != attempt}
            return
        rollout = self.books.record.rollout
        reverting = rollout is not None and rollout.phase is Phase.Reverting
        if change.actor == "people" and self.books.hands.travelled and not reverting:
            self.books.fenced.discard(attempt)  # restored to before its fence, with the record
            self.books.proven_fenced.discard(attempt)
        observed = (body.get("status") or {}).get("observedGeneration", 0)
        nothing = rules_of(body, sim.key) == NOTHING
        if nothing and observed >= body["metadata"]["generation"] and attempt in self.books.fenced:
            self.books.proven_fenced.add(attempt)


def candidates_stand_in_ledgers(guard: Guard, sim: Simulation, change: Change) -> Iterator[str]:
    """1 and 18: the operator labels, and a candidate pod is made, only for an opened ledger."""
    rollout = guard.rollout
    if change.plural == "nodes" and change.actor.startswith("operator") and change.after:
        attempt = side(change.after, sim.key)
        if attempt is None or attempt == side(change.before, sim.key):
            return
        guard.counted[1] += 1
        known = guard.ledger_nodes(attempt)
        stale = guard.two_leaders and (rollout is None or rollout.attempt != attempt)
        if known.get(change.key[1]) != change.after["metadata"]["uid"] and not stale:
            yield f"{change.key[1]} was moved to {attempt} and stands in no opened ledger"
    if change.plural == "pods" and change.before is None and change.after and rollout:
        attempt, node = attempt_of(change.after), target_of(change.after)
        if attempt != rollout.attempt or rollout.promoting or not is_agent(change.after):
            return
        hands = guard.books.hands
        if hands.record or attempt in hands.sets or hands.labelled.get(node) == attempt:
            return
        guard.counted[1] += 1
        if node not in guard.ledger_nodes(attempt):
            yield f"a candidate pod was made for {node}, which stands in no opened ledger"


def waves_open_in_order(guard: Guard, sim: Simulation, change: Change) -> Iterator[str]:
    """2: a wave opens only when the one before has passed."""
    old, new = _rollouts(guard, change)
    if old is None or new is None:
        return
    if len(new.waves) > len(old.waves) and old.waves:
        guard.counted[2] += 1
        done_again = new.waves[-2].state is WaveState.Excused
        if old.waves[-1].state is not WaveState.Passed and not done_again:
            yield f"wave {new.waves[-1].name} opened after one that is {old.waves[-1].state}"


def waves_pass_on_evidence(guard: Guard, sim: Simulation, change: Change) -> Iterator[str]:
    """6: a wave passes on true signs of life after its soak."""
    old, new = _rollouts(guard, change)
    if old is None or new is None:
        return
    for index, wave in enumerate(new.waves):
        before = old.waves[index].state if index < len(old.waves) else WaveState.Pending
        if wave.state is WaveState.Passed and before is not WaveState.Passed and wave.nodes:
            guard.counted[6] += 1
            yield from _no_evidence(guard, sim, new, index)


def _no_evidence(guard: Guard, sim: Simulation, rollout: Rollout, index: int) -> Iterator[str]:
    wave, plan = rollout.waves[index], rollout.plan
    sim.machines.renew()
    ledger = guard.books.ledgers.get((rollout.attempt, wave.ledger))
    entries = [e for e in (ledger.nodes if ledger else ()) if e.name not in rollout.excused]
    planned = plan.waves[rollout.wave] if rollout.wave < len(plan.waves) else None
    # One that was added for nodes which were all removed as announced has nothing to prove; nor has
    # one that comes again for what was left, as a sweep would.
    over = planned is None or planned.again or (planned.added and _all_have_it(guard, sim, rollout))
    if not over and not any(sim.server.find("nodes", entry.name) for entry in entries):
        yield f"wave {wave.name} passed on nothing"
    kept = {suspect.node for suspect in rollout.suspects if suspect.kept}
    for entry in entries:
        node = sim.server.find("nodes", entry.name)
        if node is None or not entry.healthy or entry.name in kept:
            continue
        if side(node, sim.key) == rollout.attempt and node["metadata"]["uid"] == entry.uid:
            for lack in _lacks(guard, sim, rollout, wave, entry.name):
                yield f"wave {wave.name} passed; {lack}"


def _all_have_it(guard: Guard, sim: Simulation, rollout: Rollout) -> bool:
    """Whether nobody of the current planned wave's nodes is left that could prove something."""
    members = groups.members(rollout.plan, rollout.plan.waves[rollout.wave], guard.nodes(sim))
    return all(node.name in guard.books.on_side[rollout.attempt] for node in members)


def _lacks(
    guard: Guard, sim: Simulation, rollout: Rollout, wave: WaveRun, name: str
) -> Iterator[str]:
    """What is missing of a node's evidence."""
    soak = rollout.plan.waves[min(rollout.wave, len(rollout.plan.waves) - 1)].soak
    soak *= not wave.last  # so few nodes that they only have to settle
    machine, judged_at = sim.machines.machines.get(name), (wave.judged_since or START) - START
    if machine is None:
        return
    pods = [pod for pod in sim.pods(name) if attempt_of(pod) == rollout.attempt]
    if any(guard.books.crashed_at.get(p["metadata"]["uid"], sim.now) < judged_at for p in pods):
        yield f"the agent on {name} crashed in its soak"
    if rollout.plan.agents:
        opened = wave.opened_at - START
        yield from guard.books.others.lacks(name, opened, judged_at, guard.lag)
    if machine.heard_at - START < judged_at:
        yield f"{name} is silent since {machine.heard_at - START:.1f} < {judged_at:.1f} s"
    alive_until = sim.now if machine.alive else machine.died_at - START
    if alive_until < (wave.opened_at - START) + soak:
        yield f"{name} is dead since {alive_until:.0f} s"
    notes = (pod["metadata"].get("annotations") or {} for pod in pods)
    said = {note.get(LOADED_DIGEST_ANNOTATION) for note in notes}
    if rollout.plan.loaded_proof is not None and said != {rollout.candidate.reports}:
        yield f"the agent on {name} reports {said}"
    if sim.now - (wave.opened_at - START) < soak:
        yield f"its soak was not over, at {sim.now:.0f} s"


def reverts_end_on_evidence(guard: Guard, sim: Simulation, change: Change) -> Iterator[str]:
    """6: a revert has ended well only where its nodes are Ready, and the selected agents are well
    there. A node that was ill when it got the content may stay so.
    """
    rollout, after = guard.rollout, record_in(change)
    if rollout is None or after is None or after.rollout is not None:
        return
    outcome = next((o for o in after.outcomes if o.attempt == rollout.attempt), None)
    if outcome is None or outcome.reason not in PROVEN or change.actor == "people":
        return
    guard.counted[6] += 1
    for wave in rollout.waves:
        ledger = guard.books.ledgers.get((rollout.attempt, wave.ledger))
        name = ledger_name(rollout.attempt, wave.ledger)
        if ledger is None or sim.server.find("configmaps", name, SPACE) is None:
            continue  # a backup took it away: nobody knows how these agents were
        for entry in ledger.nodes[: wave.moved]:
            node = sim.server.find("nodes", entry.name)
            if node is not None and entry.healthy and node["metadata"]["uid"] == entry.uid:
                for lack in _lacks_after_a_revert(guard, sim, rollout, wave, entry.name):
                    yield f"{outcome.release} is Reverted; {lack}"


def _lacks_after_a_revert(
    guard: Guard, sim: Simulation, rollout: Rollout, wave: WaveRun, name: str
) -> Iterator[str]:
    since = guard.books.down_since.get(name, math.inf)
    if since < sim.now - guard.lag:
        yield f"{name} is not Ready since {since:.0f} s"
    if rollout.plan.agents:
        opened = wave.opened_at - START
        yield from guard.books.others.unwell(name, opened, sim.now, guard.lag)


def _of_its_waves(guard: Guard, sim: Simulation, rollout: Rollout) -> set[str]:
    """The nodes of its waves that are the machines of the ledgers: what took a name unmoved is in
    none. A backup takes waves away, whose nodes it has moved already.
    """
    ledgers = (guard.books.ledgers.get((rollout.attempt, wave.ledger)) for wave in rollout.waves)
    entries = (entry for ledger in ledgers if ledger is not None for entry in ledger.nodes)
    there = ((entry, sim.server.find("nodes", entry.name)) for entry in entries)
    return {e.name for e, node in there if node is None or node["metadata"]["uid"] == e.uid}


def exposure_is_bounded(guard: Guard, sim: Simulation, change: Change) -> Iterator[str]:
    """3: nodes in flight never exceed min(maxUnavailable, max(1, nodes settled))."""
    rollout = guard.rollout
    if change.plural != "nodes" or not change.actor.startswith("operator") or rollout is None:
        return
    if side(change.after, sim.key) != rollout.attempt:
        return
    guard.counted[3] += 1
    attempt = rollout.attempt
    before, settled = guard.books.on_side[attempt], guard.books.settled[attempt]
    limit = rollout.plan.max_unavailable.resolve(len(sim.server.objects["nodes"]))
    if len(before) + 1 - len(settled) <= min(limit, max(1, len(settled))):
        return  # few enough even if none has settled since the last look
    moved, healthy, brief = before | {change.key[1]}, guard.books.healthy[attempt], set()
    for name in moved - settled:
        if (is_settled := _settled(guard, sim, name, rollout)) is not None:
            (settled if is_settled else brief).add(name)
    unseen = guard.books.hands.labelled_since(sim.now - guard.lag, attempt) - {change.key[1]}
    # Whoever announced that a node leaves keeps it for as long as he likes.
    waiting = ((moved - settled - brief - unseen) & healthy) - rollout.excused.keys()
    in_flight = sorted(waiting & _of_its_waves(guard, sim, rollout))
    count = len(settled) + len(brief)
    allowed = min(limit, max(1, count))
    if len(in_flight) > allowed:
        yield f"{len(in_flight)} in flight ({in_flight}), {count} settled, limit {limit}"


def nothing_moves_after_a_fail(guard: Guard, sim: Simulation, change: Change) -> Iterator[str]:
    """4 and 18: after a stored fail no node is moved, after the fence was seen no pod is made."""
    if change.plural == "nodes" and change.actor.startswith("operator") and change.after:
        attempt = side(change.after, sim.key)
        guard.counted[4] += 1
        moved = attempt != side(change.before, sim.key)
        if moved and attempt in guard.books.fenced and not guard.two_leaders:
            yield f"{change.key[1]} was moved to {attempt} after its fail"
    if change.plural == "pods" and change.before is None and change.after:
        attempt = attempt_of(change.after)
        if attempt in guard.books.proven_fenced and attempt not in guard.books.hands.sets:
            yield f"a pod of the fenced attempt {attempt} was made after the fence was seen"


def only_our_own_is_written(guard: Guard, sim: Simulation, change: Change) -> Iterator[str]:
    """9: our objects, our one label, statuses; of pods only those that pull images are
    made, and only those and a reverting candidate's are deleted.
    """
    if not change.actor.startswith("operator"):
        return
    guard.counted[9] += 1
    body = change.after or change.before or {}
    labels = body["metadata"].get("labels") or {}
    if change.plural in ("configmaps", "daemonsets") and KIND_LABEL not in labels:
        yield f"{change.plural} {change.key} is not ours"
    elif change.plural == "nodes" and not only_our_label(change, sim.key):
        yield f"more than our label was written on node {change.key[1]}"
    elif change.plural.startswith("securitycontent"):
        before = change.before or {}
        if change.after is None or before.get("spec") != change.after.get("spec"):
            yield f"the spec of {change.plural} {change.key[1]} was written"
    elif change.plural == "pods" and not (pulls(body) or attempt_of(body) in guard.books.fenced):
        yield f"pod {change.key[1]} was deleted, which is no fenced candidate's"


def agents_outside_the_waves_stay(guard: Guard, sim: Simulation, change: Change) -> Iterator[str]:
    """10: no agent is ended on a node that stands in no ledger of the running attempt, nor one
    that belongs where it runs: promotions restart nothing.
    """
    before, after, rollout = change.before, change.after, guard.rollout
    if change.plural != "pods" or before is None or not is_agent(before):
        return
    ending = after is None or (
        "deletionTimestamp" in after["metadata"] and "deletionTimestamp" not in before["metadata"]
    )
    ours = change.actor.startswith("operator") or change.actor == "daemonset-controller"
    node, own, hands = target_of(before), attempt_of(before), guard.books.hands
    if not ending or not ours or not is_ready(before) or own in hands.sets:
        return
    guard.counted[10] += 1
    if node in hands.labelled or own in guard.books.fenced:
        return
    body, attempt = sim.server.find("nodes", node), rollout.attempt if rollout else ""
    if body is None or drained(body):
        return
    if own == attempt and node not in guard.ledger_nodes(attempt):
        return  # the candidate's, where a person wanted it: the node goes towards stable
    went_back = node in guard.books.drills.away.get(own, ()) and side(body, sim.key) != own
    if hands.travelled and went_back:
        return  # the candidate's, taken back just before a person took the record away
    if node not in guard.ledger_nodes(attempt):
        yield f"the agent on {node} was ended, which stands in no ledger"
    elif (side(body, sim.key) == attempt) == (own == attempt):
        yield f"the agent on {node} was ended, which belongs there"


def one_agent_per_node(guard: Guard, sim: Simulation, change: Change) -> Iterator[str]:
    """11: one bound agent pod on a node; at most two revisions match any node at all."""
    if change.plural == "pods" and change.after and change.after["spec"].get("nodeName"):
        if not is_agent(change.after):
            return
        guard.counted[11] += 1
        node = sim.server.find("nodes", change.after["spec"]["nodeName"])
        if node is None or HOST not in (node["metadata"].get("labels") or {}):
            return
        if len(sim.pods(node["metadata"]["name"])) > 1:
            yield f"two agents are bound to {node['metadata']['name']}"
    if change.plural == "daemonsets" and change.after and change.actor.startswith("operator"):
        targeted = [
            body["metadata"]["name"]
            for body in sim.daemon_sets()
            if rules_of(body, sim.key) != NOTHING
            and attempt_of(body)
            and attempt_of(body) not in guard.books.hands.sets
        ]
        if len(targeted) > 2:
            yield f"more than two revisions may match nodes: {targeted}"


def candidates_differ_in_one_thing(guard: Guard, sim: Simulation, change: Change) -> Iterator[str]:
    """11: a candidate brings other content than stable, or another agent, never both."""
    rollout, stable = guard.rollout, guard.books.record.stable
    made = change.plural == "daemonsets" and change.before is None and change.after is not None
    if not made or not change.actor.startswith("operator") or rollout is None or stable is None:
        return
    old = sim.daemon_set_of(stable.attempt)
    if old is None or attempt_of(change.after) != rollout.attempt:
        return
    guard.counted[11] += 1
    before, after = ({*images(body["spec"]["template"])} for body in (old, change.after))
    if len(after - before) > 1:
        yield f"the candidate {rollout.attempt} brings {sorted(after - before)} at once"


def every_agent_is_matched(guard: Guard, sim: Simulation, change: Change) -> Iterator[str]:
    """16 and 20: after each of our writes some revision matches each node that had an agent."""
    if change.plural not in ("daemonsets", "nodes") or not change.actor.startswith("operator"):
        return
    rollout = guard.rollout
    if rollout is not None and rollout.phase is Phase.Reverting:
        return
    fences = change.after is not None and change.plural == "daemonsets"
    if guard.books.hands.record and fences and rules_of(change.after or {}, sim.key) == NOTHING:
        return  # the record went away in the middle of a revert; its next write is stable's
    guard.counted[16] += 1
    sets = (body for body in sim.daemon_sets() if attempt_of(body))
    specs = [body["spec"]["template"]["spec"] for body in sets]
    names = guard.books.had_agent if change.plural == "daemonsets" else {change.key[1]}
    for name in sorted(names & guard.books.had_agent):
        node = sim.server.find("nodes", name)
        if node is None or drained(node) or any(fits(spec, node)[1] for spec in specs):
            continue
        if not guard.books.hands.excuse(guard.books.record, node, sim.key):
            yield f"no revision matches {name}, which had an agent"


def one_node_stops_nothing(guard: Guard, sim: Simulation, change: Change) -> Iterator[str]:
    """17: after the first wave harm on one node alone neither reverts, pauses nor blocks. Where
    nothing is there to give the node back to, or the record is of another time, it may. What could
    not be fetched never does.
    """
    old, new = _rollouts(guard, change)
    if old is None or new is None or new.incident is None or old.incident is not None:
        return
    if new.incident.reason is Reason.CannotFetch:
        yield f"what could not be fetched made it {new.phase}, and never ran"
    first = next((wave for wave in old.waves if wave.nodes), None)
    if new.incident.reason not in HARM or first is None or first.state is not WaveState.Passed:
        return
    stable = guard.books.record.stable
    if guard.books.hands.travelled or stable is None or not sim.daemon_set_of(stable.attempt):
        return
    guard.counted[17] += 1
    if len(new.incident.nodes) == 1:
        yield f"{new.incident.nodes[0]} alone made it {new.phase} ({new.incident.message})"


CHECKS: tuple[tuple[int, Check], ...] = (
    (1, candidates_stand_in_ledgers),
    (2, waves_open_in_order),
    (2, the_way_back_is_proven),
    (2, a_running_plan_never_loosens),
    (2, what_is_drilled_was_back),
    (2, no_soak_without_its_drill),
    (2, nothing_else_moves_before_a_drill),
    (4, nothing_moves_after_a_fail),
    (4, nothing_moves_to_what_is_blocked),
    (4, nothing_starts_too_soon),
    (4, nothing_moves_where_strata_were_left_out),
    (4, images_are_pulled_in_a_soak_only),
    (11, images_are_pulled_by_what_runs_nothing),
    (3, exposure_is_bounded),
    (3, no_second_of_a_stratum),
    (3, control_plane_comes_alone),
    (3, critical_workloads_stay),
    (3, critical_pools_come_last),
    (3, nobody_waits_for_expensive_nodes),
    (3, small_pools_go_in_steps),
    (3, zones_take_turns),
    (3, canaries_go_by_label),
    (6, waves_pass_on_evidence),
    (6, reverts_end_on_evidence),
    (6, stable_is_doubted),
    (9, only_our_own_is_written),
    (10, agents_outside_the_waves_stay),
    (11, one_agent_per_node),
    (11, candidates_differ_in_one_thing),
    (APART, two_channels_keep_apart),
    (14, changes_carry_reasons),
    (14, a_drill_fails_for_a_cause),
    (16, every_agent_is_matched),
    (17, one_node_stops_nothing),
    (18, a_fence_stays),
    (19, replaced_only_when_it_may_be),
)
"""In the order in which they are asked: what moves after a fail, which is the worse, may be one too
many as well. 1 and 4 cover 18 too, 16 covers 20. 5, 8, 12, 15 and 19 are about whole runs, as is 3
with two leaders: see promises.py.
"""


def _settled(guard: Guard, sim: Simulation, node: str, rollout: Rollout) -> bool | None:
    """True = until its pods change; False = for a moment, as the operator can't know better yet;
    None = it is not settled. The agent that it had before the move says nothing.
    """
    attempt, settle = rollout.attempt, rollout.plan.settle
    own = [pod for pod in sim.pods(node) if attempt_of(pod) == attempt]
    pods = [p for p in own if "deletionTimestamp" not in p["metadata"]]
    since = [guard.books.ready_since.get(p["metadata"]["uid"]) for p in pods]
    if any(
        at is not None and sim.now - at >= settle - sim.machines.speeds.renewal / 100
        for at in since
    ):
        return True
    return False if guard.was_well(sim, node, attempt) else None


def _rollouts(guard: Guard, change: Change) -> tuple[Rollout | None, Rollout | None]:
    """A rollout as it was stored before and after a change; None when it is not the same one."""
    if change.actor == "people":
        return None, None  # a backup is restored
    old, after = guard.rollout, record_in(change)
    new = after.rollout if after else None
    same = old is not None and new is not None and old.attempt == new.attempt
    return (old, new) if same else (None, None)
