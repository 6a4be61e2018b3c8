"""Starts the components of a sandbox in order, and again one by one for fault tests.

Invariant: a component counts as ready only when the process that we started answers, and answers
with our certificate (or, Prometheus, with our folder): never another program on the same port.
"""

import random
import socket
import sys
import threading
import time
from collections.abc import Collection, Mapping
from pathlib import Path

import requests

from wavegate_sandbox import components, kubeconfig
from wavegate_sandbox.certificates import Authority
from wavegate_sandbox.client import Api
from wavegate_sandbox.components import Layout
from wavegate_sandbox.errors import ApiError, ComponentFailed, PortTaken
from wavegate_sandbox.kubeconfig import Access
from wavegate_sandbox.processes import Processes

READY_SECONDS = 60
PORT_ATTEMPTS = 5
# Below those from which Linux (from 32768) and macOS (49152) take ports of outgoing connections.
PORTS = range(20000, 32000)
_reserved: list[socket.socket] = []
IDENTITIES = {
    "admin": ("kubernetes-admin", ("system:masters",)),
    "kube-controller-manager": ("system:kube-controller-manager", ("system:masters",)),
    "kube-scheduler": ("system:kube-scheduler", ()),
    "kube-state-metrics": ("kube-state-metrics", ("system:masters",)),
    "kwok": ("kwok", ("system:masters",)),
}


class ControlPlane:
    """The components of one sandbox: names are those of the programs (`kube-apiserver`, …)."""

    def __init__(
        self, layout: Layout, processes: Processes, extra: Mapping[str, tuple[str, ...]]
    ) -> None:
        self.layout = layout
        self._processes = processes
        self._extra = extra
        self._lock = threading.RLock()

    @property
    def server(self) -> str:
        """The apiserver's URL."""
        return f"https://127.0.0.1:{self.layout.ports['kube-apiserver']}"

    def start(self, authority: Authority, optional: Collection[str]) -> Api:
        """Start everything, of the optional components these, and wait until it is ready; returns
        a client as admin.
        """
        pairs = {name: authority.client(name, *who) for name, who in IDENTITIES.items()}
        admin: Api | None = None
        for step in components.STEPS:
            names = [n for n in step if n not in components.OPTIONAL or n in optional]
            for name in names:
                self._launch(name)
            for name in names:
                self._settle(name)
            if "kube-apiserver" in names:
                for name, pair in pairs.items():
                    access = Access(self.server, self.layout.ca, pair)
                    kubeconfig.write(self.layout.kubeconfig(name), access)
                admin = Api(Access(self.server, self.layout.ca, pairs["admin"]))
        if admin is None:
            raise ComponentFailed("No apiserver among the components.")  # a mistake in STEPS
        self._await_default_account(admin)
        return admin

    def stop_component(self, name: str, grace: float) -> int:
        """See `Sandbox.stop_component`."""
        with self._lock:
            return self._processes.stop(name, grace)

    def start_component(self, name: str) -> None:
        """See `Sandbox.start_component`."""
        with self._lock:
            if name in self._processes.pids() and name not in self._processes.exited():
                return
            self._run(name)
            self._await(name)

    def died(self) -> str:
        """A line per component that is not running, for error messages; empty if all run."""
        return "\n".join(
            f"{name} ended with {code}; see {self._processes.log(name)}:\n"
            f"{self._processes.last_lines(name)}"
            for name, code in self._processes.exited().items()
        )

    def _launch(self, name: str) -> None:
        for port in components.ports_of(name):
            self.layout.ports[port] = free_port()
        self._run(name)

    def _run(self, name: str) -> None:
        self._processes.log(name).open("ab").close()
        argv = [*components.command(name, self.layout), *self._extra.get(name, ())]
        self._processes.start(name, argv)

    def _settle(self, name: str) -> None:
        """Wait until ready; should somebody have taken its port meanwhile, take another."""
        for _ in range(PORT_ATTEMPTS - 1):
            try:
                self._await(name)
            except PortTaken:
                self._processes.log(name).unlink()  # the next attempt is judged by its own words
                self._launch(name)
            else:
                return
        self._await(name)

    def _await(self, name: str) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not self._answers(name):
            self._check_running(name)
            if time.monotonic() > deadline:
                raise ComponentFailed(
                    f"{name} did not get ready in {READY_SECONDS} s. Its last log lines "
                    f"({self._processes.log(name)}):\n{self._processes.last_lines(name)}"
                )
            time.sleep(0.05)
        self._check_running(name)

    def _check_running(self, name: str) -> None:
        code = self._processes.exited().get(name)
        if code is None:
            return
        log = self._processes.log(name)
        taken = "address already in use" in log.read_text(errors="replace")
        raise (PortTaken if taken else ComponentFailed)(
            f"{name} ended with exit code {code} instead of getting ready. Its last log lines "
            f"({log}):\n{self._processes.last_lines(name)}"
        )

    def _answers(self, name: str) -> bool:
        if name == "kwok":  # it has no server; what it does shows on the nodes
            return True
        port = self.layout.ports[name]
        pair = self.layout.etcd
        try:
            if name == "prometheus":
                return self._is_our_prometheus(port)
            if name == "kube-state-metrics":
                return self._is_our_state_metrics(port)
            path = {"etcd": "health", "kube-apiserver": "readyz"}.get(name, "healthz")
            with requests.Session() as session:
                session.trust_env = False
                session.verify = str(self.layout.ca)
                if name == "etcd":
                    session.cert = (str(pair.certificate), str(pair.key))
                return session.get(f"https://127.0.0.1:{port}/{path}", timeout=2).ok
        except requests.RequestException:
            return False

    def _is_our_prometheus(self, port: int) -> bool:
        with requests.Session() as session:
            session.trust_env = False
            base = f"http://127.0.0.1:{port}"
            if not session.get(f"{base}/-/ready", timeout=2).ok:
                return False
            flags = session.get(f"{base}/api/v1/status/flags", timeout=2).json()
            named = flags.get("data", {}).get("config.file", "")
            return Path(named).parent == self.layout.folder / "prometheus"

    def _is_our_state_metrics(self, port: int) -> bool:
        """It serves plain HTTP without a name, so what it says of our own port must be true: the
        port was free when we took it, and the process that we started would have ended otherwise.
        """
        with requests.Session() as session:
            session.trust_env = False
            return session.get(f"http://127.0.0.1:{port}/healthz", timeout=2).ok

    def _await_default_account(self, admin: Api) -> None:
        """Pods can be made only once the controller-manager has made the ServiceAccount."""
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                admin.request("GET", "/api/v1/namespaces/default/serviceaccounts/default")
            except (ApiError, requests.ConnectionError) as error:
                if time.monotonic() > deadline:
                    raise ComponentFailed(
                        "The control plane did not make the default ServiceAccount in "
                        f"{READY_SECONDS} s ({error}).\n{self.died()}"
                    ) from error
                time.sleep(0.05)
            else:
                return


def free_port() -> int:
    """A loopback port that nobody listens on right now, and that no other process of ours gets
    before this one ends: test runs start several sandboxes side by side.
    """
    for port in random.sample(PORTS, 200):
        if not _reserve(port):
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise ComponentFailed("None of 200 loopback ports tried was free.")


def _reserve(port: int) -> bool:
    """Hold a port by a name in the kernel's abstract namespace, which goes with the process."""
    if not sys.platform.startswith("linux"):
        return True
    name = socket.socket(socket.AF_UNIX)
    try:
        name.bind(f"\0wavegate-sandbox-port-{port}")
    except OSError:
        name.close()
        return False
    _reserved.append(name)
    return True
