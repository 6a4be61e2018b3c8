"""All scenarios side by side on one sandbox, each in a namespace with nodes of its own."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from fidelity.sandboxed import FAULTS, Recorder, SandboxedStage
from fidelity.scenarios import Scenario
from fidelity.stage import Stage
from fidelity.trace import Trace
from support.story import let_agents_run
from wavegate_sandbox.cluster import Sandbox
from wavegate_sandbox.faults import Faults

Result = Trace | BaseException
"""What was seen of a scenario, or why it could not be played."""


def play_together(
    scenarios: Sequence[Scenario], sandbox: Sandbox, kill_leader: Callable[[], None]
) -> dict[str, Result]:
    """Play each scenario once; by name, what came of it."""
    for scenario in scenarios:
        sandbox.request("POST", "/api/v1/namespaces", {"metadata": {"name": _space(scenario)}})
        let_agents_run(sandbox, _space(scenario))
    with Recorder(sandbox) as recorder, Faults(sandbox, FAULTS):
        stages = {
            s.name: SandboxedStage(recorder, sandbox, _space(s), kill_leader, s.workers)
            for s in scenarios
        }
        return _Plays(scenarios, stages).results()


class _Plays:
    def __init__(self, scenarios: Sequence[Scenario], stages: dict[str, SandboxedStage]) -> None:
        self._scenarios, self._stages = scenarios, stages
        self._failed: dict[str, BaseException] = {}

    def results(self) -> dict[str, Result]:
        with ThreadPoolExecutor(len(self._scenarios)) as threads:
            list(threads.map(self._begin, self._scenarios))
        for scenario in self._scenarios:
            if scenario.disturbs:
                self._do(scenario, scenario.play)
        for scenario in self._scenarios:
            self._do(scenario, scenario.at_last)
        traces: dict[str, Result] = {name: stage.trace() for name, stage in self._stages.items()}
        return traces | self._failed

    def _begin(self, scenario: Scenario) -> None:
        self._do(scenario, lambda stage: stage.begin())
        if not scenario.disturbs:
            self._do(scenario, scenario.play)

    def _do(self, scenario: Scenario, part: Callable[[Stage], None]) -> None:
        if scenario.name not in self._failed:
            try:
                part(self._stages[scenario.name])
            except BaseException as error:  # noqa: BLE001 - shown by the scenario's own test
                self._failed[scenario.name] = error


def _space(scenario: Scenario) -> str:
    return f"as-{scenario.name}"
