"""Shows which nodes have the candidate, as a metric that a check's own query can be joined with.

It has a series for each node, so it is bounded. A channel whose nodes do not fit shows none: joined
with a part of the nodes, a query would pass for all of them; joined with nothing, it holds.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from wavegate.api import Phase
from wavegate.controller.checks import attempts_of
from wavegate.controller.work import Key
from wavegate.evidence import Ledger
from wavegate.rollout.attempt import Rollout
from wavegate.rollout.judge import judged_nodes
from wavegate.rollout.observation import Observation
from wavegate.rollout.watch import watched
from wavegate.telemetry.metrics import Metrics

MAX_SERIES = 10_000
"""Of all channels together."""


@dataclass(frozen=True, slots=True)
class _Part:
    """One attempt's nodes."""

    rollout: Rollout
    nodes: frozenset[str]
    ledgers: Mapping[int, Ledger]

    @property
    def said(self) -> tuple[str, int, frozenset[str]]:
        """Equal for two of which the same is to be shown."""
        return self.rollout.attempt, len(self.rollout.waves), self.nodes

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """Node, release and wave. A node that a later wave took again is of that one."""
        waves = {
            entry.name: wave.name
            for wave in self.rollout.waves
            if wave.ledger in self.ledgers
            for entry in self.ledgers[wave.ledger].nodes
        }
        for name in self.nodes:
            yield name, self.rollout.candidate.release, waves.get(name, "")


class Candidates:
    """Keeps the metric as each channel was last seen."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._said: dict[Key, tuple[object, ...]] = {}
        self._shown: dict[Key, frozenset[tuple[str, str, str]]] = {}

    def show(self, key: Key, obs: Observation) -> None:
        """Show the nodes whose health the content of this channel answers for: until its rollout
        is reverted, or its bake ends.
        """
        parts = tuple(_parts(obs))
        count = sum(len(part.nodes) for part in parts)
        fits = count <= MAX_SERIES - sum(len(s) for k, s in self._shown.items() if k != key)
        said = (fits, *(part.said for part in parts))
        if said == self._said.get(key, (True,)):
            return
        self._said[key] = said
        rows = frozenset(row for part in parts for row in part.rows()) if fits else frozenset()
        self._update(key, rows)
        self._metrics.candidate_nodes.labels(*key).set(count)
        if not parts:
            del self._said[key], self._shown[key]
            self._metrics.candidate_nodes.remove(*key)

    def _update(self, key: Key, rows: frozenset[tuple[str, str, str]]) -> None:
        shown = self._shown.get(key, frozenset())
        for row in shown - rows:
            self._metrics.candidate_node_info.remove(*key, *row)
        for row in rows - shown:
            self._metrics.candidate_node_info.labels(*key, *row).set(1)
        self._shown[key] = rows


def _parts(obs: Observation) -> Iterator[_Part]:
    """The attempt that rolls out, and the one that bakes; those without a node are left out."""
    rollout, bake = obs.record.rollout, obs.record.bake
    if rollout is not None and rollout.waves and rollout.phase is Phase.Rolling:
        nodes = judged_nodes(obs, rollout)
        if nodes:
            yield _Part(rollout, nodes, obs.ledgers)
    if bake is not None and bake.attempt in attempts_of(obs.record):
        nodes = frozenset(watched(obs, bake))
        if nodes:
            yield _Part(bake.rollout, nodes, obs.bake_ledgers)
