"""The operator as a local process: the chart's command, settings and ServiceAccount, never admin.

Invariant: what differs from the chart is only what a pod would have got from its node (python's
path, a port, the downward API) and what a test overrides by name; `env_differences` shows it.
"""

import http.client
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from prometheus_client.parser import text_string_to_metric_families

from support.chart import REPOSITORY, ControlPlane, Rendered, apply_policies, apply_rights, render
from support.served import has_mutating_policies
from wavegate_sandbox.client import wait_for
from wavegate_sandbox.control_plane import free_port

_pods = itertools.count(1)

# The process dies with the test run, however that ends: the kernel signals it when the thread that
# started it is gone. Set in the child itself and not by preexec_fn, which is unsafe with threads.
_DIE_WITH_PARENT = """\
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the test run ended before its operator began")
os.execv(sys.argv[2], sys.argv[2:])
"""


class OperatorGoneError(Exception):
    """The operator ended, or was not ready in time; the message carries the end of its log."""


@dataclass(slots=True)
class OperatorProcess:
    """One operator: a context manager, or `start` and `stop`. Start it from the main thread.

    Args:
        argv: program and arguments.
        env: the whole environment of the process.
        chart_env: the settings as the chart renders them, before overrides.
        log_path: where standard output and error go; appended to by each start.
    """

    argv: tuple[str, ...]
    env: dict[str, str]
    chart_env: dict[str, str]
    log_path: Path
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    _wanted: bool = field(default=False, repr=False)
    """Whether it was started, and nobody has ended it since."""
    _changing: threading.RLock = field(default_factory=threading.RLock, repr=False)

    @classmethod
    def from_chart(
        cls,
        sandbox: ControlPlane,
        release_namespace: str,
        overrides: dict[str, str] | None = None,
        folder: Path | None = None,
    ) -> Self:
        """Render the chart, put rights and policies in place and prepare (not start) the process.

        Each call is another pod: two calls with the same namespace are two replicas of one release.

        Args:
            sandbox: the control plane.
            release_namespace: namespace of the release, made when missing; also the release's name,
                so that releases in several namespaces do not share cluster roles.
            overrides: settings by their environment name; each must be one that the chart sets.
            folder: where the log goes; default a new temporary folder.

        Raises:
            ValueError: an override names a setting that the chart does not have.
        """
        stamps = has_mutating_policies(sandbox)
        rendered = render(sandbox.tool("helm"), release_namespace, release_namespace, stamps=stamps)
        apply_rights(sandbox, rendered)
        apply_policies(sandbox, rendered)
        return cls.from_rendered(sandbox, rendered, overrides, folder)

    @classmethod
    def from_rendered(
        cls,
        sandbox: ControlPlane,
        rendered: Rendered,
        overrides: dict[str, str] | None = None,
        folder: Path | None = None,
    ) -> Self:
        """Prepare the process for a release whose rights are in place, such as an installed one.

        Arguments and errors as in `from_chart`.
        """
        pod = f"{rendered.one('Deployment')['metadata']['name']}-{next(_pods)}"
        chart_env = settings(rendered, pod)
        chosen = overridden(chart_env, overrides or {})
        kubeconfig = sandbox.service_account_kubeconfig(
            rendered.namespace, rendered.service_account
        )
        log_folder = folder or Path(tempfile.mkdtemp(prefix="wavegate-operator-"))
        return cls(
            argv=command(rendered),
            env=_surroundings(kubeconfig) | chosen,
            chart_env=chart_env,
            log_path=log_folder / f"{pod}.log",
        )

    @property
    def env_differences(self) -> dict[str, str]:
        """Settings that are not the chart's: name → `used (chart: rendered)`."""
        return {
            name: f"{self.env[name]} (chart: {value})"
            for name, value in sorted(self.chart_env.items())
            if self.env[name] != value
        }

    @property
    def identity(self) -> str:
        """Name under which it holds the Lease."""
        return self.env["WAVEGATE_IDENTITY"]

    @property
    def address(self) -> str:
        """host:port of its probes and metrics."""
        return self.env["WAVEGATE_LISTEN"]

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Process id, to stop and continue it, or to read its memory; ValueError before `start`."""
        if self._process is None:
            raise ValueError("not started")
        return self._process.pid

    def start(self) -> Self:
        """Start it, or start it again after it ended; does not wait (see `wait_ready`)."""
        guard = (sys.executable, "-c", _DIE_WITH_PARENT, str(os.getpid()))
        with self._changing:
            if self.running:
                raise ValueError(f"{self.identity} runs already")
            with self.log_path.open("ab") as log:
                self._process = subprocess.Popen(
                    [*guard, *self.argv],
                    env=self.env,
                    cwd=self.log_path.parent,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            self._wanted = True
        return self

    def revive(self) -> bool:
        """Do what a kubelet does: start it again if it lost its lease, and so ended by itself.
        Returns whether that was so. One that was stopped or killed stays as it is.

        Raises:
            OperatorGoneError: it ended by itself, and not for its lease.
        """
        with self._changing:
            if not self._wanted or self.running:
                return False
            if not self._lost_its_lease():
                self._wanted = False
                self._must_run()
            self.start()
            return True

    def stop(self, grace: float = 20.0) -> int | None:
        """SIGTERM, then SIGKILL after `grace` seconds, as a kubelet does; returns the exit code."""
        return self._end(signal.SIGTERM, grace)

    def kill(self) -> int | None:
        """SIGKILL: no clean-up of any kind."""
        return self._end(signal.SIGKILL, 20.0)

    def wait_ready(self, timeout: float = 30.0) -> Self:
        """Wait until `/readyz` answers 200.

        Raises:
            OperatorGoneError: it ended, or was not ready after `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while True:
            self._must_run()
            status, body = self.get("/readyz")
            if status == http.client.OK:
                return self
            if time.monotonic() > deadline:
                raise OperatorGoneError(
                    f"{self.identity} not ready after {timeout:.0f} s; "
                    f"/readyz says {status} {body!r}\n{self.log_tail()}"
                )
            self._tick()

    def get(self, path: str) -> tuple[int, str]:
        """GET a path of its HTTP port: (status, body); (0, why) when nothing answers."""
        connection = http.client.HTTPConnection(self.address, timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except OSError as error:
            return 0, str(error)
        finally:
            connection.close()

    def metrics(self) -> dict[str, float]:
        """Its `/metrics`, as `name{label="value",…}` → value; labels in alphabetical order."""
        status, text = self.get("/metrics")
        if status != http.client.OK:
            raise OperatorGoneError(f"{self.identity}: /metrics says {status} {text!r}")
        return {
            _series(sample.name, sample.labels): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    @property
    def leads(self) -> bool:
        """Whether it says that it is the leader; who does not answer is not."""
        try:
            return self.metrics()["wavegate_leader"] == 1
        except OperatorGoneError:
            return False

    def log_tail(self, lines: int = 40) -> str:
        """The last lines of its log."""
        if not self.log_path.exists():
            return "(no log)"
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _must_run(self) -> None:
        if self._process is None or self._process.poll() is not None:
            code = self._process.returncode if self._process else "never started"
            raise OperatorGoneError(f"{self.identity} ended ({code}):\n{self.log_tail()}")

    def _tick(self) -> None:
        # Waits for the next try and learns at once when the process ends.
        if self._process is not None:
            try:
                self._process.wait(timeout=0.1)
            except subprocess.TimeoutExpired:
                return

    def _lost_its_lease(self) -> bool:
        # An error that nobody catches ends it with the same code; its last words are no line of a
        # log, which begins with the date.
        code = self._process.returncode if self._process else None
        return code == 1 and self.log_tail(1)[:4].isdigit()

    def _end(self, how: signal.Signals, grace: float) -> int | None:
        with self._changing:
            self._wanted = False
            if self._process is None:
                return None
            if self._process.poll() is None:
                self._process.send_signal(how)
                try:
                    self._process.wait(timeout=grace)
                except subprocess.TimeoutExpired:
                    self._process.kill()
            return self._process.wait()


class Kubelet:
    """Starts operators again that have lost their lease, as a kubelet does: on a busy machine each
    of a pair may lose it, one after the other, and nobody would lead. A context manager around
    theirs, as they end with the thread that started them.

    Attributes:
        restarts: how often it did so.
    """

    def __init__(self, operators: Sequence[OperatorProcess]) -> None:
        self.restarts = 0
        self._operators = operators
        self._gone: list[OperatorGoneError] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Raises OperatorGoneError if one ended by itself for any other cause."""
        self._done.set()
        self._thread.join()
        if self._gone:
            raise self._gone[0]

    def _run(self) -> None:
        while not self._done.wait(0.5):
            for operator in self._operators:
                try:
                    self.restarts += operator.revive()
                except OperatorGoneError as error:
                    self._gone.append(error)


def leader_of(operators: Sequence[OperatorProcess]) -> OperatorProcess:
    """The one that leads, as soon as one does: who has just lost the lease says so a moment later
    than the other that has taken it.
    """

    def leading() -> list[OperatorProcess]:
        found = [operator for operator in operators if operator.leads]
        return found if len(found) == 1 else []

    return wait_for("one to lead", leading)[0]


def command(rendered: Rendered) -> tuple[str, ...]:
    """Return the container's command and arguments, its `python` being the one that runs tests."""
    words = [*rendered.container["command"], *rendered.container.get("args", [])]
    return (sys.executable if words[0] == "python" else words[0], *words[1:])


def settings(rendered: Rendered, pod: str) -> dict[str, str]:
    """Return the container's environment, the downward API filled in for a pod of that name."""
    downward = {
        "metadata.namespace": rendered.namespace,
        "metadata.name": pod,
        "spec.nodeName": "",  # it runs on no node of the sandbox
    }
    return {item["name"]: _value(item, downward) for item in rendered.container["env"]}


def overridden(chart_env: dict[str, str], overrides: dict[str, str]) -> dict[str, str]:
    """Return the settings with a loopback port of this machine and the overrides in place."""
    unknown = sorted(set(overrides) - set(chart_env))
    if unknown:
        raise ValueError(f"the chart sets no {', '.join(unknown)}; it sets {sorted(chart_env)}")
    return chart_env | {"WAVEGATE_LISTEN": f"127.0.0.1:{free_port()}"} | overrides


def _value(item: dict[str, Any], downward: dict[str, str]) -> str:
    if "value" in item:
        return str(item["value"])
    return downward[item["valueFrom"]["fieldRef"]["fieldPath"]]


def _surroundings(kubeconfig: Path) -> dict[str, str]:
    # As bare as a container: nothing of the test run's own environment reaches the operator.
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(REPOSITORY / "operator"),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "KUBECONFIG": str(kubeconfig),
    }


def _series(name: str, labels: dict[str, str]) -> str:
    inside = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
    return f"{name}{{{inside}}}" if inside else name
