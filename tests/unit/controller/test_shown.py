"""What alerts ask about a channel is so while it is so, and not any longer."""

from dataclasses import replace

import pytest

from support import fleet
from support.builders import CHANNEL, SPACE
from wavegate.api import Phase, Reason, WaveState
from wavegate.controller.shown import Shown
from wavegate.telemetry.metrics import Metrics

KEY = (SPACE, CHANNEL)
NAMES = {"namespace": SPACE, "channel": CHANNEL}


@pytest.fixture(scope="module")
def rolling():
    return fleet.observe(5, "soaking")


@pytest.fixture
def metrics():
    return Metrics()


@pytest.fixture
def show(metrics):
    """Show an observation whose rollout has these changes."""
    shown = Shown(metrics)

    def run(obs, **changes):
        rollout = replace(obs.record.rollout, **changes)
        shown.show(KEY, replace(obs, record=replace(obs.record, rollout=rollout)))

    return run


def value(metrics, name, **labels):
    return metrics.registry.get_sample_value(name, NAMES | labels)


def test_a_pause_of_the_operators_own_is_shown_by_reason_until_it_is_over(rolling, metrics, show):
    show(rolling, paused=Reason.HoldTimeout)
    assert value(metrics, "wavegate_rollout_paused", reason="HoldTimeout") == 1
    show(rolling, paused=Reason.StableSuspect)
    assert value(metrics, "wavegate_rollout_paused", reason="HoldTimeout") is None
    assert value(metrics, "wavegate_rollout_paused", reason="StableSuspect") == 1
    show(rolling, paused=None)
    assert value(metrics, "wavegate_rollout_paused", reason="StableSuspect") is None


def test_a_held_wave_is_shown_until_it_goes_on(rolling, metrics, show):
    wave = rolling.record.rollout.waves[-1]
    earlier = rolling.record.rollout.waves[:-1]
    show(rolling, waves=(*earlier, replace(wave, state=WaveState.Held)))
    assert value(metrics, "wavegate_wave_held") == 1
    show(rolling)
    assert value(metrics, "wavegate_wave_held") == 0


def test_the_phase_is_shown_and_a_revert_is_neither_paused_nor_held(rolling, metrics, show):
    show(rolling, phase=Phase.Reverting, paused=Reason.HoldTimeout)
    assert value(metrics, "wavegate_rollout_phase", phase="Reverting") == 1
    assert value(metrics, "wavegate_rollout_phase", phase="Rolling") == 0
    assert value(metrics, "wavegate_rollout_paused", reason="HoldTimeout") is None
    assert value(metrics, "wavegate_wave_held") == 0


def test_a_rollout_that_rbac_stops_calls_a_person_until_it_may_go_on(rolling, metrics, show):
    show(replace(rolling, forbidden="no RoleBinding"))
    assert value(metrics, "wavegate_rollout_paused", reason="NamespaceNotBound") == 1
    show(rolling)
    assert value(metrics, "wavegate_rollout_paused", reason="NamespaceNotBound") is None
