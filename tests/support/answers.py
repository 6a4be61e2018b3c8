"""What Prometheus and the apiserver answer to the operator of a simulated cluster, each second."""

from typing import TYPE_CHECKING

from wavegate.controller.queries import Questions
from wavegate.evidence import CheckResult, Sample
from wavegate.rollout import way_back
from wavegate.rollout.decide import pause_reason
from wavegate.rollout.judge import judged_nodes
from wavegate.rollout.observation import RevertProof
from wavegate.rollout.record import Rollout
from wavegate.rollout.watch import watched

if TYPE_CHECKING:
    from support.world import SimCluster


def ask(sim: "SimCluster") -> None:
    """Prometheus answers every check about all moved nodes, and those of a bake about all of its
    nodes.
    """
    rollout, baking, obs = sim.record.rollout, sim.record.bake, sim.observe()
    nodes = judged_nodes(obs, rollout) if rollout else frozenset()
    if rollout and nodes:
        _answer(sim, sim.checks, rollout, nodes)
    nodes = frozenset(watched(obs, baking)) if baking else frozenset()
    if baking and nodes:
        _answer(sim, sim.bake_checks, baking.rollout, nodes)


def _answer(
    sim: "SimCluster",
    answers: dict[str, CheckResult],
    rollout: Rollout,
    nodes: frozenset[str],
) -> None:
    """A check of nodes has a series for each; one of a wave has the highest value."""
    every = {name: sim.check_values.get(name, sim.check_value) for name in nodes}
    values = {name: value for name, value in every.items() if value is not None}
    for check in rollout.plan.checks:
        labels = ({check.node_label: name} for name in values)
        samples = [Sample(of, v, sim.now) for of, v in zip(labels, values.values(), strict=True)]
        if not check.per_node:
            samples = [Sample({}, max(values.values()), sim.now)]
        answer = () if sim.check_error else tuple(samples)
        query = Questions(rollout, nodes, 0.0).told(check, sim.observe(), sim.now)
        answers[check.name] = CheckResult(sim.now, nodes, answer, sim.check_error, query=query)


def prove(sim: "SimCluster") -> None:
    """The apiserver answers the dry run of the revert, when it is due."""
    rollout, obs = sim.record.rollout, sim.observe()
    paused = pause_reason(obs, sim.now)
    if rollout is not None and not paused and way_back.is_due(obs, rollout, sim.now):
        ledger = rollout.waves[-1].ledger
        sim.way_back = RevertProof(rollout.attempt, ledger, sim.now, sim.blocks)
        sim.dry_runs += 1
