"""Loaded proof during a rollout, its bake and its revert: no report, no pass.

A wave passes only when the agent of each of its nodes reports the released content; a revert has
ended well only when each node that was taken back reports stable's.
"""

from collections.abc import Iterable, Iterator, Mapping

from wavegate.evidence import (
    CheckResult,
    Finding,
    LoadedProof,
    PodView,
    is_loaded,
    judge_answer,
    judge_loaded,
    said_by_metric,
    said_by_pods,
)
from wavegate.evidence.loaded import PROOF_CHECK
from wavegate.rollout.attempt import Revision, Rollout
from wavegate.rollout.observation import Observation

Reports = Mapping[str, frozenset[str]]
"""By node: the contents that its agent reports."""


def reports(obs: Observation, rollout: Rollout) -> Reports:
    """What the candidate's agents report."""
    return obs.once(_reports, rollout)


def _reports(obs: Observation, rollout: Rollout) -> Reports:
    proof, answers = rollout.plan.loaded_proof, obs.checks
    return _said(obs, proof, rollout.attempt, answers) if proof else {}


def judge(
    obs: Observation, rollout: Rollout, nodes: frozenset[str], now: float
) -> Iterator[Finding]:
    """What the reports of the judged `nodes` lack. A node whose agent is not Ready is told of
    elsewhere, and waits there.
    """
    proof = rollout.plan.loaded_proof
    if proof is None or not nodes:
        return
    answer, since = obs.checks.get(PROOF_CHECK), rollout.waves[-1].judged_since or 0.0
    yield from judge_answer(proof, answer, nodes, since)
    said, ready = reports(obs, rollout), _agents(obs, rollout.attempt)
    asked = ready.keys() & nodes
    if proof.metric is not None:  # of one that was not asked about nothing is known yet
        asked &= answer.nodes if answer and not answer.error else frozenset()
    for name in sorted(asked):
        overdue = now - _began(obs, ready[name]) > rollout.plan.progress_deadline
        digest = rollout.candidate.reports
        yield from judge_loaded(name, said.get(name), digest, overdue=overdue)


def count(obs: Observation, rollout: Rollout) -> int:
    """How many nodes report the candidate's content."""
    digest = rollout.candidate.reports
    return sum(is_loaded(said, digest) for said in reports(obs, rollout).values())


def unproven(obs: Observation, rollout: Rollout, nodes: Iterable[str]) -> frozenset[str]:
    """Those of the nodes that do not report the candidate's content; none without a proof."""
    if rollout.plan.loaded_proof is None:
        return frozenset()
    said, digest = reports(obs, rollout), rollout.candidate.reports
    return frozenset(name for name in nodes if not is_loaded(said.get(name), digest))


def not_taken_back(
    obs: Observation, rollout: Rollout, stable: Revision, nodes: Iterable[str]
) -> list[str]:
    """Those of the nodes, which run stable again, that do not report its content."""
    proof = rollout.plan.loaded_proof
    if proof is None:
        return []
    said = _said(obs, proof, stable.attempt, obs.checks)
    return sorted(name for name in nodes if not is_loaded(said.get(name), stable.reports))


def _said(
    obs: Observation, proof: LoadedProof, attempt: str, answers: Mapping[str, CheckResult]
) -> Reports:
    ready = _agents(obs, attempt)
    if proof.annotation:
        return said_by_pods(proof.annotation, ready)
    return said_by_metric(proof, answers.get(PROOF_CHECK), ready)


def _agents(obs: Observation, attempt: str) -> dict[str, PodView]:
    """The Ready agents of an attempt, by node."""
    pods = obs.pods_of(attempt)
    return {pod.node: pod for pod in pods if pod.node and pod.ready and not pod.terminating}


def _began(obs: Observation, pod: PodView) -> float:
    """Since when the agent could have reported."""
    node = obs.nodes.get(pod.node or "")
    side = node.sides.get(obs.key) if node else None
    return max(pod.ready_since or 0.0, side.since if side else 0.0)
