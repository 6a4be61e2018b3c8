"""What harm makes of a rollout: it fails, or the harmed nodes are suspects and the rest goes on.

In the first wave any harm fails: that is what it is for. Later one node alone does not (neither a
dying machine nor one that lies can stop a release), and harm fails when it is corroborated. Harm
that no single node shows (a check `per: Wave`) fails in each wave.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace

from wavegate.api import Reason, WaveState
from wavegate.evidence import SOON_SECONDS, Finding, Verdict, is_corroborated
from wavegate.rollout import disturbance, proven, soak, stalls, unsteady
from wavegate.rollout.attempt import Rollout, Suspect, WaveRun
from wavegate.rollout.observation import FIRST_LOOK_SECONDS, Observation


@dataclass(frozen=True, slots=True)
class Weighed:
    """Either `failed` has why the rollout fails, or `held` what holds it, or `rollout` has the new
    suspects, if any. `blocks`: the content did harm itself, beyond doubt.
    """

    rollout: Rollout
    failed: tuple[Finding, ...] = ()
    blocks: bool = False
    held: Finding | None = None


def weigh(
    obs: Observation, rollout: Rollout, findings: tuple[Finding, ...], now: float, *, strict: bool
) -> Weighed:
    """Weigh what was found now together with the suspects so far. `strict`: any harm fails, as a
    node could not be given back.
    """
    harm = tuple(finding for finding in findings if finding.verdict is Verdict.FAIL)
    if not harm:
        left = _without_few(obs, rollout, findings, now, strict=strict)
        if strict or left is not rollout:
            return Weighed(left)
        return Weighed(stalls.note(obs, rollout, findings, now))
    disturbed = None if strict else _disturbed(obs, rollout, harm, now)
    if disturbed is not None:
        return disturbed
    strict = strict or _any_harm_fails(obs, rollout)
    if strict or any(finding.node is None for finding in harm):
        return Weighed(rollout, harm, blocks=any(finding.blocks for finding in harm))
    fresh = _suspects(obs, rollout, harm, now)
    # What could not be fetched is a suspect so that it does not hold a wave for ever; no harm.
    known = tuple(s for s in _others(rollout, fresh) if s.reason is not Reason.CannotFetch)
    lost = proven.is_lost(obs, rollout, (*known, *fresh))
    if lost or _corroborated(rollout, (*known, *fresh), now):
        blocking = [s for s in (*known, *fresh) if s.blocks]
        failed = (*harm, *(_as_finding(suspect) for suspect in known if not suspect.excused))
        blocks = proven.is_lost(obs, rollout, blocking) or _corroborated(rollout, blocking, now)
        return Weighed(rollout, failed, blocks=blocks)
    return Weighed(_noted(obs, rollout, fresh, now))


def _without_few(
    obs: Observation, rollout: Rollout, findings: tuple[Finding, ...], now: float, *, strict: bool
) -> Rollout:
    """What is no harm holds, however many nodes show it. But as few as chance explains must not
    hold a wave for ever, so past their deadline they are suspects.
    """
    if strict or obs.blind or _any_harm_fails(obs, rollout):
        return rollout
    late = unsteady.overdue(obs, rollout, findings, now)
    fresh = _suspects(obs, rollout, tuple(late.values()), now) if late else ()
    others = unsteady.alike(findings) - late.keys() - {s.node for s in rollout.suspects}
    if not fresh or others or _corroborated(rollout, (*_others(rollout, fresh), *fresh), now):
        return rollout
    return _noted(obs, rollout, fresh, now)


def _disturbed(
    obs: Observation, rollout: Rollout, harm: tuple[Finding, ...], now: float
) -> Weighed | None:
    """What harm means that came with the cluster; None if it did not. It holds until both groups
    are well. What lasts of it then (a reboot, a node that is gone) is excused: the node goes back
    to stable like a suspect, and counts for nothing.
    """
    possible = rollout.incident is None and obs.revision(obs.record.stable) is not None
    if not possible or any(finding.node is None for finding in harm):
        return None
    fresh = _suspects(obs, rollout, harm, now)
    lately = (s for s in _others(rollout, fresh) if now - s.at <= SOON_SECONDS)
    counted = [suspect for suspect in lately if not suspect.excused]
    held = disturbance.find(obs, rollout, (*counted, *fresh))
    if held is None:
        return None
    if not disturbance.is_over(obs, rollout, fresh):
        return Weighed(rollout, held=held)
    excused = tuple(replace(suspect, excused=True) for suspect in fresh)
    return Weighed(_noted(obs, rollout, excused, now))


def _others(rollout: Rollout, fresh: tuple[Suspect, ...]) -> tuple[Suspect, ...]:
    """The suspects so far, without those that came to harm again."""
    names = {suspect.node for suspect in fresh}
    return tuple(suspect for suspect in rollout.suspects if suspect.node not in names)


def _noted(obs: Observation, rollout: Rollout, fresh: tuple[Suspect, ...], now: float) -> Rollout:
    """With these suspects. The first one of a wave has its soak begin again."""
    why = f"of suspect {fresh[0].node}"
    first = all(suspect.wave != rollout.wave for suspect in rollout.suspects)
    stopped = soak.again(rollout, why) if first else soak.interrupt(obs, rollout, why, now)
    names = {suspect.node for suspect in fresh}
    stalls = tuple(stall for stall in rollout.stalls if stall.node not in names)
    return replace(stopped, suspects=(*_others(rollout, fresh), *fresh), stalls=stalls)


def _any_harm_fails(obs: Observation, rollout: Rollout) -> bool:
    """In the first wave that has nodes to speak for it; when it failed before, and a person is
    asked; and where there is no stable agent to give a node back to.
    """
    if rollout.incident is not None or obs.revision(obs.record.stable) is None:
        return True
    spoke = (w for w in rollout.waves if w.nodes and w.state is not WaveState.Excused)
    first = next(spoke, None)
    return first is None or (first is rollout.waves[-1] and first.state is not WaveState.Passed)


def _suspects(
    obs: Observation, rollout: Rollout, harm: tuple[Finding, ...], now: float
) -> tuple[Suspect, ...]:
    """The harmed nodes, each once; what the content did itself counts before what else was seen."""
    by_node: dict[str, Finding] = {}
    for finding in sorted(harm, key=lambda found: not found.blocks):
        by_node.setdefault(finding.node or "", finding)
    tried = {suspect.node for suspect in rollout.suspects if not suspect.excused}
    return tuple(
        Suspect(
            name,
            finding.reason,
            now,
            finding.blocks,
            soon=_is_soon(obs, rollout, name, now),
            wave=rollout.wave,
            ledger=rollout.ledgers - 1,
            kept=rollout.promoting or name in tried,
        )
        for name, finding in by_node.items()
    )


def _is_soon(obs: Observation, rollout: Rollout, node: str, now: float) -> bool:
    """Whether the node got the content lately. The record knows when its wave's last batch was
    moved; when that is not known, or when it was harmed, it counts as lately.
    """
    if now - obs.watching_since < FIRST_LOOK_SECONDS:
        return True
    holding = (n for n in sorted(obs.ledgers, reverse=True) if _is_in(obs, n, node))
    newest = next(holding, None)
    wave = next((wave for wave in rollout.waves if wave.ledger == newest), None)
    return wave is None or wave.moved_at is None or now - wave.moved_at <= SOON_SECONDS


def _is_in(obs: Observation, number: int, node: str) -> bool:
    return any(entry.name == node for entry in obs.ledgers[number].nodes)


def _corroborated(rollout: Rollout, suspects: Collection[Suspect], now: float) -> bool:
    """Whether more nodes came to harm than chance explains. The time of exposure counts from each
    wave's last batch, so it is never too long.
    """
    suspects = [suspect for suspect in suspects if not suspect.excused]
    if len(suspects) < 2:
        return False
    nodes = sum(wave.moved for wave in rollout.waves)
    exposed = sum(_node_seconds(wave, now) for wave in rollout.waves)
    soon = sum(suspect.soon for suspect in suspects)
    return is_corroborated(len(suspects), soon, nodes, exposed)


def _node_seconds(wave: WaveRun, now: float) -> float:
    return 0.0 if wave.moved_at is None else wave.moved * max(0.0, now - wave.moved_at)


def _as_finding(suspect: Suspect) -> Finding:
    message = f"node {suspect.node} came to harm before ({suspect.reason})"
    return Finding(Verdict.FAIL, suspect.reason, message, suspect.node, suspect.blocks)
