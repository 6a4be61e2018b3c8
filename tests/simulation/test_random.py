"""Random stories, found by Hypothesis: whatever happens, each invariant holds and it comes to rest.

The seed is printed, and the same in each run of CI, which must not fail by luck.
`WAVEGATE_SEED=… python -m pytest tests/simulation/test_random.py` tells other stories;
WAVEGATE_STORIES is how many. `make soak` tells new ones for as long as you like.
"""

import os

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from simulation.chaos import Chaos
from simulation.deeds import BACKUPS, CARRIED, MACHINES, PEOPLE, TIME, WEATHER

SEED = int(os.environ.get("WAVEGATE_SEED") or 471280219)
STORIES = int(os.environ.get("WAVEGATE_STORIES") or 150)
STEPS = 30

PICK = st.integers(0, 999)
LAST: dict[str, Chaos] = {}
"""The story that was told last, for a failure's message."""


class Stories(RuleBasedStateMachine):
    """Deeds of everybody, in any order; the end of each is a rest."""

    def __init__(self) -> None:
        super().__init__()
        self.chaos: Chaos | None = None
        self.fresh = True

    @initialize(
        carrier=st.integers(0, 3),
        drill=st.integers(0, 2),
        prefetch=st.booleans(),
        default=st.integers(0, 3),
    )
    def it_begins(self, carrier, drill, prefetch, default) -> None:
        chaos = Chaos(
            SEED,
            carrier=carrier == 0,
            drill=drill == 0,
            prefetch=prefetch,
            default=default == 0,
        )
        self.chaos = LAST["story"] = chaos.__enter__()

    @precondition(lambda self: self.fresh)
    @rule()
    def a_release_is_stable(self) -> None:
        self.chaos.sim.publish("first", layers=["base", "first"])
        self.chaos.sim.until_phase("first", "Completed")
        self.fresh = False

    @rule(deed=st.sampled_from(TIME), pick=PICK)
    def time_goes_by(self, deed, pick) -> None:
        self._do(deed, pick)

    @rule(deed=st.sampled_from(MACHINES), pick=PICK)
    def a_machine_does(self, deed, pick) -> None:
        self._do(deed, pick)

    @rule(deed=st.sampled_from(PEOPLE), pick=PICK)
    def somebody_does(self, deed, pick) -> None:
        self._do(deed, pick)

    @precondition(lambda self: self.chaos is not None and self.chaos.carrier)
    @rule(deed=st.sampled_from(CARRIED), pick=PICK)
    def the_agent_of_someone_else_does(self, deed, pick) -> None:
        self._do(deed, pick)

    @rule(deed=st.sampled_from(WEATHER), pick=PICK)
    def operators_and_networks_do(self, deed, pick) -> None:
        self._do(deed, pick)

    @rule(deed=st.sampled_from(BACKUPS), pick=PICK)
    def a_backup_is_restored(self, deed, pick) -> None:
        self._do(deed, pick)

    def teardown(self) -> None:
        if self.chaos is None:
            return
        try:
            if not self.chaos.sim.broken:
                self.chaos.rest()
        finally:
            self.chaos.__exit__(None, None, None)

    def _do(self, deed, pick) -> None:
        self.fresh = False
        self.chaos.do(deed, pick)


def test_whatever_happens_every_invariant_holds_and_it_comes_to_rest(capsys) -> None:
    with capsys.disabled():
        print(f"\nWAVEGATE_SEED={SEED} WAVEGATE_STORIES={STORIES}")
    budget = settings(
        max_examples=STORIES,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        print_blob=True,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    try:
        run_state_machine_as_test(seed(SEED)(Stories), settings=budget)
    except AssertionError as error:
        error.add_note(f"WAVEGATE_SEED={SEED}\n{LAST['story'].story()}")
        raise
