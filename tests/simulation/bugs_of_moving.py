"""Bugs for test_mutations: what starts, who is moved and when, and what is written."""

from dataclasses import replace

from simulation import daemonsets
from wavegate.api import Reason, WaveState
from wavegate.cluster import paths
from wavegate.cluster import status as statuses
from wavegate.cluster.store import Store
from wavegate.controller import claims
from wavegate.rollout import (
    agent_template,
    blocks,
    busy,
    choice,
    cooldown,
    decide,
    drill,
    edits,
    exposure,
    groups,
    labels,
    prefetch,
    prepare,
    queue,
    soak,
    succession,
    suspects,
    templates,
    way_back,
    workloads,
)
from wavegate.rollout.attempt import Revision
from wavegate.rollout.record import Blocked, Record
from wavegate.rollout.steps import Forget, Step, Target, save


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
    patch.setattr(Record, "block_of", lambda record, digest, *_: by_digest(record, digest))


def blocks_no_layers(patch) -> None:
    """What is blocked is not known again by its layers."""
    add = blocks.add
    patch.setattr(blocks, "add", lambda record, entry: add(record, replace(entry, layers=())))


def starts_without_layers(patch) -> None:
    """An attempt does not know the layers of its content: they are looked at before its start."""
    start = queue.start

    def forgetful(*args):
        rollout = start(*args)
        return replace(rollout, candidate=replace(rollout.candidate, layers=()))

    patch.setattr(queue, "start", forgetful)


def blocks_the_base_too(patch) -> None:
    """Of what is blocked, also what it shares with content that runs well may not return."""
    other = Revision("", "", "", "", "", 0, "", 0.0, layers=("sha256:other",))
    patch.setattr(blocks, "_running_well", lambda *_: (other,))


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


def pulls_by_what_runs(patch) -> None:
    """What pulls images ahead runs the agent's own program."""
    made = prefetch._pod

    def running(*args):
        pod = made(*args)
        containers = [{**c, "command": ["/agent"]} for c in pod["spec"]["containers"]]
        return {**pod, "spec": {**pod["spec"], "containers": containers}}

    patch.setattr(prefetch, "_pod", running)


def pulls_on_all_at_once(patch) -> None:
    """There is no limit to how many nodes pull."""
    patch.setattr(prefetch, "AT_ONCE", 1_000)


def pulls_while_it_moves(patch) -> None:
    """Images are pulled ahead as soon as a wave is open."""
    due = prefetch.due

    def early(obs, now):
        soaking = obs.record.rollout.with_wave(state=WaveState.Soaking)
        return due(replace(obs, record=replace(obs.record, rollout=soaking)), now)

    patch.setattr(prefetch, "due", early)


def gives_a_start_up_without_a_word(patch) -> None:
    """What kept a release from starting is not stored."""
    give_up = prepare._give_up

    def silent(obs, rollout, problem, now) -> Step:
        return give_up(obs, rollout, replace(problem, message=""), now)

    patch.setattr(prepare, "_give_up", silent)


def drills_in_the_plans_first_wave_only(patch) -> None:
    """Where that has no nodes, there is no drill."""
    patch.setattr(drill, "is_first", lambda rollout: rollout.wave == 0)


def takes_a_name_for_a_machine(patch) -> None:
    """A stalled node that was rebooted or replaced is what it was."""
    patch.setattr(suspects, "booted_anew", lambda _obs, _rollout: frozenset())
