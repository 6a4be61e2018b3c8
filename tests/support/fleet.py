"""Large synthetic fleets: one observation for each state that a rollout rests in.

They are built at once, not played, so that 10,000 nodes are there in a moment. Every list is as
long as it gets: all nodes stand in ledgers, each has a pod, a lease and a series of a check.
"""

from collections.abc import Callable
from typing import Any

from support.builders import (
    CHANNEL,
    KEY,
    SPACE,
    agent_template,
    digest,
    make_channel,
    make_release,
    seen_nowhere,
)
from wavegate.api import Channel, Phase, Reason, WaveState
from wavegate.cluster.projections import StoredConfigMap
from wavegate.controller.world import World
from wavegate.evidence import CheckResult, Ledger, LedgerNode, NodeView, PodView, Sample, Side
from wavegate.rollout.agent_template import fingerprint
from wavegate.rollout.attempt import Incident, Revision, Rollout, WaveRun
from wavegate.rollout.names import daemon_set_name, ledger_name, record_name
from wavegate.rollout.observation import AgentSource, Observation, RevisionView
from wavegate.rollout.queue import freeze
from wavegate.rollout.record import Record
from wavegate.rollout.steps import Target
from wavegate.rollout.strata import code_of
from wavegate.rollout.templates import bind, revision_template, targeted

NOW = 1_000_000.0
OLD, NEW = "aaaaaaaaaa", "bbbbbbbbbb"
"""The attempts of stable and candidate."""

STATES = (
    "opening",
    "moving",
    "soaking",
    "judging",
    "promoting",
    "unheard",
    "vanished",
    "fencing",
    "reverting",
    "idle",
)
"""opening: the last wave chooses its nodes. moving: half of all nodes are moved. soaking, judging,
promoting: all are. unheard: soaking, but a new leader has heard of no node yet. vanished: all nodes
went while nobody watched. fencing: the first pass of a revert, all pods there. reverting: they are
gone, no node is back. idle: completed, nothing to do.
"""

_SHARES = (("first", 0.0), ("early", 0.05), ("quarter", 0.25), ("half", 0.5), ("all", 1.0))
_LAST = {
    "opening": WaveState.Pending,
    "soaking": WaveState.Soaking,
    "unheard": WaveState.Soaking,
    "vanished": WaveState.Soaking,
    "judging": WaveState.Judging,
    "promoting": WaveState.Passed,
}


def observe(count: int, state: str, name: str = "ip-10-{:06d}.eu-1.compute.example") -> Observation:
    """What the operator sees of `count` nodes in one of STATES; `name` makes their names."""
    channel, names = fleet_channel(), [name.format(number) for number in range(count)]
    moved = set(names[: count // 2] if state in ("opening", "moving") else names)
    carrying = set() if state == "reverting" else moved
    idle, podless = state == "idle", state in ("reverting", "vanished")
    record = _record(channel, state, count)
    return Observation(
        SPACE,
        CHANNEL,
        channel,
        record,
        {n: _node(n, moved=n in moved) for n in names if state != "vanished"},
        agent=AgentSource(template=channel.spec.agent.template),
        releases=(make_release("old", 1), make_release("new", 2)),
        revisions=_revisions(channel, state),
        ledgers={} if idle else _ledgers(names, opening=state == "opening"),
        pods=tuple(_pod(n, NEW if n in carrying else OLD) for n in names if not podless),
        leases={} if state in ("idle", "unheard") else dict.fromkeys(names, NOW - 1),
        checks={} if idle else {"crashes": _answer(frozenset(moved))},
        critical=seen_nowhere(record, NOW),
        soak_floor=10.0,
    )


def world_of(
    obs: Observation, client: Any = None, clock: Callable[[], float] = lambda: NOW
) -> World:
    """The operator's mirrors, filled with what `obs` shows. Nothing is watched."""
    world = World(client, clock, lambda _key: None)
    world.nodes.items = {("", node.name): node for node in obs.nodes.values()}
    world.pods.items = {(SPACE, pod.name): pod for pod in obs.pods}
    world.revisions.items = {(SPACE, view.name): view for view in obs.revisions.values()}
    record = StoredConfigMap("record", CHANNEL, "1", record=obs.record)
    world.stored.items = {(SPACE, record_name(CHANNEL)): record}
    for ledger in obs.ledgers.values():
        stored = StoredConfigMap("ledger", CHANNEL, "1", ledger=ledger)
        world.stored.items[SPACE, ledger_name(ledger.attempt, ledger.number)] = stored
    world.leases = dict(obs.leases)
    for resource in (obs.channel, *obs.releases):
        assert resource is not None
        world.ours[resource.plural][SPACE, resource.name] = resource
    for mirror in (world.nodes, world.pods, world.revisions, world.stored):
        mirror.live = True
    return world


def fleet_channel() -> Channel:
    """The default waves over one pool of everything, one check, and an agent that is choosy."""
    template = agent_template()
    terms = [{"matchExpressions": [{"key": "kubernetes.io/arch", "operator": "In"}]}]
    terms[0]["matchExpressions"][0]["values"] = ["amd64", "arm64"]
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    template["spec"] |= {
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"operator": "Exists"}],
        "affinity": {"nodeAffinity": required},
    }
    return make_channel(
        agent={"template": template},
        pools=[{"name": "all", "selector": {"matchLabels": {"kubernetes.io/os": "linux"}}}],
        waves=[],
        prometheus={"url": "http://prometheus.example"},
        checks=[{"name": "crashes", "query": "crashes", "max": 0}],
        rollout={"maxUnavailable": "5%", "soak": "10m", "holdTimeout": "30m"},
    )


def _node(name: str, *, moved: bool) -> NodeView:
    labels = {f"example.com/label-{n}": f"value-{n}" for n in range(10)}
    labels |= {"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
    labels["kubernetes.io/hostname"] = name
    sides = {KEY: Side(NEW, NOW - 3600.0)} if moved else {}
    return NodeView(name, f"uid-{name}", f"boot-{name}", ready=True, labels=labels, sides=sides)


def _pod(node: str, attempt: str) -> PodView:
    return PodView(
        name=f"agent-{node}",
        namespace=SPACE,
        uid=f"pod-{node}",
        channel=CHANNEL,
        attempt=attempt,
        node=node,
        phase="Running",
        ready=True,
        ready_since=NOW - 3600.0,
        terminating=False,
        restarts=0,
    )


def _answer(nodes: frozenset[str]) -> CheckResult:
    return CheckResult(NOW - 1, nodes, tuple(Sample({"node": name}, 0.0) for name in nodes))


def _ledgers(names: list[str], *, opening: bool) -> dict[int, Ledger]:
    ledgers, before = {}, 0
    shares = _SHARES[:-1] if opening else _SHARES
    for number, (_, share) in enumerate(shares):
        until = max(1, int(len(names) * share))
        nodes = (LedgerNode(n, f"uid-{n}", f"boot-{n}", healthy=True) for n in names[before:until])
        ledgers[number], before = Ledger(NEW, number, tuple(nodes)), until
    return ledgers


def _revision(attempt: str, release: str, sequence: int) -> Revision:
    name, uid = daemon_set_name(CHANNEL, attempt), f"uid-{release}-{sequence}"
    agent = fingerprint(agent_template(), fleet_channel().spec)
    content = digest(release)
    return Revision(attempt, name, release, uid, release, sequence, content, 1.0, agent=agent)


def _revisions(channel: Channel, state: str) -> dict[str, RevisionView]:
    old, new = Target.NOT_IN, Target.IN
    if state == "reverting":
        old, new = Target.ALL, Target.NOTHING
    if state == "idle":
        old, new = Target.NOTHING, Target.ALL
    return {
        attempt: _revision_view(channel, attempt, target)
        for attempt, target in ((OLD, old), (NEW, new))
    }


def _revision_view(channel: Channel, attempt: str, target: Target) -> RevisionView:
    bound = bind(channel.spec.agent.template or {}, channel.spec, f"r.example/c@{digest(attempt)}")
    template = revision_template(bound, CHANNEL, attempt)
    own = template["spec"]["affinity"]
    return RevisionView(
        attempt=attempt,
        name=daemon_set_name(CHANNEL, attempt),
        observed=True,
        own_affinity=own,
        affinity=targeted(own, KEY, target, NEW),
        template=template,
        channel=CHANNEL,
        version="1",
    )


def _record(channel: Channel, state: str, count: int) -> Record:
    old, new = _revision(OLD, "old", 1), _revision(NEW, "new", 2)
    rollout = _rollout(channel, new, state, count)
    record = Record(SPACE, CHANNEL, attempts=2, stable=old, rollout=rollout)
    if state == "idle":
        done = record.ended(Phase.Completed, Reason.Completed, "done", NOW)
        return Record(SPACE, CHANNEL, 2, stable=new, history=(old,), outcomes=done.outcomes)
    return record


def _rollout(channel: Channel, candidate: Revision, state: str, count: int) -> Rollout:
    back = state in ("fencing", "reverting")
    incident = Incident(Reason.AgentRestarted, "the agent restarted", (), NOW - 1) if back else None
    waves = [_wave(name, number, count) for number, (name, _) in enumerate(_SHARES)]
    waves[-1] = _wave("all", len(waves) - 1, count, _LAST.get(state, WaveState.Moving))
    return Rollout(
        candidate,
        freeze(channel),
        Phase.Reverting if back else Phase.Rolling,
        started_at=NOW - 7200.0,
        waves=tuple(waves),
        ledgers=len(waves),
        promoting=state == "promoting",
        incident=incident,
        reverting_since=NOW - 1 if back else None,
        proven=(code_of(_node("any", moved=False)),),
    )


def _wave(name: str, number: int, count: int, state: WaveState = WaveState.Passed) -> WaveRun:
    return WaveRun(
        name,
        state,
        ledger=number,
        moved=count if state is not WaveState.Pending else 0,
        nodes=count // 2 if state is not WaveState.Pending else 0,
        opened_at=NOW - 3600.0,
        soak_since=NOW - 60.0 if state is WaveState.Soaking else None,
        judged_since=NOW if state is WaveState.Judging else None,
    )
