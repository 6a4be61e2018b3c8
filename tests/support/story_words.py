"""Words that several stories ask with: which nodes have the candidate, and where a release is."""

from support.world import SimCluster
from wavegate.api import WaveState


def labelled(sim: SimCluster) -> set[str]:
    """Names of the nodes with the label of the running attempt."""
    rollout = sim.record.rollout
    attempt = rollout.attempt if rollout else ""
    return {node.name for node in sim.nodes.values() if node.attempt == attempt}


def moving(sim: SimCluster, wave: str) -> bool:
    """Whether the wave of this name is under way, and still moves nodes."""
    rollout = sim.record.rollout
    last = rollout.waves[-1] if rollout and rollout.waves else None
    return last is not None and last.name == wave and last.state is WaveState.Moving
