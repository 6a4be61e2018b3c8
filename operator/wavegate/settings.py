"""The operator's settings: environment variables, each documented at its field."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

from wavegate.api import Duration

PREFIX = "WAVEGATE_"
_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class BadSetting(ValueError):  # noqa: N818 (it is named as the person on call would say it)
    """A setting can't be used; the message says which, and what to write."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Read once at start. Durations are seconds here and text as `3m` in the environment."""

    soak_floor: float = 180.0
    """WAVEGATE_SOAK_FLOOR: no channel may soak for less. Default 3m."""
    listen: str = "0.0.0.0:8080"
    """WAVEGATE_LISTEN: address:port of probes and metrics. Default 0.0.0.0:8080."""
    lease_namespace: str = ""
    """WAVEGATE_LEASE_NAMESPACE: where the leader's Lease is. Default: the pod's own namespace."""
    lease_name: str = "wavegate"
    """WAVEGATE_LEASE_NAME: name of the leader's Lease. Default wavegate."""
    lease_duration: float = 15.0
    """WAVEGATE_LEASE_DURATION: a leader that is silent for so long is replaced. Default 15s."""
    identity: str = ""
    """WAVEGATE_IDENTITY: the name of this process in the Lease. Default: host name and process."""
    node: str = ""
    """WAVEGATE_NODE: node of this process, which comes last in its wave. Default none."""
    service: str = ""
    """WAVEGATE_SERVICE: Service of all replicas, whose nodes share no wave. Default none."""
    prometheus_connections: str = "/etc/wavegate/prometheus"
    """WAVEGATE_PROMETHEUS_CONNECTIONS: folder of connections. Default /etc/wavegate/prometheus."""
    admission_policies: str = ""
    """WAVEGATE_ADMISSION_POLICIES: group/version/plural/name of each. Default none."""
    admission_required: str = "false"
    """WAVEGATE_ADMISSION_REQUIRED: true: without these policies no node moves. Default false."""
    agents_role: str = "wavegate-agents"
    """WAVEGATE_AGENTS_ROLE: ClusterRole that messages say to bind. Default wavegate-agents."""
    service_account: str = "wavegate"
    """WAVEGATE_SERVICE_ACCOUNT: account that messages say to bind it to. Default wavegate."""
    log_level: str = "info"
    """WAVEGATE_LOG_LEVEL: debug, info, warning or error. Default info."""

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Self:
        """Read the environment. Raises BadSetting for a value that can't be used."""
        values: dict[str, str | float] = {}
        for field in fields(cls):
            name = f"{PREFIX}{field.name.upper()}"
            text = environment.get(name, "")
            if text:
                values[field.name] = _parse(name, text, field.type)
        settings = cls(**values)  # type: ignore[arg-type]
        settings._check()
        return settings

    @property
    def address(self) -> tuple[str, int]:
        """`listen` as address and port."""
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104 (probes come from the kubelet)

    def namespace(self) -> str:
        """The Lease's namespace: the setting, else the pod's own, else `default`."""
        if self.lease_namespace:
            return self.lease_namespace
        return _NAMESPACE_FILE.read_text().strip() if _NAMESPACE_FILE.exists() else "default"

    def binding(self) -> str:
        """What gives the operator its rights in a namespace, after `kubectl create rolebinding`."""
        account = f"{self.namespace()}:{self.service_account}"
        return f"{self.agents_role} --clusterrole={self.agents_role} --serviceaccount={account}"

    def own_service(self) -> str:
        """The Service of all replicas (`namespace/name`), or nothing."""
        return f"{self.namespace()}/{self.service}" if self.service else ""

    def policies(self) -> tuple[str, ...]:
        """The admission policies that should be there."""
        return tuple(self.admission_policies.replace(",", " ").split())

    def name(self) -> str:
        """This process's name in the Lease."""
        return self.identity or f"{socket.gethostname()}-{os.getpid()}"

    def _check(self) -> None:
        if self.lease_duration < 3:
            raise BadSetting("WAVEGATE_LEASE_DURATION must be at least 3s")
        if self.admission_required not in ("true", "false"):
            raise BadSetting("WAVEGATE_ADMISSION_REQUIRED must be true or false")
        if any(path.count("/") != 3 for path in self.policies()):
            raise BadSetting("WAVEGATE_ADMISSION_POLICIES: write group/version/plural/name, …")
        if self.log_level not in ("debug", "info", "warning", "error"):
            raise BadSetting("WAVEGATE_LOG_LEVEL must be debug, info, warning or error")
        port = self.listen.rpartition(":")[2]
        if not port.isdigit() or not 0 <= int(port) < 65536:
            raise BadSetting(f"WAVEGATE_LISTEN is {self.listen!r}: write address:port")


def _parse(name: str, text: str, kind: object) -> str | float:
    if kind is not float:
        return text
    try:
        return float(Duration.parse(text))
    except ValueError as error:
        raise BadSetting(f"{name}: {error}") from error
