"""Deliberate bugs about people's decisions, each of which a story catches."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from simulation import scenarios_people  # noqa: F401 (it fills the table)
from simulation.scenarios import SCENARIOS
from wavegate.rollout import decisions


def obeys_anybody(patch: pytest.MonkeyPatch) -> None:
    """What loosens is obeyed though nothing proves who decided."""
    patch.setattr(decisions, "_unproven", lambda *_: None)


def notes_and_forgets(patch: pytest.MonkeyPatch) -> None:
    """A decision is noted, and what it changes is left as it was."""
    carry_out = decisions.carry_out

    def lazy(obs, now):
        record = carry_out(obs, now)
        noted = record.decisions if record is not obs.record else None
        return obs.record if noted is None else replace(obs.record, decisions=noted)

    patch.setattr(decisions, "carry_out", lazy)


@pytest.mark.parametrize(
    ("bug", "story"),
    [(obeys_anybody, "resumed-by-nobody"), (notes_and_forgets, "unblocked-by-a-decision")],
)
def test_a_story_catches_the_bug(
    bug: Callable[[pytest.MonkeyPatch], None], story: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bug(monkeypatch)
    with pytest.raises(AssertionError):
        SCENARIOS[story].tell()
