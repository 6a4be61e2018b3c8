"""Prepare: candidate and stable in the position from which a node label moves a node.

No node is moved before that, and no wave opens: what goes wrong here ends the rollout without one.
What is wrong with the channel does not end it, as it may pass and is not the release's fault: the
start is given up, and comes again when the channel is fine.
"""

from dataclasses import replace

from wavegate.api import Phase, Reason
from wavegate.evidence import Finding, Verdict
from wavegate.rollout import agent_template, queue, revert
from wavegate.rollout.attempt import Revision, Rollout
from wavegate.rollout.observation import Observation
from wavegate.rollout.record import MAX_HISTORY, GivenUp, Record
from wavegate.rollout.steps import (
    CopyContent,
    CreateRevision,
    Problem,
    Retarget,
    Step,
    Target,
    act,
    save,
    wait,
)
from wavegate.rollout.templates import revision_template


def advance(obs: Observation, rollout: Rollout, now: float) -> Step:
    """Bring candidate and stable into the position from which a node label moves a node."""
    view, stable = obs.revision(rollout.candidate), obs.record.stable
    if view is not None and view.targets(obs.key, Target.NOTHING):
        return revert.fenced_by_hand(obs, rollout, now)
    if obs.forbidden:
        return wait(f"a person: {obs.forbidden}")
    if view is None and obs.moved(rollout.attempt):
        # A record of the past: these nodes would all get the content at once, without a ledger.
        anew = _anew(obs, rollout, now)
        if anew is not None:
            return Step(record=replace(obs.record, rollout=anew, attempts=obs.record.attempts + 1))
    problem = queue.channel_problem(obs)
    if view is None and problem is not None:
        return _give_up(obs, rollout, problem, now)
    aside = _stable_aside(obs, rollout, stable, now) if stable is not None else None
    if aside is not None:
        return aside
    again = agent_template.chosen_again(obs, rollout)
    if again is not None:
        return again
    if view is None:
        return _create(obs, rollout, now)
    if not view.observed:
        return wait(f"the controller to see DaemonSet {view.name}")
    return save(obs.record, replace(rollout.with_next_wave(), phase=Phase.Rolling))


def given_up(before: Record, after: Record) -> tuple[Reason, str, bool] | None:
    """What people are told of a start that was given up between two records; None: none was."""
    start = after.given_up_start(before.rollout.attempt) if before.rollout else None
    if start is None or before.rollout is None:
        return None
    title = before.rollout.candidate.title
    return start.reason, f"{title} starts later, nothing of it was made: {start.message}", True


def _give_up(obs: Observation, rollout: Rollout, problem: Problem, now: float) -> Step:
    """As if it had not started. The attempt is remembered, should another process have made its
    DaemonSet in the same moment: that one is nobody's, and is tidied away.
    """
    record, reason = obs.record, Reason[problem.reason]
    start = GivenUp(rollout.attempt, rollout.candidate.release, reason, problem.message, now)
    given_up = (start, *record.given_up)[:MAX_HISTORY]
    return Step(record=replace(record, rollout=None, given_up=given_up))


def _stable_aside(obs: Observation, rollout: Rollout, stable: Revision, now: float) -> Step | None:
    """Bring stable off the nodes that will carry the label; None when it is so."""
    stable_view = obs.revision(stable)
    if stable_view is None:
        return revert.begin(obs, rollout, Reason.StateLost, stable_gone(stable), now)
    if not stable_view.targets(obs.key, Target.NOT_IN, rollout.attempt):
        return act(Retarget(stable.attempt, Target.NOT_IN, rollout.attempt))
    if not stable_view.observed:
        return wait(f"the controller to see DaemonSet {stable_view.name}")
    return None


def _anew(obs: Observation, rollout: Rollout, now: float) -> Rollout | None:
    """The same, with another attempt id; None when what it needs is not there."""
    release, channel = obs.release(rollout.candidate.release_uid), obs.channel
    if channel is not None and rollout.candidate.is_agent and agent_template.current(obs):
        return queue.start_agent(obs, channel, rollout.candidate, now)
    return queue.start(obs, channel, release, now) if channel and release else None


def _create(obs: Observation, rollout: Rollout, now: float) -> Step:
    """Create the candidate's DaemonSet, its content bound by digest."""
    candidate, channel = rollout.candidate, obs.channel
    release, agent = obs.release(candidate.release_uid), candidate.is_agent
    gone = channel is None or (release is None and not agent)
    if obs.unreadable and gone:
        return _unreadable(obs, rollout)
    if obs.refused or gone or obs.agent.template is None:
        why = obs.refused or "the channel or release is gone"
        return revert.begin(obs, rollout, Reason.InvalidTemplate, why, now)
    reference = queue.content_reference(release, candidate.digest) if release else ""
    if release is not None and release.spec.content.config_map is not None:
        copy = obs.contents.get(reference)
        if copy is None:
            source = release.spec.content.reference
            return act(CopyContent(source, reference, candidate.digest))
        if copy.digest != candidate.digest or not copy.immutable:
            why = f"ConfigMap {reference} is not what we would have stored; delete it"
            return revert.begin(obs, rollout, Reason.ContentMutable, why, now)
    bound = agent_template.bound(obs, candidate, reference)
    if bound is None:
        unfit = Problem(Reason.ContentMismatch, "stable's content can't be bound as it was")
        return _give_up(obs, rollout, agent_template.problem(obs) or unfit, now)
    return act(CreateRevision(candidate, revision_template(bound, obs.name, candidate.attempt)))


def _unreadable(obs: Observation, rollout: Rollout) -> Step:
    """Hold what can't be begun: nothing of ours is taken for gone while any of it can't be read."""
    message = (
        f"channel {obs.name} or release {rollout.candidate.release} can't be read by this version, "
        "or its CRD is gone, so nothing is begun; the operator's log names the field: correct it, "
        "or run the version that wrote it"
    )
    found = Finding(Verdict.HOLD, Reason.ViewStale, message)
    return replace(wait(message), findings=(found,))


def stable_gone(stable: Revision) -> str:
    """What is said of a stable revision without its DaemonSet."""
    return f"DaemonSet {stable.daemon_set}, the stable revision, does not exist"
