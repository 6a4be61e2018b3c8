"""Changes of the agent's template are rollouts of their own: the new template, stable's content.

So that whatever goes wrong is known to come from one of the two, no candidate ever differs from
stable in both: a release keeps stable's template, an agent's change keeps stable's digest. Whether
the template changed is told by a digest of what the user wrote, never by what the apiserver made
of it: neither its defaults nor an upgrade of this operator may start a rollout.
"""

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from wavegate.api import Channel, ChannelSpec, ContentKind, Phase, Reason
from wavegate.rollout.attempt import AGENT_UID, Revision, Rollout
from wavegate.rollout.compatible import version_problem
from wavegate.rollout.names import attempt_id, content_name, daemon_set_name
from wavegate.rollout.observation import Observation, RevisionView
from wavegate.rollout.steps import Problem, Step
from wavegate.rollout.templates import bind

Body = dict[str, Any]


def fingerprint(template: Mapping[str, Any], spec: ChannelSpec) -> str:
    """Digest of a template, and of where content binds in it."""
    said = json.dumps([template, spec.content.kind, spec.content.target], sort_keys=True)
    return f"sha256:{hashlib.sha256(said.encode()).hexdigest()}"


def current(obs: Observation) -> str:
    """Digest of the channel's template as it is now; empty when it is not known."""
    return obs.once(_current)


def _current(obs: Observation) -> str:
    if obs.channel is None or obs.agent.template is None:
        return ""
    return obs.kept.of(fingerprint, obs.agent.template, obs.channel.spec)


def differs(obs: Observation) -> bool:
    """Whether stable was made from another template than the channel has now."""
    stable, now = obs.record.stable, current(obs)
    return bool(stable is not None and stable.agent and now and stable.agent != now)


def problem(obs: Observation) -> Problem | None:
    """Why the new template is not rolled out though it differs from stable's; None: it may be."""
    return obs.once(_problem)


def _problem(obs: Observation) -> Problem | None:
    stable, channel = obs.record.stable, obs.channel
    if stable is None or channel is None or not differs(obs):
        return None
    failed = obs.record.failed_agent(current(obs))
    if failed is not None:
        return Problem(
            Reason.AgentTemplateFailed,
            f"spec.agent: this template failed before ({failed.reason}, incident "
            f"{failed.incident}) and is not tried again. Change it, or decide Unblock with "
            f"release: {failed.release}, digest: {failed.digest}, incident: {failed.incident}. "
            "Releases go on with stable's template.",
        )
    if obs.record.block_of(stable.digest, stable.loaded, stable.layers) is not None:
        return Problem(
            Reason.DigestBlocked,
            "spec.agent: stable's content is blocked, so no new agent gets it; publish repaired "
            "content, and the new template follows.",
        )
    if not stable_reference(obs, channel.spec):
        return Problem(
            Reason.ContentMismatch,
            f"spec.agent: stable's content can't be bound as {channel.spec.content.kind}; the new "
            "template comes with the next release.",
        )
    release = obs.release(stable.release_uid)
    return version_problem(obs.agent.template, release) if release else None


def is_next(obs: Observation) -> bool:
    """Whether the new template rolls out now; it goes before releases, which may need it."""
    return differs(obs) and problem(obs) is None


def candidate(obs: Observation, channel: Channel, stable: Revision, now: float) -> Revision:
    """The candidate of an agent's change: stable's content, the present template."""
    attempt = attempt_id(current(obs), obs.record.attempts + 1, now)
    return replace(
        stable,
        attempt=attempt,
        daemon_set=daemon_set_name(channel.name, attempt),
        release_uid=f"{AGENT_UID}{attempt}",
        since=now,
        agent=current(obs),
    )


def of_release(obs: Observation) -> str:
    """Digest of the template that a release gets which starts now."""
    stable = obs.record.stable
    return stable.agent if stable is not None and _carried(obs) is not None else current(obs)


def template_of_release(obs: Observation) -> Mapping[str, Any] | None:
    """The template that a release gets which starts now: stable's, as long as there is one."""
    view = _carried(obs)
    return view.template if view is not None else obs.agent.template


def _carried(obs: Observation) -> RevisionView | None:
    """Stable's DaemonSet, if a release takes its template from there: the channel's is another, and
    content of this kind can take the place of stable's.
    """
    view, channel = obs.revision(obs.record.stable), obs.channel
    if view is None or channel is None or not differs(obs):
        return None
    return view if stable_reference(obs, channel.spec) else None


def changed_back(obs: Observation, rollout: Rollout) -> str:
    """Why an agent's change is taken back, though nothing is wrong with it; empty: it goes on."""
    now, stable = current(obs), obs.record.stable
    if not rollout.candidate.is_agent or not now or stable is None:
        return ""
    if now == stable.agent:
        return "the channel's template is stable's again"
    begun = obs.revision(rollout.candidate) is not None or rollout.phase is not Phase.Pending
    return "" if begun or now == rollout.candidate.agent else "the template was changed once more"


def bound(obs: Observation, of: Revision, reference: str) -> Body | None:
    """The template of a candidate with its content bound; None when it is not there any more."""
    channel, template = obs.channel, obs.agent.template
    if channel is None or template is None:
        return None
    if of.is_agent:
        known = stable_reference(obs, channel.spec)
        return bind(template, channel.spec, known) if known else None
    view, stable = _carried(obs), obs.record.stable
    if view is None or stable is None or of.agent != stable.agent:
        return bind(template, channel.spec, reference)
    return _exchanged(view.template, channel.spec, _found(view, stable.digest), reference)


def chosen_again(obs: Observation, rollout: Rollout) -> Step | None:
    """A release whose template was edited before its DaemonSet was made has what is there then."""
    view, known = obs.revision(rollout.candidate), rollout.candidate.agent
    actual = view.agent if view is not None else of_release(obs)
    if rollout.candidate.is_agent or not actual or known == actual:
        return None
    newer = replace(rollout, candidate=replace(rollout.candidate, agent=actual))
    return Step(record=replace(obs.record, rollout=newer))


def stable_reference(obs: Observation, spec: ChannelSpec) -> str:
    """What binds stable's content, if the channel's binding can take it; else empty."""
    view, stable = obs.revision(obs.record.stable), obs.record.stable
    found = _found(view, stable.digest) if view is not None and stable is not None else ""
    fits = ("@" in found) is not (spec.content.kind is ContentKind.ConfigMap)
    return found if fits else ""


def _found(view: RevisionView, digest: str) -> str:
    """What binds the content of this digest in a revision: an image, or the name of a ConfigMap."""
    for _, reference in _places(view.template["spec"]):
        if reference.endswith(f"@{digest}") or reference == content_name(digest):
            return reference
    return ""


def _exchanged(template: Mapping[str, Any], spec: ChannelSpec, old: str, new: str) -> Body:
    """The template with other content in the place of the old: the one that the channel names, or
    where stable's was, if the channel names another by now.
    """
    result = copy.deepcopy(dict(template))
    pod = result["spec"]
    holders = [holder for holder, reference in _places(pod) if reference == old]
    named = [holder for holder in holders if holder.get("name") == spec.content.target]
    for holder in named or holders:
        if "configMap" in holder:
            holder["configMap"]["name"] = new
        elif isinstance(holder["image"], str):
            holder["image"] = new
        else:
            holder["image"]["reference"] = new
    return result


def _places(pod: Mapping[str, Any]) -> list[tuple[Body, str]]:
    """All that may hold content: a container or a volume, and what it refers to."""
    containers = [*(pod.get("initContainers") or []), *(pod.get("containers") or [])]
    found = [(container, str(container.get("image", ""))) for container in containers]
    for volume in pod.get("volumes") or []:
        if "image" in volume:
            found.append((volume, str((volume["image"] or {}).get("reference", ""))))
        elif "configMap" in volume:
            found.append((volume, str((volume["configMap"] or {}).get("name", ""))))
    return found
