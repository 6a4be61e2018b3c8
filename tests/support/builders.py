"""Builders of our three kinds: a channel of two waves, releases and decisions on it."""

import hashlib
from typing import Any

from wavegate.api import Channel, Decision, Release

SPACE, CHANNEL = "agents", "rules"


def digest(content: str) -> str:
    """The digest of a content's image."""
    return "sha256:" + hashlib.sha256(content.encode()).hexdigest()


def agent_template() -> dict[str, Any]:
    """A pod template with one container and one volume for content."""
    image = f"registry.example/agent@{digest('agent')}"
    volumes = [{"name": "content", "image": {"reference": "set-by-wavegate"}}]
    return {"spec": {"containers": [{"name": "agent", "image": image}], "volumes": volumes}}


def make_channel(**spec: Any) -> Channel:
    """A channel in two waves at a quick pace; `spec` replaces fields of it."""
    pools = [{"name": p, "selector": {"matchLabels": {"pool": p}}} for p in ("canary", "workers")]
    waves = [
        {"name": "canary", "pools": ["canary"], "upTo": "100%"},
        {"name": "all", "upTo": "100%"},
    ]
    rollout = {"maxUnavailable": "100%", "settle": "5s", "soak": "30s", "progressDeadline": "2m"}
    base = {
        "agent": {"template": agent_template()},
        "content": {"imageVolume": {"volumeName": "content"}},
        "pools": pools,
        "waves": waves,
    }
    rollout |= spec.pop("rollout", {})
    metadata = {"name": CHANNEL, "namespace": SPACE, "uid": "channel", "generation": 1}
    return Channel.parse({"metadata": metadata, "spec": base | {"rollout": rollout} | spec})


def make_release(name: str, sequence: int, content: str = "", **spec: Any) -> Release:
    """A release whose content is an image, by default named by the release itself."""
    image = f"registry.example/content@{digest(content or name)}"
    body: dict[str, Any] = {"channel": CHANNEL, "version": name, "sequence": sequence}
    body["content"] = {"image": image}
    uid = f"uid-{name}-{sequence}"
    metadata = {"name": name, "namespace": SPACE, "uid": uid, "generation": 1}
    return Release.parse({"metadata": metadata, "spec": body | spec})


def make_decision(name: str, release: str, action: str, content: str = "", **spec: Any) -> Decision:
    """A person's decision on the release's content."""
    body = {"release": release, "digest": digest(content or release), "action": action}
    metadata = {"name": name, "namespace": SPACE, "uid": f"uid-{name}"}
    return Decision.parse({"metadata": metadata, "spec": body | {"reason": "a test"} | spec})
