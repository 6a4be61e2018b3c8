"""Images for real nodes: an agent of a few lines, compiled here, and contents for it."""

import os
import shutil
import subprocess
from pathlib import Path

from wavegate_sandbox.registry import File, Registry

SOURCE = Path(__file__).parent / "program.c"


def agent(registry: Registry, folder: Path) -> str:
    """Reference of the agent's image; as it waits for ever without content, of a pod's pause
    container too.
    """
    program = folder / "agent"
    compiler = os.environ.get("CC") or shutil.which("cc") or "gcc"
    subprocess.run([compiler, "-O", "-static", "-o", program, SOURCE], check=True)
    return registry.push(
        "agent", {"agent": File(program.read_bytes(), executable=True)}, ["/agent"]
    )


def content(registry: Registry, rules: str) -> str:
    """Reference of an image with rules."""
    return registry.push("content", {"rules": File(rules.encode())})
