"""Two channels that would run one agent on one node: the younger starts nothing.

Two channels run the same agent when both name the same parked DaemonSet, or when the images of the
first containers of their templates come from the same repository, whatever tag or digest. A channel
with `agentSelector` only carries content, and many may do that with one image, so it is compared by
its DaemonSet only. Nodes overlap where both templates would run a pod: pools do not matter, as
nodes that no pool selects come last.
"""

from collections.abc import Mapping
from typing import Any

from wavegate.api import Channel, Reason
from wavegate.rollout.observation import Observation
from wavegate.rollout.steps import Problem
from wavegate.rollout.wording import some


def problem(obs: Observation, channel: Channel) -> Problem | None:
    """Which older channel runs this agent on the same nodes; None when none does. What runs already
    is not touched.
    """
    for other in sorted(obs.others, key=_age):
        if _age(other) >= _age(channel) or other.deletion_timestamp:
            continue
        shared = _shared(obs, channel, other) if same_agent(channel, other) else []
        if shared:
            return Problem(
                Reason.NodeClaimedTwice,
                f"spec.agent: channel {other.namespace}/{other.name}, which is older, runs the "
                f"same agent on {some(shared)}. No release starts here; what runs stays. Let the "
                "nodeSelectors of the two keep apart, or delete one of the channels.",
            )
    return None


def same_agent(one: Channel, other: Channel) -> bool:
    """Whether two channels run the same agent; see the module."""
    mine, theirs = one.spec.agent.daemon_set_ref, other.spec.agent.daemon_set_ref
    if mine is not None or theirs is not None:
        there = one.namespace == other.namespace
        return there and mine is not None and theirs is not None and mine.name == theirs.name
    if one.spec.agent_selector is not None or other.spec.agent_selector is not None:
        return False
    image = _image(one)
    return bool(image) and image == _image(other)


def _age(channel: Channel) -> tuple[float, str, str]:
    """The order of channels, the oldest first: apiservers stamp whole seconds."""
    return channel.created, channel.name, channel.namespace


def _shared(obs: Observation, channel: Channel, other: Channel) -> list[str]:
    """Names of the nodes on which both templates would run a pod."""
    own = channel.spec.agent.template or obs.agent.template
    theirs = other.spec.agent.template or own
    if own is None or theirs is None:
        return sorted(obs.nodes)
    return sorted(obs.carriers(own).keys() & obs.carriers(theirs).keys())


def _image(channel: Channel) -> str:
    """The repository of the first container's image; empty where the template has none."""
    pod: Mapping[str, Any] = (channel.spec.agent.template or {}).get("spec") or {}
    containers = pod.get("containers") or [{}]
    image = str(containers[0].get("image") or "").partition("@")[0]
    path, slash, name = image.rpartition("/")
    return path + slash + name.partition(":")[0]
