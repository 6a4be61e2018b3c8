"""Loaded proof: which content does the agent of a node say that it has loaded?

A Ready agent may run on what it had before: its reload failed, or the content outlived the pod on
the host. So the agent itself reports a digest. A report is proof only if it is younger than the
agent: what an earlier pod said on that node counts neither for nor against this one.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from wavegate.api import GateKind, Reason
from wavegate.evidence.findings import Finding, Verdict
from wavegate.evidence.observation import CheckResult, CheckSpec, PodView
from wavegate.evidence.promql import no_answer, reported_node

PROOF_CHECK = "loadedProof"
"""Name of the question to Prometheus; no check of a channel can have it, as it is no DNS label."""
_PREFIX = "sha256:"
BRIEF = 16
"""Characters of a digest that people are shown."""


@dataclass(frozen=True, slots=True)
class LoadedProof:
    """Where reports are: in an annotation of the agent's pod, or in series of a metric."""

    annotation: str = ""
    metric: CheckSpec | None = None
    digest_label: str = ""
    """The label of the series that holds the digest."""


def said_by_pods(annotation: str, pods: Mapping[str, PodView]) -> dict[str, frozenset[str]]:
    """What each node's agent wrote on its own pod, which is younger than the agent by nature."""
    found = ((node, pod.annotations.get(annotation, "")) for node, pod in pods.items())
    return {node: frozenset({plain_digest(digest)}) for node, digest in found if digest}


def said_by_metric(
    proof: LoadedProof, result: CheckResult | None, pods: Mapping[str, PodView]
) -> dict[str, frozenset[str]]:
    """What each node's agent says in series: those above 0, sampled within `max_age` and after the
    agent became Ready. Ages are by Prometheus' clock, the agent's time by ours, so only lengths of
    time are compared.
    """
    metric = proof.metric
    if metric is None or result is None or no_answer(metric, result) is not None:
        return {}
    ages = {_identity(age.labels): age.value for age in result.ages}
    said: dict[str, set[str]] = defaultdict(set)
    for sample in result.samples:
        node, age = reported_node(metric, sample), ages.get(_identity(sample.labels), math.inf)
        pod = pods.get(node)
        if pod is None or pod.ready_since is None or not sample.value > 0:
            continue
        if age <= metric.max_age and result.asked_at - age >= pod.ready_since:
            said[node].add(plain_digest(sample.labels.get(proof.digest_label, "")))
    return {node: frozenset(digests) for node, digests in said.items()}


def is_loaded(said: frozenset[str] | None, digest: str) -> bool:
    """Whether a node reports this content, and nothing else."""
    return said == frozenset({plain_digest(digest)})


def judge_loaded(
    node: str, said: frozenset[str] | None, digest: str, *, overdue: bool
) -> Iterator[Finding]:
    """Judge one node's report. Silence waits, and past the deadline (`overdue`) it holds. Another
    content waits as well, since a reload takes time; past the deadline the node goes back. It is
    no harm, so it blocks nothing.
    """
    if is_loaded(said, digest):
        return
    if not said:
        verdict = Verdict.HOLD if overdue else Verdict.WAIT
        message = f"the agent on node {node} does not report which content it loaded"
        yield Finding(verdict, Reason.LoadedNotReported, message, node, gate=GateKind.Agents)
        return
    verdict = Verdict.FAIL if overdue else Verdict.WAIT
    others = sorted(brief[:BRIEF] for brief in said - {plain_digest(digest)})[:3]
    released = plain_digest(digest)[:BRIEF]
    message = f"the agent on node {node} reports content {', '.join(others)}, not {released}"
    yield Finding(verdict, Reason.OtherContentLoaded, message, node, gate=GateKind.Agents)


def judge_answer(
    proof: LoadedProof, result: CheckResult | None, nodes: frozenset[str], since: float
) -> Iterator[Finding]:
    """What is wrong with Prometheus' answer as a whole; one from before `since`, or about fewer
    nodes, is not the last word.
    """
    metric = proof.metric
    if metric is None:
        return
    if result is None:
        yield _waits("was not asked yet")
        return
    lost = no_answer(metric, result)
    if lost is not None:
        yield replace(lost, gate=GateKind.Agents, check="")
    elif result.asked_at < since or not nodes <= result.nodes:
        yield _waits("has no fresh answer yet")


def _waits(what: str) -> Finding:
    message = f"check {PROOF_CHECK} {what}"
    return Finding(Verdict.WAIT, Reason.CheckNoData, message, gate=GateKind.Agents)


def plain_digest(digest: str) -> str:
    """A digest as it is compared: lower case, without `sha256:`."""
    return digest.strip().lower().removeprefix(_PREFIX)


def _identity(labels: Mapping[str, str]) -> frozenset[tuple[str, str]]:
    """A series, by its labels: an age has lost the name of the metric."""
    return frozenset((name, value) for name, value in labels.items() if name != "__name__")
