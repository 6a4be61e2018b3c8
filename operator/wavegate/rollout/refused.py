"""What the admission policy refuses: pods of fenced attempts and of blocked content.

Both lists stand in the record itself, so that the very write that stores the intent to revert arms
the policy, before the fence. The policy must never keep stable from starting: what stable runs is
on neither list, whatever became of it elsewhere.
"""

from wavegate.api import Phase, Reason
from wavegate.rollout.attempt import Revision
from wavegate.rollout.names import content_name
from wavegate.rollout.record import Blocked, Record


def fenced_attempts(record: Record) -> tuple[str, ...]:
    """The attempt that is being reverted and those that were: at most one more than outcomes."""
    rollout = record.rollout
    reverting = [rollout.attempt] if rollout and rollout.phase is Phase.Reverting else []
    taken_back = (Phase.Reverted, Phase.Superseded)
    reverted = [outcome.attempt for outcome in record.outcomes if outcome.phase in taken_back]
    stable = record.stable.attempt if record.stable else ""
    return tuple(dict.fromkeys(a for a in [*reverting, *reverted] if a and a != stable))


def refused_digests(record: Record) -> tuple[str, ...]:
    """Blocked digests but stable's: one agent template may come to harm on what another runs."""
    stable = record.stable.digest if record.stable else ""
    return tuple(entry.digest for entry in record.blocked if entry.digest != stable)


def refused_copies(record: Record) -> tuple[str, ...]:
    """Names of our copies of the refused content, where that is a ConfigMap."""
    return tuple(content_name(digest) for digest in refused_digests(record))


def told(entry: Blocked, digest: str, loaded: str = "", layers: tuple[str, ...] = ()) -> str:
    """Why content with this digest, report and these layers is refused, for people."""
    did = "was blocked" if entry.reason is Reason.BlockedByDecision else "failed before"
    was = f"{did} as release {entry.release} ({entry.reason})"
    if entry.digest == digest:
        return (
            f"{entry.digest} {was} and may not return. Publish repaired content under a new digest."
        )
    if not entry.is_of(digest, loaded):
        return (
            f"{_layer(entry, layers)} of {entry.digest}, which {was}: no image with it may return. "
            "Publish repaired content without that layer. If nothing is wrong with it, as it is an "
            "image's base, leave it out of the next release's content.layers, or decide Unblock "
            f"with release: {entry.release}, digest: {entry.digest}, incident: {entry.incident}."
        )
    return (
        f"its loadedDigest {entry.loaded} is that of {entry.digest}, which {was} and may not "
        "return, whatever brings it. Publish repaired content; or, if this is other content, a "
        "release with its own loadedDigest."
    )


def told_under_way(entry: Blocked, its: Revision) -> str:
    """Why a release that rolls out is taken back, as its content is blocked by now."""
    by = f"while it rolled out ({entry.reason}, incident {entry.incident})"
    if entry.is_of(its.digest, its.loaded):
        return f"its content was blocked {by}; publish repaired content under a new digest"
    return (
        f"{_layer(entry, its.layers)} of {entry.digest} (release {entry.release}), which was "
        f"blocked {by}; publish repaired content without that layer"
    )


def _layer(entry: Blocked, layers: tuple[str, ...]) -> str:
    first, *more = entry.shared(layers)
    others = f" (and {len(more)} more)" if more else ""
    return f"its layer {first}{others} is one"
