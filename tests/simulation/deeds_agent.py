"""What people do to the agent itself: another binary in the channel's template, good or bad."""

from simulation.chaos import Chaos
from simulation.machines import crash_loops
from support.builders import agent_template, digest

BINARIES = ("agent", "agent 2", "agent 3", "bad agent")
"""The first is what each channel begins with."""


def edit_agent(c: Chaos, pick: int) -> None:
    """Someone sets another image in the channel's template, the old one again, or a bad one."""
    if c.channel() is None:
        return
    name, template = BINARIES[pick % 4], agent_template()
    if name == "bad agent":
        c.sim.harm(name, crash_loops())
    template["spec"]["containers"][0]["image"] = f"registry.example/agent@{digest(name)}"
    c.sim.patch("Channel", "rules", agent={"template": template})


def unblock_agent(c: Chaos, pick: int) -> None:
    """A person lets a template be tried again that was reverted."""
    failed = c.sim.record.failed_agents
    if failed:
        entry, name = failed[pick % len(failed)], f"decision-{len(c.done)}"
        which = {"digest": entry.digest, "incident": entry.incident}
        c.sim.decide(name, entry.release, "Unblock", **which)
