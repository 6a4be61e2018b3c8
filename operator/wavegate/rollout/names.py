"""Names and labels: everything fits Kubernetes' limits for any legal namespace and channel name.

A name that had to be cut carries a hash and an underscore, which no Kubernetes name contains, so
that a cut name can never equal another channel's whole one.
"""

import functools
import hashlib
import re

LABEL_DOMAIN = "wavegate.node-restriction.kubernetes.io"
"""Kubelets may not set labels under node-restriction.kubernetes.io on their own node."""

CANARY_LABEL = f"{LABEL_DOMAIN}/canary"
"""On a node, set by people: `preferred`, or `never`, by the first waves. No channel's own label is
called so, as these have a dot."""
CONTROL_PLANE_LABEL = "node-role.kubernetes.io/control-plane"
ZONE_LABEL = "topology.kubernetes.io/zone"
"""Labels of a node that Kubernetes knows."""

CHANNEL_LABEL = "wavegate.dev/channel"
ATTEMPT_LABEL = "wavegate.dev/attempt"
KIND_LABEL = "wavegate.dev/kind"
"""What an object of ours is: revision, record, ledger, content or prefetch."""
PREFETCH_LABEL = "wavegate.dev/prefetch-for"
SOAKING_LABEL = "wavegate.dev/soaking-ledger"
"""On a pod that pulls images ahead: its channel, and the ledger whose wave soaks meanwhile. It has
no `CHANNEL_LABEL`: it is no agent, which a DaemonSet would adopt or an agent keep away from."""

AFFINITY_ANNOTATION = "wavegate.dev/own-affinity"
"""On a revision, for people: the affinity that it was created with. The runbook uses it; we derive
the same from the DaemonSet itself, in the form that the apiserver gave it."""

RELEASE_ANNOTATION = "wavegate.dev/release"
RELEASE_UID_ANNOTATION = "wavegate.dev/release-uid"
VERSION_ANNOTATION = "wavegate.dev/version"
SEQUENCE_ANNOTATION = "wavegate.dev/sequence"
DIGEST_ANNOTATION = "wavegate.dev/digest"
"""On a revision: what it carries. Read back only when the record was lost."""

LOADED_DIGEST_ANNOTATION = "wavegate.dev/loaded-digest"
"""On a revision: what an agent reports that has loaded its content; read back as the others are. On
a pod, by default: what its agent reports."""

LAYERS_ANNOTATION = "wavegate.dev/layers"
"""On a revision: the layers of its content's image, as its release lists them, with commas; read
back as the others are."""

AGENT_ANNOTATION = "wavegate.dev/agent-template"
"""On a revision: digest of the channel's template that it was made from."""

HANDS_OFF_ANNOTATION = "wavegate.dev/hands-off"
"""On a channel, set to "true" by a person: we write nothing for it but status."""

AGENTS_LABEL = "wavegate.dev/agents"
"""On a namespace: agents may run there. The chart's admission policy asks for it, we do not."""

PARKED_LABEL = "wavegate.dev/parked"
"""A DaemonSet is parked by a nodeSelector on this label, which no node carries."""

DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
"""The name of a Service or namespace, or of what must be usable as such."""

LABEL_LIMIT = 63
_DAEMON_SET_LIMIT = 52
"""Room for the five random characters that the pods of a DaemonSet add to its name."""


@functools.lru_cache(maxsize=1024)  # it is asked for each node
def node_label(namespace: str, channel: str) -> str:
    """The node label that says on which side a node is, for one channel."""
    return f"{LABEL_DOMAIN}/{_fit(f'{namespace}.{channel}', LABEL_LIMIT, '_')}"


def attempt_id(release_uid: str, attempts: int, now: float) -> str:
    """A new attempt id. The clock is part of it, so that not even a restored backup of the record
    brings back an id that node labels may still carry.
    """
    return hashlib.sha256(f"{release_uid}/{attempts}/{now:.6f}".encode()).hexdigest()[:10]


def daemon_set_name(channel: str, attempt: str) -> str:
    """Name of a revision's DaemonSet."""
    return f"{channel[: _DAEMON_SET_LIMIT - len(attempt) - 1].rstrip('-.')}-{attempt}"


def prefetch_name(attempt: str, ledger: int, node_uid: str) -> str:
    """Name of the pod that pulls images ahead on a node while a wave soaks."""
    place = hashlib.sha256(f"{ledger}/{node_uid}".encode()).hexdigest()[:12]
    return f"wavegate-prefetch-{attempt}-{place}"


def ledger_name(attempt: str, number: int) -> str:
    """Name of the ConfigMap that holds a wave's ledger."""
    return f"wavegate-ledger-{attempt}-{number}"


def record_name(channel: str) -> str:
    """Name of the ConfigMap that holds a channel's record."""
    return f"wavegate-record-{channel}"


def content_name(digest: str) -> str:
    """Name of our immutable copy of a ConfigMap's content."""
    return f"wavegate-content-{digest.removeprefix('sha256:')[:32]}"


def _fit(text: str, limit: int, mark: str) -> str:
    if len(text) <= limit:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:10]
    return f"{text[: limit - len(digest) - len(mark)].rstrip('-.')}{mark}{digest}"
