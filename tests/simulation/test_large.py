"""What a rollout costs does not grow faster than the cluster. Times are printed by `large.py`."""

from simulation.cluster import Simulation
from simulation.large import bad_rollout, defaults, good_rollout


def test_a_rollout_writes_each_node_once_and_little_else() -> None:
    cost = good_rollout(200)
    assert cost.writes["nodes"] == 200
    assert cost.writes["daemonsets"] <= 4
    assert cost.writes["configmaps"] <= 40 + 200  # by seed 223 to 235
    assert cost.writes["pods"] == 0
    assert cost.took < 3 * 3_600


def test_a_bad_release_at_a_quarter_is_fenced_in_a_second_and_gone_at_the_controllers_pace() -> (
    None
):
    bad = bad_rollout(200)
    assert bad.exposed == 50
    assert bad.failed_after < 60
    assert bad.written_after < 1
    assert bad.fenced_after < 5
    assert bad.healthy_after < 30


def test_the_plan_of_a_large_fleet_is_shown_in_seconds_though_nothing_happens() -> None:
    with Simulation(3) as sim:
        sim.add_nodes("workers", 250)
        sim.apply_channel(**defaults())
        sim.publish("a", suspend=True)
        sim.run(10)
        plan = sim.channel_status()["plan"]
    assert plan["release"] == "a"
    assert sum(wave["nodes"] for wave in plan["waves"]) == 250
