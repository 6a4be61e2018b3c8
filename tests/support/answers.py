"""What Prometheus and the apiserver answer to the operator of a simulated cluster, each second."""

from typing import TYPE_CHECKING

from wavegate.controller.queries import Questions
from wavegate.evidence import CheckResult, Sample
from wavegate.evidence.loaded import PROOF_CHECK
from wavegate.rollout import way_back
from wavegate.rollout.attempt import Rollout
from wavegate.rollout.back import to_prove
from wavegate.rollout.decide import pause_reason
from wavegate.rollout.judge import judged_nodes
from wavegate.rollout.observation import RevertProof
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
    nodes |= to_prove(obs, rollout) if rollout else frozenset()
    _report(sim, sim.checks, rollout, nodes)
    nodes = frozenset(watched(obs, baking)) if baking else frozenset()
    if baking and nodes:
        _answer(sim, sim.bake_checks, baking.rollout, nodes)
    _report(sim, sim.bake_checks, baking.rollout if baking else None, nodes)


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


def _report(
    sim: "SimCluster",
    answers: dict[str, CheckResult],
    rollout: Rollout | None,
    nodes: frozenset[str],
) -> None:
    """The series in which agents report what they loaded, sampled a second ago."""
    proof = rollout.plan.loaded_proof if rollout else None
    if proof is None or proof.metric is None or not nodes:
        return
    labels = [
        {proof.metric.node_label: pod.node, proof.digest_label: pod.said}
        for pod in sim.pods
        if pod.said and pod.ready and sim.nodes[pod.node].alive
    ]
    samples = () if sim.check_error else tuple(Sample(series, 1.0) for series in labels)
    answers[PROOF_CHECK] = CheckResult(sim.now, nodes, samples, sim.check_error, ages=samples)


def prove(sim: "SimCluster") -> None:
    """The apiserver answers the dry run of the revert, when it is due."""
    rollout, obs = sim.record.rollout, sim.observe()
    paused = pause_reason(obs, sim.now)
    if rollout is not None and not paused and way_back.is_due(obs, rollout, sim.now):
        ledger = rollout.waves[-1].ledger
        sim.way_back = RevertProof(rollout.attempt, ledger, sim.now, sim.blocks)
        sim.dry_runs += 1
