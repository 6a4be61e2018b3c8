"""What goes wrong in a rollback drill: its node is not as well on stable as it was before."""

from collections.abc import Callable

from simulation.chaos import Chaos
from simulation.cluster import is_ready
from simulation.machines import crash_loops, images, only_on

PATIENCE_SECONDS = 120.0
"""So long a person waits for the drill of what he published."""
LAST_CRASH_SECONDS = 6.0
"""What started just before a harm ended crashes after it: at most 5 s later."""


def spoil_drill(c: Chaos, pick: int) -> None:
    """Someone publishes what is to be drilled; as its node goes back, something goes wrong."""
    channel = c.channel()
    if channel is None or len(c.releases()) > 12:
        return
    c.sim.patch("Channel", "rules", rollout={**channel["spec"]["rollout"], "drill": "Always"})
    name = f"drilled-{c.sim.sequence + 1}"
    c.sim.publish(name, severity="Urgent", layers=["base", name])
    ends = c.sim.now + PATIENCE_SECONDS
    while not _node(c) and c.sim.now < ends:
        c.wait(0.2)
    node = _node(c)
    if node:
        SPOILS[pick % len(SPOILS)](c, node, pick)


def _node(c: Chaos) -> str:
    """The node that goes back just now; empty: none does."""
    rollout = c.sim.record.rollout
    drill = rollout.drilling if rollout else None
    there = drill is not None and drill.is_away and drill.node in c.living()
    return drill.node if drill is not None and there else ""


def _image_is_gone(c: Chaos, node: str, pick: int) -> None:
    """Stable's content can't be fetched any more, on no node, until somebody pushes it again."""
    del node
    stable = c.sim.record.stable
    if stable is not None:
        c.sim.machines.unpullable.add(stable.digest)
        c.sim.later(20.0 + pick % 10 * 40, lambda: c.sim.machines.unpullable.discard(stable.digest))


def _stable_crashes(c: Chaos, node: str, pick: int) -> None:
    """Stable was well the first time. Where it is given again it crashes, here or everywhere, until
    its back-off is over.
    """
    stable, harms = c.sim.record.stable, c.sim.machines.harms
    if stable is None or stable.digest in harms:
        return
    harm = crash_loops(1.0 + pick % 3 * 2)
    harms[stable.digest] = harm if pick % 2 else only_on(frozenset((node,)), harm)
    c.harmful.add(stable.digest)
    ends = 60.0 + pick % 10 * 30
    c.sim.later(ends, lambda: harms.pop(stable.digest, None))
    c.sim.later(ends + LAST_CRASH_SECONDS, lambda: _is_well_again(c, stable.digest))


def _is_well_again(c: Chaos, content: str) -> None:
    """Its back-off is over; not if it does harm anew by now."""
    machines = c.sim.machines
    if content in machines.harms:
        return
    c.harmful.discard(content)
    for pod in c.sim.pods():
        if not is_ready(pod) and any(content in image for image in images(pod)):
            machines.recover(str(pod["spec"].get("nodeName")), pod)


def _it_stops(c: Chaos, node: str, pick: int) -> None:
    """The machine stops on its way back, and is started soon or late."""
    c.wait(pick % 5)
    c.sim.crash(node)
    c.sim.later(2.0 + pick % 10 * 30, lambda: c.sim.machines.boot(node))


def _is_another_one(c: Chaos, node: str, pick: int) -> None:
    """It is removed, and another machine comes under its name, or none."""
    pool = str((c.sim.server.find("nodes", node) or {})["metadata"]["labels"].get("pool", "other"))
    c.sim.remove_node(node)
    if pick % 2:
        c.wait(1.0)
        c.sim.act(lambda: c.sim.machines.add(node, {"pool": pool}))


def _is_rebooted_as_announced(c: Chaos, node: str, pick: int) -> None:
    """Somebody cordons it and reboots it: nobody is to blame."""
    _cordon(c, node, on=True)
    c.wait(2.0 + pick % 3)
    c.sim.crash(node)
    c.wait(3.0)
    c.sim.boot(node)
    c.wait(20.0)
    _cordon(c, node, on=False)


def _cordon(c: Chaos, name: str, *, on: bool) -> None:
    node = c.sim.server.find("nodes", name)
    if node is not None:
        spec = {**node["spec"], "unschedulable": on}
        c.sim.act(lambda: c.sim.server.update("people", "nodes", node, spec=spec))


def _nobody_looks(c: Chaos, node: str, pick: int) -> None:
    """The operator dies, and stable's content is gone while it is away."""
    operator = c.leader
    if operator is not None:
        c.absent[operator.name] = c.sim.now + 5.0 + pick % 10 * 20
        c.sim.act(operator.kill)
    _image_is_gone(c, node, pick)


SPOILS: tuple[Callable[[Chaos, str, int], None], ...] = (
    *(_image_is_gone, _stable_crashes, _image_is_gone, _stable_crashes),
    *(_it_stops, _is_another_one, _is_rebooted_as_announced, _nobody_looks),
)
