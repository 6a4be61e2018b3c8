"""How often good content is failed and bad content is passed: `python -m bench.corroboration`.

Rollouts over N nodes with the default waves and soaks, step by step in 10 s, by the operator's own
rules of corroboration. Nodes die of themselves at the background's rate; content kills some of a
stratum (a fifth of the nodes), on average two minutes after it is loaded. A dead node is seen 50 s
later. Nothing is asserted; no control group, no bake.
"""

import random
import sys
from dataclasses import dataclass, field

from wavegate.evidence import SOON_SECONDS, is_corroborated

STEP, SETTLE, SEEN_AFTER, BRAKE = 10.0, 70.0, 50.0, 60.0
WAVES = ((0.0, 900.0), (0.05, 900.0), (0.25, 600.0), (0.5, 600.0), (1.0, 600.0))
"""Share of the nodes (0 = one node) and soak."""
STRATUM, DIES_AFTER = 0.2, 120.0


@dataclass(slots=True)
class Rollout:
    """One rollout. `rate`: of ordinary failures per node and hour; `kills`: share of the stratum;
    `two`: two nodes soon after loading are enough on any fleet.
    """

    nodes: int
    rate: float
    kills: float
    rng: random.Random
    two: bool = False
    now: float = 0.0
    moved: int = 0
    waves: list[list[float]] = field(default_factory=list)
    """Nodes that each wave moved, and when its last batch was."""
    deaths: list[tuple[float, int]] = field(default_factory=list)
    """When each is seen, and of which wave the node is."""
    harmed: int = 0
    soon: int = 0
    failed: str = ""

    def play(self) -> str:
        """Roll out; returns why it failed, or nothing."""
        for number, (share, soak) in enumerate(WAVES):
            self._wave(number, max(1, round(share * self.nodes)), soak)
            if self.failed:
                break
        return self.failed

    def _wave(self, number: int, up_to: int, soak: float) -> None:
        self.waves.append([0.0, self.now])
        good, quiet_until, restarted = 0.0, 0.0, False
        ready_at = self.now
        while good < soak and not self.failed:
            if self.moved < up_to and self.now >= max(ready_at, quiet_until):
                self._load(min(up_to - self.moved, max(1, self.moved), max(1, self.nodes // 20)))
                ready_at, good = self.now + SETTLE, 0.0
            elif self.moved >= up_to and self.now >= ready_at:
                good += STEP
            self.now += STEP
            if self._harm(number):
                quiet_until = self.now + BRAKE
                good, restarted = (good if restarted else 0.0), True

    def _load(self, count: int) -> None:
        self.moved += count
        self.waves[-1][0] += count
        self.waves[-1][1] = self.now
        wave = len(self.waves) - 1
        for _ in range(count):
            at = self.rng.expovariate(self.rate / 3_600.0)
            if self.kills and self.rng.random() < STRATUM * self.kills:
                at = min(at, self.rng.expovariate(1 / DIES_AFTER))
            if at < 36_000.0:
                self.deaths.append((self.now + at + SEEN_AFTER, wave))

    def _harm(self, number: int) -> bool:
        """Weigh what is seen dead by now; whether it was any."""
        seen = [death for death in self.deaths if death[0] <= self.now]
        if not seen:
            return False
        self.deaths = [death for death in self.deaths if death[0] > self.now]
        for at, wave in seen:
            self.harmed += 1
            self.soon += at - self.waves[wave][1] <= SOON_SECONDS
        exposed = sum(count * (self.now - last) for count, last in self.waves)
        if number == 0:
            self.failed = "first wave"
        elif self.two and self.soon > 1:
            self.failed = "two"
        elif self.harmed > 1 and is_corroborated(self.harmed, self.soon, self.moved, exposed):
            self.failed = "corroborated"
        return True


def main(runs: int) -> None:
    """Print a table of shares of failed rollouts, and of nodes that had the content then."""
    print(f"{runs} rollouts each; a stratum is {STRATUM:.0%} of the nodes")
    print("| Nodes | ordinary failures | kills of a stratum | failed | had it | failed by two |")
    print("|---|---|---|---|---|---|")
    for nodes in (40, 200, 1_000, 5_000):
        for rate in (0.0001, 0.001, 0.01):
            for kills in (0.0, 0.01, 0.05, 1.0):
                _compare(nodes, rate, kills, runs)


def _compare(nodes: int, rate: float, kills: float, runs: int) -> None:
    rng = random.Random(f"{nodes} {rate} {kills}")  # noqa: S311 (no secret)
    told = [Rollout(nodes, rate, kills, rng) for _ in range(runs)]
    had = sorted(one.moved for one in told if one.play())
    what = f"{had[len(had) // 2]}, {had[-1]}" if had else "-"
    strict = [Rollout(nodes, rate, kills, rng, two=True) for _ in range(runs)]
    both = [len(had), sum(bool(one.play()) for one in strict)]
    share, two = (f"{100 * count / runs:.1f} %" for count in both)
    row = (nodes, f"{rate * 100:g} %/h", f"{kills:.0%}", share, what, two)
    print("|", " | ".join(map(str, row)), "|", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000)
