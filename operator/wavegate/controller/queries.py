"""What the variables of a check's query stand for, at the moment when it is asked."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Self

from wavegate.evidence import NEW_INTERVALS, NEW_SECONDS, CheckSpec, NodeView
from wavegate.rollout.attempt import Rollout
from wavegate.rollout.control import control_group
from wavegate.rollout.observation import Observation
from wavegate.rollout.periods import asked_of
from wavegate.rollout.waves import in_order, order_of

MAX_CONTROL = 500
"""Control nodes that a query names: more would make it longer, and its answer hardly surer."""
VARIABLES = {
    "nodes": "names of the nodes that are judged, as a regular expression",
    "control_nodes": "the same of the Ready nodes of the control group: in the pools of the waves "
    f"so far, without the content; at most {MAX_CONTROL}. Matches no node when there is none, as "
    "in a wave that takes whole pools and in a bake",
    "pool": "names of that wave's pools (see `$t0`), as a regular expression",
    "release": "name of the release",
    "namespace": "the channel's namespace, in which the agent's pods are",
    "channel": "name of the channel",
    "agent": "name of the candidate's DaemonSet: its pods are called `$agent-…`",
    "elapsed": "time since `$t0`, as a PromQL duration such as 412s; in a bake it grows to a day "
    "and more, and a range of it to what Prometheus may refuse to read",
    "t0": "when the newest wave opened that has moved a node, in seconds since 1970 by the "
    "operator's clock. A wave moves none until each check has passed once more after its opening, "
    "with the `$t0` of the wave before: so the two periods overlap",
}
"""The CRD refuses any other. All of them are replaced in `query` and in `freshness.series`."""
NO_NODE = "_none_"
"""No node can have this name; an empty expression would match series without the label."""
MOST_CONTROL = 100
"""So many control nodes tell whether a check works without the content."""
SHOWN_NODES = 3
"""So many names of a list stand in a query that people read."""
_VARIABLE = re.compile(rf"\$({'|'.join(sorted(VARIABLES, reverse=True))})")


@dataclass(frozen=True, slots=True)
class Questions:
    """One attempt's checks, about these nodes; an answer from before `since` is outdated."""

    rollout: Rollout
    nodes: frozenset[str]
    since: float
    agent: str = ""
    """The DaemonSet whose pods run on these nodes; empty = the candidate's."""

    def substituted(self, check: CheckSpec, obs: Observation, now: float) -> CheckSpec:
        """The check with all variables replaced, once: what they stand for holds none."""
        values = self._values(check.query + check.age_of, obs, now, nodes_pattern)
        return substitute(check, values)

    def of_control(self, obs: Observation) -> Self:
        """The same questions about nodes of the control; not all of many."""
        some = _control(obs, self)[:MOST_CONTROL]
        stable = obs.record.stable
        agent = stable.daemon_set if stable else ""
        return replace(self, nodes=frozenset(node.name for node in some), agent=agent)

    def new(self, check: CheckSpec, obs: Observation, now: float) -> frozenset[str]:
        """Those of these nodes that were moved so lately that this check may know nothing of them
        yet. We see when a node was labelled only if we watched, so the record must say the same of
        the wave: an operator that restarts makes no node new.
        """
        since = now - max(NEW_SECONDS, NEW_INTERVALS * check.interval)
        if (self.rollout.waves[-1].moved_at or 0.0) <= since:
            return frozenset()
        seen = ((name, obs.nodes[name].sides.get(obs.key)) for name in self.nodes & set(obs.nodes))
        return frozenset(name for name, side in seen if side is not None and side.since > since)

    def told(self, check: CheckSpec, obs: Observation, now: float) -> str:
        """The query as it is asked, for a person: long lists of nodes are shortened."""
        return _replaced(check.query, self._values(check.query, obs, now, _in_short))

    def _values(
        self, text: str, obs: Observation, now: float, listed: Callable[[Iterable[str]], str]
    ) -> dict[str, str]:
        as_of = asked_of(self.rollout)
        opened, planned = max(wave.opened_at for wave in as_of.waves) or now, as_of.planned
        pools = (planned and planned.pools) or [pool.name for pool in as_of.plan.pools]
        control = _control(obs, self) if "$control_nodes" in text else []
        return {
            "nodes": listed(self.nodes),
            "control_nodes": listed(node.name for node in control),
            "pool": nodes_pattern(pools),
            "release": self.rollout.candidate.release,
            "namespace": obs.namespace,
            "channel": obs.name,
            "agent": self.agent or self.rollout.candidate.daemon_set,
            "elapsed": f"{max(1, int(now - opened))}s",
            "t0": f"{math.floor(opened)}",  # never later, or a second would be seen by nobody
        }


def substitute(check: CheckSpec, values: Mapping[str, str]) -> CheckSpec:
    """The check with a value in the place of each of VARIABLES, once: what is put in holds none."""
    query, age_of = _replaced(check.query, values), _replaced(check.age_of, values)
    return replace(check, query=query, age_of=age_of)


def _replaced(query: str, values: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda found: values[found[1]], query)


def nodes_pattern(names: Iterable[str]) -> str:
    """The regular expression that matches these names, escaped for a PromQL string."""
    escaped = (re.escape(name).replace("\\", "\\\\") for name in sorted(names))
    return "|".join(escaped) or NO_NODE


def _in_short(names: Iterable[str]) -> str:
    """The first few names, and how many there are."""
    known = sorted(names)
    more = f"|… {len(known)} nodes" if len(known) > SHOWN_NODES else ""
    return nodes_pattern(known[:SHOWN_NODES]) + more


def _control(obs: Observation, asked: Questions) -> list[NodeView]:
    """Ready nodes of the control, in the order in which the content takes them: at most those that
    get it last, so that most of them stay the same from wave to wave.
    """
    group = control_group(obs, asked.rollout)
    fit = (node for node in group if node.ready and node.name not in asked.nodes)
    return in_order(fit, order_of(asked.rollout.candidate))[-MAX_CONTROL:]
