"""Is this still the process that we mean? Process ids are used again after a while."""

import subprocess
import sys
from pathlib import Path


def started(pid: int) -> str | None:
    """When the process started, as an opaque text that differs for each process of one id.

    None if there is no such process (a zombie counts as none).
    """
    if sys.platform == "linux":
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return None
        # The command (field 2) may hold spaces and brackets; the fields after it do not.
        fields = stat.rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return None if fields[0] == "Z" else f"{boot} {fields[19]}"
    done = subprocess.run(
        ["/bin/ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or None
