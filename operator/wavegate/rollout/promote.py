"""Promotion: the candidate becomes stable, and no existing node changes side by it.

All nodes carry the label already. Candidate to all first, seen by the controller, then stable to
nothing: both matching is safe, neither would leave a node without its agent. A node that could not
be moved would change side now, without a soak and without a way back: promotion holds and names it.
"""

from dataclasses import replace

from wavegate.api import Phase, Reason
from wavegate.evidence import Finding, Verdict
from wavegate.rollout import bake, movable, soak, suspect_report, waves, workloads
from wavegate.rollout.attempt import Rollout
from wavegate.rollout.observation import Observation
from wavegate.rollout.record import MAX_HISTORY, Record
from wavegate.rollout.steps import Retarget, Step, Target, act, save, wait


def advance(obs: Observation, rollout: Rollout, now: float) -> Step:
    """One step of a promotion. Nodes that joined before it began are swept first."""
    view, stable = obs.revision(rollout.candidate), obs.revision(obs.record.stable)
    if view is None:
        return wait("the candidate's DaemonSet")
    # Once the candidate is for all nodes, going on is what leaves no node with two agents.
    begun = view.targets(obs.key, Target.ALL)
    stuck = (movable.would_lose_agent if begun else movable.not_movable)(obs, rollout)
    if stuck:
        message = f"{movable.describe(stuck)}; stable stays there until that is corrected"
        held = Finding(Verdict.HOLD, Reason.NotMovable, message)
        return replace(soak.hold(obs, rollout, message, now), findings=(held,))
    if not begun:
        sweep = waves.next_wave(obs, rollout)
        if sweep is not None:
            if workloads.is_unread(obs, rollout, now):
                return wait(workloads.READING)
            return save(obs.record, replace(sweep, promoting=False))
        return act(Retarget(rollout.attempt, Target.ALL))
    if not view.observed:
        return wait(f"the controller to see DaemonSet {view.name}")
    if stable is not None and not stable.targets(obs.key, Target.NOTHING):
        return act(Retarget(stable.attempt, Target.NOTHING))
    return Step(record=_completed(obs, rollout, now))


def _completed(obs: Observation, rollout: Rollout, now: float) -> Record:
    record, unproven = obs.record, suspect_report.unproven(obs, rollout)
    candidate = rollout.candidate
    failed = record.bake is not None and record.bake.incident is not None
    before = (record.stable,) if record.stable and not failed else ()
    nodes = sum(wave.nodes for wave in rollout.waves)
    message = f"{candidate.title} is stable on all nodes ({nodes} moved in waves)"
    message += f", {unproven}" if unproven else ""
    ended = record.ended(Phase.Completed, Reason.Completed, message, now)
    history = (*before, *record.history)[:MAX_HISTORY]
    stable = replace(candidate, since=now)
    return replace(ended, stable=stable, history=history, bake=bake.begin(rollout, now))
