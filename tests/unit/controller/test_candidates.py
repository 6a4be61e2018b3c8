"""Which nodes have the candidate is a metric: of all of them, or of none, and not for longer."""

from dataclasses import replace

import pytest

from support.builders import make_channel
from support.invariants import with_stable
from support.world import SimCluster
from wavegate.controller import candidates
from wavegate.controller.candidates import Candidates
from wavegate.telemetry.metrics import Metrics

KEY = ("agents", "rules")


@pytest.fixture
def sim():
    """Release a is stable and bakes."""
    made = SimCluster(channel=make_channel())
    made.add_nodes("canary", 1)
    made.add_nodes("workers", 2)
    return with_stable(made)


@pytest.fixture
def metrics():
    return Metrics()


@pytest.fixture
def shown(metrics):
    made = Candidates(metrics)

    def show(obs, key=KEY):
        """The nodes after this observation, with their release and wave."""
        made.show(key, obs)
        samples = _samples(metrics, "wavegate_candidate_node_info")
        return {s.labels["node"]: (s.labels["release"], s.labels["wave"]) for s in samples}

    return show


def _samples(metrics, name):
    (family,) = (f for f in metrics.registry.collect() if f.name == name)
    return family.samples


def counted(metrics):
    return {s.labels["channel"]: s.value for s in _samples(metrics, "wavegate_candidate_nodes")}


def test_nodes_of_a_bake_and_of_a_rollout_are_told_apart_until_both_end(sim, shown, metrics):
    assert {release for release, _ in shown(sim.observe()).values()} == {"a"}
    sim.publish("b", 2)
    sim.run(100, until=lambda: "b" in sim.running().values())
    seen = shown(sim.observe())
    first = sim.record.rollout.waves[0].name
    assert set(seen) == set(sim.nodes)
    assert seen["canary-0"] == ("b", first)
    assert {release for node, (release, _) in seen.items() if node != "canary-0"} == {"a"}
    assert counted(metrics) == {"rules": 3.0}
    obs = sim.observe()
    ended = replace(obs, record=replace(obs.record, rollout=None, bake=None))
    assert shown(ended) == {}
    assert counted(metrics) == {}


def test_a_revert_ends_it_at_once(sim, shown):
    sim.publish("b", 2)
    sim.run(100, until=lambda: "b" in sim.running().values())
    shown(sim.observe())
    del sim.releases["b"]
    sim.run(60, until=lambda: sim.record.rollout.phase == "Reverting")
    assert "b" not in {release for release, _ in shown(sim.observe()).values()}


def test_a_channel_that_does_not_fit_shows_none_and_another_may(sim, shown, metrics, monkeypatch):
    monkeypatch.setattr(candidates, "MAX_SERIES", 4)
    other = ("agents", "other")
    assert len(shown(sim.observe())) == 3
    shown(sim.observe(), other)
    channels = {s.labels["channel"] for s in _samples(metrics, "wavegate_candidate_node_info")}
    assert channels == {"rules"}
    assert counted(metrics) == {"rules": 3.0, "other": 3.0}
    obs = sim.observe()
    shown(replace(obs, record=replace(obs.record, bake=None)))
    assert len(shown(sim.observe(), other)) == 3


def test_what_is_shown_already_is_not_worked_out_again(sim, metrics, monkeypatch):
    made, rows = Candidates(metrics), []
    monkeypatch.setattr(made, "_update", lambda _key, found: rows.append(found))
    made.show(KEY, sim.observe())
    made.show(KEY, sim.observe())
    assert len(rows) == 1
