"""A story on the real control plane: nodes, a channel and releases of one test's own.

Contents are named by a letter: content "a" is an image whose digest is sixty-four of them. Nothing
pulls images here (kwok plays the kubelets), so no digest stands for anything that exists.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from support.builders import layers
from support.chart import apply
from support.served import as_served, own_name
from wavegate.rollout.names import AGENTS_LABEL
from wavegate_sandbox.cluster import Sandbox
from wavegate_sandbox.nodes import NodeSpec

GROUP = "/apis/wavegate.dev/v1alpha1"
REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
FINAL = ("Completed", "Reverted", "Rejected", "Superseded")
PATIENCE = 90.0
"""Seconds that a story may take until its next turn; the usual is a quarter of it."""
ON_ITS_CANARY = [
    {"name": "canary", "pools": ["canary"], "upTo": "100%", "soak": "1h"},
    {"name": "all", "upTo": "100%"},
]
"""Waves for a release that is taken back, or replaced, in its first one: that does not end by
itself, however slow the test is with what ends it.
"""


def digest(content: str) -> str:
    """The digest of a content's image."""
    return "sha256:" + hashlib.sha256(content.encode()).hexdigest()


@dataclass(slots=True)
class Story:
    """One channel, `rules`, in a namespace with nodes of its own: one canary and some workers."""

    sandbox: Sandbox
    namespace: str
    workers: int = 3
    channel: str = "rules"
    sequence: int = field(default=0)
    adapts: bool = True
    """Whether the channel is written as the cluster can have it (`as_served`)."""

    @property
    def nodes(self) -> list[str]:
        """Names of all nodes; the canary comes first."""
        return [f"{self.namespace}-canary", *self.worker_names]

    @property
    def worker_names(self) -> list[str]:
        """Names of the nodes of the second pool."""
        return [f"{self.namespace}-worker-{index}" for index in range(self.workers)]

    def begin(self, changes: Mapping[str, Any] | None = None) -> Self:
        """Add the nodes and the channel; `changes` are merged into the channel's spec."""
        let_agents_run(self.sandbox, self.namespace)
        specs = [self._node(name) for name in self.nodes]
        self.sandbox.add_nodes(specs)
        self.apply_channel(changes or {})
        return self

    def join(self, name: str) -> None:
        """A node joins the workers."""
        self.sandbox.add_nodes([self._node(name)])

    def apply_channel(self, changes: Mapping[str, Any]) -> None:
        """Create the channel or replace its spec."""
        spec = {**channel_spec(self.namespace), **changes}
        if self.adapts:
            spec = as_served(self.sandbox, spec)
        body = {
            "apiVersion": "wavegate.dev/v1alpha1",
            "kind": "SecurityContentChannel",
            "metadata": {"name": self.channel},
            "spec": spec,
        }
        path = f"{self._path('channels')}/{self.channel}"
        params = {"fieldManager": "story", "force": "true"}
        self.sandbox.request(
            "PATCH", path, body, params=params, content_type="application/apply-patch+yaml"
        )

    def publish(self, name: str, letter: str | None = None, **spec: Any) -> str:
        """Create the next release with this content (by default the release's name). `layers` are
        told by their names.
        """
        self.sequence += 1
        content: dict[str, Any] = {"image": f"registry.example/content@{digest(letter or name)}"}
        if "layers" in spec:
            content["layers"] = layers(*spec.pop("layers"))
        body = {
            "apiVersion": "wavegate.dev/v1alpha1",
            "kind": "SecurityContentRelease",
            "metadata": {"name": name},
            "spec": {
                "channel": self.channel,
                "version": name,
                "sequence": self.sequence,
                "content": content,
                **spec,
            },
        }
        self.sandbox.request("POST", self._path("releases"), body)
        return name

    def patch(self, kind: str, name: str, spec: Mapping[str, Any]) -> None:
        """Merge into the spec of one of our objects."""
        path = f"{self._path(kind)}/{name}"
        merge = "application/merge-patch+json"
        self.sandbox.request("PATCH", path, {"spec": spec}, content_type=merge)

    def status(self, release: str) -> dict[str, Any]:
        """Status of a release; empty before the operator wrote one."""
        found = self.sandbox.request("GET", f"{self._path('releases')}/{release}")
        return dict(found.get("status") or {})

    def channel_status(self) -> dict[str, Any]:
        """Status of the channel."""
        found = self.sandbox.request("GET", f"{self._path('channels')}/{self.channel}")
        return dict(found.get("status") or {})

    def decide(
        self, name: str, release: str, action: str, content: str | None = None, **spec: Any
    ) -> None:
        """Record a person's decision."""
        body = {
            "apiVersion": "wavegate.dev/v1alpha1",
            "kind": "SecurityContentDecision",
            "metadata": {"name": name},
            "spec": {
                "release": release,
                "digest": digest(content or release),
                "action": action,
                "reason": "the story wants it",
                **own_name(self.sandbox),
                **spec,
            },
        }
        self.sandbox.request("POST", self._path("decisions"), body)

    def until_channel_seen(self) -> None:
        """Wait until the operator has seen the channel as it is now. Channels and releases are
        watched apart: of a release that is published at once it may say for a moment that its
        channel is unknown.
        """
        path = f"{self._path('channels')}/{self.channel}"

        def seen() -> bool:
            channel = self.sandbox.request("GET", path)
            status = channel.get("status") or {}
            return bool(status.get("observedGeneration") == channel["metadata"]["generation"])

        self.sandbox.wait_for(f"{self.namespace}: the channel is seen", seen, PATIENCE)

    def until(
        self, release: str, what: str, test: Callable[[dict[str, Any]], bool], patience: float = 0
    ) -> dict[str, Any]:
        """Wait until the release's status is as `test` wants it; returns that status."""
        seen: dict[str, Any] = {}

        def reached() -> bool:
            seen.clear()
            seen.update(self.status(release))
            return test(seen)

        try:
            self.sandbox.wait_for(f"{release}: {what}", reached, patience or PATIENCE)
        except Exception as error:
            raise AssertionError(f"{error}\nstatus: {json.dumps(seen, indent=1)}") from error
        return dict(seen)

    def settled(self, decision: str) -> dict[str, Any]:
        """The status of a decision, once it is obeyed or refused."""
        path, seen = f"{self._path('decisions')}/{decision}", dict[str, Any]()

        def done() -> bool:
            seen.update(self.sandbox.request("GET", path).get("status") or {})
            return seen.get("phase") in ("Accepted", "Refused")

        self.sandbox.wait_for(f"decision {decision} is obeyed or refused", done)
        return seen

    def until_phase(self, release: str, phase: str, patience: float = 0) -> dict[str, Any]:
        """Wait for a phase; another final one fails at once."""

        def reached(status: dict[str, Any]) -> bool:
            now = status.get("phase")
            if now != phase and now in FINAL:
                raise AssertionError(f"{release} ended {now}, not {phase}: {status['message']}")
            return now == phase

        return self.until(release, f"phase {phase}", reached, patience)

    def agents(self) -> dict[str, str]:
        """The content that runs on each node: node → digest, of Ready agents that stay."""
        running: dict[str, str] = {}
        for pod in self.pods():
            if not is_running(pod):
                continue
            node = pod["spec"]["nodeName"]
            assert node not in running, f"two agents run on {node}"
            running[node] = content_of(pod)
        return running

    def pods(self) -> list[dict[str, Any]]:
        """All agent pods."""
        path = f"/api/v1/namespaces/{self.namespace}/pods"
        return list(self.sandbox.request("GET", path)["items"])

    def until_agents(self, what: str, wanted: Mapping[str, str]) -> None:
        """Wait until exactly these nodes run exactly these contents (given by their letter)."""
        expected = {node: digest(content) for node, content in wanted.items()}
        self.sandbox.wait_for(
            f"{self.namespace}: {what}", lambda: self.agents() == expected, PATIENCE
        )

    def everywhere(self, content: str) -> dict[str, str]:
        """What `until_agents` wants when one content is on all nodes."""
        return dict.fromkeys(self.nodes, content)

    def everywhere_digest(self, content: str) -> dict[str, str]:
        """What `agents` gives when one content is on all nodes."""
        return dict.fromkeys(self.nodes, digest(content))

    def events(self, release: str) -> list[str]:
        """Reasons of the Events of a release."""
        path = f"/apis/events.k8s.io/v1/namespaces/{self.namespace}/events"
        items = self.sandbox.request("GET", path)["items"]
        return [item["reason"] for item in items if item["regarding"]["name"] == release]

    def until_events(self, release: str, *reasons: str) -> None:
        """Wait for Events of a release: nothing waits for them, also no status."""
        self.sandbox.wait_for(
            f"the Events {', '.join(reasons)}", lambda: {*reasons} <= {*self.events(release)}
        )

    def _node(self, name: str) -> NodeSpec:
        pool = "canary" if name.endswith("canary") else "workers"
        return NodeSpec(name, {"story": self.namespace, "pool": pool})

    def _path(self, kind: str) -> str:
        return f"{GROUP}/namespaces/{self.namespace}/securitycontent{kind}"


def let_agents_run(sandbox: Sandbox, namespace: str) -> None:
    """Label a namespace as one for agents, and give the operators their rights there."""
    label_for_agents(sandbox, namespace)
    bind_operators(sandbox, namespace)


def bind_operators(sandbox: Sandbox, namespace: str) -> None:
    """Make the RoleBinding of each operator whose roles are installed."""
    ours = {"labelSelector": "app.kubernetes.io/name=wavegate"}
    bindings = sandbox.request("GET", f"{RBAC}/clusterrolebindings", params=ours)["items"]
    for binding in bindings:
        (account,) = binding["subjects"]
        if binding["roleRef"]["name"] == account["name"]:  # the first of its roles
            bind(sandbox, namespace, f"{account['name']}-agents", account)


def bind(sandbox: Sandbox, namespace: str, role: str, account: Mapping[str, Any]) -> None:
    """As `kubectl create rolebinding`, by the name that the operator tells; waits until it acts."""
    body = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": role},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [account],
    }
    apply(sandbox, f"{RBAC}/namespaces/{namespace}/rolebindings/{role}", body)
    asked = {"verb": "create", "resource": "configmaps", "namespace": namespace}
    user = f"system:serviceaccount:{account['namespace']}:{account['name']}"
    review = {"spec": {"user": user, "resourceAttributes": asked}}

    def acts() -> bool:
        answer = sandbox.request("POST", REVIEWS, review)
        return bool(answer["status"]["allowed"])

    sandbox.wait_for(f"the RoleBinding {role} to act", acts)


def unbind_operators(sandbox: Sandbox, namespace: str) -> None:
    """Take all RoleBindings of a namespace away."""
    sandbox.request("DELETE", f"{RBAC}/namespaces/{namespace}/rolebindings")


def label_for_agents(sandbox: Sandbox, namespace: str) -> None:
    """Label a namespace as one for agents."""
    body = {"metadata": {"labels": {AGENTS_LABEL: "allowed"}}}
    sandbox.request("PATCH", f"/api/v1/namespaces/{namespace}", body)


def channel_spec(story: str) -> dict[str, Any]:
    """A channel in two waves, at the pace of the tests. Only nodes of the story run the agent."""
    return {
        "agent": {
            "template": {
                "spec": {
                    "nodeSelector": {"story": story},
                    "containers": [
                        {"name": "agent", "image": f"registry.example/agent@{digest('agent')}"}
                    ],
                    "volumes": [{"name": "content", "image": {"reference": "set-by-wavegate"}}],
                }
            }
        },
        "content": {"imageVolume": {"volumeName": "content"}},
        "pools": [
            {"name": "canary", "selector": {"matchLabels": {"story": story, "pool": "canary"}}},
            {"name": "workers", "selector": {"matchLabels": {"story": story, "pool": "workers"}}},
        ],
        "waves": [
            {"name": "canary", "pools": ["canary"], "upTo": "100%"},
            {"name": "all", "upTo": "100%"},
        ],
        "rollout": {"maxUnavailable": "100%", "settle": "1s", "soak": "2s", "coolDown": "0s"},
    }


def asks_before_its_last(story: str) -> list[dict[str, Any]]:
    """The waves of `channel_spec`, of which the last one waits for an approval."""
    canary, rest = channel_spec(story)["waves"]
    return [canary, {**rest, "approval": "Required"}]


def is_running(pod: dict[str, Any]) -> bool:
    """Whether it is Ready and stays."""
    conditions = pod.get("status", {}).get("conditions") or []
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


def content_of(pod: dict[str, Any]) -> str:
    """The digest of the content that an agent's pod has; empty for other pods."""
    volumes = pod["spec"].get("volumes", [])
    images = [v["image"]["reference"] for v in volumes if "image" in v]
    # Where there are no image volumes (see `as_served`).
    inits = pod["spec"].get("initContainers", [])
    images += [c["image"] for c in inits if c["name"] == "content"]
    return images[0].partition("@")[2] if images else ""
