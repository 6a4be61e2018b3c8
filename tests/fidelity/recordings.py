"""What was seen on the sandbox: tests/simulation/recordings, one small file a scenario."""

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fidelity import orders
from fidelity.scenarios import Scenario
from fidelity.trace import Trace

FOLDER = Path(__file__).parents[1] / "simulation" / "recordings"


def seen(scenario: Scenario, trace: Trace) -> dict[str, Any]:
    """What is recorded and compared. Raises WrongOrderError when causality was broken."""
    asked = orders.check(trace)
    orders_seen = [name for name, count in asked.items() if count]
    text = json.dumps({**trace.observable(), "orders": orders_seen})
    if scenario.alike:
        first, second = scenario.alike
        text = text.replace(second, first).replace(first, f"{first} or {second}")
    found: dict[str, Any] = json.loads(text)
    return found


def path_of(scenario: Scenario) -> Path:
    """The file of a scenario."""
    return FOLDER / f"{scenario.name}.json"


def read(scenario: Scenario) -> dict[str, Any]:
    """What was recorded."""
    found: dict[str, Any] = json.loads(path_of(scenario).read_text())
    return dict(found["seen"])


def difference(scenario: Scenario, trace: Trace) -> str:
    """What was seen against what was recorded, line by line; empty when they agree."""
    texts = [
        json.dumps(found, indent=1, ensure_ascii=False).splitlines()
        for found in (read(scenario), seen(scenario, trace))
    ]
    return "\n".join(difflib.unified_diff(*texts, "recorded", "seen", lineterm="", n=2))


def write(scenario: Scenario, trace: Trace, made: Mapping[str, Any]) -> None:
    """Record; `made` says how and when."""
    FOLDER.mkdir(exist_ok=True)
    body = {
        "scenario": scenario.name,
        "story": (scenario.play.__doc__ or "").strip(),
        "made": dict(made),
        "seen": seen(scenario, trace),
    }
    path_of(scenario).write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n")
