"""Templates that are the same though their digests differ: nothing is rolled out for those.

A parked DaemonSet is read as the apiserver shows it, with its defaults, and a newer apiserver may
add one: then the digest is another, and nobody has changed anything. Two things tell: nobody wrote
its spec since we looked last (uid and generation, which defaults don't change), or what we would
send for stable now is what stable's DaemonSet holds, which the same apiserver completes. In a
template that is written inline a person may write out a default: then what a dry run would make of
it is what stable's DaemonSet holds. So the digest by which the record knows the template is
replaced by the new one, also where it failed.
"""

from collections.abc import Iterator
from dataclasses import replace

from wavegate.rollout.agent_template import current, stable_reference
from wavegate.rollout.attempt import Revision
from wavegate.rollout.names import ATTEMPT_LABEL
from wavegate.rollout.observation import Observation
from wavegate.rollout.record import Record
from wavegate.rollout.templates import bind, find_problem, revision_template


def known(obs: Observation) -> Record:
    """The record with all that is known of stable's template; the very same if that is no news.

    Of a stable that an older version made nobody can say what it was made from: the present
    template is taken for it, and no rollout starts.
    """
    record, view, now = obs.record, obs.revision(obs.record.stable), current(obs)
    if record.stable is None:
        return record
    if not record.stable.agent:
        said = (view.agent if view is not None else "") or now
        return replace(record, stable=replace(record.stable, agent=said)) if said else record
    for same in _digests_of_the_same(obs):
        record = _renamed(record, same, now)
    source = _source(obs)
    if not source or record.template_seen == (source, now):
        return record
    return replace(record, template_seen=(source, now))


def assumed(obs: Observation) -> bool:
    """Whether stable's template was only taken for the present one, see `known`."""
    stable, view = obs.record.stable, obs.revision(obs.record.stable)
    if stable is None or not stable.agent or view is None or view.agent:
        return False
    return stable.agent == current(obs) and not _is_what_stable_holds(obs)


def _digests_of_the_same(obs: Observation) -> Iterator[str]:
    """Other digests by which the present template is known."""
    (source, before), stable, now = obs.record.template_seen, obs.record.stable, current(obs)
    if now and source and source == _source(obs) and before != now:
        yield before
    if now and stable is not None and stable.agent != now and _is_what_stable_runs(obs):
        yield stable.agent


def _source(obs: Observation) -> str:
    """What changes with each edit of a parked DaemonSet or of the binding; empty: none is there."""
    if obs.channel is None or not obs.agent.source or not current(obs):
        return ""
    content = obs.channel.spec.content
    return f"{obs.agent.source} {content.kind} {content.target}"


def _is_what_stable_runs(obs: Observation) -> bool:
    """Whether a revision of the present template would be what stable's is."""
    return _is_what_stable_holds(obs) or _is_completed_to_it(obs)


def _is_completed_to_it(obs: Observation) -> bool:
    """Whether the apiserver, by a dry run, makes of it what it shows of stable's DaemonSet; but for
    attempt and content, which the dry run had others of.
    """
    stable, channel, completed = obs.record.stable, obs.channel, obs.agent.completed
    view = obs.revision(stable)
    if stable is None or channel is None or completed is None or view is None:
        return False
    if obs.agent.refused:  # what is completed may lack what content binds to
        return False
    reference = stable_reference(obs, channel.spec)
    if not reference:
        return False
    bound = bind(completed, channel.spec, reference)
    bound["metadata"]["labels"][ATTEMPT_LABEL] = stable.attempt
    return bound == view.template


def _is_what_stable_holds(obs: Observation) -> bool:
    """Whether stable's DaemonSet, as the apiserver shows it, is what we would make of it now."""
    stable, channel, template = obs.record.stable, obs.channel, obs.agent.template
    view = obs.revision(stable)
    if stable is None or channel is None or template is None or view is None:
        return False
    reference = stable_reference(obs, channel.spec)
    if not reference or find_problem(template, channel.spec) is not None:
        return False
    bound = bind(template, channel.spec, reference)
    return revision_template(bound, obs.name, stable.attempt) == view.template


def _renamed(record: Record, before: str, now: str) -> Record:
    """The record in which a template has another digest."""

    def again(revision: Revision | None) -> Revision | None:
        same = revision is not None and revision.agent == before
        return replace(revision, agent=now) if revision is not None and same else revision

    return replace(
        record,
        stable=again(record.stable),
        last_baked=again(record.last_baked),
        history=tuple(r for r in map(again, record.history) if r is not None),
        failed_agents=tuple(
            replace(entry, digest=now) if entry.digest == before else entry
            for entry in record.failed_agents
        ),
    )
