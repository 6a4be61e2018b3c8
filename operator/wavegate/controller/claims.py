"""Which nodes the active waves of other channels claim, by the records and ledgers as stored."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from wavegate.api import Phase
from wavegate.cluster.projections import StoredConfigMap
from wavegate.controller.work import Key
from wavegate.evidence import Ledger
from wavegate.rollout.busy import Claim, claim, taken
from wavegate.rollout.decide import pause_reason
from wavegate.rollout.observation import Observation
from wavegate.rollout.record import Record


class Stops:
    """Since when channels stand still, as this process sees it: such a wave frees its nodes."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._paused: dict[Key, float] = {}
        self._waiting: dict[Key, float] = {}

    def told(self, key: Key, obs: Observation) -> Observation:
        """The observation with `paused_since` and `busy_since`."""
        now = self._clock()
        paused = obs.record.rollout is not None and pause_reason(obs, now) is not None
        since, waiting = _mark(self._paused, key, now, is_so=paused), self._waiting.get(key)
        told = since is not None or waiting is not None
        return replace(obs, paused_since=since, busy_since=waiting) if told else obs

    def note(self, key: Key, *, waits: bool) -> None:
        """Note whether the channel was just found to wait for another one."""
        _mark(self._waiting, key, self._clock(), is_so=waits)


def _mark(times: dict[Key, float], key: Key, now: float, *, is_so: bool) -> float | None:
    if is_so:
        return times.setdefault(key, now)
    times.pop(key, None)
    return None


def busy(stored: Mapping[Key, StoredConfigMap], key: Key, now: float) -> dict[str, str]:
    """`Observation.busy` of channel `key`. `stored` are all ConfigMaps of ours in the cluster."""
    found = (s.record for s in stored.values() if s.record is not None and s.record.rollout)
    records = {(record.namespace, record.channel): record for record in found}
    if len(records) < 2 or not _moves(records.get(key)):
        return {}
    claims: dict[Key, Claim | None] = {}
    ledgers = _ledgers(stored, records.values())
    for place, record in records.items():
        attempt = record.rollout.attempt if record.rollout else ""
        of = ledgers[record.namespace, attempt]
        claims[place] = claim(record, of, now)
    mine = claims.pop(key, None)
    return taken((other for _, other in sorted(claims.items()) if other is not None), mine)


def _moves(record: Record | None) -> bool:
    """Whether this channel has nodes to move: a fence, above all, asks for nobody's."""
    rollout = record.rollout if record is not None else None
    return rollout is not None and rollout.phase is Phase.Rolling


def _ledgers(
    stored: Mapping[Key, StoredConfigMap], records: Iterable[Record]
) -> Mapping[Key, dict[int, tuple[Ledger, int]]]:
    """By namespace and attempt, of the attempts that are under way."""
    running = {(r.namespace, r.rollout.attempt) for r in records if r.rollout is not None}
    found = defaultdict[Key, dict[int, tuple[Ledger, int]]](dict)
    for (space, _), one in stored.items():
        if one.ledger is not None and (space, one.ledger.attempt) in running:
            found[space, one.ledger.attempt][one.ledger.number] = (one.ledger, int(one.version))
    return found
