"""`onFailure: RevertFailing`: the strata that came to harm go back, the others keep the content.

A failed wave stores which strata those are; from then on no node of them carries the candidate, or
gets it, in this attempt. The release is paused for good: nothing moves, a Resume is refused, and a
person reverts all of it when they have seen enough. More harm, on whatever node, reverts it at
once. Un-labelling is no fence: so where it would not be enough, all go back by a fence at once.
"""

from collections.abc import Iterable

from wavegate.api import OnFailure
from wavegate.evidence import Finding
from wavegate.rollout.attempt import Rollout
from wavegate.rollout.observation import Observation
from wavegate.rollout.strata import stratum_of

NO_RESUME = (
    "some of its nodes went back (onFailure: RevertFailing), so it can't become stable; decide "
    "Revert when the others are to go back too, and publish repaired content (or change the "
    "agent's template, where that was new)"
)
"""Why it can't be resumed, for a person."""


def failing(
    obs: Observation, rollout: Rollout, findings: Iterable[Finding]
) -> tuple[tuple[str, ...], ...]:
    """The strata to leave out after this harm; empty when all must go back: the channel wants it,
    some went back before, there is no stable agent, the harm is about no node or about one that is
    gone, or no node of another stratum has the content.
    """
    wanted = rollout.plan.on_failure is OnFailure.RevertFailing
    if not wanted or rollout.left_out or obs.revision(obs.record.stable) is None:
        return ()
    nodes = [obs.nodes.get(finding.node or "") for finding in findings]
    harmed = {stratum_of(node) for node in nodes if node is not None}
    having = {stratum_of(node) for node in obs.moved(rollout.attempt)}
    if None in nodes or not having - harmed:
        return ()
    return tuple(sorted(tuple(stratum) for stratum in harmed))


def names(obs: Observation, rollout: Rollout) -> frozenset[str]:
    """Names of the nodes of the strata that were left out: none of them is to have it."""
    if not rollout.left_out:
        return frozenset()
    return frozenset(n for n, v in obs.nodes.items() if tuple(stratum_of(v)) in rollout.left_out)
