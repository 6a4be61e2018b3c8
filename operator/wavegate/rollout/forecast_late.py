"""Of the plan that is shown: which nodes come later, as a critical workload runs on them."""

from collections.abc import Iterable, Iterator

from wavegate.evidence import NodeView
from wavegate.rollout import workloads
from wavegate.rollout.attempt import Rollout
from wavegate.rollout.observation import Observation
from wavegate.rollout.wording import some

MAX_LINES = 4
"""So many causes are told one by one."""


class Late:
    """Collects, wave by wave, who would have been taken and was not."""

    def __init__(self) -> None:
        self._left: dict[str, tuple[str, str]] = {}
        """By node: the workload that kept it out of a wave for the first time, and that wave."""
        self._came: dict[str, str] = {}
        """By node: the wave that took it in the end."""

    def note(self, wave: str, left_out: Iterable[tuple[str, str]]) -> None:
        """A wave would have taken these nodes if these workloads did not run on them."""
        for name, workload in left_out:
            self._left.setdefault(name, (workload, wave))

    def came(self, wave: str, chosen: Iterable[NodeView]) -> None:
        """A wave took these."""
        self._came |= {node.name: wave for node in chosen if node.name in self._left}

    @property
    def swept(self) -> int:
        """How many of them no wave took."""
        return len(self._left.keys() - self._came.keys())

    def told(self, obs: Observation) -> Iterator[str]:
        """Who comes later, than which wave, when, and why: one line for each, most nodes first."""
        lines: dict[tuple[str, str, str], list[str]] = {}
        for name, (workload, wave) in self._left.items():
            lines.setdefault((workload, wave, self._came.get(name, "")), []).append(name)
        largest = sorted(lines.items(), key=lambda line: -len(line[1]))
        for (workload, wave, came), names in largest[:MAX_LINES]:
            then = f"in wave {came}" if came else "in a sweep after the waves"
            why = workloads.describe(obs, workload)
            yield f"{why}, so it comes {then}, not in {wave}: {some(sorted(names))}"
        more = sum(len(names) for _, names in largest[MAX_LINES:])
        if more:
            yield f"{more} more come later because of critical workloads"


def workloads_unseen(obs: Observation, rollout: Rollout) -> Iterator[str]:
    """What is not known of critical workloads, so that the plan may be another."""
    if obs.critical.error:
        yield "it can't be read where critical workloads run: no wave would open (WorkloadsUnseen)"
    elif obs.critical.services != workloads.services(rollout.plan):
        yield "it was not read yet where critical workloads run: their nodes may come later"
