"""A real Argo CD beside the sandbox: redis, repo-server, application-controller and server.

Its own manifests give it CRDs, settings and rights; controller and server run as their
ServiceAccounts, never as admin. It differs from an installed one in this: the programs are
processes of this machine, without TLS between them, and repositories are folders (`file://`).
"""

import base64
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from gitops.pack import PACK
from support.tools import Tool
from wavegate_sandbox import build
from wavegate_sandbox.cluster import Sandbox
from wavegate_sandbox.control_plane import free_port
from wavegate_sandbox.errors import TimedOut

SPACE = "argocd"
_APPLICATIONS = f"/apis/argoproj.io/v1alpha1/namespaces/{SPACE}/applications"
_MANIFESTS = (
    "crds/application-crd.yaml",
    "crds/appproject-crd.yaml",
    "crds/applicationset-crd.yaml",
    "cluster-rbac/application-controller",
    "cluster-rbac/server",
    "base/application-controller-roles",
    "base/config",
)
_SERVER = ("role", "rolebinding", "sa")

# As in support/operator_process.py: the kernel ends it with the test run, however that ends.
_DIE_WITH_PARENT = """\
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
os.execv(sys.argv[1], sys.argv[2:])
"""


@dataclass(slots=True)
class ArgoCd:
    """What runs, and a person at its command line, logged in as `admin`."""

    sandbox: Sandbox
    argocd: Path
    folder: Path
    ports: dict[str, int] = field(default_factory=dict)
    token: str = field(default="", repr=False)

    def __call__(self, *words: str) -> str:
        """Run argocd as a person would; returns what it printed, AssertionError if it fails."""
        argv = [str(self.argocd), *words, "--config", str(self.folder / "person")]
        argv += ["--server", self.address, "--plaintext", "--auth-token", self.token]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, env=self._env())
        assert done.returncode == 0, f"{' '.join(words)}:\n{done.stdout}{done.stderr}"
        return done.stdout

    @property
    def address(self) -> str:
        """host:port of its server."""
        return f"127.0.0.1:{self.ports['server']}"

    @property
    def url(self) -> str:
        """Of its API, as its web page uses it."""
        return f"http://{self.address}/api/v1"

    def tree(self, name: str) -> list[dict[str, Any]]:
        """What the web page shows of an Application: its objects and their children, with health.
        Empty while it is not known.
        """
        headers = {"Authorization": f"Bearer {self.token}"}
        path = f"{self.url}/applications/{name}/resource-tree"
        answer = requests.get(path, headers=headers, timeout=10)
        return list(answer.json().get("nodes") or []) if answer.ok else []

    def click(self, name: str, release: str, action: str, reason: str) -> None:
        """Run an action on a release with words, as from the web page: the command line of this
        version has no parameters.
        """
        body = {
            "name": name,
            "appNamespace": SPACE,
            "namespace": "wavegate-gitops",
            "resourceName": release,
            "group": "wavegate.dev",
            "version": "v1alpha1",
            "kind": "SecurityContentRelease",
            "action": action,
            "resourceActionParameters": [{"name": "reason", "value": reason}],
        }
        headers = {"Authorization": f"Bearer {self.token}"}
        path = f"{self.url}/applications/{name}/resource/actions/v2"
        answer = requests.post(path, json=body, headers=headers, timeout=30)
        assert answer.ok, answer.text

    def application(self, name: str) -> dict[str, Any]:
        """The Application as it is now."""
        return self.sandbox.request("GET", f"{_APPLICATIONS}/{name}")

    def refresh(self, name: str) -> None:
        """Have it look at Git now, as a webhook of the Git server would."""
        mark = {"metadata": {"annotations": {"argocd.argoproj.io/refresh": "normal"}}}
        merge = "application/merge-patch+json"
        self.sandbox.request("PATCH", f"{_APPLICATIONS}/{name}", mark, content_type=merge)

    def logs(self) -> str:
        """The last lines of each program."""
        tails = []
        for path in sorted(self.folder.glob("*.log")):
            lines = path.read_text(errors="replace").splitlines()[-15:]
            tails.append("\n".join([f"== {path.name}", *lines]))
        return "\n".join(tails)

    def _env(self, **more: str) -> dict[str, str]:
        """A whole environment: nothing of this machine's own settings."""
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        kept = {"PATH": path, "HOME": str(self.folder), "TMPDIR": str(self.folder)}
        return {**kept, **more}


@contextmanager
def running(sandbox: Sandbox, argocd: Path, folder: Path) -> Iterator[ArgoCd]:
    """Install and start it, with the pack as its README says; all is stopped at the end."""
    redis = shutil.which("redis-server")
    assert redis, "redis-server is not installed"
    us = ArgoCd(sandbox, argocd, folder)
    programs = ("repo", "server", "controller")
    listening = ("redis", *programs, *(f"{name}-metrics" for name in programs))
    us.ports = {name: free_port() for name in listening}
    _install(us)
    with ExitStack() as stack:
        for name, argv, env in _programs(us, redis):
            stack.enter_context(_process(us, name, argv, env))
        _log_in(us)
        yield us


def _install(us: ArgoCd) -> None:
    kubectl = Tool(us.sandbox, "kubectl", us.folder)
    sources = build.Workshop().source("argocd")
    manifests = sources / "manifests"
    (us.folder / "bin").mkdir()
    for script in ("git-verify-wrapper.sh", "gpg-wrapper.sh"):  # as in its image
        path = us.folder / "bin" / script
        shutil.copyfile(sources / "hack" / script, path)
        path.chmod(0o755)
    kubectl("create", "namespace", SPACE)
    for part in _MANIFESTS:
        how = "-f" if part.endswith(".yaml") else "-k"
        kubectl("apply", "--server-side", "-n", SPACE, how, str(manifests / part))
    for part in _SERVER:
        path = manifests / "base" / "server" / f"argocd-server-{part}.yaml"
        kubectl("apply", "-n", SPACE, "-f", str(path))
    for name in ("argocd-cm", "argocd-rbac-cm"):
        file = str(PACK / f"{name}.yaml")
        kubectl("-n", SPACE, "patch", "configmap", name, "--patch-file", file)
    kubectl("apply", "-f", str(PACK / "rights.yaml"))


def _programs(us: ArgoCd, redis: str) -> Iterator[tuple[str, list[str], dict[str, str]]]:
    ports, program = us.ports, str(us.argocd)
    yield (
        "redis",
        [redis, "--bind", "127.0.0.1", "--port", str(ports["redis"]), "--save", ""],
        {},
    )
    common = ["--redis", f"127.0.0.1:{ports['redis']}", "--loglevel", "info"]
    to_repo = ["--repo-server", f"127.0.0.1:{ports['repo']}", "--repo-server-plaintext"]
    # It looks at each Application more often than every two minutes: a loop would show sooner.
    often = ["--app-resync", "30", "--app-resync-jitter", "5"]
    own = {name: us.folder / name for name in ("tls", "ssh", "gnupg")}
    for path in own.values():
        path.mkdir()
    local = ["--address", "127.0.0.1", "--metrics-address", "127.0.0.1"]
    listen = {
        name: ["--port", str(ports[name]), "--metrics-port", str(ports[f"{name}-metrics"])]
        for name in ("repo", "server")
    }
    yield (
        "repo-server",
        [program, *common, *local, "--disable-tls", "--client-ca-path", "", *listen["repo"]],
        {
            "ARGOCD_TLS_DATA_PATH": str(own["tls"]),
            "ARGOCD_SSH_DATA_PATH": str(own["ssh"]),
            "ARGOCD_GNUPGHOME": str(own["gnupg"]),
            "ARGOCD_GPG_ENABLED": "false",
        },
    )
    yield (
        "application-controller",
        [program, *common, *to_repo, "--metrics-port", str(ports["controller-metrics"]), *often],
        _as(us, "argocd-application-controller"),
    )
    yield (
        "server",
        [program, *common, *to_repo, *local, "--insecure", *listen["server"]],
        _as(us, "argocd-server"),
    )


def _as(us: ArgoCd, account: str) -> dict[str, str]:
    """What a pod would have: the account's token. Argo CD has a switch for running outside."""
    kubeconfig = us.sandbox.service_account_kubeconfig(SPACE, account)
    return {"KUBECONFIG": str(kubeconfig), "ARGOCD_FAKE_IN_CLUSTER": "true"}


@contextmanager
def _process(
    us: ArgoCd, name: str, argv: list[str], env: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    binary = {} if name == "redis" else {"ARGOCD_BINARY_NAME": f"argocd-{name}"}
    line = [sys.executable, "-c", _DIE_WITH_PARENT, argv[0], *argv]
    with (us.folder / f"{name}.log").open("wb") as log:
        environment = us._env(**env, **binary)
        process = subprocess.Popen(line, stdout=log, stderr=log, env=environment, cwd=us.folder)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _log_in(us: ArgoCd) -> None:
    """The server makes a first password, and keeps it in a Secret."""
    path = f"/api/v1/namespaces/{SPACE}/secrets/argocd-initial-admin-secret"

    def session() -> str:
        found = us.sandbox.request("GET", path, check=False)
        encoded = found.get("data", {}).get("password", "")
        word = base64.b64decode(encoded).decode()
        try:
            body = {"username": "admin", "password": word}
            answer = requests.post(f"{us.url}/session", json=body, timeout=5)
        except requests.ConnectionError:
            return ""
        return str(answer.json().get("token", "")) if word else ""

    try:
        us.token = us.sandbox.wait_for("a session at Argo CD's server", session, 60)
    except TimedOut as error:
        raise AssertionError(f"{error}\n{us.logs()}") from error
