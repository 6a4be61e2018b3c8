"""Fixtures of the sandbox's own tests."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.workloads import fleet

ANOTHER = Path(__file__).parents[1] / "support" / "another_sandbox.py"


@dataclass(frozen=True)
class Another:
    """A sandbox that belongs to another process, which a test may kill."""

    process: subprocess.Popen
    pids: dict[str, int]
    kubeconfig: Path
    folder: Path
    server: str


@pytest.fixture(scope="session")
def another(sandbox):
    """Runs beside the session's sandbox and notices silent machines sooner (15 s, not 50 s)."""
    process = subprocess.Popen(
        [sys.executable, ANOTHER],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    said = json.loads(process.stdout.readline())
    yield Another(
        process,
        said["pids"],
        Path(said["kubeconfig"]),
        Path(said["folder"]),
        said["server"],
    )
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


@pytest.fixture
def machines(sandbox, namespace):
    """Call it with a number: adds that many nodes, labelled `pool=<namespace>`; removes them."""
    with contextlib.ExitStack() as stack:
        yield lambda count: stack.enter_context(fleet(sandbox, namespace, count))
