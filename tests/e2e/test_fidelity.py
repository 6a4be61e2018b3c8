"""The scenarios of tests/fidelity on the real control plane, held against their recordings.

`WAVEGATE_RECORD=1` writes what was seen as the new recordings. The simulation is held against the
same recordings in tests/simulation/test_fidelity.py, which needs no control plane.
"""

import datetime as dt
import os
from collections.abc import Callable, Iterator

import pytest

from fidelity import recordings
from fidelity.scenarios import SCENARIOS, Scenario
from fidelity.together import Result, play_together
from support.operator_process import OperatorProcess, leader_of
from wavegate_sandbox import build
from wavegate_sandbox.cluster import Options, Sandbox

RECORD = bool(os.environ.get("WAVEGATE_RECORD"))


@pytest.fixture(scope="module")
def kill_leader(operators: list[OperatorProcess]) -> Iterator[Callable[[], None]]:
    """Call it to kill the operator that leads; it is started again after the module."""
    killed: list[OperatorProcess] = []

    def kill() -> None:
        killed.append(leader_of(operators))
        killed[-1].kill()

    yield kill
    for operator in killed:
        operator.start().wait_ready()


@pytest.fixture(scope="module")
def played(
    request: pytest.FixtureRequest, sandbox: Sandbox, kill_leader: Callable[[], None]
) -> dict[str, Result]:
    """What was seen of each scenario that is asked for, or why it could not be played."""
    asked = [
        item.callspec.params["scenario"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.module.__name__ == __name__
    ]
    return play_together(asked, sandbox, kill_leader)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_the_sandbox_shows_what_was_recorded(
    scenario: Scenario,
    played: dict[str, Result],
    sandbox_options: Options,
    pace: dict[str, str],
) -> None:
    trace = played[scenario.name]
    if isinstance(trace, BaseException):
        raise trace
    if RECORD:
        recordings.write(scenario, trace, made(sandbox_options, pace))
    difference = recordings.difference(scenario, trace)
    assert not difference, difference


def made(options: Options, pace: dict[str, str]) -> dict[str, object]:
    """How and when a recording is made."""
    return {
        "at": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d"),
        "on": "the sandbox: real etcd, apiserver, controller-manager, scheduler, kwok, operators",
        "kubernetes": build.kubernetes_version(),
        "node-monitor-grace-period": options.node_monitor_grace_period,
        "kwok": list(options.extra_args.get("kwok", ())),
        "operators": pace,
    }
