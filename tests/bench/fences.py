"""How long from a sign of harm to the stored fence, on the sandbox: `make bench-fence`.

The clock starts before the request that makes the sign visible in the apiserver (for a machine that
stops: when it stops), and ends when a watch of ours delivers the candidate's DaemonSet that matches
no node any more. So both ways through the apiserver are in it. The candidate is on one node, the
first of its channel; all other nodes of the cluster carry stable, and are watched as well.

Settings are the chart's, and Kubernetes' own, except the pace of the stable release (soak 10 s,
WAVEGATE_SOAK_FLOOR), without which nobody could wait for it, and no bake: the nodes that are harmed
for one channel would fail the bake of the others. Harm comes in a soak of 10 minutes.
"""

import argparse
import contextlib
import statistics
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import requests

from support.chart import apply_crds
from support.operator_process import OperatorProcess
from support.story import Story, channel_spec, let_agents_run
from wavegate.rollout.names import ATTEMPT_LABEL
from wavegate_sandbox.client import STRATEGIC
from wavegate_sandbox.cluster import Options, Sandbox
from wavegate_sandbox.faults import broken
from wavegate_sandbox.nodes import NodeSpec

SPACE = "fences"
PATIENCE = 600.0
WATCH_SECONDS = 12 * 3600
Sign = Callable[[Sandbox, str, dict[str, Any]], None]
"""Makes a sign of harm visible at a node or at its agent's pod."""


def not_ready(sandbox: Sandbox, node: str, _pod: dict[str, Any]) -> None:
    """The kubelet reports Ready=False. (It was stopped before: kwok would repair it at once.)"""
    condition = {"type": "Ready", "status": "False", "reason": "Bench", "message": "bench"}
    body = {"status": {"conditions": [condition]}}
    sandbox.request("PATCH", f"/api/v1/nodes/{node}/status", body, content_type=STRATEGIC)


def rebooted(sandbox: Sandbox, node: str, _pod: dict[str, Any]) -> None:
    """The kubelet reports another bootID, and Ready all the time."""
    body = {"status": {"nodeInfo": {"bootID": str(uuid.uuid4())}}}
    sandbox.request("PATCH", f"/api/v1/nodes/{node}/status", body)


def agent_crashed(sandbox: Sandbox, _node: str, pod: dict[str, Any]) -> None:
    """The kubelet reports that the agent's container ended and was restarted."""
    path = f"/api/v1/namespaces/{SPACE}/pods/{pod['metadata']['name']}/status"
    sandbox.request("PATCH", path, {"status": broken(pod)}, content_type=STRATEGIC)


def stopped(sandbox: Sandbox, node: str, _pod: dict[str, Any]) -> None:
    """The machine stops: its lease is not renewed any more, and nobody says anything."""
    sandbox.crash(node)


SIGNS: dict[str, tuple[Sign, float]] = {
    "Ready=False": (not_ready, 1.0),
    "other bootID": (rebooted, 1.0),
    "agent restarted": (agent_crashed, 1.0),
    "machine stops": (stopped, 0.1),
}
"""By name: what makes it, and how many of the tries are made (a stopped machine takes 50 s)."""


class Fences:
    """When each DaemonSet of the namespace was first seen to match no node."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox, self._seen = sandbox, dict[str, float]()
        self._changed = threading.Condition()
        threading.Thread(target=self._watch, daemon=True).start()

    def when(self, daemon_set: str) -> float:
        """Wait for it; `time.monotonic` of the event's arrival."""
        with self._changed:
            if not self._changed.wait_for(lambda: daemon_set in self._seen, PATIENCE):
                raise TimeoutError(f"{daemon_set} was not fenced within {PATIENCE:g} s")
            return self._seen[daemon_set]

    def _watch(self) -> None:
        path = f"/apis/apps/v1/namespaces/{SPACE}/daemonsets"
        with contextlib.suppress(requests.RequestException):  # at the end of the sandbox
            for event in self._sandbox.api.watch(path, WATCH_SECONDS):
                at, item = time.monotonic(), event["object"]
                if item.get("kind") == "DaemonSet" and _matches_none(item):
                    with self._changed:
                        self._seen.setdefault(item["metadata"]["name"], at)
                        self._changed.notify_all()


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--nodes", type=int, default=40)
    parser.add_argument("--times", type=int, default=100, help="of each sign; a stop: a tenth")
    parser.add_argument("--channels", type=int, default=4, help="measured side by side")
    chosen = parser.parse_args()
    pace = {"WAVEGATE_SOAK_FLOOR": "1s"}
    with Sandbox.start(Options(prometheus=False), print) as sandbox:
        apply_crds(sandbox)
        with OperatorProcess.from_chart(sandbox, "wavegate-bench", pace) as operator:
            operator.wait_ready()
            times = measure(sandbox, chosen.nodes, chosen.times, chosen.channels)
    print(f"\n{chosen.nodes} nodes, {chosen.channels} channels side by side, milliseconds:\n")
    print(f"{'sign':18}{'n':>5}{'min':>9}{'median':>9}{'p99':>9}{'max':>9}")
    for sign, found in times.items():
        print(row(sign, sorted(found)))
    return 0


def row(sign: str, found: list[float]) -> str:
    """One line of the table; a p99 only of at least 100 values."""
    p99 = f"{statistics.quantiles(found, n=100)[98]:9.0f}" if len(found) >= 100 else f"{'-':>9}"
    middle = statistics.median(found)
    return f"{sign:18}{len(found):5}{found[0]:9.0f}{middle:9.0f}{p99}{found[-1]:9.0f}"


def measure(sandbox: Sandbox, nodes: int, times: int, channels: int) -> dict[str, list[float]]:
    """Milliseconds by sign."""
    sandbox.request("POST", "/api/v1/namespaces", {"metadata": {"name": SPACE}})
    let_agents_run(sandbox, SPACE)
    names = [f"node-{index:05}" for index in range(nodes)]
    sandbox.add_nodes(
        (NodeSpec(name, {"story": SPACE, "first": name}) for name in names), timeout=PATIENCE
    )
    fences = Fences(sandbox)
    stories = [_begin(sandbox, f"c{index}", names[index]) for index in range(channels)]
    for story, first in zip(stories, names, strict=False):
        story.until_phase(f"{story.channel}-stable", "Completed", PATIENCE)
        _pace(story, first, soak="10m")
    found: dict[str, list[float]] = {}
    for sign, (make, share) in SIGNS.items():
        each = max(1, round(times * share / channels))

        def tries(story: Story, make: Sign = make, each: int = each) -> list[float]:
            return [_once(sandbox, story, make, fences) for _ in range(each)]

        with ThreadPoolExecutor(channels) as threads:
            found[sign] = [value for values in threads.map(tries, stories) for value in values]
        print(row(sign, sorted(found[sign])), flush=True)
    return found


def _begin(sandbox: Sandbox, channel: str, first: str) -> Story:
    """A channel on all nodes, whose first wave is one node of its own."""
    story = Story(sandbox, SPACE, channel=channel)
    _pace(story, first, soak="10s")
    story.publish(f"{channel}-stable")
    return story


def _pace(story: Story, first: str, soak: str) -> None:
    pools = [
        {"name": "canary", "selector": {"matchLabels": {"story": SPACE, "first": first}}},
        {"name": "all", "selector": {"matchLabels": {"story": SPACE}}},
    ]
    rollout = {**channel_spec(SPACE)["rollout"], "soak": soak, "bake": "0s"}
    story.apply_channel({"pools": pools, "rollout": rollout})


def _once(sandbox: Sandbox, story: Story, make: Sign, fences: Fences) -> float:
    """One bad release of a channel, from the sign to the fence, in milliseconds."""
    name = f"{story.channel}-{story.sequence + 1}"
    story.publish(name)
    attempt = story.until(name, "its soak", _soaks, PATIENCE)["attempt"]
    candidate = story.channel_status()["candidate"]["daemonSet"]
    only = {"labelSelector": f"{ATTEMPT_LABEL}={attempt}"}
    (pod,) = sandbox.request("GET", f"/api/v1/namespaces/{SPACE}/pods", params=only)["items"]
    node = pod["spec"]["nodeName"]
    if make is not_ready:
        sandbox.crash(node)
    began = time.monotonic()
    make(sandbox, node, pod)
    took = fences.when(candidate) - began
    if make in (not_ready, stopped):
        sandbox.boot(node)
    status = story.until_phase(name, "Reverted", PATIENCE)
    assert status["incident"]["nodes"] == [node], status["incident"]
    return took * 1000


def _soaks(status: dict[str, Any]) -> bool:
    return status.get("wave", {}).get("state") == "Soaking"


def _matches_none(daemon_set: dict[str, Any]) -> bool:
    return any("DoesNotExist" in _operators(term) for term in _terms(daemon_set))


def _terms(daemon_set: dict[str, Any]) -> Iterator[dict[str, Any]]:
    pod = daemon_set["spec"]["template"]["spec"]
    rule = pod.get("affinity", {}).get("nodeAffinity", {})
    needed = rule.get("requiredDuringSchedulingIgnoredDuringExecution", {})
    yield from needed.get("nodeSelectorTerms", [])


def _operators(term: dict[str, Any]) -> set[str]:
    return {rule["operator"] for rule in term.get("matchExpressions", [])}


if __name__ == "__main__":
    sys.exit(main())
