"""What is wrong with a channel for the moment in which a release starts on it."""

from simulation.chaos import Chaos

NONE = {"name": "none", "selector": {"matchLabels": {"pool": "none"}}}
PATIENCE_SECONDS = 30.0
"""So long a person waits for the start of what he published."""


def empty_a_pool(c: Chaos, pick: int) -> None:
    """Someone publishes, and has just given the channel a pool that selects no node; soon he takes
    it away again.
    """
    channel = c.channel()
    if channel is None or len(c.releases()) > 12:
        return
    c.sim.publish(f"unlucky-{c.sim.sequence + 1}")
    ends = c.sim.now + PATIENCE_SECONDS
    while c.sim.record.rollout is None and c.sim.now < ends:
        c.wait(0.02)
    c.wait(pick % 5 / 20)
    _set_pools(c, [*channel["spec"]["pools"], NONE])
    c.wait(1.0 + pick % 7 * 5)
    _set_pools(c, channel["spec"]["pools"])


def _set_pools(c: Chaos, pools: object) -> None:
    if c.channel() is not None:
        c.sim.patch("Channel", "rules", pools=pools)
