"""Starts a sandbox, says where it is, and stays until it is killed."""

import json
import threading

from wavegate_sandbox.cluster import Options, Sandbox

if __name__ == "__main__":
    options = Options(prometheus=False, node_monitor_grace_period="15s")
    with Sandbox.start(options) as sandbox:
        said = {
            "pids": sandbox.pids(),
            "kubeconfig": str(sandbox.kubeconfig),
            "folder": str(sandbox.folder),
            "server": sandbox.server,
        }
        print(json.dumps(said), flush=True)  # noqa: T201 - the parent reads it
        threading.Event().wait()
