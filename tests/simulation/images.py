"""What the guard knows of images: which layers releases list, and which content ever was stable."""

from simulation.apiserver import Change
from simulation.bodies import record_in
from wavegate.api import PLURALS
from wavegate.rollout.record import Blocked

RELEASES = PLURALS["SecurityContentRelease"]


class Images:
    """Told by the objects of people, not by what the operator keeps of them."""

    def __init__(self) -> None:
        self.layers: dict[str, frozenset[str]] = {}
        """By digest of the content."""
        self.were_stable: set[str] = set()
        """Digests of contents."""

    def note(self, change: Change) -> None:
        """Remember what a change says of either."""
        record = record_in(change)
        if record is not None and record.stable is not None:
            self.were_stable.add(record.stable.digest)
        if change.plural == RELEASES and change.after:
            content = change.after["spec"]["content"]
            listed = frozenset(content.get("layers", ()))
            digest = str(content.get("image", "")).partition("@")[2]
            self.layers[digest] = self.layers.get(digest, frozenset()) | listed

    def is_kept_out(self, listed: frozenset[str], entry: Blocked) -> bool:
        """Whether an image with these layers brings what is blocked: one of its layers, or all,
        where nothing told which.
        """
        fault = self.at_fault(entry)
        return bool(listed & fault) and (not entry.together or fault <= listed)

    def at_fault(self, entry: Blocked) -> frozenset[str]:
        """Layers of what is blocked that no other content had which was ever stable: these at least
        may not come again.
        """
        others = self.were_stable - {entry.digest}
        proven = (self.layers.get(digest, frozenset()) for digest in others)
        return self.layers.get(entry.digest, frozenset()).difference(*proven)
