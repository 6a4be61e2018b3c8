"""A plan walked through without a cluster: each wave takes its nodes, soaks well and passes."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from pydantic import TypeAdapter

from support.builders import CHANNEL, KEY, SPACE, agent_template, make_channel
from wavegate.api import Channel, Phase, WaveState
from wavegate.evidence import NodeView, Side
from wavegate.rollout import proven, queue, waves
from wavegate.rollout.attempt import Plan, Revision, Rollout
from wavegate.rollout.names import CANARY_LABEL
from wavegate.rollout.observation import AgentSource, CriticalWorkloads, Observation, RevisionView
from wavegate.rollout.record import Record

ATTEMPT = "bbbbbbbbbb"
MOST_WAVES = 60
POOLS = [
    {"name": "web", "selector": {"matchLabels": {"pool": "web"}}},
    {"name": "data", "selector": {"matchLabels": {"pool": "data"}}},
    {"name": "pay", "selector": {"matchLabels": {"pool": "pay"}}, "critical": True},
]


def channel(**spec: Any) -> Channel:
    """A channel with these pools and the default waves."""
    return make_channel(**({"pools": POOLS, "waves": []} | spec))


def node(
    number: int,
    pool: str = "web",
    kernel: str = "6.12",
    zone: str = "",
    *more: Any,
    master: bool = False,
    label: str = "",
) -> NodeView:
    """A node that was there before any rollout began."""
    master, label = more or (master, label)
    name = f"node-{number:05d}"
    labels = {"kubernetes.io/hostname": name, "pool": pool} | (
        {CANARY_LABEL: label} if label else {}
    )
    return NodeView(
        name,
        f"uid-{number}",
        f"boot-{number}",
        ready=True,
        labels=labels,
        kernel=kernel,
        zone=zone,
        control_plane=master,
    )


def as_stored_before(plan: Plan) -> Plan:
    """The plan as a version that knew no waves that come again froze it."""
    stored = TypeAdapter(Plan).dump_python(plan, mode="json")
    for wave in stored["waves"]:
        del wave["repeats"], wave["again"]
    return TypeAdapter(Plan).validate_python(stored)


@dataclass(frozen=True, slots=True)
class Walked:
    """What a wave took."""

    name: str
    nodes: tuple[NodeView, ...]


def walk(
    channel: Channel,
    nodes: Iterable[NodeView],
    critical: CriticalWorkloads | None = None,
    own_node: str = "",
    *,
    frozen: Callable[[Plan], Plan] = lambda plan: plan,
) -> list[Walked]:
    """All waves of a release, with the nodes that each took, in the order in which they came.
    `frozen` makes another plan of the one that the channel means.
    """
    obs, rollout = begun(channel, nodes, critical or CriticalWorkloads(), own_node)
    rollout = replace(rollout, plan=frozen(rollout.plan))
    obs, found = replace(obs, record=replace(obs.record, rollout=rollout)), list[Walked]()
    for _ in range(MOST_WAVES):
        planned = rollout.planned
        chosen = waves.choose(obs, rollout, planned)[0] if planned else waves.sweep(obs, rollout)
        obs, rollout = moved(obs, rollout, chosen)
        found.append(Walked(rollout.waves[-1].name, tuple(chosen)))
        following = waves.next_wave(obs, rollout)
        if following is None:
            return found
        rollout = following
        obs = replace(obs, record=replace(obs.record, rollout=rollout))
    raise AssertionError(f"no end after {MOST_WAVES} waves: {[w.name for w in found[-5:]]}")


def begun(
    channel: Channel, nodes: Iterable[NodeView], critical: CriticalWorkloads, own_node: str = ""
) -> tuple[Observation, Rollout]:
    """A rollout whose first wave is pending, and what is seen then."""
    there = {node.name: node for node in nodes}
    candidate = Revision(ATTEMPT, "d", "b", "uid-b-2", "b", 2, "sha256:b", 1.0)
    plan = queue.freeze(channel, nodes=tuple(there.values()))
    rollout = Rollout(candidate, plan, Phase.Rolling, 1.0).with_next_wave()
    view = RevisionView(ATTEMPT, "d", True, {}, {}, agent_template())
    obs = Observation(
        SPACE,
        CHANNEL,
        channel,
        Record(SPACE, CHANNEL, attempts=1, rollout=rollout),
        there,
        agent=AgentSource(template=agent_template()),
        revisions={ATTEMPT: view},
        leases={},
        critical=critical,
        own_node=own_node,
    )
    return obs, rollout


def moved(
    obs: Observation, rollout: Rollout, chosen: list[NodeView]
) -> tuple[Observation, Rollout]:
    """The wave's nodes have the content, and it passes."""
    ledger = waves.ledger_for(obs, rollout, chosen)
    sides = {KEY: Side(ATTEMPT, 1.0)}
    moved = {node.name: replace(node, sides=sides) for node in chosen}
    number = rollout.waves[-1].ledger
    obs = replace(
        obs,
        nodes={**obs.nodes, **moved},
        ledgers={**obs.ledgers, number: ledger} if chosen else obs.ledgers,
    )
    passed = rollout.with_wave(state=WaveState.Passed, nodes=len(chosen), moved=len(chosen))
    passed = replace(passed, proven=proven.by_now(obs, rollout))
    return replace(obs, record=replace(obs.record, rollout=passed)), passed
