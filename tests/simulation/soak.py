"""`make soak`: random stories with fresh seeds for a given time (SECONDS, default 600).

`python -m simulation.soak --seed N` tells one again. Prints what was run, and what was asked.
"""

import argparse
import logging
import random
import sys
import time
import traceback
from collections import Counter

from simulation.chaos import Chaos
from simulation.deeds import BACKUPS, CARRIED, MACHINES, PEOPLE, TIME, WEATHER

STEPS = 40
CARRIERS = 0.3
"""So many of the stories are of a carrier, and of the agent that loads what it carries."""


def walk(
    seed: int, steps: int = STEPS, *, restores: bool = True, carrier: bool | None = None
) -> Chaos:
    """One random story of so many deeds, and its end. Raises AssertionError when it ends badly.
    `carrier`: whether our pods only carry the content; None = by the seed.
    """
    rng = random.Random(seed)  # noqa: S311
    kinds = (TIME, TIME, MACHINES, PEOPLE, WEATHER)
    if rng.random() < 0.3:  # some stories have good weather, so that bad releases get far
        kinds = (TIME, TIME, MACHINES, PEOPLE)
    if restores and rng.random() < 0.3:
        kinds = (*kinds, *kinds, BACKUPS)
    checks = rng.random() < 0.5
    carrier = rng.random() < CARRIERS if carrier is None else carrier
    if carrier:
        kinds = (*kinds, CARRIED)
    with Chaos(seed, checks=checks, carrier=carrier) as chaos:
        try:
            if rng.random() < 0.8:
                chaos.sim.publish("first", layers=["base", "first"])
                chaos.sim.until_phase("first", "Completed")
            for _ in range(steps):
                chaos.do(rng.choice(rng.choice(kinds)), rng.randrange(1000))
            chaos.rest()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}\n{chaos.story()}") from error
        return chaos


def main() -> int:
    """Run; returns 1 if any story ended badly."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--first", type=int, default=None, help="the first seed")
    parser.add_argument("--seed", type=int, default=None, help="tell only this story")
    parser.add_argument("--keep-going", action="store_true")
    parser.add_argument("--carrier", action="store_true", default=None, help="only of carriers")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    given = options.first if options.seed is None else options.seed
    first = random.SystemRandom().randrange(10**9) if given is None else given
    print(f"first seed {first}")
    begun, seed, failed = time.monotonic(), first, []
    asked: Counter[int] = Counter()
    deeds: Counter[str] = Counter()
    incidents: Counter[str] = Counter()
    changes, virtual, carriers = 0, 0.0, 0
    while True:
        try:
            chaos = walk(seed, carrier=options.carrier)
            asked.update(chaos.guard.counted)
            deeds.update(chaos.counted)
            incidents.update(str(reason) for _, reason in chaos.incidents)
            changes, virtual = changes + chaos.changes, virtual + chaos.sim.now
            carriers += chaos.carrier
        except Exception as error:  # noqa: BLE001 (the story is told, and the next one begins)
            failed.append(seed)
            print("".join(traceback.format_exception_only(error))[:6000])
            print(f"again: python -m simulation.soak --seed {seed}")
            if not options.keep_going:
                break
        seed += 1
        if options.seed is not None or time.monotonic() - begun > options.seconds:
            break
    print(
        f"{seed - first} stories ({carriers} of carriers), {deeds.total()} deeds, "
        f"{virtual / 3600:.1f} virtual hours, {changes} changes of the cluster checked, "
        f"in {time.monotonic() - begun:.0f} s"
    )
    print("asked, by invariant:", dict(sorted(asked.items())))
    print("deeds:", dict(deeds.most_common()))
    print("incidents:", dict(incidents.most_common()))
    print("failed seeds:", failed or "none")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
