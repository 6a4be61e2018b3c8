"""The table of states: each change that a stored record may make, as data, written before the code.

`decide` does not look here: it is what its tests, the simulation and the documentation are held
against. What has no row does not happen; a state that stays is always allowed. Rows that are not
`stored` are worked out for the status and stand in no record.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from wavegate.api import Phase, Reason, WaveState
from wavegate.rollout.attempt import Plan, Rollout, WaveRun
from wavegate.rollout.edits import is_tighter
from wavegate.rollout.record import MAX_BLOCKED, MAX_BLOCKED_LAYERS, MAX_OUTCOMES, Record


@dataclass(frozen=True, slots=True)
class Row:
    """A change from `source` (None = not there yet) to `to`. `reasons`: why, in status words."""

    source: Phase | WaveState | None
    to: Phase | WaveState
    when: str
    reasons: tuple[Reason, ...]
    stored: bool = True


HARM = (
    Reason.NodeNotReady,
    Reason.NodeRebooted,
    Reason.NodeCondition,
    Reason.NodeVanished,
    Reason.NodeReplaced,
    Reason.AgentRestarted,
    Reason.AgentOOMKilled,
    Reason.AgentNotReady,
    Reason.Unschedulable,
    Reason.OtherContentLoaded,
    Reason.CheckAboveMax,
    Reason.CheckBelowMin,
    Reason.EvidenceLostOnWave,
    Reason.DrillFailed,
)
"""What fails a wave."""
HARMED = (
    "harm in the first wave, or corroborated harm on nodes of any wave so far, or on the wave as a "
    "whole"
)
BY_PERSON = (Reason.RevertDecided, Reason.ReleaseDeleted, Reason.ChannelDeleted)
BY_HAND = (Reason.FencedByHand,)
BY_NEWER = (Reason.Replaced,)
UNPREPARED = (Reason.InvalidTemplate, Reason.ContentMutable, Reason.StateLost)
FROM_OUTSIDE = (
    Reason.Suspended,
    Reason.ChannelSuspended,
    Reason.PausedByDecision,
    Reason.HandsOff,
    Reason.StateLost,
)
"""Pauses that last as long as what causes them; no record says so."""


def _releases() -> Iterator[Row]:
    pending, rolling, paused = Phase.Pending, Phase.Rolling, Phase.Paused
    reverting, reverted, done = Phase.Reverting, Phase.Reverted, Phase.Completed
    yield Row(None, pending, "it is created", (Reason.Queued,), stored=False)
    yield Row(pending, rolling, "its turn; the attempt is stored", (Reason.RolloutStarted,))
    again = (
        "before anything of it was made, something is wrong with the channel; it starts again when "
        "that is mended"
    )
    yield Row(rolling, pending, again, ())
    yield Row(
        pending, Phase.Rejected, "its content is blocked", (Reason.DigestBlocked,), stored=False
    )
    yield Row(
        pending,
        Phase.Superseded,
        "a release with a higher sequence came first, or its own is not higher than what ran",
        (Reason.Superseded, Reason.NotNewer),
        stored=False,
    )
    yield Row(rolling, paused, "`holdTimeout` is over without evidence", (Reason.HoldTimeout,))
    some_go = "a wave fails, and `onFailure: Pause`, or `RevertFailing` where other strata have it"
    yield Row(rolling, paused, some_go, HARM)
    yield Row(
        rolling,
        paused,
        "`suspend`, a decision, hands-off, or a record that is older than the cluster",
        FROM_OUTSIDE,
        stored=False,
    )
    yield Row(
        paused, rolling, "what paused it from outside is taken away", FROM_OUTSIDE, stored=False
    )
    let_go = "a person decided `Resume`, or set `suspend` to true and then to false"
    yield Row(paused, rolling, let_go, ())
    yield Row(rolling, reverting, "a wave fails, and `onFailure: Revert`", HARM)
    yield Row(rolling, reverting, "a decision, or a deletion", BY_PERSON)
    yield Row(paused, reverting, "a decision, or a deletion", BY_PERSON)
    blocked = "its content was blocked under way: by a person, or by the bake of the same content"
    for phase in (rolling, paused):
        yield Row(phase, reverting, blocked, (Reason.DigestBlocked,))
    yield Row(rolling, reverting, "someone fenced or deleted the candidate's DaemonSet", BY_HAND)
    yield Row(paused, reverting, "someone fenced or deleted the candidate's DaemonSet", BY_HAND)
    yield Row(paused, reverting, "a wave fails, and `onFailure: Revert`", HARM)
    yield Row(rolling, reverting, "the candidate can't be created, or stable is gone", UNPREPARED)
    edit = (Reason.AgentTemplateChanged,)
    changed = "of an agent's change: the template was changed back, or once more before it began"
    yield Row(rolling, reverting, changed, edit)
    yield Row(paused, reverting, changed, edit)
    yield Row(reverting, reverted, "all nodes are proved to be back", (Reason.Reverted,))
    doubt = "as many nodes as say something fail on stable too (two, and a tenth)"
    yield Row(reverting, reverted, doubt, (Reason.StableSuspect,))
    late = (
        Reason.RevertedWithNodesDown,
        Reason.RevertedAgentsUnwell,
        Reason.RevertedNotProven,
    )
    yield Row(reverting, reverted, "`progressDeadline` is over", late)
    newer = (
        "a newer release came in its first wave, or a more urgent one later; not while it is paused"
    )
    yield Row(rolling, reverting, newer, BY_NEWER)
    back = "it was replaced, and its nodes are proved to be back, or `progressDeadline` is over"
    yield Row(reverting, Phase.Superseded, back, (*BY_NEWER, *late, Reason.StableSuspect))
    yield Row(rolling, done, "it is promoted: stable on all nodes", (Reason.Completed,))
    suspect = "the stable release fails its bake, and `onFailure: Revert`"
    yield Row(rolling, paused, suspect, (Reason.StableSuspect,))
    yield Row(done, reverting, "it fails its bake, and there is something to go back to", HARM)
    asked = "a person decides `Revert`, as nodes that went back to it failed on it too"
    yield Row(done, reverting, asked, (Reason.RevertDecided,))
    lost = (Reason.StateLost,)
    yield Row(pending, done, "the record was lost, and it is adopted as stable", lost)
    for phase in (rolling, paused, reverting):
        yield Row(phase, done, "the record is older than the cluster; adopted as stable", lost)
        why = "the record is older than the cluster, and another revision is adopted as stable"
        yield Row(phase, reverted, why, lost)


def _waves() -> Iterator[Row]:
    pending, moving, soaking = WaveState.Pending, WaveState.Moving, WaveState.Soaking
    judging, passed, held = WaveState.Judging, WaveState.Passed, WaveState.Held
    lacking = (Reason.WaveHeld,)
    yield Row(None, pending, "the candidate is prepared, or the wave before passed", ())
    yield Row(
        pending, moving, "the way back is proven, and its ledger is stored", (Reason.WaveOpened,)
    )
    approval = WaveState.AwaitingApproval
    asks = (Reason.AwaitingApproval, Reason.NoCanary)
    wanted = "its plan says `approval: Required`, or no pool has two nodes, and nobody approved"
    yield Row(pending, approval, wanted, asks)
    yield Row(approval, pending, "a person decided `Approve`", ())
    yield Row(pending, passed, "enough nodes have it already", (Reason.WavePassed,))
    changed = (
        "its nodes changed before any was moved, or all that were moved are suspects; it takes "
        "others, with another ledger"
    )
    yield Row(moving, pending, changed, ())
    yield Row(moving, soaking, "all its nodes are moved and settled", (Reason.WaveSoaking,))
    yield Row(moving, held, "evidence is missing", lacking)
    unwell = "a node or agent is not well, a lease is stale, or there is a new suspect"
    yield Row(soaking, moving, unwell, (Reason.WaveMoving,))
    yield Row(soaking, held, "evidence is missing", lacking)
    yield Row(soaking, judging, "the soak's good time is collected", (Reason.WaveJudging,))
    yield Row(judging, held, "evidence is missing", lacking)
    clock = "there is a new suspect, or its times are ahead of this leader's clock"
    yield Row(judging, moving, clock, (Reason.WaveMoving,))
    heard = "after the soak, every node is settled and was heard from, and every check answered"
    yield Row(judging, passed, heard, (Reason.WavePassed,))
    yield Row(held, moving, "the evidence is back", (Reason.WaveMoving,))
    left = "its nodes were drained, removed or rebooted as announced; it is done again on others"
    for state in (moving, soaking, judging, held):
        yield Row(state, WaveState.Excused, left, ())
    for state in (pending, approval, moving, soaking, judging, held, passed):
        yield Row(state, WaveState.Failed, HARMED, HARM)


RELEASE_ROWS = tuple(_releases())
WAVE_ROWS = tuple(_waves())


def check(before: Record, after: Record) -> str:
    """Say what in this change of a record the table does not allow; empty when it allows all."""
    return next(_problems(before, after), "")


def crossed(before: Record, after: Record) -> frozenset[Row]:
    """The rows that this change of a record goes along."""
    found = {_release_row(before, after, uid) for uid in _concerned(before, after)}
    old, new = before.rollout, after.rollout
    if new is not None:
        known = old.waves if old else ()
        found |= {_wave_row(w, new.waves[i]) for i, w in enumerate(known) if i < len(new.waves)}
        found |= {_wave_row(None, wave) for wave in new.waves[len(known) :]}
    return frozenset(row for row in found if row is not None)


def phase_of(record: Record, release_uid: str) -> Phase:
    """Where this record says that a release stands. What pauses it from outside is not in it."""
    rollout, outcome = record.rollout, record.outcome_of(release_uid)
    if rollout is not None and rollout.candidate.release_uid == release_uid:
        if rollout.phase is Phase.Reverting:
            return Phase.Reverting
        return Phase.Paused if rollout.paused else Phase.Rolling
    return outcome.phase if outcome else Phase.Pending


def _problems(before: Record, after: Record) -> Iterator[str]:
    for uid in _concerned(before, after):
        was, now = phase_of(before, uid), phase_of(after, uid)
        if was is not now and _release_row(before, after, uid) is None:
            yield f"release {uid}: no row from {was} to {now} for {_reason(after, uid)}"
    yield from _kept(before, after)
    given_up = _given_up(before, after)
    if given_up is not None and given_up.phase is not Phase.Pending:
        yield "a rollout that was prepared ends without an outcome"
    if before.rollout is not None and after.rollout is not None:
        yield from _same_attempt(before.rollout, after.rollout)
    elif after.rollout is not None and after.rollout.waves and not _is_taken_back(before, after):
        yield "a rollout begins with waves"


def _kept(before: Record, after: Record) -> Iterator[str]:
    """What a record never loses."""
    taken_back = _is_taken_back(before, after)
    started = before.rollout is None and after.rollout is not None and not taken_back
    if after.attempts != before.attempts + started:
        yield f"attempts go from {before.attempts} to {after.attempts}"
    if after.floor < before.floor:
        yield f"the floor of sequences falls from {before.floor} to {after.floor}"
    completed = before.rollout is not None and after.stable is not None
    promoted = completed and before.rollout.attempt == after.stable.attempt  # type: ignore[union-attr]
    adopted = after.lost is not None and before.lost is None
    if _attempt(before) != _attempt(after) and not (promoted or adopted or taken_back):
        yield f"stable changes from {_attempt(before)} to {_attempt(after)} without a promotion"
    if adopted and after.rollout is not None:
        yield "a rollout goes on although the record was lost"
    again = _attempt(before) if taken_back else ""
    old = [o.attempt for o in before.outcomes if o.attempt != again]
    new = [o.attempt for o in after.outcomes]
    fresh = len(new) - len(old) if len(new) < MAX_OUTCOMES else 0
    if len(new) < MAX_OUTCOMES and new[fresh:] != old:
        yield "outcomes are lost"
    decided = len({n.uid for n in after.decisions} - {n.uid for n in before.decisions})
    kept = {replace(b, layers=()): b.layers for b in after.blocked}
    lost = sum(1 for b in before.blocked if replace(b, layers=()) not in kept)
    if len(after.blocked) < MAX_BLOCKED and lost > decided:
        yield "a blocked digest is lost"
    room = MAX_BLOCKED_LAYERS - sum(len(b.layers) for b in after.blocked)
    for b in before.blocked:
        left = kept.get(replace(b, layers=()), b.layers)
        if left != b.layers and (left or len(b.layers) <= room):
            yield f"layers of blocked {b.digest} are lost"


def _given_up(before: Record, after: Record) -> Rollout | None:
    """The rollout that is gone, where nothing says how it ended; None: none is."""
    rollout = before.rollout
    if rollout is None or after.rollout is not None or rollout.attempt == _attempt(after):
        return None
    ended = any(outcome.attempt == rollout.attempt for outcome in after.outcomes)
    return None if ended else rollout


def _is_taken_back(before: Record, after: Record) -> bool:
    """Whether stable is reverted, for its bake or by a person: another rollout of its attempt."""
    rollout = after.rollout
    if before.rollout is not None or rollout is None or after.bake is not None:
        return False
    same = rollout.attempt == _attempt(before) != _attempt(after)
    return same and rollout.phase is Phase.Reverting


def _same_attempt(old: Rollout, new: Rollout) -> Iterator[str]:
    known = replace(new.candidate, agent=old.candidate.agent)  # until its DaemonSet is made
    candidate = known if new.phase is Phase.Pending else new.candidate
    if (old.candidate, old.started_at) != (candidate, new.started_at):
        yield "the attempt changes under way"
    if not is_tighter(_grown(old, new), new.plan):
        yield "the frozen plan changes under way, and not to a tighter one"
    if old.phase is Phase.Reverting and new != old:
        yield "something but its end happens to a revert"
    if old.phase is Phase.Rolling and new.phase is Phase.Pending:
        yield "a rolling release is prepared again"
    if old.left_out and (new.left_out != old.left_out or not new.paused):
        yield "what was left out is forgotten"
    if not {s.node for s in old.suspects} <= {s.node for s in new.suspects}:
        yield "a suspect is forgotten"
    if new.promoting and not old.promoting and new.waves[-1].state is not WaveState.Passed:
        yield "it is promoted before its last wave passed"
    if old.paused and new.paused and _moves_on(old, new):
        yield "a wave goes forward during a pause"
    yield from _same_waves(old, new)


def _grown(old: Rollout, new: Rollout) -> Plan:
    """The old plan; with its newest wave once more, if that has passed and comes again now."""
    planned, following = old.planned if old.waves else None, new.planned if new.waves else None
    if planned is None or following is None or not (planned.repeats and following.again):
        return old.plan
    passed = old.waves[-1].state is WaveState.Passed and len(new.waves) == len(old.waves) + 1
    return old.plan.with_again(old.wave) if passed else old.plan


def _same_waves(old: Rollout, new: Rollout) -> Iterator[str]:
    if len(new.waves) not in (len(old.waves), len(old.waves) + 1):
        yield f"waves go from {len(old.waves)} to {len(new.waves)}"
        return
    added = len(new.waves) > len(old.waves)
    again = added and bool(old.waves) and new.waves[-2].state is WaveState.Excused
    if old.waves and added and old.waves[-1].state is not WaveState.Passed and not again:
        yield f"a wave opens after {old.waves[-1].name}, which did not pass"
    kept = len(old.waves) if added and not again else len(old.waves) - 1
    if again:
        yield from _same_wave(old.waves[-1], new.waves[-2])
    if new.waves[: max(0, kept)] != old.waves[: max(0, kept)]:
        yield "a wave changes that is over"
    if added:
        yield from _first_state(new.waves[-1])
    elif old.waves:
        yield from _same_wave(old.waves[-1], new.waves[-1])


def _first_state(wave: WaveRun) -> Iterator[str]:
    if _wave_row(None, wave) is None:
        yield f"wave {wave.name} begins {wave.state}"


def _same_wave(old: WaveRun, new: WaveRun) -> Iterator[str]:
    if old.state is not new.state and _wave_row(old, new) is None:
        yield f"wave {old.name}: no row from {old.state} to {new.state}"
    if old.name != new.name or old.last != new.last:
        yield f"wave {old.name} becomes {new.name}"
    if new.ledger != old.ledger and new.state is not WaveState.Pending:
        yield f"wave {old.name} gets another ledger under way"
    if new.ledger == old.ledger and (new.moved < old.moved or new.labelled < old.labelled):
        yield f"wave {old.name} forgets nodes that it moved"
    if new.labelled > new.moved:
        yield f"wave {old.name} claims labels that it never set"


def _moves_on(old: Rollout, new: Rollout) -> bool:
    if len(new.waves) > len(old.waves) or new.promoting != old.promoting:
        return True
    if not old.waves:
        return False
    was, now = old.waves[-1], new.waves[-1]
    opened = was.state is WaveState.Pending and now.state is WaveState.Moving
    return opened or now.moved > was.moved


def _concerned(before: Record, after: Record) -> list[str]:
    """UIDs of the releases that stand elsewhere than before."""
    uids = [r.rollout.candidate.release_uid for r in (before, after) if r.rollout is not None]
    known = {outcome.release_uid for outcome in before.outcomes}
    uids += [o.release_uid for o in after.outcomes if o.release_uid not in known]
    return list(dict.fromkeys(uids))


def _release_row(before: Record, after: Record, uid: str) -> Row | None:
    was, now, why = phase_of(before, uid), phase_of(after, uid), _reason(after, uid)
    for row in RELEASE_ROWS:
        fits = row.stored and (row.source, row.to) == (was, now)
        if fits and (not row.reasons or why in row.reasons):
            return row
    return None


def _reason(record: Record, uid: str) -> Reason | None:
    rollout, outcome = record.rollout, record.outcome_of(uid)
    if rollout is None or rollout.candidate.release_uid != uid:
        return outcome.reason if outcome else None
    if rollout.phase is Phase.Reverting:
        return rollout.incident.reason if rollout.incident else None
    return rollout.paused or Reason.RolloutStarted


def _wave_row(old: WaveRun | None, new: WaveRun) -> Row | None:
    source = old.state if old else None
    return next((r for r in WAVE_ROWS if (r.source, r.to) == (source, new.state)), None)


def _attempt(record: Record) -> str:
    return record.stable.attempt if record.stable else ""
