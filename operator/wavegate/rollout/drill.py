"""The rollback drill: before the first wave soaks, one of its nodes really goes back to stable.

The proof of the way back is a dry run: it says what the apiserver would do, and nothing of stable's
image that is gone from node and registry, or of content that its host does not let go. So the first
node of the first wave is given back like a suspect, has to be as well on stable as after a revert,
and gets the candidate again; then only does the soak begin. What is next is stored before it is
done. A node that does not come back fails the wave: one node found out, and not all of them.
"""

from collections.abc import Iterator
from dataclasses import replace

from wavegate.api import DrillMode, GateKind, Reason
from wavegate.evidence import Finding, NodeView, Verdict, standing
from wavegate.rollout.attempt import Drill, Rollout
from wavegate.rollout.compatible import version_of
from wavegate.rollout.exposure import Exposure
from wavegate.rollout.lacks import Lack, lacks
from wavegate.rollout.marks import left_as_announced
from wavegate.rollout.movable import not_movable
from wavegate.rollout.observation import Observation
from wavegate.rollout.record import MAX_DRILLED, Record
from wavegate.rollout.stable_suspect import fails
from wavegate.rollout.steps import MoveNodes, Step, act, save, wait
from wavegate.rollout.waves import baseline_of

A_NODE = "a node of the wave that can go back to stable and come again, for the rollback drill"


def _begin(obs: Observation, rollout: Rollout, measured: Exposure, now: float) -> Step | None:
    """Begin the drill with a settled node of the wave; None when none is due, or there is none that
    could be given the candidate again.
    """
    ledger = obs.ledgers.get(rollout.waves[-1].ledger)
    if ledger is None or not is_due(obs, rollout):
        return None
    own = {entry.name for entry in ledger.nodes if entry.healthy}
    stuck = not_movable(obs, rollout)
    node = next((n for n in measured.settled if n in own and n not in stuck), None)
    if node is None:
        return None
    return save(obs.record, replace(rollout, drill=Drill(node, rollout.waves[-1].ledger, now)))


def advance(
    obs: Observation, rollout: Rollout, measured: Exposure, gap: Finding | None, now: float
) -> Step | None:
    """The next step of the drill; None when none is due. It begins when the first node is settled
    and nothing is amiss (`gap`), so before a second one is moved.
    """
    drill = rollout.drilling
    if drill is None:
        calm = gap is None and not measured.in_flight
        return _begin(obs, rollout, measured, now) if calm else None
    node = obs.nodes.get(drill.node)
    if _problem(obs, rollout, drill, now):
        mark = _excused(obs, rollout, drill)
        if mark is None:  # `judge` says so: it fails the wave
            return wait(f"node {drill.node}")
        marks = {**rollout.excused, drill.node: mark}
        return save(obs.record, replace(rollout, excused=marks, drill=None))
    carries = node is not None and node.attempt(obs.key) == rollout.attempt
    if drill.is_away:
        return _back(obs, rollout, drill, carries=carries, now=now)
    pod = standing(obs.pods_on(rollout.attempt).get(drill.node, ()))
    if carries and pod is not None and pod.phase == "Running":
        return Step(record=_done(obs, rollout, drill, now))
    fit = node is not None and node.ready and drill.node not in not_movable(obs, rollout)
    if node is None or carries or not fit or measured.room < 1:
        return wait(f"node {drill.node} to get it again, in the rollback drill")
    return act(MoveNodes(((node.name, node.uid),), rollout.attempt))


def judge(obs: Observation, rollout: Rollout, now: float) -> Iterator[Finding]:
    """Harm, if the node is not back on stable in time, fails on it, or is another one by now."""
    drill = rollout.drilling
    if drill is None or obs.blind:
        return
    problem = _problem(obs, rollout, drill, now)
    if problem and _excused(obs, rollout, drill) is None:
        message = f"the rollback drill failed on node {drill.node}: {problem}"
        yield Finding(Verdict.FAIL, Reason.DrillFailed, message, drill.node, gate=GateKind.Nodes)


def is_due(obs: Observation, rollout: Rollout) -> bool:
    """Whether the current wave must not soak before a drill. Where nothing is stable yet, there is
    no way back to try.
    """
    drill = rollout.drill
    if rollout.wave != 0 or obs.revision(obs.record.stable) is None:
        return False
    if drill is not None and drill.ledger == rollout.waves[-1].ledger:
        return False
    return _wants(obs, rollout.plan.drill, _version(obs, rollout))


def missing(obs: Observation) -> str:
    """Why the next release can't drill the way back though the channel wants it to, in words; empty
    when it can, or need not.
    """
    channel, template = obs.channel, obs.agent.template
    if channel is None or template is None or obs.record.stable is not None:
        return ""
    wanted = _wants(obs, channel.spec.rollout.drill, version_of(template))
    return "the way back is not drilled: nothing is stable yet (spec.rollout.drill)" * wanted


def news(before: Rollout | None, after: Rollout | None) -> tuple[Reason, str, bool] | None:
    """What one write of the record says about the drill; None when nothing."""
    was, drill = before.drill if before else None, after.drill if after else None
    if drill is None or drill == was:
        return None
    if was is None or was.ledger != drill.ledger:
        message = f"node {drill.node} goes back to stable, to get the release again"
        return Reason.RollbackDrill, message, False
    if drill.done_at is not None:
        seconds = drill.done_at - drill.began
        message = f"node {drill.node} was back on stable and has it again, after {seconds:.0f} s"
        return Reason.RollbackDrill, message, False
    return None


def _back(obs: Observation, rollout: Rollout, drill: Drill, *, carries: bool, now: float) -> Step:
    """Wait until the node has proved to be back; then it is to get the candidate again."""
    if carries:
        return wait(f"node {drill.node} to be given back, in the rollback drill")
    if drill.back_since is None:
        return save(obs.record, replace(rollout, drill=replace(drill, back_since=now)))
    left = _lacks(obs, rollout, drill, now)
    if left:
        return wait(f"{left[0].waiting}, in the rollback drill")
    again = replace(rollout, drill=replace(drill, again_since=now))
    return save(obs.record, again.with_wave(moved_at=now))


def _done(obs: Observation, rollout: Rollout, drill: Drill, now: float) -> Record:
    """The record with the drill done, by this version of the agent."""
    done = replace(rollout, drill=replace(drill, done_at=now))
    version, known = _version(obs, rollout), obs.record.drilled
    if version and version not in known:
        known = (version, *known)[:MAX_DRILLED]
    return replace(obs.record, rollout=done, drilled=known)


def _problem(obs: Observation, rollout: Rollout, drill: Drill, now: float) -> str:
    """What proves that the way back does not work on this node, in words; empty while nothing does.
    Once it has proved to be back, only what becomes of it until it gets the candidate again.
    """
    node, entry = obs.nodes.get(drill.node), baseline_of(obs).get(drill.node)
    if entry is None:
        return ""
    if node is None or node.uid != entry.uid:
        return "the machine is gone, or is another one by now"
    if node.attempt(obs.key) == rollout.attempt:
        return ""  # it is judged like any other
    if node.boot_id != entry.boot_id:
        return "it was rebooted on its way"
    since, stable = drill.back_since, obs.record.stable
    if since is None or stable is None:
        return ""
    pods = obs.pods_on(stable.attempt).get(node.name, ())
    if fails(pods, node, max(since, obs.watching_since)):
        return "it fails on stable, which ran there before"
    since = max(drill.again_since or since, obs.allowed_since, obs.watching_since)
    left = _lacks(obs, rollout, drill, now)
    if now - since <= rollout.plan.progress_deadline or not left:
        return ""
    late = "it is not back on stable after progressDeadline"
    return late if left[0].reason is Reason.RevertedWithNodesDown else f"{late}; {left[0].clause}"


def _lacks(obs: Observation, rollout: Rollout, drill: Drill, now: float) -> tuple[Lack, ...]:
    """What the node lacks of being back. When it has proved that, it has only to stay Ready."""
    names = frozenset((drill.node,))
    if not _is_on_stable(obs, rollout, obs.nodes.get(drill.node), now):
        return lacks(obs, rollout, names, frozenset(), now)
    return lacks(obs, rollout, (), names, now) if drill.is_away else ()


def _is_on_stable(obs: Observation, rollout: Rollout, node: NodeView | None, now: float) -> bool:
    """Whether stable's agent is Ready there for `settle`, and nothing of the candidate is left."""
    stable = obs.record.stable
    if node is None or stable is None or not node.ready:
        return False
    pod = standing(obs.pods_on(stable.attempt).get(node.name, ()))
    left = node.name in obs.pods_on(rollout.attempt)
    since = pod.ready_since if pod is not None and pod.ready else None
    return since is not None and not left and now - since >= rollout.plan.settle


def _excused(obs: Observation, rollout: Rollout, drill: Drill) -> str | None:
    """The mark of a node that was drained, removed or rebooted as announced: no harm, no proof."""
    entry = baseline_of(obs).get(drill.node)
    return left_as_announced(obs, rollout.excused, entry) if entry is not None else None


def _wants(obs: Observation, mode: DrillMode, version: str) -> bool:
    if mode is DrillMode.NewAgentVersion:
        return version not in ("", *obs.record.drilled)
    return mode is DrillMode.Always


def _version(obs: Observation, rollout: Rollout) -> str:
    """The version that the candidate's agent says; empty when it says none."""
    view = obs.revision(rollout.candidate)
    return version_of(view.template) if view is not None else ""
