"""From the apiserver's JSON to the small values that decisions are made of.

A projection gets the previous value too: what must be measured by our own clock (since when is a
pod Ready, since when is a node on this side) is carried forward from there.
"""

import base64
import gzip
import hashlib
import json
import re
import sys
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter

from wavegate.api import MAX_LAYERS
from wavegate.evidence import (
    Ledger,
    NodeView,
    PodView,
    Side,
    Taint,
    announcement,
    bad_conditions,
    is_leaving,
    left_as_announced,
)
from wavegate.rollout.names import (
    AGENT_ANNOTATION,
    ATTEMPT_LABEL,
    CANARY_LABEL,
    CHANNEL_LABEL,
    CONTROL_PLANE_LABEL,
    DIGEST_ANNOTATION,
    KIND_LABEL,
    LABEL_DOMAIN,
    LAYERS_ANNOTATION,
    LOADED_DIGEST_ANNOTATION,
    PREFETCH_LABEL,
    RELEASE_ANNOTATION,
    RELEASE_UID_ANNOTATION,
    SEQUENCE_ANNOTATION,
    SOAKING_LABEL,
    VERSION_ANNOTATION,
    ZONE_LABEL,
)
from wavegate.rollout.observation import ContentView, PrefetchPod, RevisionView
from wavegate.rollout.prefetch import is_ours
from wavegate.rollout.record import Outcome, Record
from wavegate.rollout.refused import fenced_attempts, refused_copies, refused_digests
from wavegate.rollout.templates import own_template

MAX_LEDGER_BYTES = 4 << 20
"""Four times what 5,000 nodes take unpacked."""

MAX_OBJECT_BYTES = 1 << 20
"""What the apiserver lets a ConfigMap hold, without the base64 of JSON."""

MAX_REPORT = 128
"""Characters of an annotation that is kept; a digest has 71."""

_NO_PROBLEM = ("", "ContainerCreating", "CreateContainerError", "RunContainerError")
"""Why a container of a pod that pulls waits, and pulls or has pulled."""
_LAYER = re.compile(r"sha256:[a-f0-9]{64}")
_LEDGER = TypeAdapter(Ledger)
_RECORD = TypeAdapter(Record)
_OUTCOMES = TypeAdapter(tuple[Outcome, ...])


@dataclass(frozen=True, slots=True)
class StoredConfigMap:
    """One of our ConfigMaps: a record, a ledger or a copy of content."""

    kind: str
    channel: str
    version: str
    record: Record | None = None
    ledger: Ledger | None = None
    content: ContentView | None = None


def node_view(body: Mapping[str, Any], old: NodeView | None, now: float) -> NodeView:
    """Project a Node."""
    metadata, spec, status = body["metadata"], body.get("spec", {}), body.get("status", {})
    labels = metadata.get("labels") or {}
    conditions = {c["type"]: c["status"] for c in status.get("conditions") or []}
    taints = tuple(
        Taint(t["key"], t.get("value", ""), t["effect"]) for t in spec.get("taints") or []
    )
    ready, unschedulable = conditions.get("Ready") == "True", bool(spec.get("unschedulable"))
    leaving = is_leaving(taints, unschedulable=unschedulable)
    info = status.get("nodeInfo") or {}
    boot_id = info.get("bootID", "")
    same = old if old and old.uid == metadata["uid"] else None
    before = same.announced if same else ""
    announced = announcement(before, boot_id, leaving=leaving, ready=ready)
    left = left_as_announced(same, boot_id, leaving=leaving)
    return NodeView(
        name=metadata["name"],
        uid=metadata["uid"],
        boot_id=boot_id,
        ready=ready,
        labels={k: v for k, v in labels.items() if not _is_side(k)},
        taints=taints,
        unschedulable=unschedulable,
        sides=_sides(metadata["uid"], labels, old, now),
        announced=announced,
        bad=bad_conditions(conditions),
        announced_at=_announced_at(same, now, announced, left),
        left=left,
        lost_at=_lost_at(same, now, ready=ready, boot_id=boot_id),
        os=_shared(info.get("operatingSystem")),
        arch=_shared(info.get("architecture")),
        kernel=_shared(info.get("kernelVersion")),
        os_image=_shared(info.get("osImage")),
        runtime=_shared(info.get("containerRuntimeVersion")),
        zone=_shared(labels.get(ZONE_LABEL)),
        control_plane=CONTROL_PLANE_LABEL in labels,
        created=same.created if same else _joined_at(metadata),
    )


def _joined_at(metadata: Mapping[str, Any]) -> float:
    stamp = metadata.get("creationTimestamp")
    return datetime.fromisoformat(stamp).timestamp() if stamp else 0.0


def pod_view(body: Mapping[str, Any], old: PodView | None, now: float) -> PodView:
    """Project an agent pod."""
    metadata, status = body["metadata"], body.get("status", {})
    labels = metadata.get("labels") or {}
    conditions = {c["type"]: c["status"] for c in status.get("conditions") or []}
    ready = conditions.get("Ready") == "True"
    containers = [
        *(status.get("initContainerStatuses") or []),
        *(status.get("containerStatuses") or []),
    ]
    restarts = sum(int(c.get("restartCount", 0)) for c in containers)
    same = old if old and old.uid == metadata["uid"] and old.ready == ready else None
    if same and ready and same.restarts != restarts:
        same = None  # it was not Ready in between, though we did not see that
    since = (same.ready_since if ready else same.unready_since) if same else None
    known = old if old and old.uid == metadata["uid"] else None
    restarted_at = known.restarted_at if known and known.restarts == restarts else now
    return PodView(
        name=metadata["name"],
        namespace=metadata["namespace"],
        uid=metadata["uid"],
        channel=labels.get(CHANNEL_LABEL, ""),
        attempt=labels.get(ATTEMPT_LABEL, ""),
        node=body.get("spec", {}).get("nodeName") or None,
        phase=status.get("phase", "Pending"),
        ready=ready,
        ready_since=(since if since is not None else now) if ready else None,
        unready_since=None if ready else (since if since is not None else now),
        terminating="deletionTimestamp" in metadata,
        restarts=restarts,
        waiting=_waiting(containers),
        last_exit=_last_exit(containers),
        annotations=_short(metadata.get("annotations") or {}),
        restarted_at=restarted_at if restarts else None,
    )


def selected_view(body: Mapping[str, Any], old: PodView | None, now: float) -> PodView:
    """Project a pod of someone else's agent: its annotations are none of ours."""
    return replace(pod_view(body, old, now), annotations={})


def prefetch_pod(body: Mapping[str, Any], _old: PrefetchPod | None, _now: float) -> PrefetchPod:
    """Project a pod that pulls images ahead."""
    metadata, status = body["metadata"], body.get("status", {})
    labels = metadata["labels"]
    states = [
        container.get("state") or {}
        for container in status.get("containerStatuses") or []
        if is_ours(container["name"])
    ]
    pulled = bool(states) and all(map(_has_images, states))
    ended = status.get("phase") in ("Failed", "Succeeded")
    waits = next((why for why in map(_why_waits, states) if why not in _NO_PROBLEM), "")
    why = waits or (str(status.get("reason") or "Failed") if ended else "")
    return PrefetchPod(
        name=metadata["name"],
        namespace=metadata["namespace"],
        channel=labels[PREFETCH_LABEL],
        soak=(labels[ATTEMPT_LABEL], labels[SOAKING_LABEL]),
        node=body["spec"].get("nodeName") or "",
        pulled=pulled,
        problem="" if pulled else why.replace("ImagePullBackOff", "ErrImagePull"),
        ended=pulled or ended,
        terminating="deletionTimestamp" in metadata,
    )


def _has_images(state: Mapping[str, Any]) -> bool:
    """Whether the images of a container are there: they are pulled before it is made, and its
    program is in none. containerd finds that out when it starts it, CRI-O as it makes it.
    """
    made = (state.get("terminated") or {}).get("containerID")
    return bool(made) or _why_waits(state) in ("CreateContainerError", "RunContainerError")


def revision_view(body: Mapping[str, Any], _old: RevisionView | None, _now: float) -> RevisionView:
    """Project one of our DaemonSets."""
    metadata, spec = body["metadata"], body["spec"]
    template, said = own_template(body), metadata.get("annotations") or {}
    own = template["spec"]["affinity"]
    observed = (body.get("status") or {}).get("observedGeneration", 0)
    return RevisionView(
        attempt=(metadata.get("labels") or {}).get(ATTEMPT_LABEL, ""),
        name=metadata["name"],
        observed=observed >= metadata.get("generation", 0),
        own_affinity=own,
        affinity=spec["template"]["spec"].get("affinity") or {},
        template=template,
        channel=(metadata.get("labels") or {}).get(CHANNEL_LABEL, ""),
        version=metadata["resourceVersion"],
        release=said.get(RELEASE_ANNOTATION, ""),
        release_uid=said.get(RELEASE_UID_ANNOTATION, ""),
        release_version=said.get(VERSION_ANNOTATION, ""),
        sequence=_number(said.get(SEQUENCE_ANNOTATION, "")),
        digest=said.get(DIGEST_ANNOTATION, ""),
        loaded=said.get(LOADED_DIGEST_ANNOTATION, ""),
        uid=metadata.get("uid", ""),
        agent=said.get(AGENT_ANNOTATION, ""),
        layers=_layers(said.get(LAYERS_ANNOTATION, "")),
    )


def _layers(text: str) -> tuple[str, ...]:
    """What someone garbled is left out, so that a record stays within its bounds."""
    found = (layer for layer in text.split(",") if _LAYER.fullmatch(layer))
    return tuple(dict.fromkeys(found))[:MAX_LAYERS]


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def stored_config_map(
    body: Mapping[str, Any], _old: StoredConfigMap | None, _now: float
) -> StoredConfigMap:
    """Project one of our ConfigMaps. One that we can't read is kept without content, so that its
    channel reports lost state instead of starting anew.
    """
    metadata = body["metadata"]
    labels = metadata.get("labels") or {}
    kind, channel = labels.get(KIND_LABEL, ""), labels.get(CHANNEL_LABEL, "")
    stored = StoredConfigMap(kind, channel, metadata["resourceVersion"])
    try:
        match kind:
            case "record":
                record = _RECORD.validate_json(body["data"]["record"])
                return StoredConfigMap(kind, channel, stored.version, record=record)
            case "ledger":
                ledger = _LEDGER.validate_json(_unpack(body["binaryData"]["ledger"]))
                return StoredConfigMap(kind, channel, stored.version, ledger=ledger)
            case "content":
                return StoredConfigMap(kind, channel, stored.version, content=content_view(body))
    except (KeyError, TypeError, ValueError, zlib.error):
        return stored
    return stored


def encode_record(record: Record) -> dict[str, str]:
    """The `data` of a record's ConfigMap. The admission policy reads all but `record`; nothing of
    that is read back.
    """
    return {
        "record": _record_text(record),
        "fenced": " ".join(fenced_attempts(record)),
        "blocked": " ".join(refused_digests(record)),
        "blockedCopies": " ".join(refused_copies(record)),
    }


def _record_text(record: Record) -> str:
    """Of what has ended, what is as ever is left out: it is most of a record, and never changes."""
    body = _RECORD.dump_python(replace(record, outcomes=()), mode="json")
    past = _OUTCOMES.dump_python(record.outcomes, mode="json", exclude_defaults=True)
    body["outcomes"] = past
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"))


def encode_ledger(ledger: Ledger) -> dict[str, str]:
    """The `binaryData` of a ledger's ConfigMap: 5,000 nodes take 0.25 MiB.

    Raises ValueError for one that can't be stored, or could not be read back.
    """
    raw = _LEDGER.dump_json(ledger)
    packed = gzip.compress(raw, mtime=0)
    if len(packed) > MAX_OBJECT_BYTES or len(raw) > MAX_LEDGER_BYTES:
        raise ValueError(
            f"the ledger of {len(ledger.nodes)} nodes takes {len(packed) >> 10} KiB "
            f"({len(raw) >> 10} KiB unpacked), and an object holds {MAX_OBJECT_BYTES >> 10} KiB "
            f"({MAX_LEDGER_BYTES >> 10} KiB unpacked). Give the channel smaller waves."
        )
    return {"ledger": base64.b64encode(packed).decode()}


def content_view(body: Mapping[str, Any]) -> ContentView:
    """A ConfigMap with content. Its digest is the SHA-256 of the canonical JSON of its data."""
    data = {"binaryData": body.get("binaryData") or {}, "data": body.get("data") or {}}
    canonical = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    return ContentView(body["metadata"]["name"], f"sha256:{digest}", bool(body.get("immutable")))


def _unpack(text: str) -> bytes:
    """Unpack a ledger. Raises ValueError when it is cut off, or larger than any ledger can be."""
    packed = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)  # 16: with gzip's header
    raw = packed.decompress(base64.b64decode(text), MAX_LEDGER_BYTES)
    if not packed.eof:
        raise ValueError("the ledger is cut off or too large")
    return raw


def _sides(
    uid: str, labels: Mapping[str, str], old: NodeView | None, now: float
) -> dict[str, Side]:
    before = old.sides if old and old.uid == uid else {}
    sides = {}
    for key, attempt in labels.items():
        if _is_side(key):
            known = before.get(key)
            sides[key] = known if known and known.attempt == attempt else Side(attempt, now)
    return sides


def _is_side(label: str) -> bool:
    """Whether a node label says on which side of a channel the node is."""
    return label.startswith(LABEL_DOMAIN) and label != CANARY_LABEL


def _shared(text: str | None) -> str:
    """One copy of a text that many nodes have in common: it is held once for all of them."""
    return sys.intern(text) if text else ""


def _short(annotations: Mapping[str, str]) -> dict[str, str]:
    """What can be a report of the loaded content; the rest would take memory for nothing."""
    return {k: v for k, v in annotations.items() if len(v) <= MAX_REPORT}


def _announced_at(same: NodeView | None, now: float, announced: str, left: str) -> float:
    """0 of a node that nobody announced: what says nothing must not make it look changed."""
    if not announced and not left:
        return 0.0
    return same.announced_at if same and (same.announced or not announced) else now


def _lost_at(same: NodeView | None, now: float, *, ready: bool, boot_id: str) -> float | None:
    """A reboot that follows on NotReady is the same loss."""
    if same is None or not same.ready:
        return same.lost_at if same else None
    return same.lost_at if ready and boot_id == same.boot_id else now


def _waiting(containers: Iterable[Mapping[str, Any]]) -> str:
    for container in containers:
        reason = _why_waits(container.get("state") or {})
        if reason not in ("", "ContainerCreating", "PodInitializing"):
            return reason
    return ""


def _why_waits(state: Mapping[str, Any]) -> str:
    """Why a container in this state does not run yet, in the kubelet's word; empty if it does."""
    return str((state.get("waiting") or {}).get("reason", ""))


def _last_exit(containers: Sequence[Mapping[str, Any]]) -> str:
    """How a container ended last: one that ran out of memory tells most, then the one that was
    restarted most. It is named where there are several.
    """
    ended = []
    for container in containers:
        how = (container.get("lastState") or {}).get("terminated") or (
            container.get("state") or {}
        ).get("terminated")
        if how and container.get("restartCount"):
            reason = how.get("reason", "Error")
            text = f"{reason}, exit code {how.get('exitCode', '?')}"
            name = f"{container.get('name', '?')}: " if len(containers) > 1 else ""
            ended.append((reason == "OOMKilled", container["restartCount"], name + text))
    return max(ended)[2] if ended else ""
