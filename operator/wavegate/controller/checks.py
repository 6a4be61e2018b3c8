"""Keeps the Prometheus checks of rollouts and bakes answered, each at its interval."""

import asyncio
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from wavegate.controller.work import Key
from wavegate.evidence import CheckResult, CheckSpec
from wavegate.rollout.judge import judged_nodes
from wavegate.rollout.observation import Observation
from wavegate.rollout.record import Plan, Record
from wavegate.rollout.watch import watched
from wavegate.telemetry.prometheus import PrometheusReader

EARLY_SECONDS = 1.0
"""A soak that ended, or nodes that joined, are asked about after this, not the interval."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """One attempt's checks, about these nodes; an answer from before `since` is outdated."""

    attempt: str
    plan: Plan
    nodes: frozenset[str]
    since: float


class CheckRunner:
    """Asks in the background; `wake` is called when an answer is in."""

    def __init__(
        self, reader: PrometheusReader, clock: Callable[[], float], wake: Callable[[Key], None]
    ) -> None:
        self._reader, self._clock, self._wake = reader, clock, wake
        self._results: dict[Key, dict[str, dict[str, CheckResult]]] = defaultdict(dict)
        self._running: dict[tuple[Key, str, str], asyncio.Task[None]] = {}

    def results(self, key: Key) -> Mapping[str, Mapping[str, CheckResult]]:
        """The newest answers for a channel: by attempt (the running and the baking one), by name
        of the check.
        """
        return self._results[key]

    def close(self) -> None:
        """Stop asking."""
        for task in self._running.values():
            task.cancel()

    def ensure(self, key: Key, obs: Observation) -> float | None:
        """Start the queries that are due; returns in how many seconds the next one is, None when
        there is none to wait for. Answers about other attempts are forgotten.
        """
        self._running = {place: task for place, task in self._running.items() if not task.done()}
        known, attempts = self._results[key], attempts_of(obs.record)
        self._results[key] = {attempt: known.get(attempt, {}) for attempt in attempts}
        left = []
        for asked in _asked(obs):
            for check in asked.plan.checks:
                seconds = self._due_in(key, check, asked)
                left.append(seconds)
                if seconds <= 0:
                    work = self._ask(key, check, asked)
                    place = (key, asked.attempt, check.name)
                    self._running[place] = asyncio.create_task(work)
        return min((seconds for seconds in left if 0 < seconds < math.inf), default=None)

    def _due_in(self, key: Key, check: CheckSpec, asked: _Asked) -> float:
        """Seconds until this check is asked; endless while its answer is awaited, which wakes."""
        if (key, asked.attempt, check.name) in self._running:
            return math.inf
        last = self._results[key][asked.attempt].get(check.name)
        if last is None:
            return 0.0
        outdated = last.asked_at < asked.since or not asked.nodes <= last.nodes
        pause = min(EARLY_SECONDS, check.interval) if outdated else check.interval
        return max(0.0, last.asked_at + pause - self._clock())

    async def _ask(self, key: Key, check: CheckSpec, asked: _Asked) -> None:
        url, nodes = asked.plan.prometheus, asked.nodes
        query = check.query.replace("$nodes", nodes_pattern(nodes))
        result = await self._reader.ask(url, check, query, nodes, self._clock())
        if asked.attempt in self._results[key]:
            self._results[key][asked.attempt][check.name] = result
            self._wake(key)


def attempts_of(record: Record) -> tuple[str, ...]:
    """The attempts whose checks are asked: the one that rolls out, and the one that bakes."""
    running = (record.rollout.attempt,) if record.rollout else ()
    baking = record.bake is not None and record.bake.incident is None
    return (*running, record.bake.attempt) if record.bake and baking else running


def _asked(obs: Observation) -> Iterator[_Asked]:
    """What is to be asked now."""
    now_running = attempts_of(obs.record)
    rollout, bake = obs.record.rollout, obs.record.bake
    if rollout is not None and rollout.waves and rollout.plan.checks:
        nodes = judged_nodes(obs, rollout)
        since = rollout.waves[-1].judged_since or 0.0
        if nodes:
            yield _Asked(rollout.attempt, rollout.plan, nodes, since)
    if bake is not None and bake.attempt in now_running and bake.rollout.plan.checks:
        nodes = frozenset(watched(obs, bake))
        if nodes:
            yield _Asked(bake.attempt, bake.rollout.plan, nodes, 0.0)


def nodes_pattern(nodes: frozenset[str]) -> str:
    """The regular expression that `$nodes` stands for, escaped for a PromQL string."""
    return "|".join(re.escape(name).replace("\\", "\\\\") for name in sorted(nodes))
