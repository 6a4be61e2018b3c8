"""The table of scenarios: a function's name is the story's, its docstring what it is about."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from simulation.story import Story

Plot = Callable[[Story], None]


@dataclass(frozen=True, slots=True)
class Scenario:
    """One named story; `given` are the arguments of its Story."""

    plot: Plot
    given: dict[str, Any]

    @property
    def name(self) -> str:
        """As its golden file is called."""
        return self.plot.__name__.replace("_", "-")

    @property
    def about(self) -> str:
        """The docstring: one line, then what happens and why it matters."""
        lines = (self.plot.__doc__ or "").strip().splitlines()
        return "\n".join(line.strip() for line in lines)

    def tell(self) -> str:
        """Run it, under all invariants, and return its text."""
        with Story(**self.given) as story:
            self.plot(story)
        return "\n".join([self.about, "", *story.teller.text()]) + "\n"


SCENARIOS: dict[str, Scenario] = {}


def scenario(**given: Any) -> Callable[[Plot], Plot]:
    """Add a function to the table."""

    def add(plot: Plot) -> Plot:
        made = Scenario(plot, given)
        SCENARIOS[made.name] = made
        return plot

    return add
