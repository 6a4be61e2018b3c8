"""The loop: gather → decide → act → record. Level-triggered; each pass starts from what is.

A pass stores what it intends (compare-and-swap) before the next pass does it. Status, events and
metrics come after, and decide nothing. Channels are worked on side by side: a fence does not wait
for another channel's slow webhook.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import replace

from wavegate.api import Phase, Reason, Resource, WaveState
from wavegate.cluster.client import ApiError
from wavegate.cluster.events import EventRecorder
from wavegate.cluster.status import StatusWriter
from wavegate.controller.act import Actor, NotLeader
from wavegate.controller.bindings import Bindings
from wavegate.controller.candidates import Candidates
from wavegate.controller.checks import CheckRunner
from wavegate.controller.gather import Gathered, Gatherer
from wavegate.controller.live import LiveGates
from wavegate.controller.policies import PolicyRunner
from wavegate.controller.prefetches import PrefetchRunner
from wavegate.controller.proofs import ProofRunner
from wavegate.controller.shown import Shown
from wavegate.controller.work import Key, WorkQueue
from wavegate.controller.workloads import WorkloadRunner
from wavegate.controller.world import World
from wavegate.rollout import (
    bake_report,
    busy,
    channel_report,
    cooldown,
    drill,
    excerpts,
    forecast,
    prepare,
    report,
    suspect_report,
)
from wavegate.rollout.attempt import Rollout, WaveRun
from wavegate.rollout.bake_report import Told
from wavegate.rollout.decide import decide
from wavegate.rollout.observation import Observation
from wavegate.rollout.record import Outcome, Record
from wavegate.rollout.steps import CopyContent, CreateRevision, Step, StoreLedger, describe
from wavegate.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

FORBIDDEN = 403
NEVER = (400, FORBIDDEN, 404, 413, 422)
"""Answers that the same request gets again."""
TOO_LARGE = (413,)
"""What a ledger can be refused for without hope; anything else may pass."""
_HOPELESS: dict[type, tuple[int, ...]] = {
    CreateRevision: NEVER,
    CopyContent: NEVER,
    StoreLedger: TOO_LARGE,
}

SIDE_BY_SIDE = 10
"""Channels that are worked on at the same time, at most: each has one request under way, so this
bounds what the apiserver gets from passes."""

STATUS_SECONDS = 1.0
"""Status of a running release is written at most this often, unless its phase changed."""


class Engine:
    """Works on each channel by itself, one pass at a time."""

    def __init__(  # noqa: PLR0913 (its collaborators, wired in one place)
        self,
        *,
        world: World,
        gatherer: Gatherer,
        actor: Actor,
        checks: CheckRunner,
        proofs: ProofRunner,
        policies: PolicyRunner,
        workloads: WorkloadRunner,
        prefetches: PrefetchRunner,
        bindings: Bindings,
        statuses: StatusWriter,
        events: EventRecorder,
        metrics: Metrics,
        queue: WorkQueue,
        clock: Callable[[], float],
    ) -> None:
        self._world, self._gatherer, self._actor = world, gatherer, actor
        self._checks, self._proofs, self._policies = checks, proofs, policies
        self._bindings, self._workloads = bindings, workloads
        self._prefetches = prefetches
        self._statuses, self._events = statuses, events
        self._metrics, self._queue, self._clock = metrics, queue, clock
        self._live = LiveGates(metrics)
        self._candidates = Candidates(metrics)
        self._shown = Shown(metrics)
        self._claiming = asyncio.Lock()
        """Held from a last look at other channels' claims until one's own is stored."""
        self._telling: set[asyncio.Task[None]] = set()
        self._refused: dict[Key, tuple[str, str]] = {}
        """Attempt and why the apiserver refused its DaemonSet, content or ledger."""
        self._reported: dict[Key, tuple[float, str]] = {}

    async def run(self) -> None:
        """Work until cancelled, or until this process may not act any more (NotLeader, alone or in
        a group).
        """
        free = asyncio.Semaphore(SIDE_BY_SIDE)
        async with asyncio.TaskGroup() as passes:
            while True:
                await free.acquire()
                work = passes.create_task(self._pass(await self._queue.next()))
                work.add_done_callback(lambda _: free.release())

    async def _pass(self, key: Key) -> None:
        try:
            with self._metrics.passes.time():
                await self._work(key)
            self._queue.done(key)
        except ApiError as error:
            self._metrics.errors.inc()
            log.warning("Channel %s/%s is taken up again: %s", *key, error)
            if error.status == FORBIDDEN:
                self._bindings.doubt(key[0])
            self._queue.failed(key, error.retry_after)
        except NotLeader:
            raise
        except Exception:
            # An unforeseen error of ours must not stop other channels, nor count as success.
            self._metrics.errors.inc()
            log.exception("Channel %s/%s: a pass failed unexpectedly", *key)
            self._queue.failed(key, None)

    async def _work(self, key: Key) -> None:
        forbidden = await self._bindings.lacking(key[0])
        gathered = await self._gatherer.gather(
            key, self._checks.results(key), self._refused.get(key, ("", ""))[1], forbidden
        )
        seen, allowed_since = gathered.observation, self._bindings.since(key[0])
        obs = replace(
            seen,
            allowed_since=allowed_since,
            watching_since=max(seen.watching_since, allowed_since),
            way_back=self._proofs.proof(key),
            policies=self._policies.proof(key),
            critical=self._workloads.seen(key),
            prefetched=self._prefetches.seen(key),
        )
        self._candidates.show(key, obs)
        rollout, now = obs.record.rollout, self._clock()
        if rollout is None or rollout.attempt != self._refused.get(key, ("", ""))[0]:
            self._refused.pop(key, None)
        if obs.channel is None and not gathered.record_version:
            await self._report_or_later(key, obs, Step(), now)
            return
        self._bindings.ensure(key, rolling=rollout is not None)
        step = decide(obs, now)
        self._gatherer.stops.note(key, waits=busy.waits(step))
        stored = replace(obs, record=step.record) if step.record is not None else obs
        self._prefetches.ensure(key, stored, idle=not step.actions and step.record is None)
        try:
            await self._carry_out(key, gathered, obs, step)
        except ApiError:
            if forbidden:  # people must see why nothing is done
                self._policies.ensure(key, obs)
                await self._report_or_later(key, obs, step, now)
            raise
        if step.requeue is not None:
            self._queue.later(key, step.requeue)
        self._ask(key, obs)
        judged = rollout.waves[-1].judged_since if rollout is not None and rollout.waves else None
        for since in (judged, step.look):
            if since is not None:
                self._world.look(key, since)
        if step.record is None:
            await self._report_or_later(key, obs, step, now)

    def _ask(self, key: Key, obs: Observation) -> None:
        """Ask in the background for what is due; and look again when the next question is."""
        for due in (self._checks.ensure(key, obs), self._workloads.ensure(key, obs)):
            if due is not None:
                self._queue.later(key, due)
        self._proofs.ensure(key, obs)
        self._policies.ensure(key, obs)

    async def _carry_out(self, key: Key, gathered: Gathered, obs: Observation, step: Step) -> None:
        if step.record is not None:
            await self._save(key, gathered, step.record)
            self._queue.later(key, 0.0)
        elif step.actions:
            await self._act(key, obs, step)

    async def _save(self, key: Key, gathered: Gathered, record: Record) -> None:
        if _begins(gathered.observation.record.rollout, record.rollout):
            await self._gatherer.confirm_channel(gathered.observation)
        names = busy.claimed_by(gathered.observation, record.rollout)
        async with self._claiming if names else contextlib.nullcontext():
            if names:
                self._gatherer.confirm_free(key, names)
            self._actor.check()
            await self._actor.store(key).save_record(record, gathered.record_version)
        await self._tell(gathered.observation, record)

    async def _act(self, key: Key, obs: Observation, step: Step) -> None:
        for action in step.actions:
            log.info("%s/%s: %s", *key, describe(action))
        started = self._clock()
        await self._try(key, obs, step)
        if obs.record.rollout is not None and obs.record.rollout.phase is Phase.Reverting:
            self._metrics.fence_seconds.observe(self._clock() - started)

    async def _try(self, key: Key, obs: Observation, step: Step) -> None:
        """Act. A revision or a ledger that the apiserver will never accept is told to the next
        decision.
        """
        try:
            await self._actor.act(obs, step.actions)
        except ApiError as error:
            hopeless = _HOPELESS.get(type(step.actions[0]), ())
            rollout = obs.record.rollout
            if rollout is None or error.status not in hopeless:
                raise
            if error.status == FORBIDDEN and await self._bindings.look(obs.namespace):
                raise  # by RBAC, which may change; a policy of admission refuses with it, too
            self._refused[key] = (rollout.attempt, str(error))
            self._queue.later(key, 0.0)

    async def _tell(self, obs: Observation, record: Record) -> None:
        """One line and one Event for each change of state that people should know."""
        before, after = obs.record.rollout, record.rollout
        told: Told | None = None
        if record.lost is not None and obs.record.lost is None:
            told = (Reason.StateLost, record.lost.message, True)
        elif after is not None and before is None and after.phase is not Phase.Reverting:
            told = (Reason.RolloutStarted, f"{after.candidate.title} starts", False)
        elif after is None and before is not None:
            told = prepare.given_up(obs.record, record) or self._ended(obs, record.outcomes[0])
        elif after is not None:
            told = _difference(before, after)
        if told is not None:
            self._emit(obs, self._subject(obs, record), told)
        more = (suspect_report.news(before, after), drill.news(before, after))
        for found in filter(None, more):
            self._emit(obs, self._subject(obs, record), found)
        news = bake_report.news(obs.record, record)
        if news is not None:
            self._emit(obs, obs.release(news[0]) or obs.channel, news[1])
        opened = cooldown.news(obs.channel, obs.record, record)
        if opened is not None:
            self._emit(obs, obs.channel, opened)

    def _ended(self, obs: Observation, outcome: Outcome) -> Told:
        if outcome.phase is Phase.Reverted and outcome.incident:
            self._metrics.reverts.labels(obs.namespace, obs.name, outcome.incident.reason).inc()
        warn = outcome.phase is not Phase.Completed and outcome.reason is not Reason.Replaced
        return outcome.reason, outcome.message, warn

    def _emit(self, obs: Observation, subject: Resource | None, told: Told) -> None:
        log.info("%s/%s: %s: %s", obs.namespace, obs.name, told[0].value, told[1])
        if subject is not None:
            work = self._events.emit(subject, told[0], told[1], warn=told[2])
            task = asyncio.create_task(work)  # a revert does not wait for an Event
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    @staticmethod
    def _subject(obs: Observation, record: Record) -> Resource | None:
        rollout = record.rollout or obs.record.rollout
        release = obs.release(rollout.candidate.release_uid) if rollout else None
        return release or obs.channel

    async def _report_or_later(self, key: Key, obs: Observation, step: Step, now: float) -> None:
        """A status that can't be written must not slow down what protects nodes. `now` is that of
        the decision, so that people read what it saw.
        """
        try:
            await self._report(key, obs, step, now)
        except ApiError as error:
            log.warning("Status of channel %s/%s is written later: %s", *key, error)
            self._reported.pop(key, None)
            self._queue.later(key, 5.0)

    async def _report(self, key: Key, obs: Observation, step: Step, now: float) -> None:
        rollout = obs.record.rollout
        phase = f"{rollout.attempt}/{rollout.phase}/{len(rollout.waves)}" if rollout else ""
        last, was = self._reported.get(key, (0.0, ""))
        if rollout is not None and phase == was and now - last < STATUS_SECONDS:
            self._queue.later(key, STATUS_SECONDS - (now - last))
            return
        self._reported[key] = (now, phase)
        stamp = excerpts.timestamp(now)
        gates = self._live.look(key, obs, step, now)
        if obs.channel is not None:
            status = channel_report.channel_status(obs, step, now, gates)
            await self._statuses.write(obs.channel, status, stamp)
            if forecast.is_under_way(obs):
                self._queue.later(key, forecast.BREATH)
        for release in obs.releases:
            status = report.release_status(obs, release, step, now, gates)
            await self._statuses.write(release, status, stamp)
        for decision in obs.decisions:
            decided = report.decision_status(obs, decision, now)
            if decided is not None:
                await self._statuses.write(decision, decided, stamp)
        self._shown.show(key, obs)


def _begins(before: Rollout | None, after: Rollout | None) -> bool:
    """Whether a plan is frozen."""
    if after is None or after.phase is not Phase.Pending:
        return False
    return before is None or before.attempt != after.attempt


def _difference(before: Rollout | None, after: Rollout) -> Told | None:
    """What changed between two records of the same rollout, if people should know. One that had
    ended was completed, and its bake failed.
    """
    was = before.phase if before else None
    if after.phase is Phase.Reverting and was is not Phase.Reverting and after.incident:
        number, name = after.incident.wave, after.incident.wave_name
        where = f" in wave {number} ({name})" if number else ""
        return after.incident.reason, f"Reverting{where}: {after.incident.message}", True
    if before is None:
        return None
    excused = sorted(after.excused.keys() - before.excused.keys())
    if excused:
        return Reason.NodeExcused, f"left as announced: {', '.join(excused[:5])}", False
    if after.paused is not None and before.paused is None:
        return after.paused, f"Paused: {after.paused.meaning}", True
    if after.waves and (not before.waves or after.waves[-1].state != before.waves[-1].state):
        return _wave_told(after.waves[-1], after)
    if after.waves and before.waves[-1].held_since is None and after.waves[-1].held_since:
        return Reason.WaveHeld, f"the rollout is held{_by(after)}", True
    return None


def _wave_told(wave: WaveRun, rollout: Rollout) -> Told | None:
    match wave.state:
        case WaveState.AwaitingApproval:
            return Reason.AwaitingApproval, f"wave {wave.name} waits for a person's approval", False
        case WaveState.Moving:
            return Reason.WaveOpened, f"wave {wave.name}: {wave.nodes} nodes", False
        case WaveState.Passed:
            return Reason.WavePassed, f"wave {wave.name} passed on {wave.nodes} nodes", False
        case WaveState.Held:
            return Reason.WaveHeld, f"wave {wave.name} is held{_by(rollout)}", True
    return None


def _by(rollout: Rollout) -> str:
    """The gate that holds it. No figures and no names of nodes: evidence that comes and goes must
    not make a new Event each time.
    """
    gate = rollout.gates[0] if rollout.gates else None
    if gate is None or gate.reason is None:
        return "; the release's status says why"
    return f" by {gate.name}, {gate.reason}: {gate.reason.meaning}"
