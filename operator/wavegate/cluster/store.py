"""Performs the actions of a step. Each is idempotent: what is already so is left as it is."""

import copy
import json
from collections.abc import Callable, Mapping
from typing import Any

from wavegate.cluster import paths
from wavegate.cluster.client import JSON_PATCH, ApiError, Client
from wavegate.cluster.projections import (
    content_view,
    encode_ledger,
    encode_record,
    stored_config_map,
)
from wavegate.evidence import Ledger
from wavegate.rollout.names import (
    AFFINITY_ANNOTATION,
    AGENT_ANNOTATION,
    ATTEMPT_LABEL,
    CHANNEL_LABEL,
    DIGEST_ANNOTATION,
    KIND_LABEL,
    LAYERS_ANNOTATION,
    LOADED_DIGEST_ANNOTATION,
    RELEASE_ANNOTATION,
    RELEASE_UID_ANNOTATION,
    SEQUENCE_ANNOTATION,
    VERSION_ANNOTATION,
    content_name,
    daemon_set_name,
    ledger_name,
    node_label,
    record_name,
)
from wavegate.rollout.observation import RevisionView
from wavegate.rollout.record import Record
from wavegate.rollout.steps import CopyContent, CreateRevision, Retarget, Target
from wavegate.rollout.templates import own_template, targeted
from wavegate.rollout.trial import lost_content, retarget_patch

Body = dict[str, Any]


class Store:
    """Writes for one channel. `fresh` is called with each object that a write gave back."""

    def __init__(
        self, client: Client, namespace: str, channel: str, fresh: Callable[[str, Body], None]
    ) -> None:
        self._client, self._namespace, self._channel = client, namespace, channel
        self._key = node_label(namespace, channel)
        self._fresh = fresh

    async def save_record(self, record: Record, version: str) -> None:
        """Compare-and-swap the record; `version` is the one it was read at, empty for a new one.

        Raises ApiError 409 when someone else wrote it: look again before deciding anything.
        """
        body = self._config_map(record_name(self._channel), "record")
        body["data"] = encode_record(record)
        path = paths.config_maps(self._namespace)
        if version:
            body["metadata"]["resourceVersion"] = version
            self._fresh(
                "configmaps", await self._client.replace(f"{path}/{body['metadata']['name']}", body)
            )
        else:
            self._fresh("configmaps", await self._client.create(path, body))

    async def read_record(self) -> Record | None:
        """Read the record as it is now, whatever our watch has shown: an empty one if there is
        none, None if it can't be read by this version.
        """
        path = paths.config_maps(self._namespace, record_name(self._channel))
        body = await self._client.find(path)
        if body is None:
            return Record(self._namespace, self._channel)
        self._fresh("configmaps", body)
        return stored_config_map(body, None, 0.0).record

    async def store_ledger(self, ledger: Ledger) -> None:
        """Store an immutable ledger. One that is there already was stored by us before a crash.

        Raises ApiError 413, as the apiserver does, for one that is too large.
        """
        body = self._config_map(ledger_name(ledger.attempt, ledger.number), "ledger")
        body["metadata"]["labels"][ATTEMPT_LABEL] = ledger.attempt
        body["immutable"] = True
        try:
            body["binaryData"] = encode_ledger(ledger)
        except ValueError as error:
            raise ApiError(413, str(error)) from error
        await self._create("configmaps", paths.config_maps(self._namespace), body)

    async def copy_content(self, action: CopyContent) -> None:
        """Copy verified content; refuse content that has changed since its release was accepted."""
        source = await self._client.get(paths.config_maps(self._namespace, action.source))
        found = content_view(source).digest
        if found != action.digest:
            raise ApiError(422, f"ConfigMap {action.source} holds {found}, not {action.digest}")
        body = self._config_map(content_name(action.digest), "content")
        body["immutable"] = True
        body.update({k: source[k] for k in ("data", "binaryData") if k in source})
        stored = await self._create("configmaps", paths.config_maps(self._namespace), body)
        copied = content_view(stored)
        if copied.digest != action.digest or not copied.immutable:
            raise ApiError(422, f"ConfigMap {copied.name} is there already and holds other content")

    async def create_revision(self, action: CreateRevision) -> None:
        """Create a revision's DaemonSet, targeted at the nodes labelled with its attempt. One that
        would be stored without its content is refused (ApiError 422): its agents would be Ready.
        """
        try:
            lost, _ = await self.try_revision(action)
        except ApiError as error:
            if error.status != 409:  # it is there already, by us before a crash
                raise
            lost = ""
        if lost:
            raise ApiError(422, lost)
        body = self._revision(action)
        await self._create("daemonsets", paths.daemon_sets(self._namespace), body)

    async def try_revision(self, action: CreateRevision) -> tuple[str, Body]:
        """Let the apiserver check a revision's DaemonSet without storing it. Returns what it would
        take away from it, and the template as it would show it; raises ApiError when it refuses it.
        """
        sent = self._revision(action)
        answer = await self._client.try_create(paths.daemon_sets(self._namespace), sent)
        return lost_content(sent, answer), own_template(answer)

    def _revision(self, action: CreateRevision) -> Body:
        """A DaemonSet with OnDelete, no history, and no owner, so that neither the deletion of a
        CRD nor garbage collection takes agents away.
        """
        template = copy.deepcopy(dict(action.template))
        affinity = template["spec"]["affinity"]
        attempt = action.revision.attempt
        labels = {CHANNEL_LABEL: self._channel, ATTEMPT_LABEL: attempt}
        template["spec"]["affinity"] = targeted(affinity, self._key, Target.IN, attempt)
        return {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": {
                "name": daemon_set_name(self._channel, attempt),
                "namespace": self._namespace,
                "labels": {**labels, KIND_LABEL: "revision"},
                "annotations": {
                    AFFINITY_ANNOTATION: json.dumps(affinity, sort_keys=True),
                    RELEASE_ANNOTATION: action.revision.release,
                    RELEASE_UID_ANNOTATION: action.revision.release_uid,
                    VERSION_ANNOTATION: action.revision.version,
                    SEQUENCE_ANNOTATION: str(action.revision.sequence),
                    DIGEST_ANNOTATION: action.revision.digest,
                    LOADED_DIGEST_ANNOTATION: action.revision.reports,
                    LAYERS_ANNOTATION: ",".join(action.revision.layers),
                    AGENT_ANNOTATION: action.revision.agent,
                },
            },
            "spec": {
                "selector": {"matchLabels": labels},
                "template": template,
                "updateStrategy": {"type": "OnDelete"},
                "revisionHistoryLimit": 0,
            },
        }

    async def retarget(self, action: Retarget, view: RevisionView) -> None:
        """Point a revision at other nodes. Only a fence is unconditional."""
        patch = retarget_patch(view, self._key, action.target, action.attempt)
        if not action.fence:
            test = {"op": "test", "path": "/metadata/resourceVersion", "value": view.version}
            patch.insert(0, test)
        path = paths.daemon_sets(self._namespace, view.name)
        self._fresh("daemonsets", await self._client.patch(path, patch, JSON_PATCH))

    async def move_node(self, name: str, uid: str, attempt: str) -> None:
        """Label a node with an attempt. The UID makes sure that it is still the same machine; one
        that was replaced meanwhile (409, 422), or is gone (404), is left alone.
        """
        body = {"metadata": {"uid": uid, "labels": {self._key: attempt}}}
        try:
            self._fresh("nodes", await self._client.patch(paths.node(name), body))
        except ApiError as error:
            if error.status not in (404, 409, 422):
                raise

    async def unlabel_node(self, name: str, uid: str, attempt: str) -> None:
        """Take a label from a node, if it is still that machine and that label. If not (422), or if
        the node is gone (404), there is nothing to take.
        """
        label = "/metadata/labels/" + self._key.replace("~", "~0").replace("/", "~1")
        patch: list[Body] = [
            {"op": "test", "path": "/metadata/uid", "value": uid},
            {"op": "test", "path": label, "value": attempt},
            {"op": "remove", "path": label},
        ]
        try:
            self._fresh("nodes", await self._client.patch(paths.node(name), patch, JSON_PATCH))
        except ApiError as error:
            if error.status not in (404, 409, 422):
                raise

    async def delete_pods(self, attempt: str, node: str | None, *, unbound: bool) -> None:
        """Delete an attempt's pods: one request, whatever their number."""
        labels = f"{CHANNEL_LABEL}={self._channel},{ATTEMPT_LABEL}={attempt}"
        params = {"labelSelector": labels}
        if unbound or node:
            params["fieldSelector"] = f"spec.nodeName={node or ''}"
        await self._client.delete(paths.pods(self._namespace), params)

    async def forget_revision(self, view: RevisionView) -> None:
        """Delete the DaemonSet of a revision that retention no longer keeps."""
        seen = {"preconditions": {"resourceVersion": view.version}}
        await self._client.delete(paths.daemon_sets(self._namespace, view.name), body=seen)

    async def forget_ledger(self, attempt: str, wave: int) -> None:
        """Delete an old ledger."""
        name = ledger_name(attempt, wave)
        await self._client.delete(paths.config_maps(self._namespace, name))

    async def _create(self, kind: str, path: str, body: Mapping[str, Any]) -> Body:
        """Create an object, or read the one that is there already, and pass it on as fresh."""
        try:
            stored = await self._client.create(path, body)
        except ApiError as error:
            if error.status != 409:
                raise
            stored = await self._client.get(f"{path}/{body['metadata']['name']}")
        self._fresh(kind, stored)
        return stored

    def _config_map(self, name: str, kind: str) -> Body:
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": name,
                "namespace": self._namespace,
                "labels": {CHANNEL_LABEL: self._channel, KIND_LABEL: kind},
            },
        }
