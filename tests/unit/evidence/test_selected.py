"""Selected agents: what the ledger keeps of them, and what is news since then."""

from dataclasses import replace

import pytest

from support.builders import SPACE
from wavegate.evidence import LedgerNode, PodView, agents_since, agents_then, is_well
from wavegate.evidence.selected import MAX_PODS, UNWELL

POD = PodView("edr-1", SPACE, "one", "", "", "n", "Running", True, 0.0, False, 3)
UNREADY = replace(POD, ready=False, ready_since=None, unready_since=0.0)


def entry(*pods):
    return LedgerNode("n", "u", "b", healthy=True, agents=agents_then(pods))


def others(count, **changes):
    return [replace(POD, uid=f"x{n}", **changes) for n in range(count)]


@pytest.mark.parametrize(
    "pods",
    [
        [],
        [UNREADY],
        [replace(POD, terminating=True)],
        others(MAX_PODS + 1),
    ],
    ids=["none", "not ready", "going", "more than an agent has"],
)
def test_a_node_on_which_none_was_well_is_not_judged(pods):
    assert agents_then(pods) == ()
    assert agents_since(entry(*pods), [replace(POD, restarts=99)]) == []
    assert is_well(entry(*pods), [])


@pytest.mark.parametrize(
    ("now", "restarts"),
    [
        ([POD], [0]),
        ([replace(POD, restarts=5)], [2]),
        ([replace(POD, restarts=1)], [0]),
        ([replace(POD, uid="newer", restarts=5)], [5]),
        ([replace(POD, terminating=True), replace(POD, uid="newer", restarts=0)], [0]),
        ([replace(POD, terminating=True)], []),
        ([replace(POD, phase="Succeeded")], []),
    ],
)
def test_restarts_count_from_when_the_wave_opened(now, restarts):
    since = agents_since(entry(POD), now)
    assert [pod.restarts for pod in since] == restarts
    assert is_well(entry(POD), now) == (restarts == [0])


def test_a_pod_that_was_unwell_is_not_judged_beside_one_that_was_well():
    ill = replace(UNREADY, uid="ill")
    known = entry(POD, ill)
    assert {count for _, count in known.agents} == {3, UNWELL}
    assert agents_since(known, [POD, replace(ill, restarts=9)]) == [replace(POD, restarts=0)]
    assert not is_well(known, [UNREADY])


def test_jobs_that_are_done_are_no_agents():
    assert agents_then([POD, *others(9, phase="Succeeded", ready=False)]) == agents_then([POD])
