"""How urgent a release is: what its publisher claims, and how much of that a channel lets count."""

from collections.abc import Mapping
from enum import StrEnum

from wavegate.api.values import Duration


class Severity(StrEnum):
    """Rising in this order. A higher one soaks for less, and may replace a lower one that runs."""

    Routine = "Routine"
    Urgent = "Urgent"
    Emergency = "Emergency"

    @property
    def rank(self) -> int:
        """0 for the lowest."""
        return list(Severity).index(self)

    def capped(self, most: "Severity") -> "Severity":
        """What counts of this claim where `most` is the highest that may."""
        return min(self, most, key=lambda severity: severity.rank)

    def soak(self, wave: int) -> Duration:
        """Default soak of the wave with this index: the first two are watched for longer."""
        return _SOAKS[self][min(wave, 2) // 2]


_SOAKS: Mapping[Severity, tuple[Duration, Duration]] = {
    Severity.Routine: (Duration.parse("15m"), Duration.parse("10m")),
    Severity.Urgent: (Duration.parse("10m"), Duration.parse("5m")),
    Severity.Emergency: (Duration.parse("5m"), Duration.parse("3m")),
}
"""For the first two waves, and for those after. Crash-loop back-off is 5 min, NotReady takes 55 s.
"""
