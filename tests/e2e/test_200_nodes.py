"""Three golden stories on 200 nodes of the real control plane, held against their recordings.

Mixed kernels, architectures and zones, a critical pool and a control plane, and the default plan.
`WAVEGATE_RECORD=1` writes what was seen as the new recordings; the simulation is held against the
same ones in tests/simulation/test_fleet.py. The name puts the file first in a run: 200 nodes that
join load the machine, and the stories of test_fidelity.py are not to be told at that moment.
"""

import datetime as dt
import os
import time
from collections.abc import Callable, Iterator, Mapping

import pytest

from fidelity import fleet_stories, recordings
from fidelity.fleet import GRACE, RENEWAL, ROLLOUT
from fidelity.fleet_stories import RECORDED_AS, STORIES, FleetStory, Result
from fidelity.sandboxed import Recorder, SandboxedFleet
from support import chart
from support.operator_process import OperatorProcess
from support.story import let_agents_run
from wavegate_sandbox import build
from wavegate_sandbox.cluster import Options, Sandbox

RECORD = bool(os.environ.get("WAVEGATE_RECORD"))
SPACE = "fleet"


@pytest.fixture(scope="module")
def sandbox_options(report_settings: Callable[[str, dict[str, str]], None]) -> Options:
    """A control plane of its own, on which 200 kubelets renew their leases less often: at the pace
    of the other tests they would take a core, and a machine that is busy would lose some of them.
    """
    grace, lease = f"{GRACE}s", f"--node-lease-duration-seconds={4 * RENEWAL}"
    report_settings(
        "sandbox of 200 nodes",
        {
            "kube-controller-manager --node-monitor-grace-period": f"{grace} (default: 50s)",
            "kwok --node-lease-duration-seconds": (
                f"{4 * RENEWAL}, renewed every {RENEWAL} s (default: 40, every 10 s)"
            ),
        },
    )
    return Options(prometheus=False, node_monitor_grace_period=grace, extra_args={"kwok": (lease,)})


@pytest.fixture(scope="module")
def sandbox(sandbox_options: Options) -> Iterator[Sandbox]:
    with Sandbox.attach_or_start(sandbox_options) as running:
        yield running


@pytest.fixture(scope="module")
def crds(sandbox: Sandbox) -> None:
    chart.apply_crds(sandbox)


@pytest.fixture(scope="module")
def machines() -> None:
    """They go with their control plane."""


@pytest.fixture(scope="module")
def pace() -> dict[str, str]:
    return {"WAVEGATE_SOAK_FLOOR": "3s"}


@pytest.fixture(scope="module")
def played(
    sandbox: Sandbox,
    operators: list[OperatorProcess],
    report_settings: Callable[[str, dict[str, str]], None],
    report_figure: Callable[[str], None],
) -> Mapping[str, Result]:
    report_settings(
        "channel of 200 nodes", {f"spec.rollout.{k}": str(v) for k, v in ROLLOUT.items()}
    )
    sandbox.request("POST", "/api/v1/namespaces", {"metadata": {"name": SPACE}})
    let_agents_run(sandbox, SPACE)
    last = time.monotonic()

    def note(name: str) -> None:
        nonlocal last
        report_figure(f"200 nodes: {name}: {time.monotonic() - last:.0f} s")
        last = time.monotonic()

    with Recorder(sandbox) as recorder:
        return fleet_stories.play(SandboxedFleet(recorder, sandbox, SPACE), note=note)


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_the_sandbox_shows_what_was_recorded(
    story: FleetStory,
    played: Mapping[str, Result],
    sandbox_options: Options,
    pace: dict[str, str],
) -> None:
    found = played[story.name]
    if isinstance(found, BaseException):
        raise found
    if RECORD:
        made = {
            "at": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d"),
            "on": "the sandbox: real etcd, apiserver, controllers, scheduler, kwok, operators",
            "kubernetes": build.kubernetes_version(),
            "node-monitor-grace-period": sandbox_options.node_monitor_grace_period,
            "kwok": list(sandbox_options.extra_args.get("kwok", ())),
            "operators": pace,
            "channel": ROLLOUT,
        }
        recordings.keep(RECORDED_AS + story.name, story.play.__doc__ or "", found, made)
    difference = recordings.compare(RECORDED_AS + story.name, found)
    assert not difference, difference
