"""The record: all that a channel remembers. One object, written only by compare-and-swap.

Whatever is intended is stored here before it is done, so that a new leader finishes what an old
one began, and a stale leader can't begin anything. The status of our kinds only mirrors it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Self

from wavegate.api import (
    DrillMode,
    IntOrPercent,
    OnFailure,
    Phase,
    Pool,
    Reason,
    Severity,
    WaveState,
)
from wavegate.evidence import CheckSpec, Gate, LoadedProof, Verdict, plain_digest

MAX_OUTCOMES = 100
MAX_DETAILED = 8
"""Outcomes that keep their waves, and what stopped them: a ConfigMap holds 1 MiB."""
MAX_HISTORY = 5
MAX_BLOCKED = 100
MAX_DRILLED = 20
MAX_MESSAGE = 1_024
"""Bytes of one message, as UTF-8: a record must always fit, and people read the beginning."""
MAX_FAILED_AGENTS = 20
AGENT_UID = "agent/"
"""What the UID of an agent's change begins with, where a release has its own. No UID does."""
MAX_OLD_MESSAGE = 512
"""The same of an outcome without details; its incident, if it has one, keeps its own."""
MAX_NAMED = 5
"""Most things that one line names."""

UNOPENED = (WaveState.Pending, WaveState.AwaitingApproval)
"""No node was moved in a wave that is in one of these states."""


def brief(text: str, most: int = MAX_MESSAGE) -> str:
    """Return the text, or as much of its beginning as a message may hold, in bytes."""
    raw = text.encode(errors="replace")
    if len(raw) <= most:
        return text
    return raw[: most - 3].decode(errors="ignore") + "…"


def some(names: Sequence[str]) -> str:
    """The first MAX_NAMED of them in one line, and how many more there are."""
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more


@dataclass(frozen=True, slots=True)
class Revision:
    """One attempt to run agent template + content; its DaemonSet holds the template."""

    attempt: str
    daemon_set: str
    release: str
    release_uid: str
    version: str
    sequence: int
    digest: str
    since: float
    loaded: str = ""
    """What its agents report as loaded, where that is not the digest."""
    agent: str = ""
    """Digest of the channel's template that it was made from; empty: not known."""

    @property
    def reports(self) -> str:
        """What an agent reports that has loaded this content."""
        return self.loaded or self.digest

    @property
    def is_agent(self) -> bool:
        """Whether it brings stable's content with another template: no release of its own."""
        return self.release_uid.startswith(AGENT_UID)

    @property
    def title(self) -> str:
        """What people call it: its version, and of an agent's change which."""
        return f"agent {self.agent[7:19]} with {self.version}" if self.is_agent else self.version


class Group(StrEnum):
    """Which nodes a planned wave is about."""

    Pools = "Pools"
    """Those of its pools."""
    NoPool = "NoPool"
    """Those that no pool selects."""
    ControlPlane = "ControlPlane"
    """Those of the control plane, whatever selects them."""


@dataclass(frozen=True, slots=True)
class PlannedWave:
    """A wave of the frozen plan. `up_to` is cumulative over its nodes; soak in seconds."""

    name: str
    pools: tuple[str, ...]
    up_to: IntOrPercent
    soak: float
    approval: bool = False
    """A person has to approve it before it opens."""
    per_stratum: bool = False
    """It takes one node of each stratum that has proved nothing yet, at most `up_to`."""
    group: Group = Group.Pools
    staged: bool = False
    """Small pools go in steps of their own; see `choice`."""
    no_canary: bool = False
    """It needs its approval as no other node would notice harm before all is lost."""
    added: bool = False
    """It was added for nodes that no wave of the channel takes; there may be none by then."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What was frozen when the rollout started. Lengths of time are seconds."""

    pools: tuple[Pool, ...]
    waves: tuple[PlannedWave, ...]
    max_unavailable: IntOrPercent
    settle: float
    progress_deadline: float
    hold_timeout: float
    on_failure: OnFailure
    checks: tuple[CheckSpec, ...] = ()
    prometheus: str = ""
    connection: str = ""
    """Name of the operator's Prometheus connection; empty when `prometheus` is its URL."""
    bake: float = 86_400.0
    """For so long it is watched after its completion; 0 = not at all."""
    loaded_proof: LoadedProof | None = None
    """How nodes report which content they loaded; None = nothing proves it."""
    outlives_pod: bool = False
    """The content may stay on the host when its pod is gone."""
    agents: str = ""
    """Selects the pods of the agent that loads what ours carry, as in a URL; empty: ours do."""
    severity: Severity = Severity.Routine
    """What counts of the release's claim."""
    drill: DrillMode = DrillMode.Never
    critical_services: tuple[str, ...] = ()
    """Services (`namespace/name`) that the channel names as critical workloads."""

    def hold_timeout_of(self, check: str) -> float:
        """For how long the check of this name may hold a wave; of no check, how long the rest."""
        own = (c.hold_timeout for c in self.checks if c.name == check)
        return next((seconds for seconds in own if seconds is not None), self.hold_timeout)

    @property
    def questions(self) -> tuple[CheckSpec, ...]:
        """All that Prometheus is asked."""
        metric = self.loaded_proof.metric if self.loaded_proof else None
        return (*self.checks, metric) if metric else self.checks


@dataclass(frozen=True, slots=True)
class WaveRun:
    """How far a wave is. The first are the plan's, where one whose nodes were excused comes again;
    those after are sweeps over the rest.
    """

    name: str
    state: WaveState = WaveState.Pending
    ledger: int = 0
    """Number of its ledger: a wave whose nodes changed before they were moved gets another."""
    moved: int = 0
    """So many first nodes of its ledger may carry the label: stored before they are moved."""
    labelled: int = 0
    """So many first nodes of its ledger were seen with the label, or were passed over: one of them
    that lacks it had it taken away."""
    last: bool = False
    """A sweep over so few nodes that it is not soaked; see `waves.next_wave`."""
    nodes: int = 0
    opened_at: float = 0.0
    moved_at: float | None = None
    """When its last batch was moved: all its nodes were loaded then or before."""
    soaked: float = 0.0
    """Seconds of good evidence collected in stretches that have ended."""
    soak_since: float | None = None
    """Start of the stretch that is running."""
    judged_since: float | None = None
    """When the soak was complete: evidence must be younger than this to pass the wave."""
    soak_began: float | None = None
    """Start of the first stretch, or when a person resumed: the bound on a soak counts from it."""
    interrupted: str = ""
    """What ended the last stretch, in words."""
    unsteady: tuple[str, ...] = ()
    """Nodes that ended a stretch; bounded."""
    overrun_since: float | None = None
    """Since when the soak is over its bound. Only a person takes it back."""
    held_since: float | None = None
    freed_at: float | None = None
    """Since when its nodes are free for other channels, as it is held or paused; see `busy`."""
    passed_at: float | None = None
    approved: str = ""
    """Name of the decision that approved its opening."""
    gates: tuple[str, ...] = ()
    """What each gate said when it passed, failed or was held last, a line each; see `gates.note`.
    """

    def soaked_until(self, now: float, watching_since: float) -> float:
        """Seconds of good evidence so far, the running stretch included as far as we watched it."""
        if self.soak_since is None:
            return self.soaked
        return self.soaked + max(0.0, now - max(self.soak_since, watching_since))


@dataclass(frozen=True, slots=True)
class Incident:
    """Why a rollout failed: what an on-call person reads first."""

    reason: Reason
    message: str
    nodes: tuple[str, ...]
    at: float
    wave: int = 0
    """Number of the wave that was under way, from 1; 0 = none was."""
    wave_name: str = ""

    def __post_init__(self) -> None:
        """Keep the message short, whoever's words it quotes."""
        object.__setattr__(self, "message", brief(self.message))


@dataclass(frozen=True, slots=True)
class Suspect:
    """A node that came to harm, which alone proves nothing: each counts once. `blocks`: by the
    content itself, as far as nodes and agents show it. `at` is the bake's start when nobody watched
    a bake before. The rest is told of a rollout only.
    """

    node: str
    reason: Reason
    at: float
    blocks: bool
    soon: bool = False
    """It was harmed soon after it got the content."""
    wave: int = -1
    """Index of the wave that was under way."""
    ledger: int = -1
    """The newest ledger then: the node is tried again by one with a higher number."""
    kept: bool = False
    """It was tried again, and stays on the candidate: nothing more is asked of it."""
    excused: bool = False
    """It came to harm with the cluster, so it does not count."""


@dataclass(frozen=True, slots=True)
class Stall:
    """A node on which the candidate could not start: see `stalls`. `since` is when it went back
    first, `at` when it did last.
    """

    node: str
    reason: Reason
    message: str
    since: float
    at: float
    tries: int = 1
    ledger: int = -1
    """The newest ledger then, as of a suspect."""
    retrying: bool = False
    """It is given the candidate once more."""


@dataclass(frozen=True, slots=True)
class Drill:
    """A rollback drill; see `drill`. It is about one ledger: of a wave that begins anew it says
    nothing.
    """

    node: str
    ledger: int
    began: float
    back_since: float | None = None
    """Since when the node was seen without the label: it has to be back in `progressDeadline`."""
    again_since: float | None = None
    """It was proved to be back then, and is to get the candidate again."""
    done_at: float | None = None
    """The candidate's agent ran there again."""

    @property
    def is_away(self) -> bool:
        """The node is to be on stable."""
        return self.again_since is None


@dataclass(frozen=True, slots=True)
class Rollout:
    """The one attempt that is under way. `phase`: Pending (being prepared), Rolling, Reverting."""

    candidate: Revision
    plan: Plan
    phase: Phase
    started_at: float
    waves: tuple[WaveRun, ...] = ()
    ledgers: int = 0
    """How many ledger numbers were given out."""
    paused: Reason | None = None
    """Paused by the engine itself; a person resumes by a decision, or by setting and unsetting
    `suspend`."""
    paused_at: float = 0.0
    """When it paused itself last."""
    taken_over: bool = False
    """A person has set `suspend` since then."""
    promoting: bool = False
    incident: Incident | None = None
    gates: tuple[Gate, ...] = ()
    """What each gate said at the newest decision: a wave passed, failed or was held. What stopped
    it comes first. After an incident nothing writes over it but a person who resumes."""
    reverting_since: float | None = None
    excused: Mapping[str, str] = field(default_factory=dict)
    """Nodes that were drained, removed or rebooted as announced: see `marks`."""
    suspects: tuple[Suspect, ...] = ()
    """Nodes whose harm is not corroborated, in the order in which it was seen."""
    stalls: tuple[Stall, ...] = ()
    """Nodes that went back as the candidate could not start there; it was not harm."""
    left_out: tuple[tuple[str, ...], ...] = ()
    """Strata that came to harm, whose nodes went back: none of them gets it in this attempt."""
    proven: tuple[str, ...] = ()
    """Strata of which a node soaked in a wave that passed; see `choice`."""
    drill: Drill | None = None
    """The way back, tried on a node of the first wave."""
    completed_at: float | None = None
    """It was stable on all nodes since then: those that joined later have the content too."""

    @property
    def wave(self) -> int:
        """Index in the plan of the wave that is under way; -1 before the first."""
        return sum(1 for wave in self.waves if wave.state is not WaveState.Excused) - 1

    @property
    def in_hand(self) -> tuple[WaveRun, ...]:
        """The current wave, and those before it that were given up since one has passed."""
        passed = [i for i, wave in enumerate(self.waves) if wave.state is WaveState.Passed]
        return self.waves[max(passed, default=-1) + 1 :]

    @property
    def retried(self) -> set[str]:
        """Nodes that are tried once more, as the content could not be fetched."""
        return {stall.node for stall in self.stalls if stall.retrying}

    @property
    def drilling(self) -> Drill | None:
        """The drill that is under way in the current wave."""
        drill = self.drill
        if drill is None or drill.done_at is not None or self.phase is not Phase.Rolling:
            return None
        return drill if self.waves and drill.ledger == self.waves[-1].ledger else None

    @property
    def attempt(self) -> str:
        """The candidate's attempt id."""
        return self.candidate.attempt

    @property
    def planned(self) -> PlannedWave | None:
        """The plan of the current wave; None for a sweep over the rest."""
        return self.plan.waves[self.wave] if self.wave < len(self.plan.waves) else None

    def with_next_wave(self, *, last: bool = False) -> Self:
        """Return a copy in which the plan's next wave is pending; after those, a sweep: `rest-1`,
        or `last-1` if it is not to be soaked.
        """
        index = self.wave + 1
        counted = [wave for wave in self.waves if wave.state is not WaveState.Excused]
        alike = sum(1 for wave in counted[len(self.plan.waves) :] if wave.last is last)
        planned = index < len(self.plan.waves)
        sweep = f"{'last' if last else 'rest'}-{alike + 1}"
        name = self.plan.waves[index].name if planned else sweep
        wave = WaveRun(name, ledger=self.ledgers, last=last and not planned)
        return replace(self, waves=(*self.waves, wave), ledgers=self.ledgers + 1)

    def with_new_ledger(self) -> Self:
        """Return a copy whose current wave is pending again, with a ledger yet to be made."""
        current = self.waves[-1]
        wave = WaveRun(
            current.name, ledger=self.ledgers, last=current.last, approved=current.approved
        )
        return replace(self, waves=(*self.waves[:-1], wave), ledgers=self.ledgers + 1)

    def with_wave(self, **changes: object) -> Self:
        """Return a copy whose current wave has these changes."""
        current = replace(self.waves[-1], **changes)  # type: ignore[arg-type]
        return replace(self, waves=(*self.waves[:-1], current))


@dataclass(frozen=True, slots=True)
class Bake:
    """The watch over a completed rollout. It ends well (it is the last baked), with an incident, or
    without a word when a newer release completes.
    """

    rollout: Rollout
    """As it was completed: plan, waves, and by them its ledgers."""
    since: float
    until: float
    suspects: tuple[Suspect, ...] = ()
    """In the order in which they were seen; bounded."""
    excused: Mapping[str, str] = field(default_factory=dict)
    """Nodes that were drained or removed as announced, and the machine that they were then (a short
    hash); what they are from then on is their baseline. Empty: not watched any more."""
    incident: Incident | None = None
    """Why it failed."""

    @property
    def attempt(self) -> str:
        """The attempt that bakes; it is stable."""
        return self.rollout.attempt


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a release ended on this channel. It keeps a release from running twice."""

    release: str
    release_uid: str
    sequence: int
    attempt: str
    digest: str
    phase: Phase
    reason: Reason
    message: str
    started_at: float
    finished_at: float
    waves: tuple[WaveRun, ...] = ()
    incident: Incident | None = None
    gates: tuple[Gate, ...] = ()
    """As the rollout's at its end; of an older one, only what stopped it."""
    baked_at: float | None = None
    severity: Severity = Severity.Routine
    agent: str = ""
    """Of an agent's change: digest of its template."""

    @property
    def named(self) -> tuple[str, str]:
        """Release and digest by which a decision names it."""
        return self.release, self.agent or self.digest

    @property
    def title(self) -> str:
        """What people call it."""
        agent = f"agent {self.agent[7:19]} with " if self.agent else ""
        return f"{agent}release {self.release}"

    def __post_init__(self) -> None:
        """Keep the message short, whoever's words it quotes."""
        object.__setattr__(self, "message", brief(self.message))


@dataclass(frozen=True, slots=True)
class Blocked:
    """A digest that may not return on this channel."""

    digest: str
    release: str
    reason: Reason
    since: float
    incident: str = "unknown"
    """The attempt that did harm; a person who unblocks the digest has to name it."""
    loaded: str = ""
    """What its agents report as loaded, where the release said so: other images may bring it."""


@dataclass(frozen=True, slots=True)
class DecisionNote:
    """A person's decision that was accepted: each acts once, on one release UID."""

    uid: str
    release_uid: str
    at: float
    ended: str = ""
    """Name of the decision that resumed what this one paused."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The record was lost, and what runs was adopted: nothing starts until a person says so, by
    setting the channel's `suspend` to true (`taken_over`) and then to false.
    """

    message: str
    at: float
    taken_over: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """All that is remembered of a channel, newest first in each list."""

    namespace: str
    channel: str
    attempts: int = 0
    """How many attempts were ever started; part of each attempt id."""
    stable: Revision | None = None
    rollout: Rollout | None = None
    history: tuple[Revision, ...] = ()
    """Revisions that were stable before: their DaemonSets are kept, targeted at no node."""
    outcomes: tuple[Outcome, ...] = ()
    blocked: tuple[Blocked, ...] = ()
    decisions: tuple[DecisionNote, ...] = field(default=())
    lost: Lost | None = None
    floor: int = -1
    """Only a higher sequence may start, whatever `outcomes` say: the highest of those that were
    lost, or are forgotten, as changes of the agent take their places.
    """
    adopted: tuple[str, ...] = ()
    """Attempts that were found when the record was lost; nothing else is known of them."""
    bake: Bake | None = None
    """The watch over stable after its completion; None when it is over."""
    last_baked: Revision | None = None
    """The newest revision that ended its bake well: its DaemonSet is always kept."""
    resumed_at: float = 0.0
    """A person let releases start again after the reverts that had ended by then: see `cooldown`.
    """
    failed_agents: tuple[Blocked, ...] = ()
    """Templates whose rollout was reverted, by digest: none of them is tried again by itself."""
    template_seen: tuple[str, str] = ("", "")
    """The state of a parked DaemonSet when it was read last, and the template's digest then: see
    `agent_same`."""

    drilled: tuple[str, ...] = ()
    """Versions of the agent with which the way back was drilled, the newest first."""

    def ended(self, phase: Phase, reason: Reason, message: str, now: float) -> Self:
        """Return a copy in which the running rollout has ended so; without one, an equal copy."""
        rollout = self.rollout
        if rollout is None:
            return replace(self)
        outcome = Outcome(
            release=rollout.candidate.release,
            release_uid=rollout.candidate.release_uid,
            sequence=rollout.candidate.sequence,
            attempt=rollout.attempt,
            digest=rollout.candidate.digest,
            phase=phase,
            reason=reason,
            message=message,
            started_at=rollout.started_at,
            finished_at=now,
            waves=rollout.waves,
            incident=rollout.incident,
            gates=rollout.gates,
            severity=rollout.plan.severity,
            agent=rollout.candidate.agent if rollout.candidate.is_agent else "",
        )
        older = (_shortened(o, place) for place, o in enumerate(self.outcomes, start=1))
        forgotten = (o.sequence for o in self.outcomes[MAX_OUTCOMES - 1 :])
        return replace(
            self,
            rollout=None,
            floor=max(self.floor, *forgotten, -1),
            outcomes=(outcome, *older)[:MAX_OUTCOMES],
            failed_agents=self._failed_agents(outcome),
        )

    def _failed_agents(self, ended: Outcome) -> tuple[Blocked, ...]:
        """One that was taken back for the channel's edit, or for its content, did not fail."""
        reason = ended.incident.reason if ended.incident else ended.reason
        taken_back = reason in (Reason.AgentTemplateChanged, Reason.DigestBlocked)
        if not ended.agent or ended.phase is not Phase.Reverted or taken_back:
            return self.failed_agents
        entry = Blocked(ended.agent, ended.release, reason, ended.finished_at, ended.attempt)
        others = (known for known in self.failed_agents if known.digest != ended.agent)
        return (entry, *others)[:MAX_FAILED_AGENTS]

    @property
    def highest_sequence(self) -> int:
        """The highest sequence that was ever tried here: only a higher one may start. -1 = none."""
        stable = [self.stable.sequence] if self.stable else []
        return max([self.floor, *stable, *(outcome.sequence for outcome in self.outcomes)])

    def knows(self, attempt: str) -> bool:
        """Whether this attempt is remembered in any way."""
        candidate = self.rollout.candidate if self.rollout else None
        revisions = (self.stable, candidate, self.last_baked, *self.history)
        return (
            attempt in self.adopted
            or any(revision is not None and revision.attempt == attempt for revision in revisions)
            or any(outcome.attempt == attempt for outcome in self.outcomes)
        )

    def outcome_of(self, release_uid: str) -> Outcome | None:
        """How this release ended, if it did."""
        return next((o for o in self.outcomes if o.release_uid == release_uid), None)

    def failed_agent(self, agent: str) -> Blocked | None:
        """The entry that keeps this template from being tried again, if any."""
        return next((b for b in self.failed_agents if b.digest == agent), None)

    def block_of(self, digest: str, loaded: str = "") -> Blocked | None:
        """The entry that blocks this digest, else one whose agents report the same as `loaded`."""
        same = next((b for b in self.blocked if b.digest == digest), None)
        if same is not None or not loaded:
            return same
        wanted = plain_digest(loaded)
        said = (b for b in self.blocked if b.loaded)
        return next((b for b in said if plain_digest(b.loaded) == wanted), None)


def _shortened(outcome: Outcome, place: int) -> Outcome:
    """An outcome that is not the newest any more: of its gates, the one that stopped it is kept;
    of an old one, neither gates nor waves.
    """
    if place > MAX_DETAILED:
        short = brief(outcome.message, MAX_OLD_MESSAGE)
        return replace(outcome, waves=(), gates=(), message=short)
    waves = tuple(_ended_wave(wave) for wave in outcome.waves)
    stopped = tuple(gate for gate in outcome.gates if gate.verdict is not Verdict.PASS)[:1]
    return replace(outcome, waves=waves, gates=stopped)


def _ended_wave(wave: WaveRun) -> WaveRun:
    """A wave of which nobody asks any more how it came to its end."""
    return WaveRun(
        wave.name,
        wave.state,
        ledger=wave.ledger,
        moved=wave.moved,
        last=wave.last,
        nodes=wave.nodes,
        opened_at=wave.opened_at,
        passed_at=wave.passed_at,
    )
