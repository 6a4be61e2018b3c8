"""What is told of a bake, once, when the record says it for the first time."""

from dataclasses import replace

import pytest

from support.builders import make_channel
from support.invariants import with_stable
from support.world import SimCluster
from wavegate.api import Reason
from wavegate.rollout.attempt import Incident
from wavegate.rollout.bake_report import news

INCIDENT = Incident(Reason.NodeRebooted, "2 of 3 nodes came to harm", ("n", "m"), 1.0)


@pytest.fixture
def record():
    """Release a is stable and bakes."""
    sim = SimCluster(channel=make_channel())
    sim.add_nodes("canary", 1)
    sim.add_nodes("workers", 2)
    return with_stable(sim).record


def test_a_release_that_is_baked_is_told_once(record):
    after = replace(record, bake=None, last_baked=record.stable)
    assert news(record, after) == ("uid-a-1", (Reason.Baked, "a is baked", False))
    assert news(after, after) is None


def test_a_bake_that_failed_is_told_once_as_a_warning(record):
    after = replace(record, bake=replace(record.bake, incident=INCIDENT))
    assert news(record, after) == ("uid-a-1", (Reason.BakeFailed, INCIDENT.message, True))
    assert news(after, after) is None


def test_suspects_and_the_end_of_a_channel_are_no_news(record):
    assert news(record, record) is None
    assert news(record, replace(record, bake=None)) is None
