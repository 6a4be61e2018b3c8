"""Which release is next, and what keeps it from starting. The newest (highest sequence) wins."""

from collections.abc import Sequence

from wavegate.api import (
    Channel,
    ChannelSpec,
    ContentKind,
    HostState,
    OnFailure,
    Phase,
    Reason,
    Release,
    Severity,
)
from wavegate.evidence import CheckSpec, LoadedProof, NodeView, presets
from wavegate.evidence.loaded import PROOF_CHECK
from wavegate.rollout import agent_template, groups, lost, twice
from wavegate.rollout.attempt import Plan, Revision, Rollout
from wavegate.rollout.compatible import version_problem
from wavegate.rollout.names import (
    HANDS_OFF_ANNOTATION,
    attempt_id,
    content_name,
    daemon_set_name,
    record_name,
)
from wavegate.rollout.observation import Observation
from wavegate.rollout.placement import membership
from wavegate.rollout.record import Blocked, Record
from wavegate.rollout.steps import Problem
from wavegate.rollout.templates import find_problem


def channel_problem(obs: Observation) -> Problem | None:
    """Say what is wrong with the channel itself; None when releases may start on it."""
    return obs.once(_channel_problem)


def _channel_problem(obs: Observation) -> Problem | None:
    channel = obs.channel
    if channel is None:
        return None
    return (
        _hands_off(obs)
        or _forbidden(obs)
        or lost.problem(obs)
        or _stable_gone(obs)
        or _agent_problem(obs, channel)
        or twice.problem(obs, channel)
        or _policy_problem(obs, channel)
    )


def release_problem(obs: Observation, release: Release) -> Problem | None:
    """Say what is wrong with a release on this (healthy) channel; None when it may start."""
    channel = obs.channel
    if channel is None:
        return Problem(
            Reason.UnknownChannel,
            f"spec.channel: there is no SecurityContentChannel {release.spec.channel!r} in "
            f"namespace {obs.namespace}. Create it, or correct the name in a new release.",
        )
    unfit = version_problem(agent_template.template_of_release(obs), release)
    if unfit is not None:
        return unfit
    wants_map = channel.spec.content.kind is ContentKind.ConfigMap
    if wants_map != (release.spec.content.config_map is not None):
        field = "configMap" if wants_map else "image"
        return Problem(
            Reason.ContentMismatch,
            f"spec.content: channel {channel.name} binds content as {channel.spec.content.kind}, "
            f"so a release must name spec.content.{field}.",
        )
    return _content_problem(obs, release) if wants_map else None


def digest_of(obs: Observation, release: Release) -> str:
    """The digest of a release's content; empty when its ConfigMap does not exist."""
    if release.digest:
        return release.digest
    content = obs.contents.get(release.spec.content.reference)
    return content.digest if content else ""


def loaded_of(release: Release) -> str:
    """What its release says that agents report which have loaded it; empty when it says nothing."""
    return release.spec.content.loaded_digest or ""


def block_of(obs: Observation, release: Release) -> Blocked | None:
    """What keeps its content from this channel; None when nothing does. Its layers are those that
    it lists: no registry is read.
    """
    layers = release.spec.content.layers
    return obs.record.block_of(digest_of(obs, release), loaded_of(release), layers)


def eligible(obs: Observation) -> Sequence[Release]:
    """Releases that may start, the newest first."""
    return obs.once(_eligible)


def _eligible(obs: Observation) -> list[Release]:
    lowest = obs.record.highest_sequence
    ready = [
        release
        for release in obs.releases
        if not release.deletion_timestamp
        and not release.spec.suspend
        and release.spec.sequence > lowest
        and release_problem(obs, release) is None
        and block_of(obs, release) is None
    ]
    return sorted(ready, key=lambda release: (release.spec.sequence, release.uid), reverse=True)


def is_open(obs: Observation, release: Release) -> bool:
    """Whether a release may still start one day."""
    return not release.deletion_timestamp and release.spec.sequence > obs.record.highest_sequence


def overtaken_by(record: Record, release: Release) -> str:
    """Name of the release that started while this one waited, with a sequence that is as high; ""
    when that was before this one was made. The first start that is remembered counts, so that the
    answer stays. The apiserver's timestamps are rounded down to whole seconds.
    """
    starts = [(o.started_at, o.release, o.sequence) for o in record.outcomes if not o.agent]
    if record.rollout is not None and not record.rollout.candidate.is_agent:
        running = record.rollout.candidate
        starts.append((record.rollout.started_at, running.release, running.sequence))
    passed = (start for start in starts if start[2] >= release.spec.sequence)
    at, name, _ = min(passed, default=(0.0, "", 0))
    return name if at >= release.created else ""


def start(obs: Observation, channel: Channel, release: Release, now: float) -> Rollout:
    """Freeze the plan of a new attempt."""
    attempt = attempt_id(release.uid, obs.record.attempts + 1, now)
    candidate = Revision(
        attempt=attempt,
        daemon_set=daemon_set_name(channel.name, attempt),
        release=release.name,
        release_uid=release.uid,
        version=release.spec.version,
        sequence=release.spec.sequence,
        digest=digest_of(obs, release),
        since=now,
        loaded=loaded_of(release),
        agent=agent_template.of_release(obs),
        layers=release.spec.content.layers,
    )
    template = agent_template.template_of_release(obs)
    carriers = obs.carriers(template) if template is not None else obs.nodes
    severity, nodes = severity_of(channel, release), tuple(carriers.values())
    plan = freeze(channel, severity, obs.soak_floor, nodes)
    return Rollout(candidate, plan, Phase.Pending, started_at=now)


def start_agent(obs: Observation, channel: Channel, stable: Revision, now: float) -> Rollout:
    """Freeze the plan of an agent's change."""
    candidate = agent_template.candidate(obs, channel, stable, now)
    template = obs.agent.template
    carriers = obs.carriers(template) if template is not None else obs.nodes
    plan = freeze(channel, floor=obs.soak_floor, nodes=tuple(carriers.values()))
    return Rollout(candidate, plan, Phase.Pending, started_at=now)


def agents_turn(obs: Observation, channel: Channel, now: float) -> Rollout | None:
    """A change of the agent, if it is next: it goes before releases, which may need it."""
    stable = obs.record.stable
    if stable is None or not agent_template.is_next(obs):
        return None
    return start_agent(obs, channel, stable, now)


def next_start(obs: Observation, channel: Channel, now: float) -> Rollout | None:
    """What starts next, if anything may."""
    agent = agents_turn(obs, channel, now)
    if agent is not None:
        return agent
    ready = eligible(obs)
    return start(obs, channel, ready[0], now) if ready else None


def severity_of(channel: Channel | None, release: Release) -> Severity:
    """How much counts of what a release claims: no more than the channel's owner lets."""
    most = channel.spec.rollout.max_severity if channel else Severity.Routine
    return release.spec.severity.capped(most)


def freeze(
    channel: Channel,
    severity: Severity = Severity.Routine,
    floor: float = 0.0,
    nodes: Sequence[NodeView] = (),
) -> Plan:
    """The plan that this channel's spec means now, for a release of this (capped) severity and
    `nodes` that would carry the agent; no default soak is shortened below `floor` (s).
    """
    rollout = channel.spec.rollout
    waves, prometheus = channel.spec.planned_waves(severity, floor), channel.spec.prometheus
    by_default = not channel.spec.waves
    return Plan(
        pools=channel.spec.pools,
        waves=groups.expand(channel.spec.pools, waves, nodes, by_default=by_default),
        max_unavailable=rollout.max_unavailable,
        settle=float(rollout.settle),
        progress_deadline=float(rollout.progress_deadline),
        hold_timeout=float(rollout.hold_timeout),
        on_failure=OnFailure(rollout.on_failure),
        checks=tuple(presets.resolve(check) for check in channel.spec.checks),
        prometheus=(prometheus.url if prometheus else "") or "",
        connection=(prometheus.connection if prometheus else "") or "",
        bake=float(rollout.bake),
        loaded_proof=_loaded_proof(channel),
        outlives_pod=channel.spec.content.host_state is not HostState.Nothing,
        agents=channel.spec.agent_selector.query if channel.spec.agent_selector else "",
        severity=severity,
        drill=rollout.drill,
        critical_services=tuple(sorted({w.key for w in rollout.critical_workloads})),
    )


def content_reference(release: Release, digest: str) -> str:
    """What the template binds: the image, or the name of our own copy of the ConfigMap."""
    return release.spec.content.image or content_name(digest)


def _loaded_proof(channel: Channel) -> LoadedProof | None:
    proof = channel.spec.loaded_proof
    if proof is None:
        return None
    if proof.metric is None:
        return LoadedProof(annotation=proof.annotation.name if proof.annotation else "")
    metric = CheckSpec(
        name=PROOF_CHECK,
        query=proof.metric.series,
        per_node=True,
        node_label=proof.metric.node_label,
        max=None,
        interval=float(proof.metric.interval),
        timeout=float(proof.metric.timeout),
        max_age=float(proof.metric.max_age),
        age_of=proof.metric.series,
    )
    return LoadedProof(metric=metric, digest_label=proof.metric.digest_label)


def _hands_off(obs: Observation) -> Problem | None:
    if not obs.hands_off:
        return None
    return Problem(
        Reason.HandsOff,
        f"Annotation {HANDS_OFF_ANNOTATION} is on this channel: nothing but status is written, and "
        "nothing is reverted. Remove it, and the operator goes on from what is there.",
    )


def _forbidden(obs: Observation) -> Problem | None:
    return Problem(Reason.NamespaceNotBound, obs.forbidden) if obs.forbidden else None


def _stable_gone(obs: Observation) -> Problem | None:
    stable = obs.record.stable
    if stable is None or obs.revision(stable) is not None:
        return None
    found = lost.adoptable(obs)
    if found is not None:
        return Problem(
            Reason.StateLost,
            f"DaemonSet {stable.daemon_set}, the stable revision, is gone. No rollout starts. "
            f"Restore it, or delete ConfigMap {record_name(obs.name)}: then DaemonSet "
            f"{found.name}, which is for all nodes, is adopted as stable.",
        )
    return Problem(
        Reason.StateLost,
        f"DaemonSet {stable.daemon_set}, the stable revision, is gone. No rollout starts. "
        f"Restore it, or delete ConfigMap {record_name(obs.name)}, and any other DaemonSet of this "
        "channel, to begin anew.",
    )


def _agent_problem(obs: Observation, channel: Channel) -> Problem | None:
    agent, reference = obs.agent, channel.spec.agent.daemon_set_ref
    if agent.missing:
        return Problem(
            Reason.AgentTemplateNotFound,
            f"spec.agent.daemonSetRef.name: there is no DaemonSet {agent.missing!r} in namespace "
            f"{obs.namespace}. Create it parked (nodeSelector wavegate.dev/parked: 'true'), or "
            "give spec.agent.template.",
        )
    if agent.running_pods and reference:
        return Problem(
            Reason.AgentAlreadyRunning,
            f"spec.agent.daemonSetRef: DaemonSet {reference.name} runs on {agent.running_pods} "
            "nodes itself, and two agents would meet on each. Park it with the nodeSelector "
            "wavegate.dev/parked: 'true', which Wavegate leaves out of its revisions.",
        )
    if agent.template is None:  # frozen in the candidate long ago
        return None
    problem = obs.kept.of(find_problem, agent.template, channel.spec)
    if problem is None and agent.refused:
        return Problem(Reason.InvalidTemplate, f"spec.agent: {agent.refused}")
    return problem


def _policy_problem(obs: Observation, channel: Channel) -> Problem | None:
    for index, wave in enumerate(obs.kept.of(ChannelSpec.planned_waves, channel.spec)):
        if wave.soak is not None and wave.soak < obs.soak_floor:
            own = channel.spec.waves and channel.spec.waves[index].soak
            field = f"spec.waves[{index}].soak" if own else "spec.rollout.soak"
            return Problem(
                Reason.SoakBelowFloor,
                f"{field}: {wave.soak} is shorter than the operator's floor of "
                f"{obs.soak_floor:.0f} s (setting WAVEGATE_SOAK_FLOOR). Give a longer soak.",
            )
    empty = _empty_pools(obs, channel)
    for pool in channel.spec.pools:
        if pool.name in empty:
            return Problem(
                Reason.PoolMatchesNoNode,
                f"spec.pools: pool {pool.name!r} selects no node. Correct its selector, label "
                "nodes, or remove the pool.",
            )
    return None


def _empty_pools(obs: Observation, channel: Channel) -> set[str]:
    pools_of = membership(channel.spec.pools)
    empty = {pool.name for pool in channel.spec.pools}
    for node in obs.nodes.values():
        empty -= pools_of(node)
        if not empty:
            break
    return empty


def _content_problem(obs: Observation, release: Release) -> Problem | None:
    name = release.spec.content.reference
    content = obs.contents.get(name)
    if content is None and obs.forbidden:  # not looked for
        return None
    if content is None:
        return Problem(
            Reason.ContentNotFound,
            f"spec.content.configMap.name: there is no ConfigMap {name!r} in namespace "
            f"{obs.namespace}. Create it with `immutable: true`.",
        )
    if not content.immutable:
        return Problem(
            Reason.ContentMutable,
            f"spec.content.configMap.name: ConfigMap {name!r} is not immutable. Set "
            "`immutable: true` on it, so that what is rolled out can't change on the way.",
        )
    return None
