"""A real node: kubelet, containerd and runc on this machine, beside the simulated ones.

They run in process and mount namespaces of their own: whatever they start (shims, containers,
mounts) ends with them, however the sandbox ends. Their network is this machine's, so pods have to
ask for `hostNetwork`; and runc is built without seccomp, for which it would need a library, so the
filter is left out of what it is given. Needs root, on Linux.
"""

import contextlib
import json
import os
import sys
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wavegate_sandbox import build, kubeconfig
from wavegate_sandbox.cluster import Sandbox
from wavegate_sandbox.components import REAL
from wavegate_sandbox.control_plane import free_port
from wavegate_sandbox.kubeconfig import Access
from wavegate_sandbox.registry import HOST

TOOLS = ("kubelet", "containerd", "containerd-shim-runc-v2", "runc")
READY_SECONDS = 90
_OWN_FILES = {
    "boot_id": "/proc/sys/kernel/random/boot_id",
    # What a kubelet would set for the whole machine.
    "overcommit_memory": "/proc/sys/vm/overcommit_memory",
    "panic": "/proc/sys/kernel/panic",
    "panic_on_oops": "/proc/sys/kernel/panic_on_oops",
}
"""What the node sees in place of the machine's, from files in its folder."""
_TUNED = {"overcommit_memory": 1, "panic": 10, "panic_on_oops": 1}
_CGROUPS = Path("/sys/fs/cgroup")
_SOCKET = "/run/containerd/containerd.sock"
"""Of containerd, in the node's own /run."""

# The first process of the namespace; it reaps what the shims leave behind. /run is empty after each
# boot, and the kubelet is started again when it ends, as it does without containerd's socket: as on
# any machine. It keeps links in /var/log, whatever it is told.
_INIT = f"""\
mount --make-rshared /
{"".join(f'mount --bind "$FOLDER/{name}" {path}{chr(10)}' for name, path in _OWN_FILES.items())}\
mount -t tmpfs none /var/log
mount -t tmpfs none /run
"$CONTAINERD" --config "$FOLDER/containerd.toml" &
while :; do
  "$KUBELET" --config "$FOLDER/kubelet.json" --kubeconfig "$FOLDER/kubeconfig" \\
    --root-dir "$FOLDER/kubelet" --cert-dir "$FOLDER/pki" --hostname-override "$NODE" \\
    --node-labels "$LABELS" --v 2 || sleep 0.5
done
"""


# The filter that a pod asks for, and that each pod's sandbox has, is left out.
_RUNC = """\
#!/bin/sh
for word; do
  if [ "$before" = --bundle ]; then bundle=$word; fi
  before=$word
done
if [ -n "$bundle" ]; then
  "{python}" -c '
import json, sys
path = sys.argv[1] + "/config.json"
config = json.load(open(path))
config.get("linux", {{}}).pop("seccomp", None)
json.dump(config, open(path, "w"))
' "$bundle"
fi
exec "{runc}" "$@"
"""


def reason_not_here() -> str:
    """Why a real node can't run on this machine; empty if it can, or may be tried."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "a real node needs root, on Linux"
    if build.kubernetes_module() != build.DEFAULT_KUBERNETES:
        return "its kubelet is not of the minor of this control plane"
    missing = [name for name in TOOLS if build.Workshop().cached(name) is None]
    return f"{', '.join(missing)} not built here: make test-node builds them" if missing else ""


@dataclass(slots=True)
class RealNode:
    """A machine that can be switched off and on. Its disk (images, containers) outlives that."""

    sandbox: Sandbox
    name: str
    folder: Path
    env: Mapping[str, str]

    def start(self) -> None:
        """Switch it on, with a new bootID. Returns at once."""
        (self.folder / "boot_id").write_text(f"{uuid.uuid4()}\n")
        argv = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
        self.sandbox.run(self._process, [*argv, "sh", "-ec", _INIT], self.env)

    def stop(self) -> None:
        """Switch it off: all of its processes end at once, without a word to anybody."""
        self.sandbox.stop_component(self._process, 0)

    def is_ready(self) -> bool:
        """Whether Kubernetes says that it is Ready."""
        field = {"fieldSelector": f"metadata.name={self.name}"}
        nodes = self.sandbox.request("GET", "/api/v1/nodes", params=field)["items"]
        conditions = [c for node in nodes for c in node["status"].get("conditions") or []]
        return any((c["type"], c["status"]) == ("Ready", "True") for c in conditions)

    @property
    def _process(self) -> str:
        return f"node-{self.name}"


@contextlib.contextmanager
def joined(  # noqa: PLR0913 - what a machine is
    sandbox: Sandbox,
    name: str,
    labels: Mapping[str, str],
    *,
    registry_url: str,
    pause: str,
    kubelet: Mapping[str, Any] | None = None,
) -> Iterator[RealNode]:
    """A node that runs and is Ready; switched off and gone at the end.

    Args:
        sandbox: one that we started.
        name: of the node.
        labels: of the node; a kubelet may not set those of Kubernetes.
        registry_url: where images of `registry.HOST` are.
        pause: reference of an image whose program waits for ever.
        kubelet: fields of its KubeletConfiguration that are not as here.
    """
    tools = build.ensure(TOOLS)
    folder = sandbox.folder / name
    group = f"wavegate-{os.getpid()}-{name}"
    env = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "FOLDER": str(folder),
        "NODE": name,
        "LABELS": ",".join(f"{k}={v}" for k, v in {**labels, REAL: ""}.items()),
        "CONTAINERD": str(tools["containerd"]),
        "KUBELET": str(tools["kubelet"]),
    }
    node = RealNode(sandbox, name, folder, env)
    settings = {**_kubelet(folder, sandbox.ca, group), **(kubelet or {})}
    runc = folder / "runc"
    _configure(node, registry_url, _containerd(folder, runc, pause), settings)
    runc.write_text(_RUNC.format(python=sys.executable, runc=tools["runc"]))
    runc.chmod(0o755)
    node.start()
    try:
        sandbox.wait_for(f"{name} to be Ready", node.is_ready, READY_SECONDS)
        yield node
    finally:
        node.stop()
        _forget(group)
        sandbox.request("DELETE", f"/api/v1/nodes/{name}", check=False)


def _configure(
    node: RealNode, registry_url: str, containerd: str, kubelet: Mapping[str, Any]
) -> None:
    folder, sandbox = node.folder, node.sandbox
    hosts = folder / "registries" / HOST
    for path in (hosts, folder / "cni", folder / "manifests", folder / "plugins"):
        path.mkdir(parents=True)
    pair = sandbox.client_pair(f"node-{node.name}", f"system:node:{node.name}", ("system:nodes",))
    kubeconfig.write(folder / "kubeconfig", Access(sandbox.server, sandbox.ca, pair))
    (hosts / "hosts.toml").write_text(f'server = "{registry_url}"\n')
    loopback = {"cniVersion": "1.0.0", "name": "none", "plugins": [{"type": "loopback"}]}
    (folder / "cni" / "10-none.conflist").write_text(json.dumps(loopback))
    for name, value in _TUNED.items():
        (folder / name).write_text(f"{value}\n")
    (folder / "containerd.toml").write_text(containerd)
    (folder / "kubelet.json").write_text(json.dumps(kubelet, default=str))


def _containerd(folder: Path, runc: Path, pause: str) -> str:
    images, runtime = "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime"
    return f"""\
version = 3
root = "{folder}/containerd"
state = "/run/containerd"
[grpc]
address = "{_SOCKET}"
[plugins.'{images}'.pinned_images]
sandbox = "{pause}"
[plugins.'{images}'.registry]
config_path = "{folder}/registries"
[plugins.'{runtime}']
restrict_oom_score_adj = true
[plugins.'{runtime}'.cni]
conf_dir = "{folder}/cni"
[plugins.'{runtime}'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins.'{runtime}'.containerd.runtimes.runc.options]
BinaryName = "{runc}"
SystemdCgroup = false
"""


def _kubelet(folder: Path, ca: Path | None, group: str) -> dict[str, Any]:
    return {
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "address": "127.0.0.1",
        "port": free_port(),
        "healthzPort": free_port(),
        "readOnlyPort": 0,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": False},
            "x509": {"clientCAFile": ca},
        },
        "authorization": {"mode": "AlwaysAllow"},  # of those with a certificate of ours
        "containerRuntimeEndpoint": f"unix://{_SOCKET}",
        "staticPodPath": folder / "manifests",
        "volumePluginDir": folder / "plugins",
        "resolvConf": "",
        "podLogsDir": folder / "logs",
        # No slices of systemd and no limits for pods: this is one process of many here.
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{group}",
        "cgroupsPerQOS": False,
        "enforceNodeAllocatable": [],
        "failCgroupV1": False,
        "failSwapOn": False,
        "protectKernelDefaults": True,
        # A disk that is full of other things is none of its business.
        "evictionHard": {"memory.available": "1Mi"},
        "imageGCHighThresholdPercent": 100,
    }


def _forget(group: str) -> None:
    """Remove the control groups of the containers, which are gone: they are the kernel's, not of a
    namespace.
    """
    for top in [*_CGROUPS.glob(f"*/{group}"), _CGROUPS / group]:
        for path, _, _ in os.walk(top, topdown=False):
            with contextlib.suppress(OSError):
                Path(path).rmdir()
