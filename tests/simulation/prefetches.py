"""Invariants 4, 9 and 11 where they are about images that are pulled ahead: the pods that pull them
are no agents, run nothing, are few, and none is made but for a wave that soaks.
"""

from collections.abc import Iterator
from typing import Any

from simulation.apiserver import Body, Change
from simulation.bodies import attempt_of, is_agent, side
from simulation.machines import runs_nothing
from wavegate.api import Phase, WaveState
from wavegate.rollout.names import KIND_LABEL, SOAKING_LABEL
from wavegate.rollout.prefetch import AT_ONCE

ENDED = ("Failed", "Succeeded")


def pulls(body: Body) -> bool:
    """Whether a pod is one that pulls images ahead."""
    return (body["metadata"].get("labels") or {}).get(KIND_LABEL) == "prefetch"


def images_are_pulled_by_what_runs_nothing(guard: Any, sim: Any, change: Change) -> Iterator[str]:
    """11: a pod that pulls is no agent; 20 at a time, and each only where its images are not."""
    pod = change.after
    if change.plural != "pods" or change.before is not None or pod is None or not pulls(pod):
        return
    guard.counted[11] += 1
    name, node = change.key[1], pod["spec"]["nodeName"]
    if is_agent(pod) or not runs_nothing(pod) or pod["spec"]["restartPolicy"] != "Never":
        yield f"pod {name} may run something on {node}"
    if side(sim.server.find("nodes", node), sim.key) == attempt_of(pod) and not guard.two_leaders:
        yield f"pod {name} pulls on {node}, which has the candidate"
    pulling = [
        p
        for p in sim.server.all("pods")
        if pulls(p) and p["status"]["phase"] not in ENDED and attempt_of(p) == attempt_of(pod)
    ]
    if len(pulling) > AT_ONCE and not guard.two_leaders:
        yield f"{len(pulling)} nodes pull at a time"


def images_are_pulled_in_a_soak_only(guard: Any, sim: Any, change: Change) -> Iterator[str]:
    """4: nothing of an attempt that was fenced, or that rests, is pulled any more; but for one pod,
    which was asked for when that was stored.
    """
    pod, rollout = change.after, guard.rollout
    if change.plural != "pods" or change.before is not None or pod is None or not pulls(pod):
        return
    if guard.two_leaders or guard.books.hands.travelled:
        return
    guard.counted[4] += 1
    attempt, of = attempt_of(pod), (attempt_of(pod), pod["metadata"]["labels"][SOAKING_LABEL])
    rolls = rollout is not None and rollout.attempt == attempt
    soaks = rolls and rollout.phase is Phase.Rolling and rollout.waves
    if soaks and rollout.waves[-1].state is WaveState.Soaking:
        return
    guard.books.late_pulls[of] += 1
    if guard.books.late_pulls[of] > 1:
        yield f"pod {change.key[1]} pulls images of {attempt}, of which no wave soaks"
