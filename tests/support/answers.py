"""What Prometheus and the apiserver answer to the operator of a simulated cluster, each second."""

from typing import TYPE_CHECKING

from wavegate.evidence import CheckResult, Sample
from wavegate.rollout import way_back
from wavegate.rollout.decide import pause_reason
from wavegate.rollout.judge import judged_nodes
from wavegate.rollout.observation import RevertProof

if TYPE_CHECKING:
    from support.world import SimCluster


def ask(sim: "SimCluster") -> None:
    """Prometheus answers every check about all moved nodes."""
    rollout, obs = sim.record.rollout, sim.observe()
    nodes = judged_nodes(obs, rollout) if rollout else frozenset()
    for check in rollout.plan.checks if rollout and nodes else ():
        samples = tuple(Sample({check.node_label: n}, sim.check_value) for n in nodes)
        answer = () if sim.check_error else samples
        sim.checks[check.name] = CheckResult(sim.now, nodes, answer, sim.check_error)


def prove(sim: "SimCluster") -> None:
    """The apiserver answers the dry run of the revert, when it is due."""
    rollout, obs = sim.record.rollout, sim.observe()
    paused = pause_reason(obs, sim.now)
    if rollout is not None and not paused and way_back.is_due(obs, rollout, sim.now):
        ledger = rollout.waves[-1].ledger
        sim.way_back = RevertProof(rollout.attempt, ledger, sim.now, sim.blocks)
        sim.dry_runs += 1
