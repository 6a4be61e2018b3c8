"""People's decisions: which apply to what is there, and what each changes in the record.

Each acts once, on one release UID, by the write that notes it. What tightens is obeyed from anybody
who may create it. What loosens (approve, resume, unblock) is obeyed only if this process saw,
before the decision was made and after it, that the admission policies refuse a forged one: see
`policies`.
"""

from dataclasses import replace

from wavegate.api import Decision, DecisionAction, Reason
from wavegate.rollout import blocks, cooldown, left_out, queue, soak, take_back
from wavegate.rollout.attempt import AGENT_UID, UNOPENED, Rollout
from wavegate.rollout.cooldown import STAMP_SECONDS
from wavegate.rollout.observation import Observation
from wavegate.rollout.record import Blocked, DecisionNote, Outcome, Record
from wavegate.rollout.steps import Problem

MAX_DECISIONS = 100
"""Most reverts, and most others, of one rollout that are noted: a record must always fit."""
MAX_NOTES = 3 * MAX_DECISIONS
"""Most notes in all: older ones are of releases that ended, or of incidents that are unblocked."""

LOOSENS = (DecisionAction.Approve, DecisionAction.Resume, DecisionAction.Unblock)


_TAKES_BACK = (DecisionAction.Revert, DecisionAction.Block)
MAX_INCIDENT = 63
"""Characters of an incident that a decision can name."""


def action_of(decision: Decision) -> DecisionAction:
    """What was decided."""
    return DecisionAction(decision.spec.action)


def expires_at(decision: Decision, note: DecisionNote) -> float:
    """When an accepted pause ends, by the engine's clock."""
    return note.at + float(decision.spec.pause_length)


def note_of(obs: Observation, decision: Decision) -> DecisionNote | None:
    """The note of a decision that was carried out."""
    return obs.once(_notes).get(decision.uid)


def _notes(obs: Observation) -> dict[str, DecisionNote]:
    return {note.uid: note for note in obs.record.decisions}


def holds(obs: Observation, decision: Decision, now: float) -> bool:
    """Whether this is a pause of the running release, and not over."""
    note, rollout = note_of(obs, decision), obs.record.rollout
    if note is None or rollout is None or action_of(decision) is not DecisionAction.Pause:
        return False
    current = note.release_uid == rollout.candidate.release_uid
    return current and not note.ended and now < expires_at(decision, note)


def revert_decided(obs: Observation, rollout: Rollout) -> str:
    """The decision that ends the running release, in words; empty when there is none."""
    for decision in obs.decisions:
        note = note_of(obs, decision)
        if note is None or action_of(decision) is not DecisionAction.Revert:
            continue
        if note.release_uid == rollout.candidate.release_uid:
            by = f" by {decision.spec.decided_by}" if decision.spec.decided_by else ""
            return f"decision {decision.name}{by}: {decision.spec.reason}"
    return ""


def approval(obs: Observation, rollout: Rollout) -> str:
    """Name of the decision that approves the current wave; empty when none does. Until the wave
    opens, deleting the decision takes the approval back.
    """
    for decision in obs.decisions:
        note, wave = note_of(obs, decision), rollout.waves[-1].name
        if note is None or action_of(decision) is not DecisionAction.Approve:
            continue
        if note.release_uid == rollout.candidate.release_uid and decision.spec.wave == wave:
            return decision.name
    return ""


def carry_out(obs: Observation, now: float) -> Record:
    """Note the decisions that apply and were not noted before, with what they change; the very same
    record when there are none. Those about something else are left alone, so that a note is never
    lost to a flood of them.
    """
    fresh = _fresh(obs, now)
    if not fresh:
        return obs.record
    present = {decision.uid for decision in obs.decisions}
    kept = [note for note in obs.record.decisions if note.uid in present]
    notes = [DecisionNote(d.uid, _release_uid(obs, d), now) for d in fresh]
    record = replace(obs.record, decisions=(*kept, *notes)[-MAX_NOTES:])
    for decision in fresh:
        if action_of(decision) is DecisionAction.Resume:
            record = _resume(obs, record, decision, now)
        elif action_of(decision) is DecisionAction.Revert and record.rollout is None:
            record = take_back.take_back(obs, record, decision, now)
        elif action_of(decision) is DecisionAction.Unblock:
            left = tuple(b for b in record.blocked if b.digest != decision.spec.digest)
            agents = (b for b in record.failed_agents if b.digest != decision.spec.digest)
            record = replace(record, blocked=left, failed_agents=tuple(agents))
        elif action_of(decision) is DecisionAction.Block:
            record = _block(obs, record, decision, now)
    return record


def _block(obs: Observation, record: Record, decision: Decision, now: float) -> Record:
    """The digest may not return. Who unblocks it names the decision."""
    wanted, by = decision.spec, decision.name[:MAX_INCIDENT]
    if record.block_of(wanted.digest):
        return record
    release = next(r for r in obs.releases if r.name == wanted.release)
    what = (queue.loaded_of(release), release.spec.content.layers)
    reason = Reason.BlockedByDecision
    return blocks.add(record, Blocked(wanted.digest, wanted.release, reason, now, by, *what))


def _fresh(obs: Observation, now: float) -> list[Decision]:
    """Decisions to be noted now, in the order in which they were made."""
    unknown = [d for d in obs.decisions if note_of(obs, d) is None]
    fit = [d for d in unknown if not is_awaited(obs, d) and refusal(obs, d, now) is None]
    fit.sort(key=lambda decision: (decision.created, decision.name))
    reverts = [d for d in fit if action_of(d) in _TAKES_BACK]
    others = [d for d in fit if action_of(d) not in _TAKES_BACK]
    rollout = obs.record.rollout
    running = rollout.candidate.release_uid if rollout else ""
    known = sum(1 for note in obs.record.decisions if note.release_uid == running)
    return [*reverts[:MAX_DECISIONS], *others[: max(0, MAX_DECISIONS - known)]]


def _ended(obs: Observation, decision: Decision) -> Outcome | None:
    """The release that has ended which this names, where nothing rolls out."""
    after = (DecisionAction.Resume, DecisionAction.Revert)
    if obs.record.rollout is not None or action_of(decision) not in after:
        return None
    named = (decision.spec.release, decision.spec.digest)
    return next((o for o in obs.record.outcomes if o.named == named), None)


def _release_uid(obs: Observation, decision: Decision) -> str:
    ended = _ended(obs, decision)
    if ended is not None:
        return ended.release_uid
    rollout, wanted = obs.record.rollout, decision.spec
    if rollout is not None and rollout.candidate.is_agent:
        candidate = rollout.candidate
        if (wanted.release, wanted.digest) == (candidate.release, candidate.agent):
            return candidate.release_uid
    found = (r.uid for r in obs.releases if r.name == wanted.release)
    past = (
        o.release_uid for o in obs.record.outcomes if o.named == (wanted.release, wanted.digest)
    )
    return next(found, next(past, AGENT_UID))


def resumed(rollout: Rollout, now: float) -> Rollout:
    """Go on after a pause of its own. Harm that is still there pauses it again."""
    going_on = replace(rollout, paused=None, incident=None, taken_over=False)
    return soak.resumed(going_on, now) if rollout.waves else going_on


def _resume(obs: Observation, record: Record, decision: Decision, now: float) -> Record:
    """End the pauses that were there when the person decided, and none that came since. Where
    nothing rolls out, releases may start again after what was taken back.
    """
    if record.rollout is None:
        return replace(record, resumed_at=now)
    ended = {d.uid for d in obs.decisions if _ends(obs, d, decision, now)}
    notes = tuple(
        replace(n, ended=decision.name) if n.uid in ended else n for n in record.decisions
    )
    rollout = record.rollout
    if _paused_before(rollout, decision):
        rollout = resumed(rollout, now)
    return replace(record, decisions=notes, rollout=rollout)


def _ends(obs: Observation, pause: Decision, resume: Decision, now: float) -> bool:
    return holds(obs, pause, now) and pause.created < resume.created


def _paused_before(rollout: Rollout, decision: Decision) -> bool:
    return rollout.paused is not None and rollout.paused_at < decision.created + STAMP_SECONDS


# What keeps a decision from being obeyed


def is_awaited(obs: Observation, decision: Decision) -> bool:
    """Whether it is not known yet that the policies were in force when it was made."""
    if action_of(decision) not in LOOSENS or note_of(obs, decision) is not None:
        return False
    return obs.policies is None or obs.policies.asked_at < decision.created + STAMP_SECONDS


def proof_wanted_at(obs: Observation) -> float | None:
    """From when on the policies should be tried (again); None = what is known is enough."""
    if obs.channel is None:
        return None
    if obs.policies is None:
        return 0.0
    awaited = [d.created + STAMP_SECONDS for d in obs.decisions if is_awaited(obs, d)]
    return max(awaited, default=None)


def refusal(obs: Observation, decision: Decision, now: float) -> Problem | None:
    """Why a decision does not apply to what is there now; None when it does."""
    if action_of(decision) is DecisionAction.Block:
        unfit = _unfit_to_block(obs, decision)
    elif action_of(decision) is DecisionAction.Unblock:
        unfit = _unfit_to_unblock(obs, decision)
    else:
        unfit = _unfit(obs, decision, now)
    if unfit:
        return Problem(Reason.DecisionRefused, f"{unfit}; nothing was changed")
    return _unproven(obs, decision)


def _unfit(obs: Observation, decision: Decision, now: float) -> str:
    rollout, wanted = obs.record.rollout, decision.spec
    if rollout is not None and rollout.candidate.is_agent:
        return _unfit_for_agent(obs, decision, rollout, now)
    if rollout is None and action_of(decision) is DecisionAction.Resume:
        return cooldown.unfit_to_resume(obs, decision, now)
    if rollout is None and action_of(decision) is DecisionAction.Revert and _is_in_doubt(obs):
        return take_back.unfit(obs, decision)
    running = obs.release(rollout.candidate.release_uid) if rollout else None
    if running is None or rollout is None or running.name != wanted.release:
        return f"release {wanted.release} is not rolling out"
    if wanted.digest != rollout.candidate.digest:
        return f"release {running.name} carries {rollout.candidate.digest}, not {wanted.digest}"
    return _unfit_action(obs, decision, rollout, now)


def _unfit_for_agent(obs: Observation, decision: Decision, rollout: Rollout, now: float) -> str:
    """An agent's change is named by the release whose content it carries, and by its template."""
    candidate, wanted = rollout.candidate, decision.spec
    if (wanted.release, wanted.digest) != (candidate.release, candidate.agent):
        return (
            f"release {wanted.release} with {wanted.digest} is not rolling out, but an agent: "
            f"decide on release: {candidate.release}, digest: {candidate.agent}"
        )
    return _unfit_action(obs, decision, rollout, now)


def _unfit_action(obs: Observation, decision: Decision, rollout: Rollout, now: float) -> str:
    if action_of(decision) is DecisionAction.Approve:
        return _unfit_to_approve(rollout, decision.spec.wave or "")
    if action_of(decision) is DecisionAction.Resume:
        if rollout.left_out:
            return left_out.NO_RESUME
        paused = any(_ends(obs, pause, decision, now) for pause in obs.decisions)
        if not (paused or _paused_before(rollout, decision)):
            return (
                f"{rollout.candidate.release} had not paused itself, and was not paused by a "
                "decision, when this was decided (spec.suspend is taken back where it was set)"
            )
    return ""


def _is_in_doubt(obs: Observation) -> bool:
    closed = cooldown.shut(obs.channel, obs.record)
    return closed is not None and closed.reason == Reason.StableSuspect


def _unfit_to_approve(rollout: Rollout, name: str) -> str:
    waits = [wave.name for wave in rollout.plan.waves if wave.approval]
    if name not in waits:
        return f"wave {name} needs no approval; those that do: {', '.join(waits) or 'none'}"
    if any(w.name == name and w.state not in UNOPENED for w in rollout.waves):
        return f"wave {name} is open already"
    return ""


def _other_content(obs: Observation, decision: Decision) -> str:
    digest, name = decision.spec.digest, decision.spec.release
    release = next((r for r in obs.releases if r.name == name), None)
    outcome = obs.record.outcome_of(release.uid) if release else None
    carried = outcome.digest if outcome else release and queue.digest_of(obs, release)
    if release is None:
        return f"there is no release {name}"
    if carried != digest:
        return f"release {name} carries {carried or 'content that is not there'}, not {digest}"
    return ""


def _unfit_to_block(obs: Observation, decision: Decision) -> str:
    other, entry = _other_content(obs, decision), obs.record.block_of(decision.spec.digest)
    if other or entry is None:
        return other
    return f"{entry.digest} is blocked already, by incident {entry.incident}"


def _unfit_to_unblock(obs: Observation, decision: Decision) -> str:
    digest = decision.spec.digest
    failed = obs.record.failed_agent(digest)
    if failed is not None:
        return _unfit_incident(obs, decision, failed)
    entry = obs.record.block_of(digest)
    own = entry is not None and (entry.digest, entry.release) == (digest, decision.spec.release)
    other = "" if own else _other_content(obs, decision)  # that release may be deleted by now
    if other:
        return other
    if entry is None:
        return f"{digest} is not blocked on channel {obs.name}"
    return _unfit_incident(obs, decision, entry)


def _unfit_incident(obs: Observation, decision: Decision, entry: Blocked) -> str:
    digest = entry.digest
    if entry.incident != decision.spec.incident:
        return f"{digest} is blocked by incident {entry.incident}, not {decision.spec.incident}"
    rollout = obs.record.rollout
    if rollout is not None and rollout.attempt == entry.incident:
        return f"incident {entry.incident} is still being reverted: unblock when it is over"
    return ""


def _unproven(obs: Observation, decision: Decision) -> Problem | None:
    proof = obs.policies
    if action_of(decision) not in LOOSENS or proof is None:
        return None
    install = (
        f"{decision.spec.action} is obeyed only where the admission policies of the chart "
        "(admissionPolicies.enabled) prove who decided"
    )
    if proof.problem:
        why = f"install them, then create it again. Seen: {proof.problem}"
    elif decision.created < proof.since:
        why = "it was made before this operator saw them in force: create it again"
    elif not decision.spec.decided_by:
        why = "this one names nobody: create it again"
    else:
        return None
    return Problem(Reason.PoliciesNotInForce, f"{install}; {why}. Nothing was changed")
