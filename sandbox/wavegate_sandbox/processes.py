"""The owner's side of the supervisor: start, stop and look at a sandbox's components."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from wavegate_sandbox.errors import ComponentFailed

SUPERVISOR = Path(__file__).parent / "supervisor.py"
LAST_LINES = 12


class Processes:
    """The components of one sandbox. Closing this ends them all and removes the folder."""

    def __init__(self, folder: Path, *, keep: bool) -> None:
        self._folder = folder
        self._logs = folder / "logs"
        self._logs.mkdir(exist_ok=True)
        self._lock = threading.Lock()
        self._supervisor = subprocess.Popen(
            [
                sys.executable,
                "-I",
                str(SUPERVISOR),
                str(os.getpid()),
                str(folder),
                "keep" if keep else "remove",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(self._logs / "supervisor.log").open("ab"),
            # Not in our process group: Ctrl-C reaches us alone, and we end things in order.
            start_new_session=True,
        )

    def start(
        self, name: str, argv: Sequence[str | Path], env: Mapping[str, str] | None = None
    ) -> None:
        """Start a component; its output is appended to its log file. `env` adds to the bare one."""
        self._ask(
            op="start",
            name=name,
            argv=[str(part) for part in argv],
            env={**_environment(self._folder), **(env or {})},
            log=str(self.log(name)),
            cwd=str(self._folder),
        )

    def stop(self, name: str, grace: float) -> int:
        """SIGTERM, after `grace` seconds SIGKILL (at once if 0). Waits; returns the exit code."""
        return int(self._ask(op="stop", name=name, grace=grace)["exit"])

    def exited(self) -> dict[str, int]:
        """Components that have ended, with their exit codes."""
        return {
            name: state["exit"]
            for name, state in self._ask(op="status").items()
            if state["exit"] is not None
        }

    def pids(self) -> dict[str, int]:
        """Process ids of the components and of the supervisor."""
        found = {name: state["pid"] for name, state in self._ask(op="status").items()}
        return found | {"supervisor": self._supervisor.pid}

    def log(self, name: str) -> Path:
        """The component's log file."""
        return self._logs / f"{name}.log"

    def last_lines(self, name: str) -> str:
        """The end of the component's log, for error messages."""
        path = self.log(name)
        lines = path.read_text(errors="replace").splitlines() if path.exists() else []
        return "\n".join(f"  {line[:300]}" for line in lines[-LAST_LINES:]) or "  (empty)"

    def abandon(self) -> int:
        """Let the components outlive us. Returns the supervisor's id: SIGTERM to it ends them."""
        return int(self._ask(op="abandon")["pid"])

    def keep_folder(self) -> None:
        """Leave the folder with its logs in place when this closes."""
        self._ask(op="keep")

    def close(self) -> None:
        """End every component and remove the folder (unless it is kept)."""
        supervisor = self._supervisor
        if supervisor.stdin is not None and not supervisor.stdin.closed:
            supervisor.stdin.close()
        try:
            supervisor.wait(timeout=20)
        except subprocess.TimeoutExpired:
            supervisor.kill()  # the kernel takes the components with it
            supervisor.wait(timeout=10)
        if supervisor.stdout is not None:
            supervisor.stdout.close()

    def _ask(self, **request: Any) -> dict[str, Any]:
        with self._lock:
            if self._supervisor.stdin is None or self._supervisor.stdout is None:
                raise ComponentFailed("The sandbox's supervisor has no pipes.")
            try:
                self._supervisor.stdin.write(json.dumps(request).encode() + b"\n")
                self._supervisor.stdin.flush()
                line = self._supervisor.stdout.readline()
            except (OSError, ValueError) as error:
                raise ComponentFailed(f"The sandbox is closed ({error}).") from error
        if not line:
            raise ComponentFailed(
                "The sandbox's supervisor ended, and the components with it. See "
                f"{self._logs / 'supervisor.log'}:\n{self.last_lines('supervisor')}"
            )
        answer = cast("dict[str, Any]", json.loads(line))
        if "error" in answer:
            raise ComponentFailed(f"{request.get('name')}: {answer['error']}")
        return answer


def _environment(folder: Path) -> dict[str, str]:
    """Little, so that nothing of the person's own set-up (~/.kube, ~/.kwok, proxies) acts."""
    return {"HOME": str(folder), "PATH": "/usr/bin:/bin", "TMPDIR": str(folder), "LANG": "C.UTF-8"}
