"""What is true of someone else's agents, and what must not be overlooked of them on a carrier.

Kept from the changes alone. The operator may see each of them late (`lag`), so what happened so
close to a moment that it may not know better is held against nobody.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from simulation.apiserver import Change
from simulation.bodies import restarts
from simulation.cluster import is_ready
from simulation.daemonsets import target_of

LEDGER_SECONDS = 5.0
"""A ledger is made at most so long before its wave opens, as far as nothing fails."""


@dataclass(slots=True)
class OtherPod:
    """One pod of another agent. `states` are what it was: since when, restarts, Ready."""

    node: str
    states: list[tuple[float, int, bool]] = field(default_factory=list)
    gone_at: float | None = None

    def was_well(self, since: float, until: float) -> bool:
        """Whether it was Ready all that time."""
        known = [state for state in self.states if state[0] <= until]
        before = [state for state in known if state[0] <= since]
        within = [state for state in known if state[0] > since]
        there = self.gone_at is None or self.gone_at > until
        return bool(before) and there and all(ready for _, _, ready in [before[-1], *within])

    def was_there(self, at: float) -> bool:
        """Whether it was there then."""
        return bool(self.states) and self.states[0][0] <= at

    def crashed(self, since: float, until: float) -> bool:
        """Whether it was restarted in that time."""
        steps = zip(self.states, self.states[1:], strict=False)
        return any(since < at < until and count > was for (_, was, _), (at, count, _) in steps)

    def unready_since(self) -> float | None:
        """Since when it is not Ready; None when it is."""
        since = None
        for at, _, ready in self.states:
            since = None if ready else (at if since is None else since)
        return since


class Others:
    """All of them so far, by UID."""

    def __init__(self) -> None:
        self.pods: dict[str, OtherPod] = {}

    def note(self, now: float, change: Change) -> None:
        """Note a change of a pod that is none of ours."""
        body = change.after or change.before
        if body is None or not target_of(body):
            return
        pod = self.pods.setdefault(body["metadata"]["uid"], OtherPod(target_of(body)))
        if change.after is None or "deletionTimestamp" in change.after["metadata"]:
            pod.gone_at = now if pod.gone_at is None else pod.gone_at
            return
        state = restarts(body), is_ready(body)
        if not pod.states or pod.states[-1][1:] != state:
            pod.states.append((now, *state))

    def lacks(self, node: str, opened: float, judged: float, lag: float) -> Iterator[str]:
        """What a wave that opened at `opened` can't have passed with, when all was looked at after
        `judged`. Only where one was surely well when it opened.
        """
        for pod in self._judged(node, opened, lag):
            if pod.crashed(opened, judged):
                yield f"the selected agent on {node} crashed since its wave opened"
            since = pod.unready_since()
            if since is not None and since < judged:
                yield f"the selected agent on {node} is not Ready since {since:.0f} s"

    def unwell(self, node: str, opened: float, at: float, lag: float) -> Iterator[str]:
        """What a revert can't have ended well with at `at`."""
        judged = self._judged(node, opened, lag)
        for pod in judged:
            since = pod.unready_since()
            if since is not None and since < at - lag:
                yield f"the selected agent on {node} is not Ready since {since:.0f} s"
        gone = [pod.gone_at for pod in self._on(node) if pod.gone_at is not None]
        if not judged and self._was_judged(node, opened, lag) and max(gone) < at - lag:
            yield f"no selected agent is left on {node}"

    def _judged(self, node: str, opened: float, lag: float) -> list[OtherPod]:
        """Those that are there and were well then, or came later."""
        if not self._was_judged(node, opened, lag):
            return []
        since = opened - lag - LEDGER_SECONDS
        there = (pod for pod in self._on(node) if pod.gone_at is None)
        return [p for p in there if p.was_well(since, opened) or not p.was_there(opened)]

    def _was_judged(self, node: str, opened: float, lag: float) -> bool:
        since = opened - lag - LEDGER_SECONDS
        return any(pod.was_well(since, opened) for pod in self._on(node))

    def _on(self, node: str) -> list[OtherPod]:
        return [pod for pod in self.pods.values() if pod.node == node]
