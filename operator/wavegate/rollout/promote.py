"""Promotion: the candidate becomes stable, and no existing node changes side by it.

All nodes carry the label already. Candidate to all first, seen by the controller, then stable to
nothing: both matching is safe, neither would leave a node without its agent.
"""

from dataclasses import replace

from wavegate.api import Phase, Reason
from wavegate.evidence import Finding, Verdict
from wavegate.rollout import bake, soak, waves
from wavegate.rollout.observation import Observation
from wavegate.rollout.record import MAX_HISTORY, Record, Rollout
from wavegate.rollout.steps import Retarget, Step, Target, act, save, wait


def advance(obs: Observation, rollout: Rollout, now: float) -> Step:
    """One step of a promotion. Nodes that joined before it began are swept first."""
    view, stable = obs.revision(rollout.candidate), obs.revision(obs.record.stable)
    if view is None:
        return wait("the candidate's DaemonSet")
    left = waves.would_lose_agent(obs, rollout)
    if left:
        names = ", ".join(left[:5])
        what = f"the new template neither selects nor tolerates {len(left)} nodes ({names})"
        lost = Finding(Verdict.HOLD, Reason.NotMovable, f"{what}: they would lose their agent")
        return replace(soak.hold(obs, rollout, lost.message, now), findings=(lost,))
    if not view.targets(obs.key, Target.ALL):
        if waves.rest(obs, rollout):
            return save(obs.record, replace(waves.next_wave(obs, rollout), promoting=False))
        return act(Retarget(rollout.attempt, Target.ALL))
    if not view.observed:
        return wait(f"the controller to see DaemonSet {view.name}")
    if stable is not None and not stable.targets(obs.key, Target.NOTHING):
        return act(Retarget(stable.attempt, Target.NOTHING))
    return Step(record=_completed(obs.record, rollout, now))


def _completed(record: Record, rollout: Rollout, now: float) -> Record:
    candidate = rollout.candidate
    failed = record.bake is not None and record.bake.incident is not None
    before = (record.stable,) if record.stable and not failed else ()
    nodes = sum(wave.nodes for wave in rollout.waves)
    message = f"{candidate.version} is stable on all nodes ({nodes} moved in waves)"
    ended = record.ended(Phase.Completed, Reason.Completed, message, now)
    history = (*before, *record.history)[:MAX_HISTORY]
    stable = replace(candidate, since=now)
    return replace(ended, stable=stable, history=history, bake=bake.begin(rollout, now))
