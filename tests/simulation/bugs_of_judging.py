"""Bugs for test_mutations: what counts as harm or as proof, and how it is gone back."""

from dataclasses import replace

from wavegate.api import Reason, WaveState
from wavegate.evidence import Verdict
from wavegate.rollout import (
    back,
    corroborate,
    decide,
    excused,
    exposure,
    forward,
    judge,
    lacks,
    loaded,
    revert,
    soak,
    stable_suspect,
    stalls,
)
from wavegate.rollout.steps import MoveNodes, Step, Target, wait
from wavegate.rollout.waves import baseline_of


def moves_on_after_a_fail(patch) -> None:
    """A revert moves the rest of the wave first."""
    advance = revert.advance

    def stubborn(obs, rollout, now) -> Step:
        left = exposure.measure(obs, rollout, now).unmoved[:1]
        if left:
            return Step(actions=(MoveNodes(((left[0].name, left[0].uid),), rollout.attempt),))
        return advance(obs, rollout, now)

    patch.setattr(revert, "advance", stubborn)


def believes_in_stable(patch) -> None:
    """Whoever went back is well."""
    patch.setattr(stable_suspect, "doubt", lambda *_: None)


def goes_on_without_a_stratum(patch) -> None:
    """Who comes to harm goes back, and the rest of the wave is moved all the same."""
    reason = decide.pause_reason

    def hasty(obs, now):
        rollout = obs.record.rollout
        return None if rollout is not None and rollout.left_out else reason(obs, now)

    patch.setattr(decide, "pause_reason", hasty)


def waits_for_nodes_before_it_fences(patch) -> None:
    """A fence waits until no node is down."""
    fence = revert._fence

    def patient(obs, rollout, now):
        if any(not node.ready for node in obs.nodes.values()):
            return ()
        return fence(obs, rollout, now)

    patch.setattr(revert, "_fence", patient)


def passes_on_time_alone(patch) -> None:
    """When the soak is over, nobody is asked for a sign of life."""
    patch.setattr(soak, "_missing", lambda *_: "")


def passes_on_nothing(patch) -> None:
    """A wave whose nodes were all excused has no harm, so it passes."""
    missing, nobody = soak._missing, "a node that could give evidence"
    patch.setattr(excused, "again", lambda *_: None)
    patch.setattr(soak, "_missing", lambda *a: missing(*a).replace(nobody, ""))


def takes_a_crash_on_a_cordoned_node_for_its_reboot(patch) -> None:
    """Whoever is cordoned for a reboot has rebooted when its agent was restarted."""
    _leaves_out(patch, Reason.AgentRestarted, Reason.RebootAwaited)


def passes_while_a_bootid_is_awaited(patch) -> None:
    """What may be a reboot keeps nobody waiting."""
    _leaves_out(patch, Reason.RebootAwaited)


def _leaves_out(patch, *reasons: Reason) -> None:
    judge_nodes = judge.judge_nodes

    def trusting(obs, *args):
        for found in judge_nodes(obs, *args):
            if found.reason not in reasons or not obs.nodes[found.node].announced:
                yield found

    patch.setattr(judge, "judge_nodes", trusting)


def believes_without_a_report(patch) -> None:
    """An agent that is Ready has surely loaded its content."""
    patch.setattr(loaded, "judge", lambda *_: iter(()))
    patch.setattr(loaded, "unproven", lambda *_: frozenset())


def looks_at_its_own_pods_only(patch) -> None:
    """What agentSelector selects is watched, and judged by nobody."""
    patch.setattr(judge, "judge_selected", lambda *_, **_more: iter(()))
    patch.setattr(exposure, "changed_agents", lambda *_: frozenset())


def ends_a_revert_by_its_own_pods(patch) -> None:
    """When our pods are back, a revert has ended well, whatever became of the agent."""
    patch.setattr(lacks, "_unwell", lambda *_: [])


def forgets_a_half_done_revert(patch) -> None:
    """Only the process that began a revert finishes it."""
    advance = revert.advance

    def forgetful(obs, rollout, now) -> Step:
        if obs.watching_since > (rollout.reverting_since or 0.0):
            return wait("whoever began")
        return advance(obs, rollout, now)

    patch.setattr(revert, "advance", forgetful)


def keeps_the_reason_to_itself(patch) -> None:
    """A fail is stored without a message."""
    patch.setattr(revert, "_summary", lambda *_: "")


def undoes_a_fence_of_people(patch) -> None:
    """A candidate that someone fenced is drift like any other."""
    advance = forward.advance
    targets = forward.Target.NOTHING

    def repair(obs, rollout, paused, now) -> Step:
        view = obs.revision(rollout.candidate)
        if view is not None and view.targets(obs.key, targets):
            return Step(actions=(forward.Retarget(rollout.attempt, Target.IN, rollout.attempt),))
        return advance(obs, rollout, paused, now)

    patch.setattr(forward, "advance", repair)


def pauses_before_it_looks(patch) -> None:
    """While a release is paused or held its evidence is not looked at."""
    advance = forward.advance

    def blindfold(obs, rollout, paused, now) -> Step:
        held = bool(rollout.waves) and rollout.waves[-1].state is WaveState.Held
        return wait("a person") if paused or held else advance(obs, rollout, paused, now)

    patch.setattr(forward, "advance", blindfold)


def forgets_who_was_well_before_it_was_tried_again(patch) -> None:
    """Whoever was ill when it was last taken was so before the content."""
    had_it = back._had_it

    def newest(obs, rollout, carriers):
        entries = baseline_of(obs)
        had = had_it(obs, rollout, carriers)
        return {name for name in had if name not in entries or entries[name].healthy}

    patch.setattr(back, "_had_it", newest)


def believes_one_node(patch) -> None:
    """Harm on one node is enough in each wave."""
    patch.setattr(corroborate, "_corroborated", lambda *_: True)


def blames_what_never_ran(patch) -> None:
    """A node that can't fetch the content fails it."""
    judged = judge.judge_agent

    def blaming(*args, **more):
        for finding in judged(*args, **more):
            blamed = finding.reason is Reason.CannotFetch
            yield replace(finding, verdict=Verdict.FAIL) if blamed else finding

    patch.setattr(judge, "judge_agent", blaming)


def leaves_it_where_it_cannot_start(patch) -> None:
    """A node that can't fetch the content is not given back."""
    patch.setattr(stalls, "note", lambda _obs, rollout, _findings, _now: rollout)


def forgets_the_harm_before_a_decision(patch) -> None:
    """What a person decides takes the place of what was seen."""
    begin = revert.begin

    def forgetful(obs, rollout, reason, message, now) -> Step:
        return begin(obs, replace(rollout, incident=None), reason, message, now)

    patch.setattr(revert, "begin", forgetful)
