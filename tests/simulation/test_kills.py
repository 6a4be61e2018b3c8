"""The operator is killed after every write of a rollout, one after the other: always the same end.

The end: how the release ended and why, what is blocked, and which content runs on each node.
"""

import pytest

from simulation.cluster import Simulation, channel_spec
from simulation.invariants import Guard
from simulation.machines import kills, only_on

RESTART_SECONDS = 2.0
PAIRS_EVERY = 5
"""For each so many-th write the next life is killed as well, after 1, 2 and 3 of its writes."""

End = tuple[str, str, str, tuple[str, ...], tuple[tuple[str, str], ...]]


def good(sim):
    sim.publish("b")


def is_drilled(sim):
    """The canary goes back to stable and comes again, before its wave soaks."""
    sim.patch("Channel", "rules", rollout=channel_spec()["rollout"] | {"drill": "Always"})
    sim.publish("b")


def is_pulled_ahead(sim):
    """Images are pulled on the workers while the canary soaks."""
    sim.patch("Channel", "rules", rollout=channel_spec()["rollout"] | {"prefetch": "NextWave"})
    sim.publish("b")


def dies_on_the_canary(sim):
    sim.harm("b", kills(8.0))
    sim.publish("b")


def dies_in_a_later_wave(sim):
    sim.harm("b", only_on(frozenset({"workers-2", "workers-3"}), kills(8.0)))
    sim.publish("b")


def loses_one_machine(sim):
    """Once, and after the first wave: it becomes a suspect, goes back, and is tried again."""
    died = []

    def once(machines, name, pod):
        if not died:
            died.append(name)
            kills(8.0)(machines, name, pod)

    sim.harm("b", only_on(frozenset({"workers-2"}), once))
    sim.publish("b")


def is_deleted(sim):
    sim.publish("b")
    plural = "securitycontentreleases"
    b = sim.server.find(plural, "b", "agents")
    sim.later(40.0, lambda: sim.server.remove("people", plural, b))


def tell(story, deaths) -> tuple[End, int]:
    """Tell the story with the operator killed after so many writes of each of its lives; returns
    the end, and how many writes there were.
    """
    with Simulation(7) as sim:
        sim.watchers.append(Guard())
        sim.add_nodes("canary", 1)
        sim.add_nodes("workers", 3)
        sim.apply_channel(rollout={"soak": "10s"})  # what only makes something stable is quick
        sim.publish("a")
        sim.until_phase("a", "Completed")
        sim.apply_channel()
        sim.run(5)
        operator = sim.operators[0]
        before, lives, left = operator.line.writes, operator.lives, list(deaths)
        if left:
            operator.line.dies_after = before + left.pop(0)
        story(sim)
        while not _ended(sim):
            assert sim.now < 5000, sim.tail()
            if not operator.running:
                sim.run(RESTART_SECONDS)
                operator.dies_after = left.pop(0) if left else None
                sim.act(operator.start)
            _boot_what_is_down(sim)
            sim.run(1.0)
        assert operator.lives - lives >= (len(deaths) - len(left) if deaths else 0) - 1
        return _end(sim), operator.writes + operator.line.writes - before


def _ended(sim) -> bool:
    record = sim.record
    done = record.rollout is None and record.outcomes[0].release == "b"
    alive = all(machine.alive for machine in sim.machines.machines.values())
    return done and alive and len(sim.agents()) == len(sim.machines.machines)


def _boot_what_is_down(sim) -> None:
    """Machines that were down for a minute are started by hand."""
    for machine in sim.machines.machines.values():
        if not machine.alive and sim.loop.time() - machine.died_at > 60:
            sim.boot(machine.name)


def _end(sim) -> End:
    last, agents = sim.record.outcomes[0], tuple(sorted(sim.agents().items()))
    why = last.incident.reason if last.incident else ""
    blocked = tuple(entry.digest for entry in sim.record.blocked)
    return last.phase.value, last.reason.value, _class(why), blocked, agents


def _class(reason: str) -> str:
    """A machine that dies is seen as what it did until somebody looked: all of these block."""
    return "harm" if reason in ("NodeNotReady", "NodeRebooted") else str(reason)


STORIES = [
    good,
    is_drilled,
    is_pulled_ahead,
    dies_on_the_canary,
    dies_in_a_later_wave,
    loses_one_machine,
    is_deleted,
]


@pytest.mark.parametrize("story", STORIES)
def test_a_kill_after_any_write_leads_to_the_same_end(story, capsys) -> None:
    whole, writes = tell(story, ())
    points = [(n,) for n in range(1, writes + 1)]
    points += [(n, m) for n in range(1, writes + 1, PAIRS_EVERY) for m in (1, 2, 3)]
    ends = {deaths: tell(story, deaths)[0] for deaths in points}
    with capsys.disabled():
        print(f"\n{story.__name__}: {writes} writes, killed {len(points)} times; {whole[:3]}")
    assert {deaths: end for deaths, end in ends.items() if end != whole} == {}
