"""Corroboration: one harmed node is no proof against the content, and must not stop the fleet.

Machines fail by themselves, and a compromised one can feign any harm. So after the first wave harm
counts against the content only when more distinct nodes show it than chance explains:

- soon after they got the content: two, and among more than 181 nodes so many more as the background
  alone would harm in that time once in a thousand rollouts. (Two of 5,000 would come together by
  chance in 36 % of all good rollouts.)
- over the whole rollout: more than the background explains for all nodes and all the time since.

Whose harm is not corroborated is a suspect.
"""

from wavegate.evidence.background import FALSE_ALARMS, expected, most_by_chance, poisson_bound

SOON_SECONDS = 900.0
"""What content breaks, it mostly breaks within minutes of being loaded."""


def most_soon(nodes: int) -> int:
    """How many of `nodes` chance alone may harm within `SOON_SECONDS` of loading; at least one."""
    return max(1, poisson_bound(expected(nodes, SOON_SECONDS), FALSE_ALARMS))


def is_corroborated(harmed: int, soon: int, nodes: int, node_seconds: float) -> bool:
    """Whether so many distinct harmed nodes can't be chance.

    `soon` of the `harmed` were so within `SOON_SECONDS` of loading. `nodes` have had the content,
    for `node_seconds` in all.
    """
    return soon > most_soon(nodes) or harmed > most_by_chance(1, node_seconds)
