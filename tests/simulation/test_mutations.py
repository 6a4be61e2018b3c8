"""For each invariant one deliberate bug that makes its test red; without the bug it is green.

The bugs exist here only: each replaces a function of the operator while one run is played.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from simulation import carried, daemonsets, plays_of_turns, promises, scenarios_agent
from simulation.cluster import Simulation, another_agent, channel_spec
from simulation.critical import serve
from simulation.invariants import CHECKS, OWED, BrokenInvariant
from simulation.machines import crash_loops
from simulation.reporting import Reporter
from support.builders import digest
from wavegate.api import Reason, WaveState
from wavegate.cluster import paths
from wavegate.cluster import status as statuses
from wavegate.cluster.store import Store
from wavegate.controller import claims
from wavegate.evidence import Verdict
from wavegate.rollout import (
    agent_template,
    busy,
    choice,
    cooldown,
    corroborate,
    decide,
    drill,
    edits,
    excused,
    exposure,
    forward,
    groups,
    judge,
    labels,
    lacks,
    loaded,
    queue,
    revert,
    soak,
    stable_suspect,
    stalls,
    succession,
    templates,
    way_back,
    workloads,
)
from wavegate.rollout.names import CONTROL_PLANE_LABEL
from wavegate.rollout.record import Blocked, Record
from wavegate.rollout.steps import Forget, MoveNodes, Step, Target, save, wait

ROLLOUT = channel_spec()["rollout"]

Bug = Callable[[pytest.MonkeyPatch], None]


def good(sim: Simulation) -> None:
    """Two good releases, one after the other."""
    for name in ("a", "b"):
        sim.publish(name)
        sim.until_phase(name, "Completed", 600)


def drilled(sim: Simulation) -> None:
    """A release that drills the way back, on a node where stable takes its time."""
    sim.patch("Channel", "rules", rollout={**ROLLOUT, "drill": "Always"})
    good(sim)


def one_of_three_drilled(sim: Simulation) -> None:
    """The same, with three canaries: the first of them goes back before the others are moved."""
    sim.add_nodes("canary", 2)
    drilled(sim)


def bad(sim: Simulation) -> None:
    """A good release, then one whose agent crashes on some workers only, in the second wave."""
    sim.publish("a")
    sim.until_phase("a", "Completed", 600)
    sim.publish("bad")
    victims = [n for n in promises.until_moved(sim, 4) if n.startswith("workers")][:2]
    for victim in victims:
        crash_agent(sim, victim)
    sim.until_phase("bad", "Reverted", 600)


def bad_then_good(sim: Simulation) -> None:
    """A release crashes the agent; the next one is there already, and starts half an hour later."""
    sim.patch("Channel", "rules", rollout={**ROLLOUT, "coolDown": "30m"})
    bad(sim)
    sim.publish("good")
    sim.until_phase("good", "Completed", 3_600)


def bad_twice(sim: Simulation) -> None:
    """Two releases are taken back; nothing starts until a person says so."""
    bad(sim)
    sim.harm("worse", crash_loops())
    sim.publish("worse")
    sim.until_phase("worse", "Reverted", 600)
    sim.publish("good")
    sim.run(120)
    sim.decide("go", "worse", "Resume")
    sim.until_phase("good", "Completed", 600)


def newer_in_the_second_wave(sim: Simulation) -> None:
    """A newer release, no more urgent, comes while another one is in its second wave."""
    sim.publish("a")
    sim.until_phase("a", "Completed", 600)
    sim.publish("b")
    promises.until_moved(sim, 3)
    sim.publish("c")
    sim.until_phase("c", "Completed", 600)


def newer_each_moment(sim: Simulation) -> None:
    """Releases come faster than a first wave passes."""
    sim.publish("a")
    sim.until_phase("a", "Completed", 600)
    for number in range(6):
        sim.publish(f"r{number}")
        sim.run(20)
    sim.until_phase("r5", "Completed", 600)


def bad_on_stable_too(sim: Simulation) -> None:
    """A release is taken back, and on two nodes stable's agent crashes as well."""
    sim.publish("a")
    sim.until_phase("a", "Completed", 600)
    sim.publish("bad")
    exposed = [n for n in promises.until_moved(sim, 5) if n.startswith("workers")]
    for name in exposed[:2]:
        sim.crash(name)
    sim.until("a revert", lambda: promises.reverting(sim))
    back = exposed[2:4]
    sim.until("they are back", lambda: all(sim.agents().get(n) == digest("a") for n in back))
    for name in back:
        sim.act(lambda name=name: sim.machines.restart_at_once(name, sim.pods(name)[0]))
    sim.run(5)
    for name in exposed[:2]:
        sim.boot(name)
    sim.until_phase("bad", "Reverted", 600)


def bad_on_one_kernel(sim: Simulation) -> None:
    """Two nodes of one kernel come to harm in the second wave; the others keep the content."""
    sim.patch("Channel", "rules", rollout={**ROLLOUT, "onFailure": "RevertFailing"})
    older = sim.add_nodes("canary", 1, kernelVersion="6.1.0")
    older += sim.add_nodes("workers", 6, kernelVersion="6.1.0")
    sim.publish("a")
    sim.until_phase("a", "Completed", 900)
    sim.publish("bad")
    exposed = promises.until_moved(sim, 6)
    for name in [name for name in exposed if name not in older][:2]:
        crash_agent(sim, name)
    sim.until_phase("bad", "Paused", 600)
    sim.run(300)
    sim.decide("back", "bad", "Revert")
    sim.until_phase("bad", "Reverted", 600)


def one_liar(sim: Simulation) -> None:
    """A node of the second wave feigns a crash of its agent, whenever it gets the release."""
    sim.publish("a")
    sim.until_phase("a", "Completed", 600)
    sim.publish("b")
    liar = next(n for n in promises.until_moved(sim, 3) if n.startswith("workers"))
    crash_agent(sim, liar)
    sim.until("it goes back", lambda: sim.agents().get(liar) == digest("a"))
    sim.until_phase("b", "Completed", 1_200)


def two_channels(sim: Simulation) -> None:
    """Two agents on the same nodes get a release at the same time, each its second."""
    sim.apply_channel("models", agent=another_agent("scanner"))
    for first, second in (("a", "m"), ("b", "n")):
        sim.publish(first)
        sim.publish(second, channel="models")
        sim.until_phase(first, "Completed", 1_200)
        sim.until_phase(second, "Completed", 1_200)


def edited(sim: Simulation) -> None:
    """A person makes the channel looser while a release rolls out."""
    sim.patch("Channel", "rules", rollout={**sim.channel_spec()["rollout"], "maxUnavailable": 1})
    sim.publish("a")
    sim.until_phase("a", "Completed", 900)
    sim.publish("b")
    promises.until_moved(sim, 2)
    sim.patch("Channel", "rules", rollout={**sim.channel_spec()["rollout"], "maxUnavailable": 5})
    sim.until_phase("b", "Completed", 900)


def blocked(sim: Simulation) -> None:
    """A person blocks the content of a release that rolls out."""
    sim.publish("a")
    sim.until_phase("a", "Completed", 600)
    sim.publish("b")
    promises.until_moved(sim, 1)
    sim.decide("heard", "b", "Block")
    sim.run(300)


def rebuilt(sim: Simulation) -> None:
    """Content that did harm comes again in another image."""
    sim.publish("a")
    sim.until_phase("a", "Completed", 600)
    sim.harm("b", crash_loops())
    sim.publish("b", loaded="f00d")
    sim.until_phase("b", "Reverted", 300)
    sim.publish("c", loaded="f00d")
    sim.run(300)


def crash_agent(sim: Simulation, node: str) -> None:
    sim.act(lambda: crash_loops(0.0)(sim.machines, node, sim.pods(node)[0]))


def dead_in_the_soak(sim: Simulation) -> None:
    """The canary dies in the soak, too late to be seen NotReady before its end."""
    sim.publish("a")
    sim.until("a soak", lambda: in_state(sim, WaveState.Soaking))
    sim.run(12)
    sim.crash("canary-1")
    sim.run(120)


def canary_drained(sim: Simulation) -> None:
    """The only node of the first wave is drained and removed in its soak, as announced."""
    sim.publish("a")
    sim.until_phase("a", "Completed", 600)
    sim.publish("b")
    sim.until("b soaks", lambda: in_state(sim, WaveState.Soaking))
    sim.act(lambda: sim.autoscaler.shrink("canary-1", 2.0))
    sim.run(200)


def crash_on_a_cordoned_canary(sim: Simulation) -> None:
    """The canary is cordoned for a reboot, and its agent crashes once, late in the soak. No reboot
    comes.
    """
    sim.publish("a")
    sim.until_phase("a", "Completed", 600)
    sim.publish("b")
    sim.until("b soaks", lambda: in_state(sim, WaveState.Soaking))
    node = sim.server.find("nodes", "canary-1")
    spec = {**node["spec"], "unschedulable": True}
    sim.act(lambda: sim.server.update("people", "nodes", node, spec=spec))
    sim.run(sim.record.rollout.planned.soak - 5)
    sim.act(lambda: sim.machines.restart_at_once("canary-1", sim.pods("canary-1")[0]))
    sim.until_phase("b", "Reverted", 200)


def silent_agent(sim: Simulation) -> None:
    """Agents have to say what they have loaded, and that of the canary does not."""
    reporter = Reporter()
    reporter.says["canary-1"] = ""
    sim.machines.harms[""] = reporter
    sim.patch("Channel", "rules", loadedProof={"annotation": {}})
    sim.publish("a")
    sim.run(300)


def carried_to_a_crash(sim: Simulation) -> None:
    """Our pods carry content on which the agent of someone else crashes, and runs again."""
    carried.install(sim)
    sim.run(10)
    sim.patch("Channel", "rules", **carried.SELECTED)
    sim.publish("a")
    sim.until("a soak", lambda: in_state(sim, WaveState.Soaking))
    carried.crash(sim, "canary-1")
    carried.recover(sim, "canary-1")
    sim.run(300)


def carried_to_a_crash_loop(sim: Simulation) -> None:
    """The same, and what is left of the content on the host keeps that agent in a crash loop."""
    carried.install(sim)
    sim.patch("Channel", "rules", **carried.SELECTED)
    sim.publish("a")
    sim.until_phase("a", "Completed", 600)
    sim.publish("b")
    sim.until("b soaks", lambda: in_state(sim, WaveState.Soaking))
    carried.crash(sim, "canary-1")
    sim.until_phase("b", "Reverted", 900)


def fenced_by_hand(sim: Simulation) -> None:
    """A person points the candidate's DaemonSet at no node."""
    sim.publish("a")
    sim.until_phase("a", "Completed", 600)
    sim.publish("b")
    promises.until_moved(sim, 3)
    body = sim.daemon_set_of(sim.record.rollout.attempt)
    rule = [{"key": sim.key, "operator": o} for o in ("Exists", "DoesNotExist")]
    template = body["spec"]["template"]
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    node = {required: {"nodeSelectorTerms": [{"matchExpressions": rule}]}}
    affinity = {**template["spec"]["affinity"], "nodeAffinity": node}
    new = {**template, "spec": {**template["spec"], "affinity": affinity}}
    spec = {**body["spec"], "template": new}
    sim.act(lambda: sim.server.update("people", "daemonsets", body, spec=spec))
    sim.run(60)


def channel_deleted(sim: Simulation) -> None:
    """The channel is deleted when all is quiet."""
    sim.publish("a")
    sim.until_phase("a", "Completed", 600)
    sim.delete("Channel", "rules")
    sim.run(60)


def release_after_a_bad_agent(sim: Simulation) -> None:
    """A new agent crashes and is taken back; the channel still has its template."""
    sim.publish("a")
    sim.until_phase("a", "Completed", 600)
    sim.harm("bad agent", crash_loops())
    sim.patch("Channel", "rules", agent=scenarios_agent.template("bad agent"))
    sim.until("it is taken back", lambda: bool(sim.record.failed_agents))
    sim.publish("b")
    sim.until_phase("b", "Completed", 4_000)


def newer_than_an_agent(sim: Simulation) -> None:
    """A release comes while a new agent is in its first wave."""
    sim.publish("a")
    sim.until_phase("a", "Completed", 600)
    sim.patch("Channel", "rules", agent=scenarios_agent.template("agent 2"))
    sim.until("the canary soaks", lambda: in_state(sim, WaveState.Soaking))
    sim.publish("b")
    sim.until_phase("b", "Completed", 4_000)


def kinds(sim: Simulation) -> None:
    """A good release for workers of two kernels, and for two nodes of the control plane."""
    sim.add_nodes("workers", 3, "newer", kernelVersion="6.18.1")
    sim.add_nodes("workers", 2, "master", labels={CONTROL_PLANE_LABEL: ""})
    sim.run(30)
    sim.publish("a")
    sim.until_phase("a", "Completed", 900)


def dns_on_two(sim: Simulation) -> None:
    """A good release, where CoreDNS runs on two of the workers."""
    serve(sim, "kube-system/kube-dns", ["workers-1", "workers-2"])
    sim.publish("a")
    sim.until_phase("a", "Completed", 900)


def in_state(sim: Simulation, state: WaveState) -> bool:
    rollout = sim.record.rollout
    return bool(rollout and rollout.waves and rollout.waves[-1].state is state)


# The bugs


def moves_one_more(patch) -> None:
    """Whenever a node is moved, so is one that stands in no ledger."""
    move = Store.move_node

    async def both(self, name, uid, attempt) -> None:
        await move(self, name, uid, attempt)
        other = await self._client.get(paths.node("workers-1"))
        await move(self, "workers-1", other["metadata"]["uid"], attempt)

    patch.setattr(Store, "move_node", both)


def opens_the_next_wave_early(patch) -> None:
    """A wave that soaks opens the next one."""
    advance = soak.advance

    def hasty(obs, rollout, findings, now) -> Step | None:
        if rollout.waves[-1].state is WaveState.Soaking and len(rollout.waves) < 2:
            return save(obs.record, rollout.with_next_wave())
        return advance(obs, rollout, findings, now)

    patch.setattr(soak, "advance", hasty)


def moves_all_at_once(patch) -> None:
    """The exposure rule has no limit."""
    measure = exposure.measure
    patch.setattr(exposure, "measure", lambda *a: replace(measure(*a), limit=1_000))


def takes_a_stratum_at_once(patch) -> None:
    """It does not ask what kind of machine a node is."""
    patch.setattr(choice, "one_of_each", lambda _obs, _rollout, nodes: ([], list(nodes)))


def takes_all_of_a_workload(patch) -> None:
    """A wave takes whatever nodes it comes to."""
    patch.setattr(workloads, "within", lambda _obs, _rollout, nodes: list(nodes))


def takes_the_control_plane_along(patch) -> None:
    """A node of the control plane comes when its pool does."""

    def has(self, wave, node) -> bool:
        return not self.pools_of(node).isdisjoint(wave.pools)

    patch.setattr(groups.Groups, "has", has)


def takes_the_past_for_a_persons_deed(patch) -> None:
    """A node that was labelled, and is seen without, surely lost its label."""
    patch.setattr(labels, "doubtful_since", lambda *_: None)


def moves_on_after_a_fail(patch) -> None:
    """A revert moves the rest of the wave first."""
    advance = revert.advance

    def stubborn(obs, rollout, now) -> Step:
        left = exposure.measure(obs, rollout, now).unmoved[:1]
        if left:
            return Step(actions=(MoveNodes(((left[0].name, left[0].uid),), rollout.attempt),))
        return advance(obs, rollout, now)

    patch.setattr(revert, "advance", stubborn)


def starts_in_the_cool_down(patch) -> None:
    """A revert keeps nobody waiting, as long as the breaker is closed."""
    patch.setattr(cooldown, "_cooling", lambda *_: (None, 0.0))


def has_no_breaker(patch) -> None:
    """However many were taken back, the next one starts."""
    patch.setattr(cooldown, "_tripped", lambda *_: ())


def follows_the_channel(patch) -> None:
    """A plan is what the channel says now."""

    def follow(obs, rollout):
        plan = queue.freeze(obs.channel)
        return rollout if plan == rollout.plan else replace(rollout, plan=plan)

    patch.setattr(edits, "apply", follow)


def looks_at_the_block_list_at_the_start_only(patch) -> None:
    """What starts goes on, whatever is blocked meanwhile."""
    ended = decide._ended_by_person

    def deaf(obs, rollout):
        end = ended(obs, rollout)
        return None if end and end[0] is Reason.DigestBlocked else end

    patch.setattr(decide, "_ended_by_person", deaf)


def soaks_without_its_drill(patch) -> None:
    """A drill is wanted, and none is begun."""
    patch.setattr(drill, "is_due", lambda *_: False)


def does_not_look_at_what_went_back(patch) -> None:
    """The node of a drill gets the candidate again as soon as it has lost its label."""
    patch.setattr(drill, "_lacks", lambda *_: ())


def drills_when_all_are_moved(patch) -> None:
    """The drill begins with the wave's last node instead of its first."""
    begin = drill._begin

    def late(obs, rollout, measured, now):
        return None if measured.unmoved else begin(obs, rollout, measured, now)

    patch.setattr(drill, "_begin", late)


def fails_each_drill(patch) -> None:
    """A node that went back has no time to be well there."""
    problem = drill._problem

    def hasty(obs, rollout, drilling, now):
        away = drilling.back_since is not None and drilling.is_away
        return problem(obs, rollout, drilling, now) or "it is not back" * away

    patch.setattr(drill, "_problem", hasty)


def forgets_other_channels(patch) -> None:
    """No node is ever busy."""
    patch.setattr(claims, "busy", lambda *_: {})


def waits_for_another_channel_for_ever(patch) -> None:
    """A wave that waits keeps its own nodes meanwhile."""
    since = busy._stopped_since
    patch.setattr(
        busy, "_stopped_since", lambda obs, *more: since(replace(obs, busy_since=None), *more)
    )


def claims_before_it_has_chosen(patch) -> None:
    """A wave that was free claims what it had, and then looks for what it needs."""
    returned = busy.returned

    def hasty(obs, rollout):
        wave = rollout.waves[-1]
        chooses = wave.freed_at is not None and wave.ledger not in obs.ledgers
        anew = save(obs.record, rollout.with_wave(freed_at=None)) if chooses else None
        return anew or returned(obs, rollout)

    patch.setattr(busy, "returned", hasty)


def blocks_the_digest_only(patch) -> None:
    """What agents load may come back in another image."""
    patch.setattr(Record, "block_of", lambda record, digest, _loaded="": by_digest(record, digest))


def by_digest(record: Record, digest: str) -> Blocked | None:
    return next((entry for entry in record.blocked if entry.digest == digest), None)


def replaces_whatever_runs(patch) -> None:
    """The newest always takes the place of what rolls out."""
    patch.setattr(succession, "_kept_by", lambda *_: "")


def replaces_again_and_again(patch) -> None:
    """What has replaced another is replaced itself."""
    patch.setattr(succession, "_has_replaced", lambda _: False)


def replaces_an_agent(patch) -> None:
    """A change of the agent is replaced in its first wave as any release is."""
    kept = succession._kept_by

    def blind(obs, rollout):
        release = replace(rollout.candidate, release_uid="a release")
        return kept(obs, replace(rollout, candidate=release))

    patch.setattr(succession, "_kept_by", blind)


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


def cordons_what_it_moves(patch) -> None:
    """A move writes more than the label."""
    move = Store.move_node

    async def cordon(self, name, uid, attempt) -> None:
        await self._client.patch(paths.node(name), {"spec": {"unschedulable": True}})
        await move(self, name, uid, attempt)

    patch.setattr(Store, "move_node", cordon)


def rolls_pods_on_template_changes(patch) -> None:
    """The DaemonSet controller takes OnDelete for RollingUpdate. (A revision that is made with
    RollingUpdate would not get past the operator's proof of the way back.)
    """
    patch.setattr(daemonsets, "_rolling", lambda _set: True)


def begins_without_a_proof(patch) -> None:
    """The way back is never tried."""
    patch.setattr(way_back, "is_due", lambda *_: False)
    patch.setattr(way_back, "is_proven", lambda *_: True)


def leaves_the_anti_affinity_out(patch) -> None:
    """Nothing keeps two agents from one node."""
    patch.setattr(templates, "_one_agent_per_node", lambda affinity, _label: dict(affinity))


def says_the_same_again(patch) -> None:
    """Status is written whether it says something new or not."""
    patch.setattr(statuses, "_same", lambda *_: False)


def keeps_the_reason_to_itself(patch) -> None:
    """A fail is stored without a message."""
    patch.setattr(revert, "_summary", lambda *_: "")


def forgets_unlabelled_nodes(patch) -> None:
    """Stable wants nodes that carry some label of ours: all that ever had a release."""
    rule = templates._rule

    def wrong(key, target, attempt):
        made = rule(key, target, attempt)
        return [*made, {"key": key, "operator": "Exists"}] if target is Target.NOT_IN else made

    patch.setattr(templates, "_rule", wrong)


def points_stable_at_the_candidates_nodes(patch) -> None:
    """In and NotIn are mixed up for stable."""
    rule = templates._rule

    def wrong(key, target, attempt):
        return rule(key, Target.IN if target is Target.NOT_IN else target, attempt)

    patch.setattr(templates, "_rule", wrong)


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


def takes_the_agent_along(patch) -> None:
    """A channel that is gone takes its stable DaemonSet with it."""
    tidy = decide._tidy

    def eager(obs) -> Step:
        if obs.channel is None and obs.revision(obs.record.stable):
            return Step(actions=(Forget(revision=obs.record.stable.attempt),))
        return tidy(obs)

    patch.setattr(decide, "_tidy", eager)


def gives_a_release_the_new_agent(patch) -> None:
    """A release takes the channel's template as it is, whatever stable was made from."""
    patch.setattr(agent_template, "_carried", lambda _obs: None)


@dataclass(frozen=True, slots=True)
class Mutation:
    """A bug, the run that shows it, and the numbers of the invariants: DESIGN's, and reported."""

    number: int
    bug: Bug
    run: Callable[[], None]
    reported: int = 0

    def __str__(self) -> str:
        return f"{self.number}-{self.bug.__name__}"


def on(play: Callable[[Simulation], None]) -> Callable[[], None]:
    """A run under the Guard."""
    return lambda: promises.guarded(play)


def paused(hold: str) -> Callable[[], None]:
    return lambda: promises.a_pause_never_stops_reverting(hold)


MUTATIONS = (
    Mutation(1, moves_one_more, on(good)),
    Mutation(11, gives_a_release_the_new_agent, on(release_after_a_bad_agent)),
    Mutation(2, opens_the_next_wave_early, on(good)),
    Mutation(2, begins_without_a_proof, on(good)),
    Mutation(2, follows_the_channel, on(edited)),
    Mutation(4, looks_at_the_block_list_at_the_start_only, on(blocked)),
    Mutation(4, blocks_the_digest_only, on(rebuilt)),
    Mutation(2, soaks_without_its_drill, on(drilled)),
    Mutation(2, does_not_look_at_what_went_back, on(drilled)),
    Mutation(2, drills_when_all_are_moved, on(one_of_three_drilled)),
    Mutation(14, fails_each_drill, on(drilled)),
    Mutation(3, moves_all_at_once, on(good)),
    Mutation(3, takes_a_stratum_at_once, on(kinds)),
    Mutation(3, takes_the_control_plane_along, on(kinds)),
    Mutation(3, takes_all_of_a_workload, on(dns_on_two)),
    *(Mutation(3, bug, on(play)) for bug, play in plays_of_turns.BUGS),
    Mutation(3, takes_the_past_for_a_persons_deed, promises.two_leaders_move_no_more_than_one),
    Mutation(4, moves_on_after_a_fail, on(bad)),
    Mutation(4, starts_in_the_cool_down, on(bad_then_good)),
    Mutation(4, has_no_breaker, on(bad_twice)),
    Mutation(4, goes_on_without_a_stratum, on(bad_on_one_kernel)),
    Mutation(5, waits_for_nodes_before_it_fences, promises.a_fence_costs_two_writes),
    Mutation(6, passes_on_time_alone, on(dead_in_the_soak)),
    Mutation(6, believes_in_stable, on(bad_on_stable_too)),
    Mutation(6, passes_on_nothing, on(canary_drained)),
    Mutation(6, takes_a_crash_on_a_cordoned_node_for_its_reboot, on(crash_on_a_cordoned_canary)),
    Mutation(6, passes_while_a_bootid_is_awaited, on(crash_on_a_cordoned_canary)),
    Mutation(6, believes_without_a_report, on(silent_agent)),
    Mutation(6, looks_at_its_own_pods_only, on(carried_to_a_crash)),
    Mutation(6, ends_a_revert_by_its_own_pods, on(carried_to_a_crash_loop)),
    Mutation(8, forgets_a_half_done_revert, promises.kills_change_nothing),
    Mutation(9, cordons_what_it_moves, on(good)),
    Mutation(10, rolls_pods_on_template_changes, on(good)),
    Mutation(11, leaves_the_anti_affinity_out, on(good)),
    Mutation(12, says_the_same_again, promises.a_quiet_cluster_gets_no_writes),
    Mutation(14, keeps_the_reason_to_itself, on(bad)),
    Mutation(15, forgets_unlabelled_nodes, promises.without_the_operator_all_stays),
    Mutation(16, points_stable_at_the_candidates_nodes, on(good)),
    Mutation(17, believes_one_node, on(one_liar)),
    Mutation(17, blames_what_never_ran, promises.what_cannot_be_fetched_leaves_no_node_bare),
    Mutation(
        16, leaves_it_where_it_cannot_start, promises.what_cannot_be_fetched_leaves_no_node_bare
    ),
    Mutation(13, forgets_other_channels, on(two_channels)),
    Mutation(19, waits_for_another_channel_for_ever, promises.a_circle_of_channels_ends),
    Mutation(19, claims_before_it_has_chosen, promises.a_circle_of_channels_ends),
    Mutation(18, undoes_a_fence_of_people, on(fenced_by_hand)),
    *(Mutation(19, pauses_before_it_looks, paused(hold)) for hold in promises.HOLDS),
    Mutation(19, replaces_whatever_runs, on(newer_in_the_second_wave)),
    Mutation(19, replaces_again_and_again, on(newer_each_moment)),
    Mutation(19, replaces_an_agent, on(newer_than_an_agent)),
    Mutation(20, takes_the_agent_along, on(channel_deleted), reported=16),
)
RUNS = {
    "good": on(good),
    "bad": on(bad),
    "bad then good": on(bad_then_good),
    "bad twice": on(bad_twice),
    "edited": on(edited),
    "blocked": on(blocked),
    "two channels": on(two_channels),
    "rebuilt": on(rebuilt),
    "drilled": on(drilled),
    "one of three drilled": on(one_of_three_drilled),
    "bad on one kernel": on(bad_on_one_kernel),
    "newer in the second wave": on(newer_in_the_second_wave),
    "newer each moment": on(newer_each_moment),
    "newer than an agent": on(newer_than_an_agent),
    "release after a bad agent": on(release_after_a_bad_agent),
    "bad on stable too": on(bad_on_stable_too),
    "one liar": on(one_liar),
    "dead in the soak": on(dead_in_the_soak),
    "canary drained": on(canary_drained),
    "crash on a cordoned canary": on(crash_on_a_cordoned_canary),
    "silent agent": on(silent_agent),
    "carried to a crash": on(carried_to_a_crash),
    "carried to a crash loop": on(carried_to_a_crash_loop),
    "fenced by hand": on(fenced_by_hand),
    "channel deleted": on(channel_deleted),
    "kinds": on(kinds),
    "dns on two": on(dns_on_two),
    **{play.__name__: on(play) for _, play in plays_of_turns.BUGS},
    "two leaders": promises.two_leaders_move_no_more_than_one,
    "nothing to fetch": promises.what_cannot_be_fetched_leaves_no_node_bare,
    "circle": promises.a_circle_of_channels_ends,
    "fence": promises.a_fence_costs_two_writes,
    "kills": promises.kills_change_nothing,
    "quiet": promises.a_quiet_cluster_gets_no_writes,
    "no operator": promises.without_the_operator_all_stays,
    **{hold: paused(hold) for hold in promises.HOLDS},
}


@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_a_bug_makes_the_test_of_its_invariant_red(mutation, monkeypatch) -> None:
    mutation.bug(monkeypatch)
    with pytest.raises(BrokenInvariant) as broken:
        mutation.run()
    assert broken.value.number == (mutation.reported or mutation.number)


@pytest.mark.parametrize("run", RUNS)
def test_without_a_bug_each_of_these_runs_is_green(run) -> None:
    RUNS[run]()


def test_a_fence_costs_as_much_for_thirty_nodes_as_for_six() -> None:
    promises.a_fence_costs_two_writes(30)


def test_each_invariant_of_the_design_has_a_bug_or_is_owed() -> None:
    shown = {mutation.number for mutation in MUTATIONS}
    assert shown | set(OWED) == set(range(1, 21))
    assert {number for number, _ in CHECKS} <= shown
