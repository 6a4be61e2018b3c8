"""Which nodes the active waves of other channels claim, by the records and ledgers as stored."""

from collections import defaultdict
from collections.abc import Mapping

from wavegate.cluster.projections import StoredConfigMap
from wavegate.controller.work import Key
from wavegate.evidence import Ledger
from wavegate.rollout.busy import Claim, claim, taken
from wavegate.rollout.record import Record


def busy(stored: Mapping[Key, StoredConfigMap], key: Key, now: float) -> dict[str, str]:
    """`Observation.busy` of channel `key`. `stored` are all ConfigMaps of ours in the cluster."""
    records = [s.record for s in stored.values() if s.record is not None and s.record.rollout]
    if not any((record.namespace, record.channel) != key for record in records):
        return {}
    claims: dict[Key, Claim | None] = {}
    ledgers = _ledgers(stored, records)
    for record in records:
        attempt = record.rollout.attempt if record.rollout else ""
        of = ledgers[record.namespace, attempt]
        claims[record.namespace, record.channel] = claim(record, of, now)
    mine = claims.pop(key, None)
    return taken((other for _, other in sorted(claims.items()) if other is not None), mine)


def _ledgers(
    stored: Mapping[Key, StoredConfigMap], records: list[Record]
) -> Mapping[Key, dict[int, tuple[Ledger, int]]]:
    """By namespace and attempt, of the attempts that are under way."""
    running = {(r.namespace, r.rollout.attempt) for r in records if r.rollout is not None}
    found = defaultdict[Key, dict[int, tuple[Ledger, int]]](dict)
    for (space, _), one in stored.items():
        if one.ledger is not None and (space, one.ledger.attempt) in running:
            found[space, one.ledger.attempt][one.ledger.number] = (one.ledger, int(one.version))
    return found
