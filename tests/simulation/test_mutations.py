"""For each invariant one deliberate bug that makes its test red; without the bug it is green.

The bugs exist here only: each replaces a function of the operator while one run is played.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import pytest

from simulation import bugs_of_judging as judging
from simulation import bugs_of_moving as moving
from simulation import plays, plays_of_turns, promises, scenarios, scenarios_layers
from simulation.cluster import Simulation
from simulation.invariants import CHECKS, OWED, BrokenInvariant

Bug = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True, slots=True)
class Mutation:
    """A bug, the run that shows it, and the numbers of the invariants: DESIGN's, and reported."""

    number: int
    bug: Bug
    run: Callable[[], None]
    reported: int = 0

    def __str__(self) -> str:
        return f"{self.number}-{self.bug.__name__}"


@cache
def on(play: Callable[[Simulation], None]) -> Callable[[], None]:
    """A run under the Guard; of each play there is one."""

    def run() -> None:
        promises.guarded(play)

    run.__name__ = play.__name__
    return run


@cache
def paused(hold: str) -> Callable[[], None]:
    def run() -> None:
        promises.a_pause_never_stops_reverting(hold)

    run.__name__ = hold
    return run


MUTATIONS = (
    Mutation(1, moving.moves_one_more, on(plays.good)),
    Mutation(2, moving.opens_the_next_wave_early, on(plays.good)),
    Mutation(2, moving.begins_without_a_proof, on(plays.good)),
    Mutation(2, moving.follows_the_channel, on(plays.edited)),
    Mutation(2, moving.soaks_without_its_drill, on(plays.drilled)),
    Mutation(2, moving.does_not_look_at_what_went_back, on(plays.drilled)),
    Mutation(2, moving.drills_when_all_are_moved, on(plays.one_of_three_drilled)),
    Mutation(2, moving.drills_in_the_plans_first_wave_only, on(plays.drilled_after_an_empty_wave)),
    Mutation(3, moving.moves_all_at_once, on(plays.good)),
    Mutation(3, moving.takes_a_stratum_at_once, on(plays.kinds)),
    Mutation(3, moving.takes_the_control_plane_along, on(plays.kinds)),
    Mutation(3, moving.takes_all_of_a_workload, on(plays.dns_on_two)),
    *(Mutation(3, bug, on(play)) for bug, play in plays_of_turns.BUGS),
    Mutation(
        3, moving.takes_the_past_for_a_persons_deed, promises.two_leaders_move_no_more_than_one
    ),
    Mutation(4, moving.looks_at_the_block_list_at_the_start_only, on(plays.blocked)),
    Mutation(4, moving.blocks_the_digest_only, on(plays.rebuilt)),
    Mutation(4, moving.blocks_no_layers, on(plays.rebuilt_of_its_layers)),
    Mutation(4, moving.starts_without_layers, on(plays.layer_blocked_under_way)),
    Mutation(4, judging.moves_on_after_a_fail, on(plays.bad)),
    Mutation(4, moving.pulls_while_it_moves, on(plays.pulled_ahead)),
    Mutation(4, moving.starts_in_the_cool_down, on(plays.bad_then_good)),
    Mutation(4, moving.has_no_breaker, on(plays.bad_twice)),
    Mutation(4, judging.goes_on_without_a_stratum, on(plays.bad_on_one_kernel)),
    Mutation(5, judging.waits_for_nodes_before_it_fences, promises.a_fence_costs_two_writes),
    Mutation(6, judging.passes_on_time_alone, on(plays.dead_in_the_soak)),
    Mutation(6, judging.believes_in_stable, on(plays.bad_on_stable_too)),
    Mutation(6, judging.passes_on_nothing, on(plays.canary_drained)),
    Mutation(6, moving.takes_a_name_for_a_machine, promises.a_wave_never_passes_on_a_name),
    Mutation(
        6,
        judging.takes_a_crash_on_a_cordoned_node_for_its_reboot,
        on(plays.crash_on_a_cordoned_canary),
    ),
    Mutation(6, judging.passes_while_a_bootid_is_awaited, on(plays.crash_on_a_cordoned_canary)),
    Mutation(6, judging.believes_without_a_report, on(plays.silent_agent)),
    Mutation(6, judging.looks_at_its_own_pods_only, on(plays.carried_to_a_crash)),
    Mutation(6, judging.ends_a_revert_by_its_own_pods, on(plays.carried_to_a_crash_loop)),
    Mutation(
        6,
        judging.forgets_who_was_well_before_it_was_tried_again,
        on(plays.taken_back_while_one_is_dead),
    ),
    Mutation(8, judging.forgets_a_half_done_revert, promises.kills_change_nothing),
    Mutation(9, moving.cordons_what_it_moves, on(plays.good)),
    Mutation(10, moving.rolls_pods_on_template_changes, on(plays.good)),
    Mutation(11, moving.gives_a_release_the_new_agent, on(plays.release_after_a_bad_agent)),
    Mutation(11, moving.pulls_by_what_runs, on(plays.pulled_ahead)),
    Mutation(11, moving.pulls_on_all_at_once, on(plays.pulled_ahead)),
    Mutation(11, moving.leaves_the_anti_affinity_out, on(plays.good)),
    Mutation(12, moving.says_the_same_again, promises.a_quiet_cluster_gets_no_writes),
    Mutation(13, moving.forgets_other_channels, on(plays.two_channels)),
    Mutation(14, moving.fails_each_drill, on(plays.drilled)),
    Mutation(14, moving.gives_a_start_up_without_a_word, on(plays.given_up)),
    Mutation(14, judging.forgets_the_harm_before_a_decision, on(plays.taken_back_in_a_pause)),
    Mutation(14, judging.keeps_the_reason_to_itself, on(plays.bad)),
    Mutation(15, moving.forgets_unlabelled_nodes, promises.without_the_operator_all_stays),
    Mutation(16, moving.points_stable_at_the_candidates_nodes, on(plays.good)),
    Mutation(
        16,
        judging.leaves_it_where_it_cannot_start,
        promises.what_cannot_be_fetched_leaves_no_node_bare,
    ),
    Mutation(17, judging.believes_one_node, on(plays.one_liar)),
    Mutation(
        17, judging.blames_what_never_ran, promises.what_cannot_be_fetched_leaves_no_node_bare
    ),
    Mutation(18, judging.undoes_a_fence_of_people, on(plays.fenced_by_hand)),
    Mutation(19, moving.waits_for_another_channel_for_ever, promises.a_circle_of_channels_ends),
    Mutation(19, moving.claims_before_it_has_chosen, promises.a_circle_of_channels_ends),
    *(Mutation(19, judging.pauses_before_it_looks, paused(hold)) for hold in promises.HOLDS),
    Mutation(19, moving.replaces_whatever_runs, on(plays.newer_in_the_second_wave)),
    Mutation(19, moving.replaces_again_and_again, on(plays.newer_each_moment)),
    Mutation(19, moving.replaces_an_agent, on(plays.newer_than_an_agent)),
    Mutation(20, moving.takes_the_agent_along, on(plays.channel_deleted), reported=16),
)
RUNS = tuple(dict.fromkeys(mutation.run for mutation in MUTATIONS))


@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_a_bug_makes_the_test_of_its_invariant_red(mutation, monkeypatch) -> None:
    mutation.bug(monkeypatch)
    with pytest.raises(BrokenInvariant) as broken:
        mutation.run()
    assert broken.value.number == (mutation.reported or mutation.number)


def test_what_blocks_too_much_is_caught_by_the_story_of_the_repair(monkeypatch) -> None:
    """No invariant says that content must be let in, so a story does."""
    moving.blocks_the_base_too(monkeypatch)
    with pytest.raises(AssertionError, match="repaired"):
        scenarios.SCENARIOS[scenarios_layers.blocked_layer.__name__.replace("_", "-")].tell()


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.__name__)
def test_without_a_bug_each_of_these_runs_is_green(run) -> None:
    run()


def test_a_fence_costs_as_much_for_thirty_nodes_as_for_six() -> None:
    promises.a_fence_costs_two_writes(30)


def test_each_invariant_of_the_design_has_a_bug_or_is_owed() -> None:
    shown = {mutation.number for mutation in MUTATIONS}
    assert shown | set(OWED) == set(range(1, 21))
    assert {number for number, _ in CHECKS} <= shown
