"""Pod templates of revisions: content bound by digest, our node rule merged into the user's.

The user's terms are kept as they are (they are ORed, so our expression goes into every non-empty
one); "all" gives exactly them back. Every revision carries the same required anti-affinity on the
channel label, so that a node never runs two agents of a channel, also while they hand over.
"""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from wavegate.api import ChannelSpec, ContentKind, Reason
from wavegate.rollout.names import ATTEMPT_LABEL, CHANNEL_LABEL, LABEL_DOMAIN, PARKED_LABEL
from wavegate.rollout.placement import required_terms
from wavegate.rollout.steps import Problem, Target

HOSTNAME = "kubernetes.io/hostname"
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
CONTROLLER_LABELS = ("pod-template-hash", "controller-revision-hash", "pod-template-generation")


def find_problem(template: Mapping[str, Any], spec: ChannelSpec) -> Problem | None:
    """Say what in the channel's template keeps us from running it; None when nothing does."""
    try:
        return _find_problem(template, spec)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        return Problem(Reason.InvalidTemplate, f"spec.agent: the template can't be read ({error}).")


def _find_problem(template: Mapping[str, Any], spec: ChannelSpec) -> Problem | None:
    pod = template.get("spec") or {}
    revision_template(template, "any", "any")
    if pod.get("nodeName"):
        return Problem(
            Reason.InvalidTemplate,
            "spec.agent: the template sets nodeName, which would pin every agent pod to one node. "
            "Remove it; pools choose the nodes.",
        )
    if pod.get("schedulerName", "default-scheduler") != "default-scheduler":
        return Problem(
            Reason.InvalidTemplate,
            f"spec.agent: the template's schedulerName {pod['schedulerName']!r} is not supported. "
            "Remove it: DaemonSet pods go through the default scheduler.",
        )
    return _placement_problem(pod) or _missing_binding(pod, spec) or _unpinned(pod, spec)


def _placement_problem(pod: Mapping[str, Any]) -> Problem | None:
    """Rules of the template's own that would make ours unreadable, or that no node can meet."""
    terms = required_terms({"spec": pod})
    keys = [
        *(pod.get("nodeSelector") or {}),
        *(e.get("key") for term in terms or [] for e in term.get("matchExpressions") or []),
    ]
    if any(str(key).startswith(f"{LABEL_DOMAIN}/") for key in keys):
        return Problem(
            Reason.InvalidTemplate,
            f"spec.agent: the template chooses nodes by a label of {LABEL_DOMAIN}, which is "
            "Wavegate's own. Choose them by another label.",
        )
    if terms is not None and not any(
        t.get("matchExpressions") or t.get("matchFields") for t in terms
    ):
        return Problem(
            Reason.InvalidTemplate,
            "spec.agent: the template's required node affinity has only empty terms, which match "
            "no node. Remove it, or say which nodes are meant.",
        )
    return None


def bind(template: Mapping[str, Any], spec: ChannelSpec, reference: str) -> dict[str, Any]:
    """Return a copy of the template in which the content is bound to `reference`: an image with
    digest, or the name of a ConfigMap.
    """
    bound = copy.deepcopy(dict(template))
    pod = bound["spec"]
    if spec.content.kind is ContentKind.ContainerImage:
        container = next(c for c in _containers(pod) if c.get("name") == spec.content.target)
        container["image"] = reference
        container["imagePullPolicy"] = "IfNotPresent"
        return bound
    pod["volumes"] = [
        _content_volume(volume, spec.content.kind, reference)
        if volume.get("name") == spec.content.target
        else volume
        for volume in pod["volumes"]
    ]
    return bound


def _content_volume(volume: Mapping[str, Any], kind: ContentKind, reference: str) -> dict[str, Any]:
    """The content takes the volume's place, whatever stood there before."""
    if kind is ContentKind.ImageVolume:
        source = {"reference": reference, "pullPolicy": "IfNotPresent"}
        return {"name": volume["name"], "image": source}
    options = volume.get("configMap") or {}
    return {"name": volume["name"], "configMap": {**options, "name": reference}}


def revision_template(bound: Mapping[str, Any], channel_label: str, attempt: str) -> dict[str, Any]:
    """Return the pod template that a revision's DaemonSet carries, before any targeting."""
    template = copy.deepcopy(dict(bound))
    metadata = template["metadata"] = dict(template.get("metadata") or {})
    labels = {k: v for k, v in (metadata.get("labels") or {}).items() if k not in CONTROLLER_LABELS}
    metadata["labels"] = {**labels, CHANNEL_LABEL: channel_label, ATTEMPT_LABEL: attempt}
    template["spec"]["affinity"] = _one_agent_per_node(
        template["spec"].get("affinity") or {}, channel_label
    )
    return template


def unparked(template: Mapping[str, Any]) -> dict[str, Any]:
    """The template of a parked DaemonSet without what parks it."""
    spec = dict(template["spec"])
    selector = {k: v for k, v in (spec.get("nodeSelector") or {}).items() if k != PARKED_LABEL}
    spec.pop("nodeSelector", None)
    spec |= {"nodeSelector": selector} if selector else {}
    return {**template, "spec": spec}


def targeted(
    affinity: Mapping[str, Any], key: str, target: Target, attempt: str = ""
) -> dict[str, Any]:
    """Merge the node rule of `target` into a revision's own affinity.

    `affinity` is what the revision was created with (the user's and our anti-affinity); `key` is
    the channel's node label. What is as in `affinity` is shared with it: neither is ever changed.
    """
    rule = _rule(key, target, attempt)
    merged = dict(affinity)
    if not rule:
        return merged
    terms = required_terms({"spec": {"affinity": affinity}})
    node = merged["nodeAffinity"] = dict(merged.get("nodeAffinity") or {})
    node[REQUIRED] = {"nodeSelectorTerms": _merge(terms, rule)}
    return merged


def untargeted(affinity: Mapping[str, Any]) -> dict[str, Any]:
    """Take our node rule out of a revision's affinity: what `targeted` was given, in the form that
    the apiserver stores it in.
    """
    own = copy.deepcopy(dict(affinity))
    terms = required_terms({"spec": {"affinity": own}})
    if not terms:
        return own
    kept = [stripped for term in terms if (stripped := _strip(term)) is not None]
    if kept:
        own["nodeAffinity"][REQUIRED]["nodeSelectorTerms"] = kept
        return own
    del own["nodeAffinity"][REQUIRED]
    if not own["nodeAffinity"]:
        del own["nodeAffinity"]
    return own


def own_template(daemon_set: Mapping[str, Any]) -> dict[str, Any]:
    """The pod template of a revision's DaemonSet before any targeting."""
    template = daemon_set["spec"]["template"]
    own = untargeted(template["spec"].get("affinity") or {})
    return {**template, "spec": {**template["spec"], "affinity": own}}


def _strip(term: Mapping[str, Any]) -> dict[str, Any] | None:
    """A term without our expressions; None when it held nothing else."""
    expressions = term.get("matchExpressions") or []
    users = [e for e in expressions if not str(e.get("key")).startswith(f"{LABEL_DOMAIN}/")]
    if len(users) == len(expressions):
        return dict(term)
    rest = {key: value for key, value in term.items() if key != "matchExpressions"}
    if users:
        rest["matchExpressions"] = users
    return rest or None


def _merge(terms: Any, rule: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Terms are ORed and an empty one matches nothing, so it must stay empty."""
    if terms is None:
        return [{"matchExpressions": rule}]
    return [
        {**term, "matchExpressions": [*(term.get("matchExpressions") or []), *rule]}
        if term.get("matchExpressions") or term.get("matchFields")
        else dict(term)
        for term in terms
    ]


def _rule(key: str, target: Target, attempt: str) -> list[dict[str, Any]]:
    match target:
        case Target.ALL:
            return []
        case Target.NOTHING:
            return [{"key": key, "operator": "Exists"}, {"key": key, "operator": "DoesNotExist"}]
        case Target.IN:
            return [{"key": key, "operator": "In", "values": [attempt]}]
        case Target.NOT_IN:
            return [{"key": key, "operator": "NotIn", "values": [attempt]}]


def _one_agent_per_node(affinity: Mapping[str, Any], channel_label: str) -> dict[str, Any]:
    merged = copy.deepcopy(dict(affinity))
    anti = merged["podAntiAffinity"] = dict(merged.get("podAntiAffinity") or {})
    term = {
        "labelSelector": {"matchLabels": {CHANNEL_LABEL: channel_label}},
        "topologyKey": HOSTNAME,
    }
    others = [known for known in anti.get(REQUIRED) or [] if known != term]  # as in stable's
    anti[REQUIRED] = [*others, term]
    return merged


def _containers(pod: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [*(pod.get("initContainers") or []), *(pod.get("containers") or [])]


def _missing_binding(pod: Mapping[str, Any], spec: ChannelSpec) -> Problem | None:
    content = spec.content
    if content.kind is ContentKind.ContainerImage:
        names = [c.get("name", "") for c in _containers(pod)]
        reason, what = Reason.MissingContainer, "container"
        field = "spec.content.containerImage.containerName"
    else:
        names = [v.get("name", "") for v in pod.get("volumes") or []]
        reason, what = Reason.MissingVolume, "volume"
        field = f"spec.content.{content.kind}.volumeName"
    if content.target in names:
        return None
    known = ", ".join(names) or "none"
    return Problem(
        reason,
        f"{field}: the agent's template has no {what} named {content.target!r} (it has: {known}). "
        f"Correct the name or add the {what}.",
    )


def _unpinned(pod: Mapping[str, Any], spec: ChannelSpec) -> Problem | None:
    """An image by tag may be another one tomorrow: a revert must not ask a tag."""
    for kind, name, reference in images(pod):
        bound = name == spec.content.target and spec.content.kind is kind
        if not bound and "@sha256:" not in reference:
            what = "container" if kind is ContentKind.ContainerImage else "volume"
            return Problem(
                Reason.ImageNotPinned,
                f"spec.agent: {what} {name!r} uses {reference!r}. "
                "Pin it by digest (name@sha256:…), so that a revert can't fetch another image.",
            )
    return None


def images(pod: Mapping[str, Any]) -> Iterator[tuple[ContentKind, str, str]]:
    """All images of a pod's spec: of which kind, the name of the container or volume, reference."""
    kind = ContentKind.ContainerImage
    for container in [*_containers(pod), *(pod.get("ephemeralContainers") or [])]:
        yield kind, container.get("name", ""), container.get("image", "")
    for volume in pod.get("volumes") or []:
        if "image" in volume:
            reference = (volume["image"] or {}).get("reference", "")
            yield ContentKind.ImageVolume, volume.get("name", ""), reference
