"""Which nodes each wave of a fleet took, in words that do not hang on the hash of their UIDs."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fidelity.fleet import ORDINARY, ZONES, kind_of
from fidelity.trace import Trace
from wavegate.cluster.projections import stored_config_map
from wavegate.rollout.names import ZONE_LABEL

SPREAD = ("25-percent", "half", "critical-half")
"""Waves that can choose among nodes of all zones."""


@dataclass(slots=True)
class Wave:
    """A wave that was opened: the nodes of its ledger, in their order."""

    name: str
    nodes: list[str] = field(default_factory=list)
    zones: Counter[str] = field(default_factory=Counter)

    def told(self) -> str:
        """The kinds of its nodes where it takes at most one of each; else the hash decides, and
        only pools are told.
        """
        kinds = Counter(kind_of(node).name for node in self.nodes)
        pools = Counter(kind_of(node).pool for node in self.nodes)
        alone = max(kinds.values(), default=0) == 1
        counted = (
            [*sorted(kinds)] if alone else [f"{n} {pool}" for pool, n in sorted(pools.items())]
        )
        return f"{self.name}: {', '.join(counted)}"


def waves(trace: Trace, release: str) -> list[Wave]:
    """The waves of a release, in the order in which their ledgers were stored."""
    names: dict[int, str] = {}
    found: dict[int, Wave] = {}
    zone_of: dict[str, str] = {}
    for change in trace.changes:
        if change.plural == "nodes":
            labels = change.body["metadata"]["labels"]
            zone_of[change.body["metadata"]["name"]] = labels[ZONE_LABEL]
        if change.plural != "configmaps" or change.after is None:
            continue
        stored = stored_config_map(change.after, None, 0.0)
        rollout = stored.record.rollout if stored.record else None
        if rollout is not None and rollout.candidate.release == release:
            names |= {wave.ledger: wave.name for wave in rollout.waves}
        ledger = stored.ledger
        if ledger is not None and trace.releases.get(ledger.attempt) == release:
            nodes = [entry.name for entry in ledger.nodes]
            zones = Counter(zone_of[node] for node in nodes)
            found[ledger.number] = Wave(names[ledger.number], nodes, zones)
    return list(found.values())


def check(taken: Iterable[Wave]) -> None:
    """What holds whatever the order: kinds are tried one by one, and the expensive nodes last."""
    tried: set[str] = set()
    stage = 0
    for wave in taken:
        kinds = Counter(kind_of(node).name for node in wave.nodes)
        twice = {kind for kind, count in kinds.items() if count > 1 and kind in ORDINARY}
        assert twice <= tried, f"{wave.name}: a second node of {twice - tried}"
        stages = {_stage(node) for node in wave.nodes}
        assert len(stages) == 1, f"{wave.name}: {stages}"
        assert stage <= min(stages), f"{wave.name} comes after expensive nodes"
        assert min(stages) < 2 or len(wave.nodes) == 1, f"{wave.name}: {wave.nodes}"
        if wave.name in SPREAD:
            counts = [wave.zones[zone] for zone in ZONES]
            assert max(counts) - min(counts) <= 1, f"{wave.name}: {wave.zones}"
        tried |= kinds.keys()
        stage = min(stages)


def check_plan(plan: Mapping[str, Any], taken: Iterable[Wave]) -> None:
    """The plan that was shown before its start is what was done, with the nodes that it names."""
    taken = list(taken)
    shown = [(wave["name"], wave["nodes"]) for wave in plan["waves"]]
    done = [(wave.name, len(wave.nodes)) for wave in taken]
    assert shown == done, f"shown {shown}, taken {done}"
    for wave, opened in zip(plan["waves"], taken, strict=True):
        named, first = wave["first"], opened.nodes[: len(wave["first"])]
        assert named, f"{wave['name']} names no node"
        assert named == first, f"{wave['name']}: shown {named}, taken {first}"


def _stage(node: str) -> int:
    """0 ordinary, 1 critical, 2 control plane."""
    return ("workers", "payments", "control-plane").index(kind_of(node).pool)
