"""`make demo`: plays the story and exits with 1 when it did not happen."""

import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests
import yaml

from wavegate_sandbox.client import wait_for
from wavegate_sandbox.cluster import Options, Sandbox
from wavegate_sandbox.control_plane import free_port
from wavegate_sandbox.demo import fleet
from wavegate_sandbox.demo.view import Picture, View
from wavegate_sandbox.errors import ApiError, SandboxError
from wavegate_sandbox.faults import Faults, NodeCrash
from wavegate_sandbox.processes import Processes
from wavegate_sandbox.progress import Terminal

ROOT = Path(__file__).parents[3]
GOOD_PATIENCE, BAD_PATIENCE = 290.0, 200.0
WRITES = ("POST", "PUT", "PATCH", "DELETE")


class StoryFailed(Exception):  # noqa: N818 (it says what is wrong, as SandboxError's do)
    """What was told did not happen."""


class Demo:
    """One run of the story on one cluster."""

    def __init__(self, sandbox: Sandbox, operators: Processes) -> None:
        self._sandbox, self._operators = sandbox, operators
        self._view = View()
        self._address = f"127.0.0.1:{free_port()}"
        self._title = ""

    def play(self) -> None:
        """Set up, a good release, a bad release, the figures."""
        self._set_up()
        good = self._good()
        bad = self._bad()
        self._view.say("\n".join([*_heading("What happened"), *good, *bad, ""]))

    # The story

    def _set_up(self) -> None:
        request = self._sandbox.request
        for file in sorted((ROOT / "crds").glob("*.yaml")):
            crd = yaml.safe_load(file.read_text())
            name = crd["metadata"]["name"]
            path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}"
            self._server_side_apply(path, crd)
        request("POST", "/api/v1/namespaces", {"metadata": {"name": fleet.NAMESPACE}})
        self._sandbox.add_nodes(fleet.machines())
        settings = {
            "WAVEGATE_LISTEN": self._address,
            "WAVEGATE_LEASE_NAMESPACE": fleet.NAMESPACE,
            **fleet.OPERATOR_SETTINGS,
        }
        env = {
            "PATH": os.environ["PATH"],
            "KUBECONFIG": str(self._sandbox.kubeconfig),
            "PYTHONPATH": str(ROOT / "operator"),
            **settings,
        }
        self._operators.start("operator", [sys.executable, "-m", "wavegate", "run"], env)
        wait_for("the operator to be ready", self._is_ready, 60)
        self._apply("securitycontentchannels", fleet.channel())
        self._view.say("\n".join(_pace()))

    def _good(self) -> list[str]:
        release = fleet.release("2026.1", 1, fleet.GOOD)
        self._title = "Release 2026.1: good content, the channel's first"
        self._view.say("\n".join(_heading(self._title)))
        writes, started = self._writes(), time.time()
        self._apply("securitycontentreleases", release)
        status = self._watch(
            release, GOOD_PATIENCE, lambda _picture, status: status.get("phase") == "Completed"
        )
        took = time.time() - started
        running = self._contents()
        if set(running.values()) != {fleet.GOOD} or len(running) != len(fleet.machines()):
            raise StoryFailed(f"the good content runs on {len(running)} machines only")
        return [
            f"  2026.1, good: {status['message']}",
            f"    machines that run it        {len(running)} of {len(fleet.machines())}",
            f"    waves, seconds              {len(status['waves'])}, {took:.0f}",
            f"    API writes by the operator  {self._writes() - writes:.0f}",
        ]

    def _bad(self) -> list[str]:
        release = fleet.release("2026.2", 2, fleet.BAD)
        self._title = "Release 2026.2: machines that load it die two seconds later"
        self._view.say("\n".join(_heading(self._title)))
        writes = self._writes()
        with Faults(self._sandbox, {fleet.BAD: NodeCrash(after_seconds=2)}) as faults:
            fence = _Fence(self._sandbox)
            self._apply("securitycontentreleases", release)
            self._watch(release, BAD_PATIENCE, lambda _picture, _status: fence.at > 0)
            exposed = {event.node for event in faults.timeline if event.kind == "loaded"}
            crashed = {event.node for event in faults.timeline if event.kind == "crash"}
            self._view.say(
                f"  The candidate is fenced. The machines that are down ({', '.join(crashed)}) "
                "are switched on again, as someone on call would do."
            )
            for node in sorted(crashed):
                self._sandbox.boot(node)
            status = self._watch(
                release,
                BAD_PATIENCE,
                lambda picture, status: status.get("phase") == "Reverted" and _healthy(picture),
            )
            healthy = time.time()
            first = faults.first("crash")
        if first is None or not 0 < len(exposed) < len(fleet.machines()) / 2:
            raise StoryFailed(f"{len(exposed)} machines loaded the bad content")
        known = "(Kubernetes calls a machine NotReady after 50 s of silence)"
        return [
            f"  2026.2, bad: reverted, as {status['message']}",
            f"    machines exposed            {len(exposed)} of {len(fleet.machines())}",
            f"    first crash to fence        {fence.at - first.at:.1f} s {known}",
            f"    first crash to all healthy  {healthy - first.at:.1f} s",
            f"    API writes by the operator  {self._writes() - writes:.0f}",
        ]

    # What is seen

    def _watch(
        self,
        release: dict[str, Any],
        patience: float,
        done: Callable[[Picture, dict[str, Any]], bool],
    ) -> dict[str, Any]:
        """Show the fleet until `done`; an end that the story does not know raises StoryFailed."""
        path = f"{fleet.GROUP}/securitycontentreleases/{release['metadata']['name']}"
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            status = dict(self._sandbox.request("GET", path).get("status") or {})
            picture = self._picture(status)
            self._view.show(picture)
            if done(picture, status):
                return status
            if self._operators.exited():
                raise StoryFailed(f"the operator ended:\n{self._operators.last_lines('operator')}")
            time.sleep(0.25)  # the picture's rate, not a wait for anything
        raise StoryFailed(f"after {patience:.0f} s: {status.get('phase')}: {status.get('message')}")

    def _picture(self, status: dict[str, Any]) -> Picture:
        nodes = self._sandbox.request("GET", "/api/v1/nodes")["items"]
        ours = {spec.name for spec in fleet.machines()}
        return Picture(
            ready={
                n["metadata"]["name"]: _is_ready(n) for n in nodes if n["metadata"]["name"] in ours
            },
            content=self._contents(),
            title=self._title,
            phase=str(status.get("phase", "Pending")),
            message=str(status.get("message", "the operator has not looked at it yet")),
        )

    def _contents(self) -> dict[str, str]:
        """The content of the agent that is Ready on each machine."""
        found = {}
        pods = self._sandbox.request("GET", f"/api/v1/namespaces/{fleet.NAMESPACE}/pods")["items"]
        for pod in pods:
            if _is_ready(pod) and "deletionTimestamp" not in pod["metadata"]:
                image = next(v["image"] for v in pod["spec"]["volumes"] if "image" in v)
                found[pod["spec"]["nodeName"]] = image["reference"].partition("@")[2]
        return found

    def _writes(self) -> float:
        """Writes of the operator so far, by its own metrics."""
        text = requests.get(f"http://{self._address}/metrics", timeout=5).text
        return sum(
            float(line.rpartition(" ")[2])
            for line in text.splitlines()
            if line.startswith("wavegate_api_requests_total{")
            and any(f'verb="{verb}"' in line for verb in WRITES)
        )

    def _is_ready(self) -> bool:
        if self._operators.exited():
            raise StoryFailed(f"the operator ended:\n{self._operators.last_lines('operator')}")
        try:
            return requests.get(f"http://{self._address}/readyz", timeout=2).status_code == 200
        except requests.RequestException:
            return False

    def _apply(self, plural: str, body: dict[str, Any]) -> None:
        """As `kubectl apply --server-side` does."""
        path = f"{fleet.GROUP}/{plural}/{body['metadata']['name']}"
        self._server_side_apply(path, body)

    def _server_side_apply(self, path: str, body: dict[str, Any]) -> None:
        params = {"fieldManager": "wavegate-demo", "force": "true"}
        apply = "application/apply-patch+yaml"
        self._sandbox.request("PATCH", path, body, params=params, content_type=apply)


class _Fence:
    """Notes when the candidate's DaemonSet matches no node any more: `at`, Unix time, 0 before."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.at = 0.0
        self._sandbox = sandbox
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        path = f"/apis/apps/v1/namespaces/{fleet.NAMESPACE}/daemonsets"
        for event in self._sandbox.api.watch(path, 280):
            spec = str(event["object"].get("spec"))
            if fleet.BAD in spec and "DoesNotExist" in spec:
                self.at = time.time()
                return


def main() -> int:
    """Run the demo; the exit code is 0 only when the whole story happened."""
    began = time.monotonic()
    try:
        with Sandbox.attach_or_start(Options(prometheus=True), Terminal()) as sandbox:
            folder = Path(tempfile.mkdtemp(prefix="wavegate-demo-"))
            operators = Processes(folder, keep=False)
            try:
                Demo(sandbox, operators).play()
            finally:
                operators.close()
                _clean_up(sandbox)
    except (StoryFailed, SandboxError) as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(f"The demo took {time.monotonic() - began:.0f} s.")
    return 0


def _clean_up(sandbox: Sandbox) -> None:
    """On a cluster that is not ours, remove what the demo made (but for the CRDs)."""
    if sandbox.ours:
        return
    sandbox.request("DELETE", f"/api/v1/namespaces/{fleet.NAMESPACE}", check=False)
    for spec in fleet.machines():
        try:
            sandbox.remove_node(spec.name)
        except ApiError as error:
            print(f"Machine {spec.name} was not removed: {error}", file=sys.stderr)


def _pace() -> list[str]:
    settings = ", ".join(f"{k}={v} (default 3m)" for k, v in fleet.OPERATOR_SETTINGS.items())
    waves = ", ".join(f"{wave['name']} {wave['upTo']}" for wave in fleet.WAVES)
    pace = ", ".join(f"{name} {value}" for name, value in fleet.PACE.items())
    return [
        *_heading("The fleet: 40 simulated machines, everything that judges them is real"),
        f"  pools: {', '.join(f'{name} {count}' for name, count in fleet.POOLS.items())}",
        f"  waves: {waves}",
        f"  pace in the channel: {pace} (defaults 5%, 60s, 15m/10m)",
        f"  operator settings: {settings}; node controller and leases: Kubernetes' defaults",
    ]


def _heading(text: str) -> list[str]:
    return ["", text, "─" * len(text)]


def _healthy(picture: Picture) -> bool:
    return all(picture.ready.values()) and set(picture.content.values()) == {fleet.GOOD}


def _is_ready(body: dict[str, Any]) -> bool:
    conditions = body.get("status", {}).get("conditions") or []
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


if __name__ == "__main__":
    sys.exit(main())
