"""Status of a channel, computed from what is remembered and seen. It is written, never read."""

from collections.abc import Iterator
from typing import Any

from wavegate.api import Reason
from wavegate.evidence import Gate
from wavegate.rollout import (
    agent_report,
    breakglass,
    cooldown,
    excerpts,
    feed,
    forecast,
    lost,
    progress_report,
    queue,
)
from wavegate.rollout.observation import Observation
from wavegate.rollout.steps import Problem, Step
from wavegate.rollout.wording import some


def channel_status(
    obs: Observation, step: Step | None = None, now: float = 0.0, gates: tuple[Gate, ...] = ()
) -> dict[str, Any]:
    """Status of the channel, without the transition times of its conditions. What was decided
    `now`, and what each gate said, is told of a change of its agent.
    """
    channel, record = obs.channel, obs.record
    problem = queue.channel_problem(obs) or cooldown.shut(channel, record)
    rollout = record.rollout
    running = f", {rollout.candidate.title} is rolling out" if rollout else ""
    stable = record.stable.version if record.stable else "nothing yet"
    message = problem.message if problem else f"{stable} is stable{running}"
    status: dict[str, Any] = {
        "observedGeneration": channel.generation if channel else 0,
        "nodes": progress_report.node_counts(obs),
        "blocked": [
            {
                "digest": b.digest,
                "release": b.release,
                "reason": b.reason.value,
                "incident": b.incident,
                "since": excerpts.timestamp(b.since),
                **({"layers": list(b.layers)} if b.layers else {}),
            }
            for b in record.blocked
        ],
        "conditions": [
            excerpts.condition("Ready", problem, message),
            *_inputs(obs),
            *_proof(obs),
            *filter(None, [agent_report.condition(obs)]),
            *progress_report.plan_current(obs),
            *_feed(obs),
        ],
    }
    plan = forecast.plan(obs)
    if plan:
        status["plan"] = plan
    if record.stable:
        status["stable"] = excerpts.revision(record.stable)
    if record.last_baked:
        status["lastBaked"] = excerpts.revision(record.last_baked)
    if rollout:
        status["candidate"] = excerpts.revision(rollout.candidate)
    agent = rollout is not None and rollout.candidate.is_agent
    shown = (
        progress_report.running(obs, rollout, step or Step(), now, gates)
        if rollout and agent
        else {}
    )
    status |= agent_report.status(obs, shown)
    if lost.contradiction(obs) and not lost.in_position(obs):
        lines = breakglass.lines(obs, *lost.in_flight(obs), hands_off=False)
        status |= {"breakGlass": lines} if lines else {}
    return status


def _inputs(obs: Observation) -> Iterator[dict[str, Any]]:
    """Whether all that the agent reads goes through waves; nothing while that is not known."""
    ungated = obs.agent.ungated
    if ungated is None:
        return
    message = (
        f"The agent reads {some(ungated)}: whoever changes one changes it "
        "on all nodes at once, past the waves. Make ConfigMaps immutable, or publish it as content."
    )
    problem = Problem(Reason.UngatedInput, message) if ungated else None
    gated = "The agent reads nothing that can change without a wave"
    yield excerpts.condition("InputsGated", problem, gated)


def _feed(obs: Observation) -> Iterator[dict[str, Any]]:
    """Whether releases come no faster than one gets through; nothing while that is not known."""
    if obs.channel is not None and feed.is_known(obs):
        yield excerpts.condition(
            "KeepsUp", feed.slower(obs), "A rollout ends before the next release comes"
        )


def _proof(obs: Observation) -> Iterator[dict[str, Any]]:
    """Whether a wave passes only on nodes that say what they loaded."""
    if obs.channel is None:
        return
    lacks = obs.channel.spec.loaded_proof is None
    problem = Problem(Reason.NotProven, Reason.NotProven.meaning) if lacks else None
    yield excerpts.condition(
        "LoadedProof", problem, "Each node must report the content that it loaded"
    )
