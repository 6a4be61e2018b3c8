"""The process that owns a sandbox's components, so that none outlives the sandbox.

It runs as a program of its own (standard library only, started by path) and obeys JSON lines on
its standard input: start, stop, status, keep, abandon.

Invariant: when its owner is gone (end of that pipe, or another parent) it kills every component,
removes the folder and ends. A killed owner cannot forget this, and it does not matter which thread
started what. Should the supervisor itself
be killed, the Linux kernel kills the components with it (PR_SET_PDEATHSIG; not on other systems).

After `abandon` the owner may go: the sandbox then runs until somebody sends SIGTERM.
"""

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

PR_SET_PDEATHSIG = 1
# Clients first, their servers after them; all are killed hard, as the folder is thrown away.
STEPS = 0.02


class _Ended(Exception):  # noqa: N818 - control flow, never seen by anyone
    """The owner is gone or has asked us to end."""


def _die_with_parent() -> Callable[[], None] | None:
    """A function for the child to call between fork and exec; its library is loaded before."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None, use_errno=True)

    def child() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    return child


class Supervisor:
    """Components by name. Single-threaded: one request is answered before the next is read."""

    def __init__(self, owner: int, folder: Path, *, keep: bool) -> None:
        self._owner = owner
        self._folder = folder
        self._keep = keep
        self._abandoned = False
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._in_child = _die_with_parent()

    def serve(self) -> None:
        """Answer requests until the owner is gone; then leave nothing behind."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the owner, who then tells us
        try:
            self._loop()
        except _Ended:
            pass
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # we are at it
            self._end_all()
            if not self._keep:
                shutil.rmtree(self._folder, ignore_errors=True)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        raise _Ended

    def _loop(self) -> None:
        pending = b""
        while True:
            readable, _, _ = select.select([] if self._abandoned else [0], [], [], 1.0)
            for process in self._processes.values():
                process.poll()  # no zombies
            if not self._abandoned and os.getppid() != self._owner:
                raise _Ended  # the pipe may be held open by a fork of the owner
            if not readable:
                continue
            data = os.read(0, 65536)
            if not data:
                raise _Ended
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                self._answer(line)

    def _answer(self, line: bytes) -> None:
        request = json.loads(line)
        acts: dict[str, Callable[..., dict[str, Any]]] = {
            "start": self._start,
            "stop": self._stop,
            "status": self._status,
            "abandon": self._abandon,
            "keep": self._keep_folder,
        }
        try:
            answer = acts[request.pop("op")](**request)
        except OSError as error:
            answer = {"error": str(error)}
        with contextlib.suppress(BrokenPipeError):
            os.write(1, json.dumps(answer).encode() + b"\n")

    def _start(
        self, name: str, argv: list[str], env: dict[str, str], log: str, cwd: str
    ) -> dict[str, Any]:
        with Path(log).open("ab") as output:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=env,
                cwd=cwd,
                preexec_fn=self._in_child,  # noqa: PLW1509 - we have one thread only
                start_new_session=True,
            )
        self._processes[name] = process
        return {"pid": process.pid}

    def _stop(self, name: str, grace: float) -> dict[str, Any]:
        process = self._processes.get(name)
        if process is None:
            return {"error": f"{name} was never started"}
        if process.poll() is None:
            process.send_signal(signal.SIGTERM if grace else signal.SIGKILL)
            try:
                process.wait(timeout=grace or 10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(timeout=10)
        return {"exit": process.returncode}

    def _status(self) -> dict[str, Any]:
        return {
            name: {"pid": process.pid, "exit": process.poll()}
            for name, process in self._processes.items()
        }

    def _abandon(self) -> dict[str, Any]:
        self._abandoned = True
        return {"pid": os.getpid()}

    def _keep_folder(self) -> dict[str, Any]:
        self._keep = True
        return {}

    def _end_all(self) -> None:
        for process in reversed(self._processes.values()):
            if process.poll() is None:
                process.kill()
        deadline = time.monotonic() + 10
        for process in self._processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=max(STEPS, deadline - time.monotonic()))


if __name__ == "__main__":
    Supervisor(int(sys.argv[1]), Path(sys.argv[2]), keep=sys.argv[3] == "keep").serve()
