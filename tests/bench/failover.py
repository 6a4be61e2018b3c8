"""How long nobody leads after a leader was killed, on the sandbox: `make bench-failover`.

The clock starts with SIGKILL and ends when the other replica leads and its caches are synced, so
when it decides again. Pairs of replicas, each of a release of its own, are measured side by side
on a cluster with nodes; the chart's settings (a Lease of 15 s). The moment of the kill is random,
since what is left of the Lease decides. Prints the replicas' memory, too.
"""

import argparse
import random
import re
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from support.chart import apply_crds
from support.operator_process import OperatorProcess
from wavegate_sandbox.client import wait_for
from wavegate_sandbox.cluster import Options, Sandbox
from wavegate_sandbox.nodes import NodeSpec

PATIENCE = 120.0


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--nodes", type=int, default=40)
    parser.add_argument("--times", type=int, default=40)
    parser.add_argument("--pairs", type=int, default=4, help="measured side by side")
    chosen = parser.parse_args()
    with Sandbox.start(Options(prometheus=False), print) as sandbox:
        apply_crds(sandbox)
        sandbox.add_nodes((NodeSpec(f"node-{index}") for index in range(chosen.nodes)), PATIENCE)
        pairs = [
            [OperatorProcess.from_chart(sandbox, f"failover-{number}") for _ in range(2)]
            for number in range(chosen.pairs)
        ]
        try:
            for pair in pairs:  # from the main thread: they die with the one that started them
                for replica in pair:
                    replica.start().wait_ready(PATIENCE)
            found = sorted(measure(pairs, chosen.times))
            print(f"memory of the replicas, MiB: {memory(pairs)}")
        finally:
            for pair in pairs:
                for replica in pair:
                    replica.kill()
    n = len(found)
    p99 = f", p99 {statistics.quantiles(found, n=100)[98]:.1f}" if n >= 100 else ""
    print(
        f"fail-over, seconds, n={n}: min {found[0]:.1f}, median {statistics.median(found):.1f}"
        f"{p99}, max {found[-1]:.1f}"
    )
    return 0


def measure(pairs: list[list[OperatorProcess]], times: int) -> list[float]:
    """Seconds of each fail-over; what was killed is started again in between."""
    found: list[float] = []
    with ThreadPoolExecutor(len(pairs)) as threads:
        while len(found) < times:
            found += threads.map(_once, pairs)
            for pair in pairs:
                for replica in pair:
                    if not replica.running:
                        replica.start()
            for pair in pairs:
                for replica in pair:
                    replica.wait_ready(PATIENCE)
            print(f"{len(found)} of {times}", flush=True)
    return found


def _once(pair: list[OperatorProcess]) -> float:
    leader, standby = pair if _leads(pair[0]) else reversed(pair)
    if not _leads(leader):
        raise AssertionError("nobody leads")
    time.sleep(random.uniform(0, 5))  # noqa: S311 (a renewal comes every 4 to 5 s)
    began = time.monotonic()
    leader.kill()
    wait_for("the other to lead", lambda: _leads(standby), PATIENCE)
    return time.monotonic() - began


def _leads(replica: OperatorProcess) -> bool:
    return replica.metrics()["wavegate_leader"] == 1 and replica.get("/readyz")[0] == 200


def memory(pairs: list[list[OperatorProcess]]) -> str:
    """Resident now, and at most, of each that leads and of each that waits."""
    said: dict[str, list[str]] = {"leaders": [], "standbys": []}
    for pair in pairs:
        for replica in pair:
            who = "leaders" if _leads(replica) else "standbys"
            said[who].append(resident(replica.pid))
    return "; ".join(f"{who} {', '.join(found)}" for who, found in said.items())


def resident(pid: int) -> str:
    """`now (at most …)` in MiB, as the kernel counts it."""
    text = Path(f"/proc/{pid}/status").read_text()
    now, most = (
        int(re.search(rf"{name}:\s+(\d+)", text)[1]) // 1024  # type: ignore[index]
        for name in ("VmRSS", "VmHWM")
    )
    return f"{now} (at most {most})"


if __name__ == "__main__":
    raise SystemExit(main())
