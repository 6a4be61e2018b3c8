"""`Sandbox`: a whole control plane as a context manager, or an existing one that we may use.

    with Sandbox.start(Options(audit=True)) as sandbox:
        sandbox.add_nodes([NodeSpec("n1", {"pool": "canary"})])
        subprocess.run([sandbox.tool("kubectl"), "--kubeconfig", sandbox.kubeconfig, "get", "no"])

Invariant: after the `with` block, or the death of the process in whatever way, no process that
was started here runs and the folder is gone (unless it was asked to be kept).
"""

import atexit
import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

from wavegate_sandbox import build, components, kubeconfig
from wavegate_sandbox.certificates import Authority, Pair
from wavegate_sandbox.client import Api, wait_for
from wavegate_sandbox.components import Layout
from wavegate_sandbox.control_plane import ControlPlane
from wavegate_sandbox.errors import ComponentFailed, ContextRefused, NotOurs, TimedOut
from wavegate_sandbox.kubeconfig import Access
from wavegate_sandbox.nodes import Machines, NodeSpec
from wavegate_sandbox.processes import Processes
from wavegate_sandbox.progress import Progress

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Options:
    """How to start a sandbox.

    Attributes:
        prometheus: start Prometheus as well (scrapes and evaluates every second).
        state_metrics: start kube-state-metrics, and have Prometheus scrape it.
        audit: log every request (who, verb, what; level Metadata) to `sandbox.audit_log`.
        node_monitor_grace_period: how long a silent machine counts as Ready, as `8s`; None is
            Kubernetes' own default (50 s). Must be longer than the 10 s between two renewals.
        keep: leave the folder with logs and data behind.
        extra_args: more arguments per component: `{"kube-apiserver": ("--v=4",)}`.
    """

    prometheus: bool = True
    state_metrics: bool = False
    audit: bool = False
    node_monitor_grace_period: str | None = None
    keep: bool = False
    extra_args: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class Sandbox:
    """A running control plane. Made by `start`, `attach` or `attach_or_start`.

    Attributes:
        folder: everything of this sandbox, readable by its owner only.
        kubeconfig: for an administrator.
        server: the apiserver's URL.
        ca: the certificate of the authority behind it (None if the kubeconfig names none).
        prometheus_url: or None if there is none.
        audit_log: JSON lines, one per request; None unless asked for.
        tools: paths of the programs that run.
        api: the client behind `request`.
    """

    def __init__(
        self,
        folder: Path,
        api: Api,
        kubeconfig_path: Path,
        prometheus_url: str | None,
        started: "tuple[ControlPlane, Processes, Authority] | None" = None,
    ) -> None:
        self.folder = folder
        self.api = api
        self.kubeconfig = kubeconfig_path
        self.server = api.access.server
        self.ca = api.access.ca
        self.prometheus_url = prometheus_url
        self._started = started
        self.audit_log = started[0].layout.audit_log if started else None
        self.tools: Mapping[str, Path] = started[0].layout.tools if started else {}
        self._machines = Machines(api, build.kubernetes_version())

    @classmethod
    def start(cls, options: Options | None = None, progress: Progress | None = None) -> Self:
        """Start a control plane of our own; returns when it is ready (about 5 s once built).

        Raises:
            BuildFailed: a tool is not in the cache and could not be compiled.
            ComponentFailed: names the component, its last log lines and its log file, which
                stays for reading.
        """
        options = options or Options()
        optional = {"prometheus"} if options.prometheus else set()
        optional |= {"kube-state-metrics"} if options.state_metrics else set()
        wanted = [name for name in build.CORE if name != "prometheus"]
        tools = build.ensure([*wanted, *sorted(optional)], progress)
        folder = Path(tempfile.mkdtemp(prefix="wavegate-sandbox-"))
        processes = Processes(folder, keep=options.keep)
        try:
            authority = Authority(folder / "pki")
            layout = _layout(folder, tools, authority, options)
            components.write_configuration(layout)
            plane = ControlPlane(layout, processes, options.extra_args)
            api = plane.start(authority, optional)
        except BaseException as error:
            if isinstance(error, ComponentFailed):
                with contextlib.suppress(ComponentFailed):  # the error to show is the first one
                    processes.keep_folder()
            processes.close()
            raise
        port = layout.ports.get("prometheus")
        url = f"http://127.0.0.1:{port}" if port else None
        started = (plane, processes, authority)
        sandbox = cls(folder, api, layout.kubeconfig("admin"), url, started)
        if options.prometheus and options.state_metrics:
            sandbox.scrape(f"127.0.0.1:{layout.ports['kube-state-metrics']}")
        return sandbox

    @classmethod
    def attach(cls, path: Path, context: str | None, prometheus_url: str | None = None) -> Self:
        """Use an existing cluster; `context` must equal the kubeconfig's current context.

        Raises:
            ContextRefused: it does not; nothing was sent to the cluster.
        """
        access = kubeconfig.read(path)
        if context != access.context:
            said = f"is {context!r}" if context else "is not set"
            raise ContextRefused(
                f"{path} points at {access.server} (context {access.context!r}), and demo and "
                "tests would create, change and delete objects there. WAVEGATE_CONTEXT "
                f"{said}, so nothing was touched. If that cluster is the one you mean, set "
                f"WAVEGATE_CONTEXT={access.context}"
            )
        folder = Path(tempfile.mkdtemp(prefix="wavegate-attached-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)  # if nobody calls `close`
        return cls(folder, Api(access), path, prometheus_url)

    @classmethod
    def attach_or_start(
        cls, options: Options | None = None, progress: Progress | None = None
    ) -> Self:
        """Attach to `$WAVEGATE_KUBECONFIG` if that is set, else start a control plane.

        Attached: `$WAVEGATE_CONTEXT` must name its current context, `$WAVEGATE_PROMETHEUS_URL`
        may name its Prometheus, and the options have no effect.
        """
        named = os.environ.get("WAVEGATE_KUBECONFIG")
        if not named:
            return cls.start(options, progress)
        if os.environ.get(build.MINOR):
            raise NotOurs(
                f"{build.MINOR} says which Kubernetes to start, and WAVEGATE_KUBECONFIG names a "
                "cluster that runs already. Nothing was touched. Unset one of them."
            )
        context = os.environ.get("WAVEGATE_CONTEXT")
        return cls.attach(Path(named), context, os.environ.get("WAVEGATE_PROMETHEUS_URL"))

    @property
    def ours(self) -> bool:
        """Whether we started it, and so may stop its parts."""
        return self._started is not None

    def close(self) -> None:
        """End every process and remove the folder. Harmless when done twice."""
        if self._started:
            self._started[1].close()
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    def detach(self) -> int:
        """Let it outlive this process. Returns the process id to send SIGTERM to."""
        return self._processes().abandon()

    def __enter__(self) -> Self:
        """Nothing more to do."""
        return self

    def __exit__(self, *_: object) -> None:
        """See `close`."""
        self.close()

    # Requests

    def request(  # noqa: PLR0913 - as `Api.request`
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        params: Mapping[str, str] | None = None,
        content_type: str | None = None,
        check: bool = True,
    ) -> dict[str, Any]:
        """One request as administrator; see `Api.request`."""
        return self.api.request(
            method, path, body, params=params, content_type=content_type, check=check
        )

    def wait_for(self, what: str, predicate: Callable[[], T], timeout: float = 30) -> T:
        """Poll a condition; see `client.wait_for`. A time-out also names components that died."""
        try:
            return wait_for(what, predicate, timeout)
        except TimedOut as error:
            died = self._started[0].died() if self._started else ""
            if died:
                raise TimedOut(f"{error}\nMeanwhile:\n{died}") from error
            raise

    # Identities

    def service_account_kubeconfig(
        self, namespace: str, name: str, seconds: int = 24 * 3600
    ) -> Path:
        """A kubeconfig with a token of the ServiceAccount, minted by the TokenRequest API."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": seconds},
        }
        token = self.request("POST", path, body)["status"]["token"]
        access = Access(self.server, self.ca, token=token)
        file = self.folder / f"serviceaccount-{namespace}-{name}.kubeconfig"
        return kubeconfig.write(file, access, namespace)

    def client_pair(self, name: str, user: str, groups: tuple[str, ...] = ()) -> Pair:
        """A client certificate of a user, in files called `name`. NotOurs when attached."""
        if not self._started:
            raise _not_ours("issue client certificates")
        return self._started[2].client(name, user, groups)

    def user_kubeconfig(self, user: str, groups: tuple[str, ...] = ()) -> Path:
        """A kubeconfig with a client certificate of a user. NotOurs when attached."""
        pair = self.client_pair(f"user-{user}", user, groups)
        access = Access(self.server, self.ca, pair)
        return kubeconfig.write(self.folder / f"user-{user}.kubeconfig", access)

    # Machines

    def add_nodes(self, specs: Iterable[NodeSpec], timeout: float = 60) -> None:
        """Add simulated machines and wait until all are Ready."""
        self._machines.add(specs, timeout)

    def crash(self, node: str) -> None:
        """The machine stops: no lease, no change of its pods, until `boot`."""
        self._machines.crash(node)

    def boot(self, node: str) -> str:
        """The machine comes back with a new bootID, which is returned. Its containers restart."""
        return self._machines.boot(node)

    def pull(self, namespace: str, pod: str) -> None:
        """The registry has the images of this pod after all: it starts (`components.OFFLINE`)."""
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}"
        self.request("PATCH", path, {"metadata": {"annotations": {components.PULLED: "true"}}})

    def remove_node(self, node: str) -> None:
        """Delete the node object."""
        self._machines.remove(node)

    def cordon(self, node: str) -> None:
        """Mark the node unschedulable."""
        self._machines.cordon(node)

    def uncordon(self, node: str) -> None:
        """Mark the node schedulable."""
        self._machines.cordon(node, unschedulable=False)

    # Processes

    def tool(self, name: str) -> Path:
        """Path of a tool (`kubectl`, `helm`, …), compiled now if it is not in the cache."""
        return build.ensure([name])[name]

    def stop_component(self, name: str, grace: float = 5) -> int:
        """Stop a component and wait for its end; SIGKILL after `grace` seconds (at once if 0).

        The apiserver would take a minute of grace, as long as somebody watches.

        Returns:
            Its exit code (-9 when killed).
        """
        return self._plane().stop_component(name, grace)

    def start_component(self, name: str) -> None:
        """Start a stopped component on the same port; returns when it is ready.

        kwok has the leases again about 10 s later; machines look silent meanwhile.
        """
        plane = self._plane()
        if name == "kwok":
            self._machines.free_leases()
        plane.start_component(name)

    def restart_component(self, name: str, grace: float = 5) -> None:
        """Stop, then start."""
        self.stop_component(name, grace)
        self.start_component(name)

    def run(self, name: str, argv: Sequence[str], env: Mapping[str, str]) -> None:
        """Start a program beside the components, with this environment and little else. It ends
        with the sandbox, or by `stop_component`.
        """
        self._processes().start(name, argv, env)

    def pids(self) -> dict[str, int]:
        """Process ids by component, `supervisor` among them."""
        return self._processes().pids()

    def scrape(self, address: str) -> None:
        """Have Prometheus scrape `host:port`: first after about 6 s, then every second."""
        path = self._target(address)
        scratch = path.with_suffix(".tmp")  # Prometheus reads *.json only
        scratch.write_text(json.dumps([{"targets": [address]}]))
        scratch.replace(path)

    def unscrape(self, address: str) -> None:
        """Have Prometheus scrape it no more."""
        self._target(address).unlink(missing_ok=True)

    def _target(self, address: str) -> Path:
        return self._plane().layout.targets / f"{address.replace(':', '-')}.json"

    def _plane(self) -> ControlPlane:
        if not self._started:
            raise _not_ours("start, stop or configure its processes")
        return self._started[0]

    def _processes(self) -> Processes:
        if not self._started:
            raise _not_ours("look after its processes")
        return self._started[1]


def _not_ours(what: str) -> NotOurs:
    return NotOurs(f"This cluster was not started by the sandbox, which therefore cannot {what}.")


def _layout(
    folder: Path, tools: Mapping[str, Path], authority: Authority, options: Options
) -> Layout:
    return Layout(
        folder=folder,
        tools=tools,
        ca=authority.certificate,
        etcd=authority.server("etcd"),
        apiserver=authority.server(
            "kube-apiserver",
            ("kubernetes", "kubernetes.default", "kubernetes.default.svc"),
        ),
        serving=authority.server("serving"),
        signing_key=authority.signing_key("service-accounts"),
        audit_log=folder / "audit.log" if options.audit else None,
        grace_period=options.node_monitor_grace_period,
    )
