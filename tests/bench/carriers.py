"""What agentSelector costs: `python -m bench.carriers` prints each state without and with it.

Processor milliseconds of one `decide` with all statuses, the middle of the repetitions, taken in
turns so that both meet the same machine: first of an observation of which nobody has seen any part,
then of one in which nothing has changed, then of one in which one pod has. At the end the memory of
what is remembered of the agents.
"""

import gc
import itertools
import json
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace

from bench.__main__ import anew
from support import fleet
from support.carrying import pod_on
from wavegate.cluster.projections import selected_view
from wavegate.evidence import agents_then
from wavegate.rollout import channel_report, report
from wavegate.rollout.decide import decide
from wavegate.rollout.kept import Kept
from wavegate.rollout.observation import AgentPods, Observation

REPEAT = 25
STATES = ("moving", "soaking", "judging", "fencing", "reverting")


def main() -> None:
    """Measure all and print."""
    for size in [int(argument) for argument in sys.argv[1:]] or (1_000, 5_000):
        for state in STATES:
            plain = fleet.observe(size, state)
            first = _compared(_fresh(plain), _fresh(carrying(plain)))
            again = _compared(_again(plain), _again(carrying(plain)))
            print(f"{size:6} nodes, {state:10} first {first}   unchanged {again}", flush=True)
            alone = _compared(_one_changed(plain), _one_changed(carrying(plain)))
            print(f"{'':18} one pod changed {alone}", flush=True)
        print(f"{size:6} nodes, remembered: {_memory(size) / 2**20:.1f} MiB", flush=True)


def carrying(obs: Observation) -> Observation:
    """The same, with an agent of someone else on each node, which is well and restarted once."""
    pods = {name: pod_on(name, restarts=1, ready_since=fleet.NOW - 3600.0) for name in obs.nodes}
    ledgers = {
        number: replace(
            ledger,
            nodes=tuple(
                replace(e, agents=agents_then((pods[e.name],)) if e.name in pods else ())
                for e in ledger.nodes
            ),
        )
        for number, ledger in obs.ledgers.items()
    }
    rollout = obs.record.rollout
    assert rollout is not None
    planned = replace(rollout, plan=replace(rollout.plan, agents="app=edr"))
    record = replace(obs.record, rollout=planned)
    agents = AgentPods(tuple(pods.values()))
    return replace(obs, record=record, ledgers=ledgers, agents=agents, kept=Kept())


def _fresh(obs: Observation) -> Callable[[], object]:
    return lambda: _pass(anew(obs))


def _again(obs: Observation) -> Callable[[], object]:
    """A pass after one in which the same was seen."""

    def work() -> None:
        obs.kept.next_pass()
        _pass(replace(obs))

    return work


def _one_changed(obs: Observation) -> Callable[[], object]:
    """A pass after one agent pod was seen anew; of the selected ones, where there are any."""
    states = itertools.cycle((_touched(obs), obs))

    def work() -> None:
        obs.kept.next_pass()
        _pass(replace(next(states)))

    return work


def _touched(obs: Observation) -> Observation:
    if obs.agents.pods:
        first, *others = obs.agents.pods
        return replace(obs, agents=AgentPods((replace(first, ready_since=fleet.NOW), *others)))
    first, *others = obs.pods or (None,)
    return replace(obs, pods=(replace(first, ready_since=0.0), *others) if first else ())


def _pass(obs: Observation) -> None:
    step = decide(obs, fleet.NOW)
    channel_report.channel_status(obs)
    for release in obs.releases:
        report.release_status(obs, release, step, fleet.NOW)


def _compared(plain: Callable[[], object], carried: Callable[[], object]) -> str:
    times: tuple[list[float], list[float]] = ([], [])
    plain(), carried()
    gc.collect()
    for _ in range(REPEAT):
        for work, taken in zip((plain, carried), times, strict=True):
            began = time.process_time()
            work()
            taken.append((time.process_time() - began) * 1000)
    one, other = (statistics.median(taken) for taken in times)
    return f"{one:6.2f} ms, with {other:6.2f} ms (x{other / one:.2f})"


def _memory(size: int) -> int:
    """Bytes that the projections of so many pods take, read as from the apiserver."""
    bodies = [json.dumps(_body(number)) for number in range(size)]
    gc.collect()
    tracemalloc.start()
    views = {
        number: selected_view(json.loads(body), None, 0.0) for number, body in enumerate(bodies)
    }
    gc.collect()
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(views) == size
    return held


def _body(number: int) -> dict[str, object]:
    metadata = {"name": f"edr-{number:06d}", "namespace": "agents", "uid": f"0000-{number:012d}"}
    container = {"name": "edr", "restartCount": 1, "image": "registry.example/edr", "ready": True}
    conditions = [{"type": "Ready", "status": "True"}]
    return {
        "metadata": {**metadata, "labels": {"app": "edr"}, "annotations": {"note": "x" * 200}},
        "spec": {"nodeName": f"ip-10-{number:06d}.eu-1.compute.example", "containers": [container]},
        "status": {"phase": "Running", "conditions": conditions, "containerStatuses": [container]},
    }


if __name__ == "__main__":
    main()
