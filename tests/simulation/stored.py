"""What one of our ConfigMaps says. A stored object is never changed in place, and many ask about
the same few: the guard, the log and the tests. So each is unpacked once.
"""

from simulation.apiserver import Body
from wavegate.cluster.projections import StoredConfigMap, stored_config_map

KEPT = 32
"""So many objects are remembered."""

_read: dict[int, tuple[Body, StoredConfigMap]] = {}
"""By id, which stays theirs as the objects are kept; the one that was read first comes first."""


def stored_in(body: Body) -> StoredConfigMap:
    """What this very object says."""
    known = _read.get(id(body))
    if known is None:
        known = _read[id(body)] = body, stored_config_map(body, None, 0.0)
        if len(_read) > KEPT:
            del _read[next(iter(_read))]
    return known[1]
