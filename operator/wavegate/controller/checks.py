"""Keeps the Prometheus checks of running rollouts answered, each at its interval."""

import asyncio
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

    def ensure(self, key: Key, obs: Observation) -> None:
        """Start the queries that are due. Answers about another attempt are forgotten."""
        rollout = obs.record.rollout
        attempt = rollout.attempt if rollout else ""
        if self._attempts.get(key) != attempt:
            self._attempts[key] = attempt
            self._results[key] = {}
        if rollout is None or not rollout.waves or not rollout.plan.checks:
            return
        nodes = judged_nodes(obs, rollout)
        if not nodes:
            return
        since = rollout.waves[-1].judged_since or 0.0
        for check in rollout.plan.checks:
            if self._is_due(key, check, nodes, since):
                work = self._ask(key, attempt, rollout.plan.prometheus, check, nodes)
                self._running[key, check.name] = asyncio.create_task(work)

    def _is_due(self, key: Key, check: CheckSpec, nodes: frozenset[str], since: float) -> bool:
        task = self._running.get((key, check.name))
        if task is not None and not task.done():
            return False
        last = self._results[key].get(check.name)
        if last is None:
            return True
        outdated = last.asked_at < since or not nodes <= last.nodes
        pause = min(EARLY_SECONDS, check.interval) if outdated else check.interval
        return self._clock() - last.asked_at >= pause

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
