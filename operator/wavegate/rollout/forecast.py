"""The plan before anything starts: which nodes each wave would take now, and how long at least.

It is played, not guessed: the very functions that choose the nodes of a wave are asked wave by
wave, on a copy of what is seen in which all waves before have passed. So nothing is shown that the
rollout would do otherwise, as long as no node comes, goes or falls ill. It is worked out anew only
when a node, the channel or the queue changed, and not while a release rolls out. Nothing is decided
by it. As a fence of another channel must not wait for it, a large fleet's is worked out in
steps, one per look, all of them on what was seen at the first.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from wavegate.api import Channel, Duration, Phase, Release, WaveState
from wavegate.evidence import NodeView, Side
from wavegate.rollout import agent_template, choice, drill, movable, queue, waves, workloads
from wavegate.rollout.attempt import PlannedWave, Rollout
from wavegate.rollout.forecast_late import Late, workloads_unseen
from wavegate.rollout.observation import Observation, RevisionView
from wavegate.rollout.strata import code_of, strata
from wavegate.rollout.wording import some

FIRST = 5
"""So many nodes of a wave are named, in the order in which they are taken."""
NAMING = 10
"""So many first waves name nodes."""
MAX_WAVES = 40
LARGE = 200
"""Fleets of more nodes than this are not planned anew with each change, nor in one look."""
PAUSE = 60.0
BREATH = 0.05
"""Seconds between two looks in which a plan is worked out."""
_ZERO = "sha256:" + "0" * 64


def plan(obs: Observation) -> dict[str, Any] | None:
    """The plan of the next release, or of a change of the agent where that goes first; None while
    one rolls out, and where none could start.
    """
    return obs.once(_look)[0]


def is_under_way(obs: Observation) -> bool:
    """Whether another look is needed to work the plan out."""
    return obs.once(_look)[1]


def _look(obs: Observation) -> tuple[dict[str, Any] | None, bool]:
    channel = obs.channel
    if channel is None or obs.record.rollout is not None or obs.agent.template is None:
        return None, False
    release = None if agent_template.is_next(obs) else _next(obs)
    by = [f"{o.uid}/{o.generation}" if o else "" for o in (channel, release)]
    last: _Last = obs.shown.of(_Last, *by, repr(_template(obs)))
    return last.of(obs, channel, release), last.is_under_way


class _Last:
    """The plan as it was worked out last for this channel and release. On a large fleet it is not
    worked out more than once in `PAUSE` seconds, as nodes there come and go all the time.
    """

    def __init__(self, *_: str) -> None:
        self._nodes: tuple[object, ...] | None = None
        self._at = -PAUSE
        self._critical: tuple[object, ...] = ()
        self._plan: dict[str, Any] | None = None
        self._steps: Iterator[dict[str, Any] | None] | None = None

    @property
    def is_under_way(self) -> bool:
        """Whether a newer one is being worked out."""
        return self._steps is not None

    def of(
        self, obs: Observation, channel: Channel, release: Release | None
    ) -> dict[str, Any] | None:
        """The last one that is complete, after one step more or all."""
        stable, large = obs.record.stable, len(obs.nodes) > LARGE
        seen = (obs.nodes, obs.pods_of(stable.attempt) if stable else ())
        critical = (obs.critical.nodes, obs.critical.services, obs.critical.error)
        known = self._nodes
        same = known is not None and all(a is b for a, b in zip(seen, known, strict=True))
        early = 0 <= obs.at - self._at < PAUSE and large
        stale = self._steps is None and not same and not (early and self._plan)
        if stale or critical != self._critical:
            self._nodes, self._at, self._critical = seen, obs.at, critical
            self._steps = _steps(obs, channel, release)
        for found in self._steps or ():
            if found is not None:
                self._plan, self._steps = found, None
                if large:  # an idle channel holds no copy of all nodes
                    self._nodes = None
            if large:
                break
        else:  # complete; or it raised at a step, and a new look begins anew
            self._steps = None
        return self._plan


def least_moving(count: int, settled: int, most: int, settle: float) -> float:
    """Seconds that it takes at least to move `count` nodes when `settled` have the content already
    and at most `most` may be in flight.

    From the exposure rule (DESIGN §5): what settles within `settle` seconds was in flight at their
    begin, and that is at most min(most, max(1, settled)). So the settled double at best, 1, 1, 2,
    4, 8…, until `most` bounds them. A bound from below: pods take time to start, nodes are heard
    from every ten seconds, and the controller makes 20 pods a second.
    """
    seconds = 0.0
    while count > 0:
        batch = min(count, most, max(1, settled))
        settled, count, seconds = settled + batch, count - batch, seconds + settle
    return seconds


def _next(obs: Observation) -> Release | None:
    """The newest release that may start one day, a suspended one too."""
    waiting = [r for r in obs.releases if queue.is_open(obs, r) and queue.block_of(obs, r) is None]
    return max(waiting, key=lambda r: (r.spec.sequence, r.uid), default=None)


def _steps(
    obs: Observation, channel: Channel, release: Release | None
) -> Iterator[dict[str, Any] | None]:
    """None after each step, and the plan at last."""
    rollout, seen = _begun(obs, channel, release)
    yield None
    late, played = Late(), list[dict[str, Any]]()
    for wave in _played(seen, rollout, late, named=release is not None):
        played += [wave] if wave else []
        yield None
    told = _told(seen, rollout, channel, played, late)
    yield told | ({"release": release.name} if release else {})


def _told(
    seen: Observation,
    rollout: Rollout,
    channel: Channel,
    played: list[dict[str, Any]],
    late: Late,
) -> dict[str, Any]:
    seconds = sum(wave["least"] for wave in played)
    for wave in played:
        wave["least"] = str(Duration(wave["least"]))
    taken = sum(wave["nodes"] for wave in played)
    fleet = movable.fleet(seen, rollout)
    told: dict[str, Any] = {
        "nodes": len(fleet),
        "least": str(Duration(seconds)),
        "waves": played[:MAX_WAVES],
        "blindSpots": [
            *_blind(channel, played),
            *workloads_unseen(seen, rollout),
            *filter(None, (drill.missing(seen),)),
        ],
    }
    left = [*late.told(seen), *_left(seen, rollout, fleet, len(fleet) - taken - late.swept)]
    return told | ({"later": left} if left else {})


def _begun(
    obs: Observation, channel: Channel, release: Release | None
) -> tuple[Rollout, Observation]:
    """The rollout as it would begin, and what would be seen then."""
    agent = queue.agents_turn(obs, channel, 0.0)
    next_one = agent or queue.start(obs, channel, release or _some_release(channel), 0.0)
    # Who is there now joined before it begins.
    rollout = replace(next_one, phase=Phase.Rolling, started_at=math.inf)
    template = _template(obs)
    name = rollout.candidate.daemon_set
    view = RevisionView(
        rollout.attempt, name, observed=True, own_affinity={}, affinity={}, template=template
    )
    revisions = {**obs.revisions, rollout.attempt: view}
    record = replace(obs.record, rollout=rollout)
    return rollout, replace(obs, record=record, revisions=revisions, ledgers={}, busy={})


def _template(obs: Observation) -> Mapping[str, Any]:
    """The template of what starts next."""
    own = obs.agent.template
    return (own if agent_template.is_next(obs) else agent_template.template_of_release(obs)) or {}


def _played(
    seen: Observation, rollout: Rollout, late: Late, *, named: bool
) -> Iterator[dict[str, Any] | None]:
    """Each wave as it is chosen, and None when a large one has passed."""
    total, settled = max(1, len(movable.fleet(seen, rollout))), 0
    most = rollout.plan.max_unavailable.resolve(total)
    while (following := waves.next_wave(seen, rollout)) and (planned := following.planned):
        rollout = following
        seen = replace(seen, record=replace(seen.record, rollout=rollout))
        turn, lacking = waves.in_turn(seen, rollout, planned)
        out = workloads.left_out(seen, rollout, turn)
        chosen = [node for node in turn if node.name not in out][:lacking]
        late.note(planned.name, [(n.name, out[n.name]) for n in turn[:lacking] if n.name in out])
        late.came(planned.name, chosen)
        moving = least_moving(len(chosen), settled, most, rollout.plan.settle)
        seconds = moving + planned.soak if chosen else 0.0
        told = _wave(planned, chosen, seconds, named=named and rollout.wave < NAMING)
        if lacking and not chosen:  # what follows comes when somebody has seen to it
            told["summary"] = f"no node may be taken now, so it is held{_why(seen, planned)}"
        yield told
        settled += len(chosen)
        rollout, seen = _passed(seen, rollout, chosen)
        if len(chosen) > LARGE:  # that takes as long as the choice
            yield None


def _why(seen: Observation, planned: PlannedWave) -> str:
    """What keeps all nodes from a wave, if it is what people said."""
    rollout = seen.record.rollout
    fleet = movable.fleet(seen, rollout).values() if rollout else ()
    spared = choice.spared(rollout, planned, fleet) if rollout else ""
    return f": {spared}" if spared else ""


def _passed(
    obs: Observation, rollout: Rollout, chosen: Sequence[NodeView]
) -> tuple[Rollout, Observation]:
    """The wave as it is when its nodes have the content and it has passed."""
    nodes = dict(obs.nodes)
    for node in chosen:
        sides = {**node.sides, obs.key: Side(rollout.attempt, 0.0)}
        nodes[node.name] = replace(node, sides=sides)
    ledger = waves.ledger_for(obs, rollout, chosen)
    ledgers = {**obs.ledgers, rollout.waves[-1].ledger: ledger}
    rollout = rollout.with_wave(state=WaveState.Passed, nodes=len(chosen), moved=len(chosen))
    proven = {*rollout.proven, *map(code_of, chosen)}
    rollout = replace(rollout, proven=tuple(sorted(proven)))
    return rollout, replace(obs, nodes=nodes, ledgers=ledgers)


def _wave(
    planned: PlannedWave, chosen: Sequence[NodeView], seconds: float, *, named: bool
) -> dict[str, Any]:
    names, kinds = [node.name for node in chosen], len(strata(chosen))
    zones = len({node.zone for node in chosen if node.zone})
    count = f"{len(names)} node{'s'[: len(names) != 1]}"
    parts = [count if names else "no node"]
    parts += [f"of {kinds} kinds of machine"] if kinds > 1 else []
    parts += [f"in {zones} zones"] if zones > 1 else []
    after = f", {Duration(planned.soak)} soak" if names else ""
    asks = "; a person has to approve it" if planned.approval else ""
    told: dict[str, Any] = {
        "name": planned.name,
        "summary": " ".join(parts) + after + asks,
        "nodes": len(names),
        "least": seconds,
    }
    return told | ({"first": names[:FIRST]} if named and names else {})


def _left(
    obs: Observation, rollout: Rollout, fleet: Mapping[str, NodeView], missing: int
) -> Iterator[str]:
    """Nodes that no wave takes as they are now, and why."""
    stuck = movable.not_movable(obs, rollout)
    if stuck:
        yield f"can't be moved: {movable.describe(stuck)}"
    free = [node for name, node in sorted(fleet.items()) if name not in stuck]
    unready = [node.name for node in free if not node.ready]
    leaving = [n.name for n in free if n.ready and (n.unschedulable or n.announced)]
    for names, why in ((unready, "not Ready"), (leaving, "cordoned, or announced to leave")):
        if names:
            yield f"{why}, so it comes in a sweep after the waves: {some(names)}"
    others = missing - len(unready) - len(leaving) - len(stuck.keys() & fleet.keys())
    if others > 0:
        yield f"{others} more in sweeps after the waves, each with a soak of its own"


def _blind(channel: Channel, played: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What this plan could not see if it went wrong, in words."""
    spec = channel.spec
    if spec.loaded_proof is None:
        yield "not proven: no node says which content its agent loaded (spec.loadedProof)"
    if not spec.checks:
        yield "workload harm is not observed: there is no check (spec.checks), and no Prometheus"
    else:
        presets = {check.preset for check in spec.checks if not check.dry_run}
        if not any(preset and preset.startswith("workload-") for preset in presets):
            yield "workload harm is observed only by your own checks: no preset workload-… is set"
    if sum(1 for wave in played if wave["nodes"]) == 1:
        yield "there is no control group: one wave takes all nodes"


def _some_release(channel: Channel) -> Release:
    """A release that stands for the next one, whichever it is."""
    content = {"image": f"none@{_ZERO}"}
    spec = {"channel": channel.name, "version": "0", "sequence": 0, "content": content}
    metadata = {"name": "next", "namespace": channel.namespace, "uid": ""}
    return Release.parse({"metadata": metadata, "spec": spec})
