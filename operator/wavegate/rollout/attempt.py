"""The attempt: one try to bring a revision to all nodes, from its frozen plan to its incident.

It is a part of the record (see `record`), so all of it is stored before it is acted upon.
"""

from collections.abc import Mapping
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
from wavegate.evidence import CheckSpec, Gate, LoadedProof
from wavegate.rollout.wording import brief

AGENT_UID = "agent/"
"""What the UID of an agent's change begins with, where a release has its own. No UID does."""

UNOPENED = (WaveState.Pending, WaveState.AwaitingApproval)
"""No node was moved in a wave that is in one of these states."""


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
    layers: tuple[str, ...] = ()
    """Digests of the layers of its content's image, where the release said them."""

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
    repeats: bool = False
    """More expensive nodes come after it: it comes again until it has left none behind."""
    again: bool = False
    """It is such a wave that comes again."""


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

    def times_again(self, place: int) -> int:
        """How often the wave at this place has come again."""
        return next(n for n in range(place + 1) if not self.waves[place - n].again)

    def with_again(self, place: int) -> Self:
        """Return a copy in which the wave at this place comes again right after it: `all-2`."""
        times = self.times_again(place)
        name = f"{self.waves[place - times].name}-{times + 2}"
        again = replace(self.waves[place], name=name, approval=False, added=True, again=True)
        before, after = self.waves[: place + 1], self.waves[place + 1 :]
        return replace(self, waves=(*before, again, *after))

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
