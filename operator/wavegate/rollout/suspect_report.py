"""What people read about suspects: in the status of the release, in its message, and as Events."""

import math
from datetime import UTC, datetime
from typing import Any

from wavegate.api import Reason
from wavegate.evidence import smallest_effect
from wavegate.rollout import left_out, suspects
from wavegate.rollout.attempt import Rollout, WaveRun
from wavegate.rollout.lacks import lacks
from wavegate.rollout.observation import Observation
from wavegate.rollout.strata import Stratum
from wavegate.rollout.waves import baseline_of
from wavegate.rollout.whereabouts import may_have_moved
from wavegate.rollout.wording import some

MAX_SHOWN = 10

Told = tuple[Reason, str, bool]
"""Reason, message, and whether it is a warning."""


def status(obs: Observation, rollout: Rollout) -> dict[str, Any]:
    """The newest suspects, for the status; nothing when there are none."""
    aside = suspects.aside(obs, rollout)
    shown = [
        {
            "node": suspect.node,
            "reason": suspect.reason.value,
            "at": datetime.fromtimestamp(suspect.at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "side": "Stable" if suspect.node in aside and not suspect.kept else "Candidate",
        }
        for suspect in rollout.suspects[-MAX_SHOWN:]
    ]
    return {"suspects": shown} if shown else {}


def clause(obs: Observation, rollout: Rollout, now: float) -> str:
    """Some bounded clauses for a message; empty when there is nothing to say."""
    count = len(rollout.suspects)
    if not count:
        return ""
    names = ", ".join(suspect.node for suspect in rollout.suspects[-3:])
    late = (lack.clause for lack in suspects.needing_hands(obs, rollout, now))
    return "; ".join((f"{count} suspect{'s'[: count != 1]} ({names})", *late))


def left_out_clause(obs: Observation, rollout: Rollout, now: float) -> str:
    """Which strata went back, and what their nodes still lack of being back, for people."""
    if not rollout.left_out:
        return ""
    kinds = [str(Stratum(*left)) for left in rollout.left_out]
    had = {entry.name for entry in may_have_moved(obs, rollout)} & left_out.names(obs, rollout)
    stable = obs.record.stable.attempt if obs.record.stable else ""
    well = {pod.node for pod in obs.pods_of(stable) if pod.ready and not pod.terminating}
    left = {pod.node for pod in obs.pods_of(rollout.attempt)}
    down = {n for n in had if n in left or n not in well or not obs.nodes[n].ready}
    back = lacks(obs, rollout, down, frozenset(had - down), now)
    proof = "; ".join(f"waiting for {lack.waiting}" for lack in back) or "all of them are back"
    return f"{len(had)} nodes of {some(kinds)} go back, the others keep it; {proof}"


def sees(waves: tuple[WaveRun, ...], index: int) -> dict[str, str]:
    """The smallest harm that a wave finds, for the status."""
    wave, before = waves[index], waves[:index]
    if not wave.nodes:
        return {}
    first = not any(other.nodes for other in before)
    loaded = sum(other.nodes for other in waves[: index + 1])
    share = smallest_effect(wave.nodes, first=first, loaded=loaded)
    return {"sees": f"{math.ceil(share * 1_000 - 1e-6) / 10:g}%" if share < 1 else "nothing alone"}


def unproven(obs: Observation, rollout: Rollout) -> str:
    """Which suspects got the content in the end and never proved that it suits them, in words."""
    entries, agents = baseline_of(obs), bool(rollout.plan.agents)
    witnesses = {n for n, e in entries.items() if e.healthy and (e.agents or not agents)}
    names = [
        s.node
        for s in rollout.suspects
        if s.node in obs.nodes and (s.kept or s.node not in witnesses)
    ]
    if not names:
        return ""
    return f"without proof on {some(names)}: look there"


def news(before: Rollout | None, after: Rollout | None) -> Told | None:
    """What one write of the record says about suspects."""
    if before is None or after is None or before.suspects == after.suspects:
        return None
    new = [suspect for suspect in after.suspects if suspect not in before.suspects]
    if not new:
        return None
    named = ", ".join(f"{suspect.node} ({suspect.reason})" for suspect in new[:5])
    where = "stays on the candidate" if new[0].kept else "goes back to stable"
    return Reason.Suspect, f"{named} {where}: harm on one node alone proves nothing", True
