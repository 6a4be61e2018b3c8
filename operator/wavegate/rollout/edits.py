"""A channel that is edited while a release rolls out: what tightens acts at once, the rest waits.

The plan was frozen so that a running rollout is what was agreed on when it began. A person who
edits it in fear (fewer nodes, a longer soak, an approval) must not have to wait for the next
release. But nothing ever loosens it: whoever may edit the channel could else let go what evidence
or an approval holds. So an edit that is taken back stays for this rollout, too.

The order of plans is partial: what can't be compared (a share and a number, other waves, another
query) waits. So does what only looks tighter: a shorter `progressDeadline` also ends a revert
earlier, and a check that is added has no answer from before the wave opened, and a mistake in its
query could not be taken back.
"""

from collections.abc import Iterator
from dataclasses import replace

from wavegate.api import Channel, IntOrPercent, OnFailure, Reason, Severity, WaveState
from wavegate.evidence import CheckSpec
from wavegate.rollout import queue
from wavegate.rollout.attempt import UNOPENED, Plan, PlannedWave, Rollout
from wavegate.rollout.observation import Observation
from wavegate.rollout.steps import Problem
from wavegate.rollout.wording import some

_ONE = IntOrPercent(1)
_FIELDS = {
    "pools": "spec.pools",
    "progress_deadline": "spec.rollout.progressDeadline",
    "hold_timeout": "spec.rollout.holdTimeout",
    "prometheus": "spec.prometheus",
    "connection": "spec.prometheus",
    "loaded_proof": "spec.loadedProof",
    "outlives_pod": "spec.content.hostState",
    "agents": "spec.agentSelector",
    "max_unavailable": "spec.rollout.maxUnavailable",
    "settle": "spec.rollout.settle",
    "bake": "spec.rollout.bake",
    "on_failure": "spec.rollout.onFailure",
    "drill": "spec.rollout.drill",
    "critical_services": "spec.rollout.criticalWorkloads",
}
"""Fields of a plan, and where users write them."""
_OF_WAVE = {"pools": "pools", "up_to": "upTo", "soak": "soak", "approval": "approval"}


def apply(obs: Observation, rollout: Rollout) -> Rollout:
    """The rollout with what the channel says tighter now; the very same one if that is nothing."""
    wanted = _wanted(obs)
    if wanted is None:
        return rollout
    opened, soaked = _open_until(obs, rollout), _soaks_until(rollout)
    tighter = obs.kept.of(_tighter, rollout.plan, wanted, opened, soaked)
    return replace(rollout, plan=tighter) if tighter is not None else rollout


def outdated(obs: Observation) -> Problem | None:
    """What of the channel waits for the next release; None while all of it acts."""
    rollout, wanted = obs.record.rollout, _wanted(obs)
    if rollout is None or wanted is None:
        return None
    fields = obs.kept.of(differing, rollout.plan, wanted)
    if not fields:
        return None
    candidate = rollout.candidate
    what = "The change of the agent" if candidate.is_agent else f"Release {candidate.release}"
    message = (
        f"{what} goes on by the plan of its start in {some(fields)}: "
        "what does not tighten waits for the next release"
    )
    return Problem(Reason.PlanOutdated, message)


def is_tighter(than: Plan, plan: Plan) -> bool:
    """Whether `plan` asks for no less than another in anything, and is the same in all that has no
    order. A plan is as tight as itself.
    """
    if len(than.waves) != len(plan.waves) or len(than.checks) != len(plan.checks):
        return False
    waves = zip(than.waves, plan.waves, strict=True)
    checks = zip(than.checks, plan.checks, strict=True)
    return (
        replace(_meet(than, plan), waves=plan.waves, checks=plan.checks) == plan
        and all(_tighter_wave(old, new, open_=False, soaked=False) == new for old, new in waves)
        and all(_tighter_check(old, new) == new for old, new in checks)
    )


def tightened(plan: Plan, wanted: Plan, opened: int = 0, soaked: int = 0) -> Plan:
    """The plan with all of `wanted` that is tighter. The share and the approval of its first
    `opened` waves stay, and the soak of its first `soaked`: for these it is too late.
    """
    waves, wanted_waves = plan.waves, _as_planned(plan, wanted)
    if wanted_waves:
        waves = tuple(
            _tighter_wave(old, new, open_=place < opened, soaked=place < soaked)
            for place, (old, new) in enumerate(zip(waves, wanted_waves, strict=True))
        )
    by_name = {check.name: check for check in wanted.checks}
    checks = tuple(_tighter_check(c, by_name.get(c.name, c)) for c in plan.checks)
    return replace(_meet(plan, wanted), waves=waves, checks=checks)


def differing(plan: Plan, wanted: Plan) -> tuple[str, ...]:
    """Fields, as users write them, in which the channel says something else than the plan."""
    return tuple(dict.fromkeys(_differing(plan, wanted)))


def _differing(plan: Plan, wanted: Plan) -> Iterator[str]:
    for name, field in _FIELDS.items():
        if getattr(plan, name) != getattr(wanted, name):
            yield field
    waves = _as_planned(plan, wanted)
    if not waves:
        yield "spec.waves"
    for old, new in zip(plan.waves, waves, strict=False):
        for name, field in _OF_WAVE.items():
            if getattr(old, name) != getattr(new, name):
                yield f"spec.waves[{old.name}].{field}"
    if plan.checks != wanted.checks:
        known = {check.name: check for check in wanted.checks}
        changed = [c.name for c in plan.checks if known.pop(c.name, None) != c]
        yield from (f"spec.checks[{name}]" for name in (*changed, *known))


def _as_planned(plan: Plan, wanted: Plan) -> tuple[PlannedWave, ...]:
    """The waves as the channel wants them now, in the places of the plan's; none where they are
    others. Those that were added for nodes that no wave takes soak like the last of the channel's.
    An approval for want of a canary is none of the channel's.
    """
    own = [wave for wave in plan.waves if not wave.added]
    now = [wave for wave in wanted.waves if not wave.added]
    if [wave.name for wave in own] != [wave.name for wave in now]:
        return ()
    last, left = now[-1].soak, iter(now)
    found = [replace(wave, soak=last) if wave.added else next(left) for wave in plan.waves]
    return tuple(
        replace(new, approval=new.approval or old.no_canary)
        for old, new in zip(plan.waves, found, strict=True)
    )


def _wanted(obs: Observation) -> Plan | None:
    return obs.once(_frozen_now)


def _frozen_now(obs: Observation) -> Plan | None:
    channel, rollout = obs.channel, obs.record.rollout
    if channel is None or rollout is None:
        return None
    said, counts = rollout.plan.severity, channel.spec.rollout.max_severity
    return obs.kept.of(_frozen, channel, said.capped(counts), obs.soak_floor, said)


def _frozen(channel: Channel, counts: Severity, floor: float, said: Severity) -> Plan:
    """The plan that this channel's spec means now. What the release said of its severity stays."""
    return replace(queue.freeze(channel, counts, floor), severity=said)


def _tighter(plan: Plan, wanted: Plan, opened: int, soaked: int) -> Plan | None:
    """The plan with what is tighter; None where nothing is."""
    found = tightened(plan, wanted, opened, soaked)
    return found if found != plan else None


def _open_until(obs: Observation, rollout: Rollout) -> int:
    """How many waves of the plan have chosen their nodes."""
    if not rollout.waves:
        return 0
    wave = rollout.waves[-1]
    chosen = wave.state not in UNOPENED or wave.ledger in obs.ledgers
    return rollout.wave + chosen


def _soaks_until(rollout: Rollout) -> int:
    """How many waves of the plan have done their soak."""
    if not rollout.waves:
        return 0
    done = rollout.waves[-1].state in (WaveState.Judging, WaveState.Passed, WaveState.Failed)
    return rollout.wave + done


def _meet(plan: Plan, wanted: Plan) -> Plan:
    """All but waves and checks: in each field, the tighter of the two."""
    fails = OnFailure.Revert in (plan.on_failure, wanted.on_failure)
    return replace(
        plan,
        max_unavailable=_fewer(plan.max_unavailable, wanted.max_unavailable),
        settle=max(plan.settle, wanted.settle),
        bake=max(plan.bake, wanted.bake),
        on_failure=OnFailure.Revert if fails else plan.on_failure,
        critical_services=tuple(sorted({*plan.critical_services, *wanted.critical_services})),
    )


def _fewer(old: IntOrPercent, new: IntOrPercent) -> IntOrPercent:
    """The smaller of two shares; the first, where that depends on how many nodes there are."""
    comparable = old.is_percent == new.is_percent or new == _ONE
    return new if comparable and (new == _ONE or new.amount < old.amount) else old


def _tighter_wave(old: PlannedWave, new: PlannedWave, *, open_: bool, soaked: bool) -> PlannedWave:
    same = not open_ and old.pools == new.pools  # a share of other nodes is another share
    up_to = _fewer(old.up_to, new.up_to) if same else old.up_to
    approval = old.approval or (new.approval and not open_)
    soak = old.soak if soaked else max(old.soak, new.soak)
    return replace(old, up_to=up_to, approval=approval, soak=soak)


def _tighter_check(old: CheckSpec, new: CheckSpec) -> CheckSpec:
    """The old check with tighter limits, if it is the same one apart from these. One that is
    compared with a control keeps its limits: its answers were asked for by these.
    """
    same = replace(new, max=old.max, min=old.min) == old
    if not same or old.max_ratio is not None:
        return old
    if (old.max is None) != (new.max is None) or (old.min is None) != (new.min is None):
        return old
    most = old.max if old.max is None or new.max is None else min(old.max, new.max)
    least = old.min if old.min is None or new.min is None else max(old.min, new.min)
    return replace(old, max=most, min=least)
