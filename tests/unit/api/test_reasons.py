"""The one list of reasons."""

import re
from enum import StrEnum

import pytest

from wavegate.api import DecisionPhase, Phase, Reason, WaitingFor, WaveState


@pytest.mark.parametrize("reason", Reason)
def test_a_reason_is_one_word_and_means_one_sentence(reason):
    assert re.fullmatch(r"[A-Z][A-Za-z]+", reason)
    assert re.fullmatch(r"[A-Z`].{20,}[^.]\.", reason.meaning)
    assert ". " not in reason.meaning


def test_no_two_reasons_mean_the_same():
    assert len({reason.meaning for reason in Reason}) == len(Reason)


@pytest.mark.parametrize("vocabulary", [Reason, Phase, WaveState, WaitingFor, DecisionPhase])
def test_a_word_seen_in_a_cluster_is_the_word_in_the_code(vocabulary: type[StrEnum]):
    assert all(member.name == member.value == str(member) for member in vocabulary)
    # Else a member would be an alias and vanish from the documented list.
    assert len(vocabulary.__members__) == len(vocabulary)


def test_only_phases_that_never_move_a_node_again_are_final():
    assert {phase for phase in Phase if phase.is_final} == {
        Phase.Completed,
        Phase.Reverted,
        Phase.Rejected,
        Phase.Superseded,
    }
