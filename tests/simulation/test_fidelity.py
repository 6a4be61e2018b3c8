"""The simulation against what was recorded on the real control plane (see the README here)."""

import pytest

from fidelity import recordings
from fidelity.scenarios import SCENARIOS, Scenario
from fidelity.simulated import SimulatedStage, simulation
from fidelity.trace import Trace

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
    assert recordings.seen(scenario, played(scenario, seed)) == recordings.read(scenario)
