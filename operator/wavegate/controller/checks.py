"""Keeps the Prometheus checks of rollouts and bakes answered, each at its interval."""

import logging
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from wavegate.controller.queries import Questions
from wavegate.controller.tasks import Tasks
from wavegate.controller.work import Key
from wavegate.evidence import (
    LEAST_CONTROL,
    CheckResult,
    CheckSpec,
    Verdict,
    assess_check,
    lost_nodes,
    median_of,
    outside_limits,
    silent_nodes,
    worst,
)
from wavegate.evidence.gates import MAX_QUERY, cut
from wavegate.evidence.loaded import PROOF_CHECK
from wavegate.rollout.back import to_prove
from wavegate.rollout.judge import witnesses
from wavegate.rollout.observation import Observation
from wavegate.rollout.periods import evidence_since
from wavegate.rollout.record import Record
from wavegate.rollout.watch import watched
from wavegate.telemetry.connections import Source
from wavegate.telemetry.metrics import Metrics
from wavegate.telemetry.prometheus import PrometheusReader

log = logging.getLogger(__name__)

EARLY_SECONDS = 1.0
"""A soak that ended, nodes that joined, or a wave that opened, are asked about after this, not the
interval."""


class CheckRunner:
    """Asks in the background; `wake` is called when an answer is in."""

    def __init__(
        self,
        reader: PrometheusReader,
        clock: Callable[[], float],
        wake: Callable[[Key], None],
        metrics: Metrics | None = None,
    ) -> None:
        self._reader, self._clock, self._wake, self._metrics = reader, clock, wake, metrics
        self._verdicts: dict[Key, dict[tuple[str, str], Verdict]] = defaultdict(dict)
        self._results: dict[Key, dict[str, dict[str, CheckResult]]] = defaultdict(dict)
        self._tasks = Tasks[tuple[Key, str, str]]()

    def results(self, key: Key) -> Mapping[str, Mapping[str, CheckResult]]:
        """The newest answers for a channel: by attempt (the running and the baking one), by name
        of the check.
        """
        return self._results[key]

    def close(self) -> None:
        """Stop asking."""
        self._tasks.close()

    def ensure(self, key: Key, obs: Observation) -> float | None:
        """Start the queries that are due; returns in how many seconds the next one is, None when
        there is none to wait for. Answers about other attempts are forgotten.
        """
        known, attempts = self._results[key], attempts_of(obs.record)
        self._results[key] = {attempt: known.get(attempt, {}) for attempt in attempts}
        left = []
        questions = list(_asked(obs))
        places = frozenset((asked.rollout.attempt, check.name) for check, asked in questions)
        self._forget(key, places)
        for check, asked in questions:
            seconds = self._due_in(key, check, asked)
            left.append(seconds)
            if seconds <= 0:
                place = (key, asked.rollout.attempt, check.name)
                self._tasks.start(place, self._ask(key, check, asked, obs))
        return min((seconds for seconds in left if 0 < seconds < math.inf), default=None)

    def _due_in(self, key: Key, check: CheckSpec, asked: Questions) -> float:
        """Seconds until this check is asked; endless while its answer is awaited, which wakes."""
        if self._tasks.is_running((key, asked.rollout.attempt, check.name)):
            return math.inf
        last = self._results[key][asked.rollout.attempt].get(check.name)
        if last is None:
            return 0.0
        outdated = last.asked_at < asked.since or not asked.nodes <= last.nodes
        pause = min(EARLY_SECONDS, check.interval) if outdated else check.interval
        return max(0.0, last.asked_at + pause - self._clock())

    async def _ask(self, key: Key, check: CheckSpec, asked: Questions, obs: Observation) -> None:
        plan, attempt = asked.rollout.plan, asked.rollout.attempt
        source, now = Source(plan.prometheus, plan.connection, key[0]), self._clock()
        question = asked.substituted(check, obs, now)
        result = await self._reader.ask(source, question, question.query, asked.nodes, now)
        last = self._results[key].get(attempt, {}).get(check.name)
        result = replace(result, query=cut(asked.told(check, obs, now), MAX_QUERY))
        new = asked.new(check, obs, now)
        result = replace(result, silent=_silent(check, result, last), new=new)
        if _needs_control(check, result, asked.nodes):
            result = await self._compared(source, check, result, asked.of_control(obs), obs)
        result = _counted(check, result, last)
        known = self._results[key].get(attempt)
        if known is None:
            return
        known[check.name] = result
        self._tell(key, attempt, check, known[check.name])
        self._wake(key)

    async def _compared(
        self,
        source: Source,
        check: CheckSpec,
        result: CheckResult,
        asked: Questions,
        obs: Observation,
    ) -> CheckResult:
        """The answer with what nodes without the content report: is it the content that makes nodes
        silent, or raises their values, or is it so everywhere? Unchanged if they tell nothing.
        """
        if len(asked.nodes) < LEAST_CONTROL:
            return result
        now = self._clock()
        question = asked.substituted(check, obs, now)
        control = await self._reader.ask(source, question, question.query, asked.nodes, now)
        if control.error or control.warnings:
            return result
        reporting = len(asked.nodes - silent_nodes(check, control))
        usual = median_of(check, control)
        return replace(result, control=(reporting, len(asked.nodes)), control_median=usual)

    def _tell(self, key: Key, attempt: str, check: CheckSpec, result: CheckResult) -> None:
        """Record what the answer means, also where it decides nothing."""
        findings = list(assess_check(check, result, result.nodes, 0.0))
        verdict = worst(findings)
        before = self._verdicts[key].get((attempt, check.name))
        self._verdicts[key][attempt, check.name] = verdict
        if self._metrics is not None:
            all_of_it = [v for (_, name), v in self._verdicts[key].items() if name == check.name]
            self._metrics.check_verdict.labels(*key, check.name).set(max(all_of_it))
        if check.dry_run and verdict is not before:
            said = findings[0].message if findings else f"check {check.name} passes"
            log.info("%s/%s: dry run, %s: %s", *key, verdict.name, said)

    def _forget(self, key: Key, asked: frozenset[tuple[str, str]]) -> None:
        """Say no more of checks that are not asked any more."""
        verdicts = self._verdicts[key]
        gone = {name for _, name in verdicts} - {name for _, name in asked}
        self._verdicts[key] = {place: v for place, v in verdicts.items() if place in asked}
        if self._metrics is not None:
            for name in gone:
                self._metrics.check_verdict.remove(*key, name)


def _needs_control(check: CheckSpec, result: CheckResult, nodes: frozenset[str]) -> bool:
    """Whether it depends on nodes without the content what this answer means."""
    if lost_nodes(check, result, nodes):
        return True
    return check.max_ratio is not None and any(outside_limits(check, result, nodes))


def _counted(check: CheckSpec, result: CheckResult, last: CheckResult | None) -> CheckResult:
    """The answer with its number in the row of good answers about all of its nodes."""
    single = replace(check, consecutive=1)
    if any(assess_check(single, result, result.nodes, 0.0)):
        return replace(result, passes=0)
    goes_on = last is not None and result.nodes <= last.nodes
    return replace(result, passes=last.passes + 1 if last is not None and goes_on else 1)


def _silent(check: CheckSpec, result: CheckResult, last: CheckResult | None) -> dict[str, float]:
    """Since when each silent node is, as far as one answer followed another."""
    before = last.silent if last is not None else {}
    return {n: before.get(n, result.asked_at) for n in silent_nodes(check, result)}


def attempts_of(record: Record) -> tuple[str, ...]:
    """The attempts whose checks are asked: the one that rolls out, and the one that bakes."""
    running = (record.rollout.attempt,) if record.rollout else ()
    baking = record.bake is not None and record.bake.incident is None
    return (*running, record.bake.attempt) if record.bake and baking else running


def _asked(obs: Observation) -> Iterator[tuple[CheckSpec, Questions]]:
    """What is to be asked now. The proof of what is loaded is asked about more nodes than are
    judged; a check that was asked about these too could be silent about one, which stops nobody.
    """
    now_running = attempts_of(obs.record)
    rollout, bake = obs.record.rollout, obs.record.bake
    if rollout is not None and rollout.waves and rollout.plan.questions:
        nodes, since = witnesses(obs, rollout), evidence_since(rollout)
        for check in rollout.plan.questions:
            about = nodes | to_prove(obs, rollout) if check.name == PROOF_CHECK else nodes
            if about:
                yield check, Questions(rollout, about, since)
    if bake is not None and bake.attempt in now_running and bake.rollout.plan.questions:
        nodes = frozenset(watched(obs, bake))
        for check in bake.rollout.plan.questions if nodes else ():
            yield check, Questions(bake.rollout, nodes, 0.0)
