"""The one sandbox per user that `make sandbox` leaves running.

Its state file, in the cache folder, names the supervisor by process id and start time: nobody
else's process is ever signalled, however old the file is.
"""

import contextlib
import fcntl
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from wavegate_sandbox import build, identity
from wavegate_sandbox.cluster import Options, Sandbox
from wavegate_sandbox.errors import ComponentFailed, SandboxError
from wavegate_sandbox.kubeconfig import CONTEXT

STOP_SECONDS = 20


@dataclass(frozen=True, slots=True)
class State:
    """What is known of the running sandbox."""

    pid: int
    started: str
    folder: str
    kubeconfig: str
    server: str
    prometheus_url: str | None

    @property
    def alive(self) -> bool:
        """Whether the very process of the state file still runs."""
        return identity.started(self.pid) == self.started


def current() -> State | None:
    """The running one, or None."""
    try:
        state = State(**json.loads(_file().read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    return state if state.alive else None


def up(options: Options) -> tuple[State, bool]:
    """Start it and leave it running; returns also whether it was started now."""
    with _lock():
        if running := current():
            return running, False
        with contextlib.ExitStack() as stack:
            sandbox = stack.enter_context(Sandbox.start(options))
            pid = sandbox.pids()["supervisor"]
            state = State(
                pid=pid,
                started=identity.started(pid) or "",
                folder=str(sandbox.folder),
                kubeconfig=str(sandbox.kubeconfig),
                server=sandbox.server,
                prometheus_url=sandbox.prometheus_url,
            )
            scratch = _file().with_suffix(".tmp")
            scratch.write_text(json.dumps(asdict(state), indent=2) + "\n")
            scratch.replace(_file())
            sandbox.detach()
            stack.pop_all()  # from here on it lives without us
        return state, True


def down() -> State | None:
    """Stop it and wait for its end; None if none was running."""
    with _lock():
        state = current()
        if state is None:
            _file().unlink(missing_ok=True)
            return None
        os.kill(state.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while state.alive:
            if time.monotonic() > deadline:
                raise ComponentFailed(
                    f"The sandbox's supervisor (process {state.pid}) did not end within "
                    f"{STOP_SECONDS} s. Its log is in {state.folder}/logs."
                )
            time.sleep(0.05)
        _file().unlink(missing_ok=True)
        return state


def attach() -> Sandbox:
    """The running one, as a `Sandbox` whose processes are not ours."""
    state = current()
    if state is None:
        raise SandboxError("No sandbox is running. Start one with `make sandbox`.")
    return Sandbox.attach(Path(state.kubeconfig), CONTEXT, state.prometheus_url)


def _file() -> Path:
    return build.cache_folder() / "sandbox.json"


@contextmanager
def _lock() -> Iterator[None]:
    build.cache_folder().mkdir(parents=True, exist_ok=True)
    with (build.cache_folder() / "sandbox.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
