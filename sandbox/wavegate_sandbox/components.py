"""The command lines of the components. Everything listens and talks on 127.0.0.1."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from wavegate_sandbox.certificates import Pair

STAGES = Path(__file__).parent / "stages"
CRASHED = "sandbox.wavegate.dev/crashed"
REAL = "sandbox.wavegate.dev/real"
"""Label of a node with a kubelet of its own (real_node.py)."""
OFFLINE = "offline.registry.test"
"""Images of this registry can't be pulled (stages/pod.yaml)."""
PULLED = "sandbox.wavegate.dev/pulled"
"""Annotation of a pod for which they could be, after all."""

# Order of start. The components of one step start side by side.
STEPS: tuple[tuple[str, ...], ...] = (
    ("etcd", "prometheus"),
    ("kube-apiserver",),
    ("kube-controller-manager", "kube-scheduler", "kwok", "kube-state-metrics"),
)
OPTIONAL = ("prometheus", "kube-state-metrics")
"""Components that are started only when asked for."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What the command lines need. `ports` is filled while components start."""

    folder: Path
    tools: Mapping[str, Path]
    ca: Path
    etcd: Pair
    apiserver: Pair
    serving: Pair
    signing_key: Path
    audit_log: Path | None
    grace_period: str | None
    ports: dict[str, int] = field(default_factory=dict)

    def kubeconfig(self, name: str) -> Path:
        """The kubeconfig of a component (or of `admin`)."""
        return self.folder / f"{name}.kubeconfig"

    @property
    def targets(self) -> Path:
        """Folder of the files that tell Prometheus what to scrape."""
        return self.folder / "prometheus" / "targets"


def ports_of(name: str) -> tuple[str, ...]:
    """Names of the ports that a component listens on."""
    if name == "kwok":
        return ()
    second = {"etcd": ("etcd-peer",), "kube-state-metrics": ("kube-state-metrics-self",)}
    return (name, *second.get(name, ()))


def command(name: str, layout: Layout) -> list[str | Path]:
    """The component's command line, without the caller's extra arguments."""
    return [layout.tools[name], *_ARGUMENTS[name](layout)]


def _etcd(layout: Layout) -> list[str]:
    client = f"https://127.0.0.1:{layout.ports['etcd']}"
    peer = f"https://127.0.0.1:{layout.ports['etcd-peer']}"
    pair = layout.etcd
    return [
        f"--data-dir={layout.folder / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        # Other users of the machine must not get at the secrets in there.
        "--client-cert-auth",
        f"--trusted-ca-file={layout.ca}",
        f"--cert-file={pair.certificate}",
        f"--key-file={pair.key}",
        "--peer-client-cert-auth",
        f"--peer-trusted-ca-file={layout.ca}",
        f"--peer-cert-file={pair.certificate}",
        f"--peer-key-file={pair.key}",
        "--unsafe-no-fsync",  # the data does not outlive the sandbox
        "--log-level=warn",
    ]


def _apiserver(layout: Layout) -> list[str]:
    arguments = [
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        "--endpoint-reconciler-type=none",  # 127.0.0.1 is no valid endpoint of a Service
        f"--secure-port={layout.ports['kube-apiserver']}",
        f"--etcd-servers=https://127.0.0.1:{layout.ports['etcd']}",
        f"--etcd-cafile={layout.ca}",
        f"--etcd-certfile={layout.etcd.certificate}",
        f"--etcd-keyfile={layout.etcd.key}",
        f"--client-ca-file={layout.ca}",
        f"--tls-cert-file={layout.apiserver.certificate}",
        f"--tls-private-key-file={layout.apiserver.key}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        "--service-cluster-ip-range=10.0.0.0/24",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={layout.signing_key}",
        f"--service-account-signing-key-file={layout.signing_key}",
    ]
    if layout.audit_log:
        arguments += [
            f"--audit-policy-file={layout.folder / 'audit-policy.yaml'}",
            f"--audit-log-path={layout.audit_log}",
        ]
    return arguments


def _controller_manager(layout: Layout) -> list[str]:
    arguments = [
        *_client_server("kube-controller-manager", layout),
        f"--root-ca-file={layout.ca}",
        f"--service-account-private-key-file={layout.signing_key}",
        # One identity for all controllers: minting an account for each, at the default 20
        # requests per second, would add 6 s to the start. See the README for the other way.
        "--use-service-account-credentials=false",
        "--allocate-node-cidrs=false",
    ]
    if layout.grace_period:
        arguments.append(f"--node-monitor-grace-period={layout.grace_period}")
    return arguments


def _scheduler(layout: Layout) -> list[str]:
    return _client_server("kube-scheduler", layout)


def _client_server(name: str, layout: Layout) -> list[str]:
    return [
        f"--kubeconfig={layout.kubeconfig(name)}",
        "--bind-address=127.0.0.1",
        f"--secure-port={layout.ports[name]}",
        f"--tls-cert-file={layout.serving.certificate}",
        f"--tls-private-key-file={layout.serving.key}",
        "--leader-elect=false",
    ]


def _kwok(layout: Layout) -> list[str]:
    stages = [f"--config={path}" for path in sorted(STAGES.glob("*.yaml"))]
    return [
        f"--kubeconfig={layout.kubeconfig('kwok')}",
        # A crashed machine is one that kwok no longer plays: its lease stops, its pods freeze.
        f"--manage-nodes-with-label-selector=!{CRASHED},!{REAL}",
        "--node-lease-duration-seconds=40",  # as kubelets do: renewed every 10 s
        "--cidr=10.64.0.0/10",  # of the pods' addresses, which nobody can reach
        *stages,
    ]


def _prometheus(layout: Layout) -> list[str]:
    folder = layout.folder / "prometheus"
    return [
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{layout.ports['prometheus']}",
    ]


def _kube_state_metrics(layout: Layout) -> list[str]:
    return [
        f"--kubeconfig={layout.kubeconfig('kube-state-metrics')}",
        "--host=127.0.0.1",
        f"--port={layout.ports['kube-state-metrics']}",
        "--telemetry-host=127.0.0.1",
        f"--telemetry-port={layout.ports['kube-state-metrics-self']}",
        # What the checks of the documentation ask about; more would only cost memory.
        "--resources=daemonsets,deployments,nodes,pods",
    ]


_ARGUMENTS: Mapping[str, Callable[[Layout], list[str]]] = {
    "etcd": _etcd,
    "kube-apiserver": _apiserver,
    "kube-controller-manager": _controller_manager,
    "kube-scheduler": _scheduler,
    "kube-state-metrics": _kube_state_metrics,
    "kwok": _kwok,
    "prometheus": _prometheus,
}


def write_configuration(layout: Layout) -> None:
    """The configuration files that the command lines point at (YAML; JSON is YAML)."""
    audit = {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [{"level": "Metadata"}],
    }
    (layout.folder / "audit-policy.yaml").write_text(json.dumps(audit))
    layout.targets.mkdir(parents=True, exist_ok=True)
    discovery = {"files": [f"{layout.targets}/*.json"], "refresh_interval": "1s"}
    prometheus = {
        "global": {
            "scrape_interval": "1s",
            "scrape_timeout": "1s",
            "evaluation_interval": "1s",
        },
        "scrape_configs": [
            {"job_name": "sandbox", "honor_labels": True, "file_sd_configs": [discovery]}
        ],
    }
    (layout.folder / "prometheus" / "prometheus.yml").write_text(json.dumps(prometheus))
