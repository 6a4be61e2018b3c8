"""`make sandbox`: a control plane that stays after the command, and is stopped by another."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from wavegate_sandbox import detached, identity
from wavegate_sandbox.build import cache_folder


@pytest.fixture
def command(tmp_path, monkeypatch):
    """The command, with a cache folder that has the tools but no other sandbox's state."""
    (tmp_path / "tools").symlink_to(cache_folder() / "tools")
    (tmp_path / "go-build").symlink_to(cache_folder() / "go-build")
    (tmp_path / "go-mod").symlink_to(cache_folder() / "go-mod")
    monkeypatch.setenv("WAVEGATE_CACHE", str(tmp_path))
    paths = os.pathsep.join(path for path in sys.path if path)

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "wavegate_sandbox", *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"PYTHONPATH": paths},
        )

    yield run
    run("down")


def test_up_leaves_a_cluster_running_and_down_stops_it(sandbox, command):
    assert command("status").returncode == 3
    done = command("up")
    assert done.returncode == 0, done.stderr
    state = detached.current()
    assert f"export KUBECONFIG={state.kubeconfig}" in done.stdout
    assert state.prometheus_url in done.stdout

    again = command("up")
    assert "was running already" in again.stdout
    assert command("nodes", "2", "--prefix", "w", "--label", "pool=a").returncode == 0
    assert f"{state.server}, 2 nodes" in command("status").stdout

    assert "Stopped" in command("down").stdout
    assert identity.started(state.pid) is None
    assert not Path(state.folder).exists()
    assert command("down").stdout == "No sandbox was running.\n"


def test_down_does_not_signal_a_process_that_only_has_the_same_id(command, tmp_path):
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        state = {
            "pid": other.pid,
            "started": "another time",
            "folder": str(tmp_path),
            "kubeconfig": "",
            "server": "",
            "prometheus_url": None,
        }
        (tmp_path / "sandbox.json").write_text(json.dumps(state))
        assert command("down").stdout == "No sandbox was running.\n"
        assert other.poll() is None
    finally:
        other.send_signal(signal.SIGKILL)
        other.wait()
