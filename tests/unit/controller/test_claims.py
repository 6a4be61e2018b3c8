"""What other channels claim is read from what is stored, and once more before a claim is stored."""

from dataclasses import replace

import pytest

from support.invariants import with_stable
from support.world import SimCluster
from wavegate.api import WaveState
from wavegate.cluster.client import ApiError
from wavegate.cluster.projections import StoredConfigMap
from wavegate.controller import claims
from wavegate.controller.gather import Gatherer
from wavegate.controller.world import World

HERE, THERE = ("agents", "rules"), ("elsewhere", "models")


@pytest.fixture(scope="module")
def stored():
    """Two channels whose waves have the same ledger; that of the other was stored first."""
    sim = SimCluster()
    sim.add_nodes("canary", 1)
    sim.add_nodes("workers", 3)
    with_stable(sim)
    sim.publish("b", 2)
    sim.step_until(lambda: sim.record.rollout and len(sim.record.rollout.waves) == 2)
    sim.step_until(lambda: sim.record.rollout.waves[-1].state is WaveState.Moving)
    record = replace(sim.record, rollout=sim.record.rollout.with_wave(moved=0))
    found = {}
    for version, (space, name) in enumerate((THERE, HERE), start=9):
        mine = replace(record, namespace=space, channel=name)
        found[space, "record"] = StoredConfigMap("record", name, "50", record=mine)
        for (_, number), ledger in sim.ledgers.items():
            if ledger.attempt == record.rollout.attempt:
                one = StoredConfigMap("ledger", name, str(version), ledger=ledger)
                found[space, f"ledger-{number}"] = one
    return found


def changed(stored, space, **wave):
    body = stored[space, "record"]
    rollout = body.record.rollout.with_wave(**wave)
    return stored | {(space, "record"): replace(body, record=replace(body.record, rollout=rollout))}


def test_the_ledger_that_was_stored_first_has_its_nodes(stored):
    assert claims.busy(stored, THERE, 0.0) == {}
    found = claims.busy(stored, HERE, 0.0)
    assert len(found) == 3
    assert set(found.values()) == {"elsewhere/models"}


def test_what_was_moved_is_kept_from_an_older_ledger_too(stored):
    assert len(claims.busy(changed(stored, "agents", moved=2), THERE, 0.0)) == 2


def test_who_has_no_ledger_yet_sees_all_that_others_have(stored):
    mine = changed(stored, "elsewhere", state=WaveState.Pending, ledger=99)
    assert len(claims.busy(mine, THERE, 0.0)) == 3
    assert claims.busy(mine, HERE, 0.0) == {}


def test_one_channel_alone_looks_at_no_ledger(stored):
    alone = {key: one for key, one in stored.items() if key[0] == "agents"}
    assert claims.busy(alone, HERE, 0.0) == {}
    assert claims.busy({}, HERE, 0.0) == {}


@pytest.mark.parametrize(("key", "busy"), [(HERE, True), (THERE, False)])
def test_a_claim_is_stored_only_when_nobody_has_the_nodes_by_then(client, stored, key, busy):
    world = World(client, lambda: 0.0, lambda _: None)
    world.stored.items.update(stored)
    gatherer = Gatherer(client, world, 10.0, lambda: 0.0)
    names = set(claims.busy(stored, HERE, 0.0))
    gatherer.confirm_free(key, set())
    if not busy:
        gatherer.confirm_free(key, names)
        return
    with pytest.raises(ApiError, match="was taken by channel elsewhere/models") as error:
        gatherer.confirm_free(key, names)
    assert error.value.status == 409


def test_since_when_a_channel_waits_is_told_until_it_waits_no_more():
    now = [5.0]
    stops, obs = claims.Stops(lambda: now[0]), SimCluster().observe()
    assert stops.told(HERE, obs).busy_since is None
    stops.note(HERE, waits=True)
    now[0] = 9.0
    stops.note(HERE, waits=True)
    assert stops.told(HERE, obs).busy_since == 5.0
    assert stops.told(THERE, obs).busy_since is None
    stops.note(HERE, waits=False)
    assert stops.told(HERE, obs).busy_since is None
