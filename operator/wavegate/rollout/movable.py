"""Which nodes a rollout may not move, and why: NotMovable.

A move must neither take an agent away nor bring a second one. So the candidate's template must run
on the node, and a revert must bring back the agent that is there now. And the node's host name must
be its own: what keeps two agents of a channel apart is an anti-affinity over that label. Where it
is missing the scheduler does not apply the rule (two agents would run side by side); where two
nodes share it, an agent on one keeps the agent of the other out. Source: Kubernetes, pkg/scheduler,
framework/plugins/interpodaffinity/filtering.go.
"""

from collections.abc import Mapping

from wavegate.evidence import NodeView, PodView
from wavegate.rollout.attempt import Rollout
from wavegate.rollout.observation import Observation
from wavegate.rollout.placement import ask_the_same
from wavegate.rollout.templates import HOSTNAME

_LOSES = "the new template neither selects nor tolerates it, it would lose its agent"
_NO_WAY_BACK = "the stable template does not run there any more, a revert would take its agent"
_NAMED = 3
"""So many nodes a message names; it gives the number of all."""


def fleet(obs: Observation, rollout: Rollout) -> Mapping[str, NodeView]:
    """The nodes that this rollout is about: those that run the agent after it."""
    view = obs.revision(rollout.candidate)
    return obs.carriers(view.template) if view else {}


def not_movable(obs: Observation, rollout: Rollout) -> Mapping[str, str]:
    """The nodes that must stay on their side, each with the cause in words.

    Those that carry the candidate's label already are past the question, unless the candidate's
    template does not run there and a stable agent does.
    """
    return obs.once(_not_movable, rollout)


def _not_movable(obs: Observation, rollout: Rollout) -> dict[str, str]:
    view, stable = obs.revision(rollout.candidate), obs.revision(obs.record.stable)
    if view is None:
        return {}
    kept = again = fleet(obs, rollout)
    if stable is not None and not ask_the_same(stable.template, view.template):
        again = obs.carriers(stable.template)
    stuck = obs.kept.of(_stuck, kept, again, _held(obs), obs.kept.of(_shared, obs.nodes))
    key, attempt = obs.key, rollout.attempt
    return {
        name: why
        for name, why in stuck.items()
        if name not in kept or kept[name].attempt(key) != attempt
    }


def _stuck(
    kept: Mapping[str, NodeView],
    again: Mapping[str, NodeView],
    held: frozenset[str],
    shared: Mapping[str, tuple[str, str]],
) -> dict[str, str]:
    """The nodes that must stay on their side, whichever that is, by name."""
    found = dict.fromkeys(held.difference(kept), _LOSES)
    found |= dict.fromkeys(held.difference(again).intersection(kept), _NO_WAY_BACK)
    return dict(sorted((found | _unnamed(kept, shared)).items()))


def would_lose_agent(obs: Observation, rollout: Rollout) -> dict[str, str]:
    """The nodes with a stable agent that would have none if the candidate were for all nodes."""
    kept, held, shared = fleet(obs, rollout), _held(obs), obs.kept.of(_shared, obs.nodes)
    found = dict.fromkeys(held - kept.keys(), _LOSES)
    for name in held & kept.keys():
        node = kept[name]
        if node.labels.get(HOSTNAME) in shared and node.attempt(obs.key) != rollout.attempt:
            found[name] = _hostname_problem(node, shared)
    return dict(sorted(found.items()))


def describe(found: Mapping[str, str]) -> str:
    """One bounded clause for the person on call; empty when there is nothing to say."""
    if not found:
        return ""
    named = "; ".join(f"{name}: {why}" for name, why in list(found.items())[:_NAMED])
    more = f"; and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return f"{len(found)} node{'s'[: len(found) != 1]} can't be moved ({named}{more})"


def _held(obs: Observation) -> frozenset[str]:
    """Nodes that have a stable agent now. The pods are asked, not the stable template: a pod stays
    where a taint would not let it start.
    """
    stable = obs.record.stable
    return obs.kept.of(_holders, obs.pods_of(stable.attempt) if stable else (), obs.nodes)


def _holders(pods: tuple[PodView, ...], nodes: Mapping[str, NodeView]) -> frozenset[str]:
    found = {pod.node for pod in pods if not pod.terminating}
    return frozenset(node for node in found if node is not None and node in nodes)


def _shared(nodes: Mapping[str, NodeView]) -> dict[str, tuple[str, str]]:
    """The host names that more than one node has, with two of these nodes."""
    hosts = [node.labels.get(HOSTNAME) for node in nodes.values()]
    if len(set(hosts)) == len(hosts):
        return {}  # almost always
    first: dict[str, str] = {}
    shared: dict[str, tuple[str, str]] = {}
    for name, node in nodes.items():
        host = node.labels.get(HOSTNAME)
        if host is not None and first.setdefault(host, name) != name:
            shared.setdefault(host, (first[host], name))
    return shared


def _unnamed(kept: Mapping[str, NodeView], shared: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """The nodes without a host name of their own, and what is wrong with it."""
    hosts = ((name, node.labels.get(HOSTNAME)) for name, node in kept.items())
    found = [name for name, host in hosts if host is None or host in shared]
    return {name: _hostname_problem(kept[name], shared) for name in found}


def _hostname_problem(node: NodeView, shared: Mapping[str, tuple[str, str]]) -> str:
    host = node.labels.get(HOSTNAME)
    if host is None:
        return f"it has no label {HOSTNAME}, so two agents could meet there"
    if host not in shared:
        return ""
    other = next(name for name in shared[host] if name != node.name)
    return f"it shares its label {HOSTNAME} with node {other}, only one of them can have an agent"
