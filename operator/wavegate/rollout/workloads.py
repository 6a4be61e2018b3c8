"""Critical workloads: no wave holds more than a quarter of the nodes that serve one of them.

What all others hang on (DNS, Prometheus, the backends of webhooks that fail closed) must not be
lost at once with the nodes of one wave, whatever share of all nodes it takes: without Prometheus
harm is not seen, and without such a backend no pod of a revert is made. So of the N nodes with
ready replicas of a workload at most max(1, N // 4) stand in one ledger (DESIGN §5). Those left out
come in the wave after, or in a sweep, which is soaked. A workload on one node, and the operator
itself, can't be spread: their node comes last in its wave.
"""

import math
from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

from wavegate.api import Channel, Phase, Reason, WaveState
from wavegate.evidence import Finding, NodeView, Verdict
from wavegate.rollout.attempt import Plan, Rollout
from wavegate.rollout.names import DNS_LABEL
from wavegate.rollout.observation import CriticalWorkloads, Observation

DNS = "kube-system/kube-dns"
"""The Service of CoreDNS: kubeadm and most providers keep its old name."""
SHARE = 4
"""One wave holds at most the N-th part of a workload's nodes."""
FRESH_SECONDS = 60.0
"""What was read longer ago says nothing about now."""
RENEW_SECONDS = 30.0
"""A wave that waits for something else has it read again so often, so that it never grows old."""
RETRY_SECONDS = 5.0
"""What could not be read is asked for again so soon."""
SHOWN_SECONDS = 600.0
"""Where nothing rolls out it is read so often at most, for the plan that is shown."""
READING = "a look at where critical workloads run"
_CHOOSING = (WaveState.Pending, WaveState.Passed)


def services(plan: Plan) -> frozenset[str]:
    """The Services (`namespace/name`) that are critical by this plan, beside those of webhooks."""
    return _services(plan.prometheus, plan.critical_services)


def services_of(channel: Channel) -> frozenset[str]:
    """Those of the plan that this channel's spec means now."""
    prometheus, named = channel.spec.prometheus, channel.spec.rollout.critical_workloads
    return _services((prometheus.url if prometheus else "") or "", (w.key for w in named))


def _services(url: str, named: Iterable[str]) -> frozenset[str]:
    prometheus = _service_of(url)
    return frozenset((DNS, *named, *([prometheus] if prometheus else [])))


def _service_of(url: str) -> str:
    """The Service that a URL inside the cluster names (`name.namespace[.svc…]`); empty if none."""
    name, _, rest = (urlsplit(url).hostname or "").partition(".")
    namespace, _, domain = rest.partition(".")
    inside = domain in ("", "svc") or domain.startswith("svc.")
    known = inside and DNS_LABEL.fullmatch(name) and DNS_LABEL.fullmatch(namespace)
    return f"{namespace}/{name}" if known else ""


def asked(obs: Observation) -> frozenset[str] | None:
    """The Services of which it has to be known now where they run: those of a rollout while it
    chooses nodes, and those of a channel whose next plan is shown. None if of none.
    """
    rollout = obs.record.rollout
    if rollout is None:
        return services_of(obs.channel) if obs.channel and not obs.forbidden else None
    if rollout.phase is not Phase.Rolling or not rollout.waves:
        return None
    choosing = rollout.promoting or rollout.waves[-1].state in _CHOOSING
    # Others take the place of excused nodes, and what ran there runs elsewhere by now.
    return services(rollout.plan) if choosing or rollout.excused else None


def due_in(obs: Observation, known: CriticalWorkloads, now: float) -> float:
    """Seconds until it has to be read where critical workloads run; endless if it need not."""
    wanted = asked(obs)
    if wanted is None:
        return math.inf
    rollout = obs.record.rollout
    if known.services != wanted or (rollout and known.attempt != rollout.attempt):
        return 0.0
    fresh = RENEW_SECONDS if rollout else SHOWN_SECONDS
    return max(0.0, known.read_at + (min(fresh, RETRY_SECONDS) if known.error else fresh) - now)


def is_unread(obs: Observation, rollout: Rollout, now: float) -> bool:
    """Whether nothing is known of now, not even that it can't be read: then that is awaited. What
    was read for the plan that is shown may be from before that which made people publish.
    """
    known = obs.critical
    of_this = (known.attempt, known.services) == (rollout.attempt, services(rollout.plan))
    return not of_this or now - known.read_at >= FRESH_SECONDS


def unseen(obs: Observation, rollout: Rollout) -> Finding | None:
    """What keeps the nodes of the current wave from being chosen; None if nothing."""
    wave = rollout.waves[-1]
    if wave.state is not WaveState.Pending or wave.ledger in obs.ledgers or not obs.critical.error:
        return None
    return Finding(Verdict.HOLD, Reason.WorkloadsUnseen, obs.critical.error)


def last(obs: Observation, nodes: Iterable[NodeView]) -> list[NodeView]:
    """The same nodes in their order, but last those that alone serve a critical workload, and last
    of all the operator's own.
    """
    alone = {name for on in obs.critical.nodes.values() if len(on) == 1 for name in on}
    return sorted(nodes, key=lambda node: (node.name == obs.own_node, node.name in alone))


def within(obs: Observation, rollout: Rollout, nodes: Iterable[NodeView]) -> list[NodeView]:
    """Of nodes in their order those that one ledger may hold beside what stands in ledgers of waves
    that have not passed.
    """
    ordered = list(nodes)
    out = left_out(obs, rollout, ordered)
    return [node for node in ordered if node.name not in out]


def left_out(obs: Observation, rollout: Rollout, nodes: Iterable[NodeView]) -> dict[str, str]:
    """The others of these nodes, by name, each with a workload of which no more may be taken."""
    taken = _taken(obs, rollout)
    room = {
        workload: _most(len(on)) - len(on & taken) for workload, on in obs.critical.nodes.items()
    }
    out, served = {}, {name for on in obs.critical.nodes.values() for name in on} - taken
    for node in nodes:
        theirs = _on(obs, node) if node.name in served else ()
        full = next((workload for workload in theirs if room[workload] <= 0), None)
        if full is not None:
            out[node.name] = full
        else:
            for workload in theirs:
                room[workload] -= 1
    return out


def may_skip_soak(obs: Observation, node: NodeView) -> bool:
    """Whether it is known that no critical workload runs on this node."""
    return not (obs.critical.error or node.name == obs.own_node or _on(obs, node))


def describe(obs: Observation, workload: str) -> str:
    """The share of this workload that one wave takes, for a person."""
    count = len(obs.critical.nodes[workload])
    return f"a wave takes {_most(count)} of the {count} nodes of {workload}"


def full(obs: Observation, rollout: Rollout) -> str:
    """The workloads of which no other node may be taken now, for a person; or nothing."""
    taken = _taken(obs, rollout)
    names = [
        workload
        for workload, on in sorted(obs.critical.nodes.items())
        if len(on & taken) >= _most(len(on))
    ]
    return f"a wave that was not done yet holds the nodes of {', '.join(names[:5])}" * bool(names)


def _most(count: int) -> int:
    """How many of a workload's nodes one ledger holds."""
    return max(1, count // SHARE)


def _on(obs: Observation, node: NodeView) -> Sequence[str]:
    """The workloads that this node serves."""
    return [workload for workload, on in obs.critical.nodes.items() if node.name in on]


def _taken(obs: Observation, rollout: Rollout) -> frozenset[str]:
    """The nodes in ledgers of waves that have not passed."""
    ledgers = (obs.ledgers.get(wave.ledger) for wave in rollout.in_hand)
    return frozenset(entry.name for ledger in ledgers if ledger for entry in ledger.nodes)
