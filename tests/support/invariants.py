"""What must hold after every pass, and the words that stories are told in."""

from collections.abc import Callable, Iterator

from support.builders import matches
from support.world import SimCluster
from wavegate.api import Phase, WaveState
from wavegate.evidence import Verdict
from wavegate.rollout import suspects
from wavegate.rollout.observation import Observation
from wavegate.rollout.steps import MoveNodes, Step, StoreLedger
from wavegate.rollout.waves import baseline


def with_stable(sim: SimCluster) -> SimCluster:
    """Roll release `a` out everywhere."""
    sim.publish("a", 1)
    sim.run(400, until=lambda: sim.record.stable is not None)
    sim.run(5)
    assert set(sim.running().values()) == {"a"}
    return sim


def about_to_open() -> SimCluster:
    """Release b is about to open its first wave; nothing is known of its way back. a is stable."""
    sim = SimCluster()
    sim.add_nodes("canary", 1)
    sim.add_nodes("workers", 2)
    with_stable(sim)
    sim.publish("b", 2)
    sim.step_until(lambda: sim.record.rollout is not None and sim.record.rollout.waves)
    assert sim.record.rollout.waves[-1].state is WaveState.Pending
    return sim


def phase_of(sim: SimCluster, release: str) -> tuple[str, str]:
    """Phase and reason in which a release ended, or empty."""
    outcome = next((o for o in sim.record.outcomes if o.release == release), None)
    return (outcome.phase.value, outcome.reason.value) if outcome else ("", "")


def ended(sim: SimCluster, release: str) -> Callable[[], bool]:
    """A condition: this release has ended."""
    return lambda: phase_of(sim, release)[0] != ""


def in_wave(sim: SimCluster, name: str, state: WaveState = WaveState.Soaking) -> Callable[[], bool]:
    """A condition: the current wave is this one, in this state."""

    def there() -> bool:
        rollout = sim.record.rollout
        wave = rollout.waves[-1] if rollout and rollout.waves else None
        return wave is not None and (wave.name, wave.state) == (name, state)

    return there


class Invariants:
    """Called after each pass with what was observed before it."""

    def __init__(self) -> None:
        self.had_agent: set[str] = set()
        self.fenced: set[str] = set()

    def __call__(self, sim: SimCluster, obs: Observation, step: Step) -> None:
        for broken in self.broken(sim, obs, step):
            story = "\n".join(sim.story[-25:])
            raise AssertionError(f"{broken}\n{story}")

    def broken(self, sim: SimCluster, obs: Observation, step: Step) -> Iterator[str]:
        yield from self.candidates_are_in_ledgers(sim)
        yield from self.one_agent_per_node(sim)
        yield from self.nothing_moves_after_a_fail(obs, step)
        yield from self.exposure(sim, step)
        yield from self.every_agent_is_matched(sim)
        yield from self.passed_on_evidence(obs, step)
        yield from self.way_back_is_proven(sim, obs, step)

    def candidates_are_in_ledgers(self, sim: SimCluster) -> Iterator[str]:
        rollout = sim.record.rollout
        if rollout is None or rollout.promoting or rollout.completed_at is not None:
            return
        nodes = {n.name for led in sim.ledgers.values() for n in led.nodes}
        for pod in sim.pods:
            if pod.attempt == rollout.attempt and pod.node not in nodes:
                yield f"a candidate pod is on {pod.node}, which stands in no ledger"

    def one_agent_per_node(self, sim: SimCluster) -> Iterator[str]:
        bound = [pod.node for pod in sim.pods if pod.bound_at is not None]
        if len(bound) != len(set(bound)):
            yield "two agents share a node"

    def nothing_moves_after_a_fail(self, obs: Observation, step: Step) -> Iterator[str]:
        rollout = obs.record.rollout
        if rollout is None:
            return
        if rollout.phase is Phase.Reverting or any(
            f.verdict is Verdict.FAIL for f in step.findings
        ):
            self.fenced.add(rollout.attempt)
        for action in step.actions:
            if isinstance(action, MoveNodes) and action.attempt in self.fenced:
                yield f"{action.nodes} moved after a Fail"

    def exposure(self, sim: SimCluster, step: Step) -> Iterator[str]:
        rollout = sim.record.rollout
        moves = [a for a in step.actions if isinstance(a, MoveNodes)]
        if rollout is None or not moves:
            return
        healthy = {n.name for led in sim.ledgers.values() for n in led.nodes if n.healthy}
        moved = [n for n in sim.nodes.values() if n.attempt == rollout.attempt]
        settled = [n for n in moved if well_for(sim, n.name) >= rollout.plan.settle]
        in_flight = [n for n in moved if n not in settled and n.name in healthy]
        limit = rollout.plan.max_unavailable.resolve(len(sim.nodes))
        if len(in_flight) > min(limit, max(1, len(settled))):
            yield f"{len(in_flight)} nodes in flight, {len(settled)} settled"

    def every_agent_is_matched(self, sim: SimCluster) -> Iterator[str]:
        self.had_agent = {n for n in self.had_agent | set(sim.running()) if n in sim.nodes}
        if sim.record.rollout is not None and sim.record.rollout.phase is Phase.Reverting:
            return
        for name in self.had_agent if sim.record.stable else ():
            view = sim.node_view(sim.nodes[name])
            templates = (
                {"spec": {**s.template["spec"], "affinity": s.affinity}} for s in sim.sets.values()
            )
            if not any(matches(template, view, stays=True) for template in templates):
                yield f"no revision matches {name}, which had an agent"

    def passed_on_evidence(self, obs: Observation, step: Step) -> Iterator[str]:
        before, after = obs.record.rollout, step.record.rollout if step.record else None
        if before is None or after is None or not before.waves:
            return
        old, new = before.waves[-1], after.waves[len(before.waves) - 1]
        if new.state is not WaveState.Passed or old.state is WaveState.Passed or not new.nodes:
            return
        planned = before.plan.waves[min(before.wave, len(before.plan.waves) - 1)]
        soak = 0.0 if old.last else planned.soak
        names = {n.name for n in baseline(obs, obs.ledgers).values() if n.healthy}
        moved = {n.name for n in obs.moved(before.attempt)} - suspects.aside(obs, before)
        speaking = moved - before.excused.keys()
        if before.planned is not None and not speaking:
            yield f"wave {old.name} passed on nothing"
        for name in names & speaking:
            if obs.leases.get(name, 0.0) < old.opened_at + soak:
                yield f"wave {old.name} passed, but {name} was not heard from after its soak"

    def way_back_is_proven(self, sim: SimCluster, obs: Observation, step: Step) -> Iterator[str]:
        rollout, proof = obs.record.rollout, obs.way_back
        if rollout is None or not rollout.waves:
            return
        ledger = obs.ledgers.get(rollout.waves[-1].ledger)
        names = {node.name for node in ledger.nodes} if ledger else set()
        labelled = bool(rollout.waves[-1].labelled)  # all of those may be suspects by now
        begun = labelled or any(n.name in names for n in obs.moved(rollout.attempt))
        opens = any(isinstance(action, StoreLedger | MoveNodes) for action in step.actions)
        good = proof is not None and not proof.problem and sim.now - proof.asked_at <= 60.0
        if opens and not begun and not (good and proof.ledger == rollout.waves[-1].ledger):
            yield f"wave {rollout.waves[-1].name} opened, but its way back was not proven"


def well_for(sim: SimCluster, node: str) -> float:
    """For how long the node's Ready agent runs; -1 when there is none."""
    pod = sim.pod_on(node)
    if pod is None or pod.deleting or not pod.ready or not sim.nodes[node].alive:
        return -1.0
    return sim.now - (pod.bound_at or sim.now) - 2.0
