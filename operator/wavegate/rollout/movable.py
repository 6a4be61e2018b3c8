"""Which nodes a rollout may not move, and why: NotMovable.

A move must neither take an agent away nor bring a second one. So the candidate's template must run
on the node, and a revert must bring back the agent that is there now. And the node's host name must
be its own: what keeps two agents of a channel apart is an anti-affinity over that label. Where it
is missing the scheduler does not apply the rule (two agents would run side by side); where two
nodes share it, an agent on one keeps the agent of the other out. Source: Kubernetes, pkg/scheduler,
framework/plugins/interpodaffinity/filtering.go.
"""

from collections.abc import Iterator, Mapping

from wavegate.evidence import NodeView
from wavegate.rollout.observation import Observation
from wavegate.rollout.placement import runs_on
from wavegate.rollout.record import Rollout
from wavegate.rollout.templates import HOSTNAME

_NAMED = 3
"""So many nodes a message names; it gives the number of all."""


def fleet(obs: Observation, rollout: Rollout) -> dict[str, NodeView]:
    """The nodes that this rollout is about: those that run the agent after it."""
    view = obs.revision(rollout.candidate)
    return obs.carriers(view.template) if view else {}


def not_movable(obs: Observation, rollout: Rollout) -> dict[str, str]:
    """The nodes that must stay on their side, each with the cause in words.

    Those that carry the candidate's label already are past the question, unless the candidate's
    template does not run there and a stable agent does.
    """
    if obs.revision(rollout.candidate) is None:
        return {}
    found = would_lose_agent(obs, rollout)
    held, stable, owners = _held(obs), obs.revision(obs.record.stable), _owners(obs.nodes)
    for name, node in _unlabelled(obs, rollout):
        why = _hostname_problem(node, owners)
        if not why and name in held and stable and not runs_on(stable.template, node):
            why = "the stable template does not run there any more, a revert would take its agent"
        if why:
            found.setdefault(name, why)
    return dict(sorted(found.items()))


def would_lose_agent(obs: Observation, rollout: Rollout) -> dict[str, str]:
    """The nodes with a stable agent that would have none if the candidate were for all nodes."""
    kept, held, owners = fleet(obs, rollout), _held(obs), _owners(obs.nodes)
    found = {
        name: "the new template neither selects nor tolerates it, it would lose its agent"
        for name in held
        if name not in kept
    }
    for name, node in _unlabelled(obs, rollout):
        if name in held and HOSTNAME in node.labels and (why := _hostname_problem(node, owners)):
            found[name] = why
    return dict(sorted(found.items()))


def describe(found: Mapping[str, str]) -> str:
    """One bounded clause for the person on call; empty when there is nothing to say."""
    if not found:
        return ""
    named = "; ".join(f"{name}: {why}" for name, why in list(found.items())[:_NAMED])
    more = f"; and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return f"{len(found)} node{'s'[: len(found) != 1]} can't be moved ({named}{more})"


def _unlabelled(obs: Observation, rollout: Rollout) -> Iterator[tuple[str, NodeView]]:
    for name, node in fleet(obs, rollout).items():
        if node.attempt(obs.key) != rollout.attempt:
            yield name, node


def _held(obs: Observation) -> set[str]:
    """Nodes that have a stable agent now. The pods are asked, not the stable template: a pod stays
    where a taint would not let it start.
    """
    stable = obs.record.stable
    pods = obs.pods_of(stable.attempt) if stable else ()
    found = {pod.node for pod in pods if not pod.terminating}
    return {node for node in found if node is not None and node in obs.nodes}


def _owners(nodes: Mapping[str, NodeView]) -> dict[str, list[str]]:
    """Names of the nodes behind each host name; two are enough to know."""
    owners: dict[str, list[str]] = {}
    for name, node in nodes.items():
        host = node.labels.get(HOSTNAME)
        if host is not None:
            known = owners.setdefault(host, [])
            if len(known) < 2:
                known.append(name)
    return owners


def _hostname_problem(node: NodeView, owners: Mapping[str, list[str]]) -> str:
    host = node.labels.get(HOSTNAME)
    if host is None:
        return f"it has no label {HOSTNAME}, so two agents could meet there"
    other = next((name for name in owners[host] if name != node.name), None)
    if other is None:
        return ""
    return f"it shares its label {HOSTNAME} with node {other}, only one of them can have an agent"
