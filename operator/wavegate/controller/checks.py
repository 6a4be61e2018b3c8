"""Keeps the Prometheus checks of running rollouts answered, each at its interval."""

import asyncio
import math
import re
from collections import defaultdict
from collections.abc import Callable, Mapping

from wavegate.controller.work import Key
from wavegate.evidence import CheckResult, CheckSpec
from wavegate.rollout.judge import judged_nodes
from wavegate.rollout.observation import Observation
from wavegate.telemetry.prometheus import PrometheusReader

EARLY_SECONDS = 1.0
"""A soak that ended, or nodes that joined, are asked about after this, not the interval."""


class CheckRunner:
    """Asks in the background; `wake` is called when an answer is in."""

    def __init__(
        self, reader: PrometheusReader, clock: Callable[[], float], wake: Callable[[Key], None]
    ) -> None:
        self._reader, self._clock, self._wake = reader, clock, wake
        self._results: dict[Key, dict[str, CheckResult]] = defaultdict(dict)
        self._attempts: dict[Key, str] = {}
        self._running: dict[tuple[Key, str], asyncio.Task[None]] = {}

    def results(self, key: Key) -> Mapping[str, CheckResult]:
        """The newest answers for a channel's running attempt."""
        return self._results[key]

    def close(self) -> None:
        """Stop asking."""
        for task in self._running.values():
            task.cancel()

    def ensure(self, key: Key, obs: Observation) -> float | None:
        """Start the queries that are due; returns in how many seconds the next one is, None when
        there is none to wait for. Answers about another attempt are forgotten.
        """
        rollout = obs.record.rollout
        attempt = rollout.attempt if rollout else ""
        if self._attempts.get(key) != attempt:
            self._attempts[key] = attempt
            self._results[key] = {}
        if rollout is None or not rollout.waves or not rollout.plan.checks:
            return None
        nodes = judged_nodes(obs, rollout)
        if not nodes:
            return None
        since = rollout.waves[-1].judged_since or 0.0
        left = {c.name: self._due_in(key, c, nodes, since) for c in rollout.plan.checks}
        for check in rollout.plan.checks:
            if left[check.name] <= 0:
                work = self._ask(key, attempt, rollout.plan.prometheus, check, nodes)
                self._running[key, check.name] = asyncio.create_task(work)
        return min((seconds for seconds in left.values() if 0 < seconds < math.inf), default=None)

    def _due_in(self, key: Key, check: CheckSpec, nodes: frozenset[str], since: float) -> float:
        """Seconds until this check is asked; endless while its answer is awaited, which wakes."""
        task = self._running.get((key, check.name))
        if task is not None and not task.done():
            return math.inf
        last = self._results[key].get(check.name)
        if last is None:
            return 0.0
        outdated = last.asked_at < since or not nodes <= last.nodes
        pause = min(EARLY_SECONDS, check.interval) if outdated else check.interval
        return max(0.0, last.asked_at + pause - self._clock())

    async def _ask(
        self, key: Key, attempt: str, url: str, check: CheckSpec, nodes: frozenset[str]
    ) -> None:
        query = check.query.replace("$nodes", nodes_pattern(nodes))
        result = await self._reader.ask(url, check, query, nodes, self._clock())
        if self._attempts.get(key) == attempt:
            self._results[key][check.name] = result
            self._wake(key)


def nodes_pattern(nodes: frozenset[str]) -> str:
    """The regular expression that `$nodes` stands for, escaped for a PromQL string."""
    return "|".join(re.escape(name).replace("\\", "\\\\") for name in sorted(nodes))
