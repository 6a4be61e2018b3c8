"""What the demo is played with: machines in four pools, a channel, two releases.

The pace is set here and in documented operator settings, and is printed: the operator has no idea
that this is a demo. Node controller and kubelets keep Kubernetes' default times.
"""

import hashlib
from typing import Any

from wavegate_sandbox.nodes import NodeSpec

NAMESPACE = "wavegate-demo"
CHANNEL = "threat-rules"
GROUP = f"/apis/wavegate.dev/v1alpha1/namespaces/{NAMESPACE}"
POOLS = {"canary": 4, "workers": 24, "payments": 8, "control-plane": 4}
CONTROL_PLANE_TAINT = "node-role.kubernetes.io/control-plane:NoSchedule"

OPERATOR_SETTINGS = {"WAVEGATE_SOAK_FLOOR": "4s"}
PACE = {"maxUnavailable": "25%", "settle": "2s", "soak": "4s"}
WAVES: list[dict[str, Any]] = [
    {"name": "first-node", "pools": ["canary"], "upTo": 1},
    {"name": "canary", "pools": ["canary"], "upTo": "100%"},
    {"name": "workers-half", "pools": ["workers"], "upTo": "50%"},
    {"name": "fleet", "pools": ["workers", "payments"], "upTo": "100%"},
    {"name": "control-plane", "pools": ["control-plane"], "upTo": "100%"},
]


def digest(text: str) -> str:
    """A digest to tell contents apart; nothing is pulled here, as kwok plays the kubelets."""
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


GOOD, BAD = digest("the demo's good content"), digest("the demo's bad content")


def machines() -> list[NodeSpec]:
    """The 40 machines."""
    specs = []
    for pool, count in POOLS.items():
        taints = (CONTROL_PLANE_TAINT,) if pool == "control-plane" else ()
        for index in range(1, count + 1):
            labels = {"demo.example/pool": pool}
            specs.append(NodeSpec(f"{pool}-{index}", labels, taints=taints))
    return specs


def channel() -> dict[str, Any]:
    """The platform team's part: the agent, the pools, the waves."""
    agent = f"registry.example/agent@{digest('the agent')}"
    template = {
        "spec": {
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "tolerations": [{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"}],
            "containers": [
                {
                    "name": "agent",
                    "image": agent,
                    "volumeMounts": [{"name": "content", "mountPath": "/content"}],
                }
            ],
            "volumes": [{"name": "content", "image": {"reference": "set-by-wavegate"}}],
        }
    }
    pools = [
        {"name": pool, "selector": {"matchLabels": {"demo.example/pool": pool}}} for pool in POOLS
    ]
    spec = {
        "agent": {"template": template},
        "content": {"imageVolume": {"volumeName": "content"}},
        "pools": pools,
        "waves": WAVES,
        "rollout": PACE,
    }
    return _object("SecurityContentChannel", CHANNEL, spec)


def release(version: str, sequence: int, content: str) -> dict[str, Any]:
    """The security team's part: one version of the content."""
    spec = {
        "channel": CHANNEL,
        "version": version,
        "sequence": sequence,
        "content": {"image": f"registry.example/threat-rules@{content}"},
    }
    return _object("SecurityContentRelease", f"{CHANNEL}-{version}", spec)


def _object(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "wavegate.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": spec,
    }
