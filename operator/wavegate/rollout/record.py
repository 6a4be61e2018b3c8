"""The record: all that a channel remembers. One object, written only by compare-and-swap.

Whatever is intended is stored here before it is done, so that a new leader finishes what an old
one began, and a stale leader can't begin anything. The status of our kinds only mirrors it. What
is remembered of the one attempt that is under way is in `attempt`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Self

from wavegate.api import Phase, Reason, Severity
from wavegate.evidence import Gate, Verdict, plain_digest
from wavegate.rollout.attempt import Incident, Revision, Rollout, Suspect, WaveRun
from wavegate.rollout.wording import brief

MAX_OUTCOMES = 100
MAX_DETAILED = 8
"""Outcomes that keep their waves, and what stopped them: a ConfigMap holds 1 MiB."""
MAX_HISTORY = 5
MAX_BLOCKED = 100
MAX_BLOCKED_LAYERS = 256
"""Layers in the whole block list, 18 KiB: those of the newest 16 entries at least."""
MAX_DRILLED = 20
MAX_FAILED_AGENTS = 20
MAX_OLD_MESSAGE = 512
"""Bytes of the message of an outcome without details; its incident, if it has one, keeps its own.
"""


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
    layers: tuple[str, ...] = ()
    """Layers of its image that no other image may bring either; see `blocks`."""
    together: bool = False
    """Which of them is at fault is not known: only an image with all of them is kept out."""

    def is_of(self, digest: str, loaded: str = "") -> bool:
        """Whether it is about content with this digest, or that agents report as this."""
        if self.digest == digest:
            return True
        return bool(loaded and self.loaded) and plain_digest(self.loaded) == plain_digest(loaded)

    def shared(self, layers: Iterable[str]) -> tuple[str, ...]:
        """Those of these layers that it keeps from the channel."""
        found = tuple(layer for layer in layers if layer in self.layers)
        return () if self.together and len(found) < len(self.layers) else found


@dataclass(frozen=True, slots=True)
class GivenUp:
    """A start that was given up before anything was made; its release may start again."""

    attempt: str
    release: str
    reason: Reason
    message: str
    at: float

    def __post_init__(self) -> None:
        """Keep the message short, whoever's words it quotes."""
        object.__setattr__(self, "message", brief(self.message, MAX_OLD_MESSAGE))


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
    given_up: tuple[GivenUp, ...] = ()
    """The last starts that were given up: see `prepare`."""

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

    @property
    def named(self) -> frozenset[str]:
        """Names of releases by which a person may still decide something, also when they are gone:
        those that ended or are blocked here, and the one whose content an agent's change carries.
        """
        names = {outcome.release for outcome in self.outcomes}
        names |= {entry.release for entry in (*self.blocked, *self.failed_agents)}
        if self.rollout is not None and self.rollout.candidate.is_agent:
            names.add(self.rollout.candidate.release)
        return frozenset(names)

    def knows(self, attempt: str) -> bool:
        """Whether this attempt is remembered in any way."""
        candidate = self.rollout.candidate if self.rollout else None
        revisions = (self.stable, candidate, self.last_baked, *self.history)
        return (
            attempt in self.adopted
            or self.given_up_start(attempt) is not None
            or any(revision is not None and revision.attempt == attempt for revision in revisions)
            or any(outcome.attempt == attempt for outcome in self.outcomes)
        )

    def given_up_start(self, attempt: str) -> GivenUp | None:
        """Why the start of this attempt was given up, if it was."""
        return next((start for start in self.given_up if start.attempt == attempt), None)

    def outcome_of(self, release_uid: str) -> Outcome | None:
        """How this release ended, if it did."""
        return next((o for o in self.outcomes if o.release_uid == release_uid), None)

    def failed_agent(self, agent: str) -> Blocked | None:
        """The entry that keeps this template from being tried again, if any."""
        return next((b for b in self.failed_agents if b.digest == agent), None)

    def block_of(
        self, digest: str, loaded: str = "", layers: tuple[str, ...] = ()
    ) -> Blocked | None:
        """The entry that blocks this digest, else one whose agents report the same as `loaded`,
        else one that blocks one of these `layers`.
        """
        itself = (b for b in self.blocked if b.digest == digest)
        alike = (b for b in self.blocked if b.is_of(digest, loaded))
        of_a_layer = (b for b in self.blocked if b.shared(layers))
        return next(chain(itself, alike, of_a_layer), None)


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
