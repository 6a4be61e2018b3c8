"""Runs kubectl and helm of the sandbox as a user would, with no trace outside a test's folder."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from wavegate_sandbox.cluster import Sandbox


@dataclass(frozen=True, slots=True)
class Tool:
    """One program against one cluster as administrator; call it with its arguments.

    Args:
        sandbox: the cluster.
        name: `kubectl` or `helm`.
        home: folder for its caches and settings.
    """

    sandbox: Sandbox
    name: str
    home: Path

    def __call__(self, *words: str) -> str:
        """Run it and return what it printed; AssertionError with its words when it fails."""
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "KUBECONFIG": str(self.sandbox.kubeconfig),
        }
        argv = [str(self.sandbox.tool(self.name)), *words]
        done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise AssertionError(f"{' '.join(argv)}:\n{done.stdout}{done.stderr}")
        return done.stdout


def paste(sandbox: Sandbox, line: str, home: Path, kubeconfig: Path | None = None) -> str:
    """Run a line of a status as a person would who pastes it into a shell; returns what it printed.

    `kubeconfig` says who the person is; by default the administrator.

    AssertionError with its words when it fails.
    """
    env = {
        "PATH": f"{sandbox.tool('kubectl').parent}:{os.environ['PATH']}",
        "HOME": str(home),
        "KUBECONFIG": str(kubeconfig or sandbox.kubeconfig),
    }
    argv = ["/bin/sh", "-c", line]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AssertionError(f"{line}:\n{done.stdout}{done.stderr}")
    return done.stdout
