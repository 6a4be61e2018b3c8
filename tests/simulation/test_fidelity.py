"""The simulation against what was recorded on the real control plane (see the README here)."""

from collections.abc import Callable

import pytest

from fidelity import recordings
from fidelity.scenarios import SCENARIOS, Scenario
from fidelity.simulated import SimulatedStage, simulation
from fidelity.trace import Trace, pod_life, set_life
from simulation import machines, nodecontroller
from simulation.apiserver import Apiserver, Change
from simulation.daemonsets import DaemonSetController
from simulation.machines import Machines
from simulation.nodecontroller import NodeController

SEEDS = (1, 2, 3)


def played(scenario: Scenario, seed: int) -> Trace:
    """What is seen of a scenario in the simulation."""
    with simulation(seed) as sim:
        stage = SimulatedStage(sim, scenario.workers)
        stage.begin()
        scenario.play(stage)
        scenario.at_last(stage)
        sim.run(20.0)
        return stage.trace()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_the_simulation_shows_what_was_recorded(scenario: Scenario, seed: int) -> None:
    difference = recordings.difference(scenario, played(scenario, seed))
    assert not difference, difference


def lose_only_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    real = NodeController.lose
    monkeypatch.setattr(NodeController, "lose", lambda self, name, pods: real(self, name, []))


def taint_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodecontroller, "_wanted", lambda node: None)


def bind_beside_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines, "_repel", lambda pod, other: False)


def reboot_without_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Machines, "_take_over_pods", lambda self, name: None)


def end_pods_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Apiserver, "delete", Apiserver.remove)


def restart_all_when_the_template_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    real = DaemonSetController._set_changed

    def changed(self: DaemonSetController, change: Change) -> None:
        real(self, change)
        if change.before is not None and change.after is not None:
            for pods in list(self._pods[change.key].values()):
                for pod in list(pods.values()):
                    self._server.delete("mutant", "pods", pod)

    monkeypatch.setattr(DaemonSetController, "_set_changed", changed)


MUTANTS = (
    (lose_only_the_node, "canary-crash"),
    (taint_nothing, "good-release"),
    (bind_beside_another, "mass-move"),
    (reboot_without_a_restart, "fast-reboot"),
    (end_pods_at_once, "good-release"),
    (restart_all_when_the_template_changes, "good-release"),
)


@pytest.mark.parametrize(
    ("mutant", "name"), MUTANTS, ids=[mutant.__name__ for mutant, _ in MUTANTS]
)
def test_a_simulation_that_is_not_like_the_recording_is_found(
    mutant: Callable[[pytest.MonkeyPatch], None], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = next(s for s in SCENARIOS if s.name == name)
    mutant(monkeypatch)
    with pytest.raises(AssertionError):
        assert not recordings.difference(scenario, played(scenario, 1))


def test_only_on_a_machine_that_boots_a_pod_may_be_not_ready_for_a_moment() -> None:
    states = ["a", "bound", "ready", "not ready", "ready"]
    assert pod_life(states, booted=True) == "a → bound → ready"
    assert pod_life(states, booted=False) == "a → bound → ready → not ready → ready"
    assert "not ready" in pod_life([*states[:4], "ending"], booted=True)


def test_only_a_set_that_is_back_at_all_nodes_may_be_pointed_elsewhere_unseen() -> None:
    seen = ["NotIn b", "NotIn b, observed", "all", "all, observed", "NotIn c"]
    assert set_life(seen) == seen
    assert set_life([state for state in seen if state != "all, observed"]) == seen
    unseen = ["NotIn b", "all", "all, observed", "nothing"]
    assert set_life(unseen) == unseen
