"""What people read about a change of the agent's template: on the channel, as it has no release."""

from collections.abc import Mapping
from typing import Any

from wavegate.api import Reason
from wavegate.rollout import agent_same, agent_template, excerpts
from wavegate.rollout.observation import Observation
from wavegate.rollout.record import Outcome
from wavegate.rollout.steps import Problem

_SHOWN = (
    "phase reason message waitingFor attempt startedAt wave nodes suspects incident gates"
    " breakGlass"
)
_CURRENT = "Stable was made from the channel's template"


def status(obs: Observation, running: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a channel's status about the newest change of its agent. `running` says how far
    the rollout is that is under way, of whatever kind.
    """
    rollout = obs.record.rollout
    if rollout is not None and rollout.candidate.is_agent:
        shown = {name: running[name] for name in _SHOWN.split() if name in running}
        return {"agentRollout": {"template": rollout.candidate.agent, **shown}}
    ended = next((outcome for outcome in obs.record.outcomes if outcome.agent), None)
    return {"agentRollout": _ended(ended)} if ended else {}


def _ended(outcome: Outcome) -> dict[str, Any]:
    found = {
        "template": outcome.agent,
        **excerpts.ended(outcome),
        **excerpts.gates(outcome.gates),
    }
    if outcome.incident:
        found["incident"] = excerpts.incident(outcome.incident, outcome.attempt)
    return found


def condition(obs: Observation) -> dict[str, Any] | None:
    """Whether stable was made from the channel's template; None while that can't be said."""
    stops, stable, now = problem(obs), obs.record.stable, agent_template.current(obs)
    if stops is not None:
        return excerpts.condition("AgentCurrent", stops, "")
    if stable is None or now != stable.agent:
        return None
    if not agent_same.assumed(obs):
        return excerpts.condition("AgentCurrent", None, _CURRENT)
    message = (
        f"{stable.title} became stable under a version that did not note its template, so the "
        "present one is taken for it and nothing is rolled out. Was it changed after "
        f"{excerpts.timestamp(stable.since)}, agents get the change with the next release."
    )
    return excerpts.condition("AgentCurrent", None, message, Reason.AgentTemplateAssumed)


def problem(obs: Observation) -> Problem | None:
    """Why stable does not run the channel's template; None where it does, or that is not known."""
    rollout, stable = obs.record.rollout, obs.record.stable
    if stable is None or not agent_template.differs(obs):
        return None
    stops = agent_template.problem(obs)
    if stops is not None:
        return stops
    where = "it rolls out when the rollout that is under way has ended"
    if rollout is not None and rollout.candidate.agent == agent_template.current(obs):
        where = "it rolls out, see status.agentRollout"
    return Problem(
        Reason.AgentTemplateChanged,
        f"spec.agent: the template is {agent_template.current(obs)}, stable's {stable.agent}; "
        f"{where}",
    )
