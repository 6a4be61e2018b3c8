"""Shows where a channel's rollout stands, as metrics for alerts. It decides nothing."""

from wavegate.api import Phase, Reason, WaveState
from wavegate.controller.work import Key
from wavegate.rollout import cooldown
from wavegate.rollout.attempt import Rollout
from wavegate.rollout.observation import Observation
from wavegate.telemetry.metrics import Metrics

_PHASES = (Phase.Pending, Phase.Rolling, Phase.Reverting)


class Shown:
    """Remembers which reason a channel shows, so that it is taken back when it is over."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._paused: dict[Key, Reason] = {}

    def show(self, key: Key, obs: Observation) -> None:
        """Set the metrics of this channel to what is so now."""
        rollout = obs.record.rollout
        current = rollout.phase if rollout else None
        for phase in _PHASES:
            self._metrics.phase.labels(*key, phase.value).set(1 if phase is current else 0)
        self._metrics.held.labels(*key).set(1 if rollout and _is_held(rollout) else 0)
        self._show_pause(key, _stopped(obs))

    def _show_pause(self, key: Key, reason: Reason | None) -> None:
        before = self._paused.pop(key, None)
        if before is not None and before is not reason:
            self._metrics.paused.remove(*key, before.value)
        if reason is not None:
            self._metrics.paused.labels(*key, reason.value).set(1)
            self._paused[key] = reason


def _stopped(obs: Observation) -> Reason | None:
    """Why the operator by itself waits for a person; not what people have asked for."""
    if obs.record.lost is not None:
        return Reason.StateLost
    rollout = obs.record.rollout
    closed = cooldown.shut(obs.channel, obs.record)
    if closed is not None:
        return Reason[closed.reason]
    if obs.forbidden and rollout is not None:
        return Reason.NamespaceNotBound
    return rollout.paused if rollout and rollout.phase is Phase.Rolling else None


def _is_held(rollout: Rollout) -> bool:
    if rollout.phase is not Phase.Rolling or not rollout.waves:
        return False
    wave = rollout.waves[-1]
    return wave.state is WaveState.Held or wave.held_since is not None
