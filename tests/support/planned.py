"""Fleets whose plan is looked at before anything starts."""

from support.builders import CHANNEL, SPACE, make_channel
from wavegate.evidence import NodeView
from wavegate.rollout.observation import AgentSource, CriticalWorkloads, Observation
from wavegate.rollout.record import Record
from wavegate.rollout.templates import HOSTNAME
from wavegate.rollout.workloads import services_of


def node(place: int, **more) -> NodeView:
    name = more.pop("name", f"node-{place}")
    labels = {HOSTNAME: name, "pool": "workers", **more.pop("labels", {})}
    more = {"ready": True, "kernel": f"6.{place % 3}", "zone": "abc"[place % 3]} | more
    return NodeView(name, f"uid-{place}", f"boot-{place}", labels=labels, **more)


def observed(nodes, *releases, served=None, **spec) -> Observation:
    """What is seen of a channel that has rolled out nothing; `served`: by Service, the names of the
    nodes that serve it.
    """
    pools = [{"name": "workers", "selector": {"matchLabels": {"pool": "workers"}}}]
    spec = {"pools": pools, "waves": [], "rollout": {"soak": "10m", "settle": "60s"}} | spec
    channel = make_channel(**spec)
    agent = AgentSource(template=channel.spec.agent.template)
    there = {n.name: n for n in nodes}
    record = Record(SPACE, CHANNEL)
    places = {name: frozenset(on) for name, on in (served or {}).items()}
    critical = CriticalWorkloads(places, 0.0, services_of(channel))
    return Observation(
        SPACE,
        CHANNEL,
        channel,
        record,
        there,
        agent=agent,
        releases=tuple(releases),
        critical=critical,
    )
