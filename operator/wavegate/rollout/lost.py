"""Lost state: the record is gone, or older than the cluster, as after a restored backup.

Signs that need no clock: an attempt's DaemonSet or ledger that the record does not know, though
every attempt is recorded before its first write. Then nothing is repaired, tidied or started. If
one revision is for all nodes and no other for any, that is what runs: it is adopted as stable, and
a person has to take over and let go before anything starts. What is in flight is left as it is;
where the record still fits it, its nodes are watched and reverted all the same.
"""

from dataclasses import replace

from wavegate.api import Phase, Reason
from wavegate.rollout.attempt import Revision
from wavegate.rollout.names import record_name
from wavegate.rollout.observation import Observation, RevisionView
from wavegate.rollout.placement import required_terms
from wavegate.rollout.record import MAX_HISTORY, MAX_OUTCOMES, Lost, Outcome, Record
from wavegate.rollout.steps import Problem, Step, Target

LOOK_AGAIN = 5.0


def is_lost(obs: Observation) -> bool:
    """Whether nothing may be started, repaired or tidied on this channel."""
    return obs.record.lost is not None or bool(contradiction(obs))


def contradiction(obs: Observation) -> str:
    """Say how record and cluster contradict each other; empty when they do not."""
    return obs.once(_contradiction)


def _contradiction(obs: Observation) -> str:
    record, rollout = obs.record, obs.record.rollout
    name = f"ConfigMap {record_name(obs.name)}"
    if obs.record_unreadable:
        return f"{name}, the record of this channel, can't be read by this version"
    if obs.record_lost:
        return f"{name}, the record of this channel, is gone, but its DaemonSets run"
    unknown = [v.name for attempt, v in obs.revisions.items() if not record.knows(attempt)]
    if unknown:
        return f"{name} does not know DaemonSet {', '.join(sorted(unknown)[:5])}: it is older"
    ledgers = stray_ledgers(obs)
    if ledgers and obs.revisions:
        return f"{name} does not know attempt {', '.join(ledgers[:5])} of a ledger: it is older"
    if rollout is not None and any(number >= rollout.ledgers for number in obs.ledgers):
        return f"{name} knows fewer waves of the running attempt than there are: it is older"
    if rollout is not None and not rollout.promoting and _is_promoted(obs):
        return f"{name} says that {rollout.candidate.version} rolls out, but it is promoted"
    return ""


def stray_ledgers(obs: Observation) -> list[str]:
    """Attempts of ledgers that the record does not know. Without any DaemonSet they speak of
    nothing that runs: a channel begins anew, and forgets them before it starts anything.
    """
    return sorted(attempt for attempt in obs.old_ledgers if not obs.record.knows(attempt))


def in_position(obs: Observation) -> bool:
    """Whether candidate and stable stand as the record's rollout has them. Then watching and
    reverting, which only move nodes towards stable, are as right as ever.
    """
    rollout, stable = obs.record.rollout, obs.revision(obs.record.stable)
    if rollout is None or rollout.phase is Phase.Pending:
        return False
    if obs.record.stable is not None:
        ways = [(Target.ALL, ""), (Target.NOT_IN, rollout.attempt)]
        for_none = rollout.promoting or rollout.completed_at is not None
        ways += [(Target.NOTHING, "")] if for_none else []
        if stable is None or not any(stable.targets(obs.key, *way) for way in ways):
            return False
    view = obs.revision(rollout.candidate)
    if rollout.phase is Phase.Reverting:
        return True
    ways = [(Target.NOTHING, ""), (Target.IN, rollout.attempt)]
    ways += [(Target.ALL, "")] if rollout.promoting else []
    return view is not None and any(view.targets(obs.key, *way) for way in ways)


def advance(obs: Observation, now: float) -> Step:
    """Adopt what runs, if that is clear; then wait for a person to take over and to let go."""
    found = adoptable(obs)
    if contradiction(obs):
        if found is None:
            return Step(waiting="a person: state is lost", requeue=LOOK_AGAIN)
        return Step(record=_adopted(obs, found, now))
    lost, channel = obs.record.lost, obs.channel
    if lost is not None and channel is not None and channel.spec.suspend is not lost.taken_over:
        handled = None if lost.taken_over else replace(lost, taken_over=True)
        return Step(record=replace(obs.record, lost=handled))
    return Step(waiting="a person: state was lost", requeue=LOOK_AGAIN)


def adoptable(obs: Observation) -> RevisionView | None:
    """The one revision that is for all nodes, when all others are for none; else None."""
    if obs.blind or obs.record_unreadable or obs.channel is None:
        return None
    views = obs.revisions.values()
    for_all = [view for view in views if view.targets(obs.key, Target.ALL)]
    for_none = [view for view in views if view.targets(obs.key, Target.NOTHING)]
    return for_all[0] if len(for_all) == 1 and len(for_none) == len(views) - 1 else None


def in_flight(obs: Observation) -> tuple[RevisionView | None, RevisionView | None]:
    """Candidate and stable of a rollout that the record does not know, by where they point."""
    views = obs.revisions
    for stable in views.values():
        for attempt, candidate in views.items():
            if stable.targets(obs.key, Target.NOT_IN, attempt):
                return candidate, stable
    armed = (v for attempt, v in views.items() if v.targets(obs.key, Target.IN, attempt))
    return next(armed, None), None


def problem(obs: Observation) -> Problem | None:
    """What the channel says of it, and what a person can do; None when nothing is lost."""
    lost, what = obs.record.lost, contradiction(obs)
    if what:
        message = f"{what}. Nothing is started or repaired. {_way_out(obs)}"
        return Problem(Reason.StateLost, message)
    if lost is None:
        return None
    doing = "to false to go on" if lost.taken_over else "to true, and then to false, to go on"
    message = (
        f"{lost.message}. Nothing starts: compare it with the nodes, suspend or delete releases "
        f"that must not run again, then set the channel's spec.suspend {doing}."
    )
    return Problem(Reason.StateLost, message)


def _way_out(obs: Observation) -> str:
    name = f"ConfigMap {record_name(obs.name)}"
    if obs.record_unreadable:
        return f"Restore {name}, or delete it, and what runs is adopted."
    if not obs.revisions:
        return f"No DaemonSet is left: restore the newest {name}, or delete it to begin anew."
    candidate, _ = in_flight(obs)
    if candidate is not None:
        return (
            f"DaemonSet {candidate.name} is in the middle of a rollout. Restore the newest {name}, "
            "or revert by hand with the lines in status.breakGlass: what runs is then adopted."
        )
    names = ", ".join(sorted(view.name for view in obs.revisions.values()))
    return (
        f"Restore the newest {name}. Or leave one DaemonSet of {names} that is for all nodes and "
        "point the others at none, and it is adopted; or delete all of them to begin anew."
    )


def _is_promoted(obs: Observation) -> bool:
    """Candidate for all and stable for none, or nothing stable: we write that only once `promoting`
    is stored.
    """
    rollout = obs.record.rollout
    if rollout is None or rollout.phase is Phase.Reverting:
        return False
    stable, view = obs.revision(obs.record.stable), obs.revision(rollout.candidate)
    if view is None or (stable is None and obs.record.stable is not None):
        return False
    if stable is None:
        return view.targets(obs.key, Target.ALL) or _makes_room(view, obs.key)
    return view.targets(obs.key, Target.ALL) and stable.targets(obs.key, Target.NOTHING)


def _makes_room(view: RevisionView, key: str) -> bool:
    """Whether a revision stands as stable does beside a candidate: NotIn some attempt."""
    terms = required_terms({"spec": {"affinity": view.affinity}}) or []
    rules = [rule for term in terms for rule in term.get("matchExpressions") or []]
    return any(rule.get("key") == key and rule.get("operator") == "NotIn" for rule in rules)


def _adopted(obs: Observation, found: RevisionView, now: float) -> Record:
    """The record in which `found` is stable; what else is there is kept, and starts nothing."""
    before = obs.record
    stable = _revision(before, found, now)
    message = f"{contradiction(obs)}. {stable.version} runs on all nodes and was adopted as stable"
    others = [_revision(before, v, now) for v in obs.revisions.values() if v is not found]
    others.sort(key=lambda revision: revision.sequence, reverse=True)
    same = before.bake is not None and before.bake.attempt == stable.attempt
    seen = {*obs.revisions, *obs.old_ledgers}
    unknown = sorted(attempt for attempt in seen if not before.knows(attempt))
    return replace(
        _ended(before, stable, message, now),
        stable=stable,
        history=tuple(others[:MAX_HISTORY]),
        floor=_floor(obs),
        adopted=(*unknown, *before.adopted)[:MAX_OUTCOMES],
        lost=Lost(message, now),
        bake=before.bake if same else None,
    )


def _ended(before: Record, stable: Revision, message: str, now: float) -> Record:
    """How the releases ended that the record did not know the end of."""
    if before.rollout is not None:
        same = before.rollout.attempt == stable.attempt
        phase = Phase.Completed if same else Phase.Reverted
        return before.ended(phase, Reason.StateLost, message, now)
    if not stable.release_uid or before.outcome_of(stable.release_uid) is not None:
        return before
    outcome = Outcome(
        release=stable.release,
        release_uid=stable.release_uid,
        sequence=stable.sequence,
        attempt=stable.attempt,
        digest=stable.digest,
        phase=Phase.Completed,
        reason=Reason.StateLost,
        message=message,
        started_at=now,
        finished_at=now,
    )
    return replace(before, outcomes=(outcome, *before.outcomes)[:MAX_OUTCOMES])


def _floor(obs: Observation) -> int:
    """The highest sequence that may have run. A revision that does not say its own may have been
    any of the releases that exist.
    """
    sequences = [view.sequence for view in obs.revisions.values()]
    known = [sequence for sequence in sequences if sequence is not None]
    if len(known) < len(sequences):
        known += [release.spec.sequence for release in obs.releases]
    return max([obs.record.highest_sequence, obs.old_sequence, *known])


def _revision(before: Record, view: RevisionView, now: float) -> Revision:
    """The revision as it was recorded, else as its DaemonSet says."""
    rollout = before.rollout
    known = (before.stable, rollout.candidate if rollout else None, *before.history)
    recorded = next((r for r in known if r is not None and r.attempt == view.attempt), None)
    return recorded or Revision(
        attempt=view.attempt,
        daemon_set=view.name,
        release=view.release,
        release_uid=view.release_uid,
        version=view.release_version,
        sequence=view.sequence or 0,
        digest=view.digest,
        since=now,
        loaded=view.loaded,
        agent=view.agent,
        layers=view.layers,
    )
