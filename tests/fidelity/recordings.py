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


def difference(scenario: Scenario, trace: Trace) -> str:
    """What was seen against what was recorded, line by line; empty when they agree."""
    return compare(scenario.name, seen(scenario, trace))


def write(scenario: Scenario, trace: Trace, made: Mapping[str, Any]) -> None:
    """Record; `made` says how and when."""
    keep(scenario.name, scenario.play.__doc__ or "", seen(scenario, trace), made)


def compare(name: str, found: Mapping[str, Any]) -> str:
    """What was found against what is recorded under a name; empty when they agree."""
    recorded = json.loads(_path_of(name).read_text())["seen"]
    texts = [
        json.dumps(side, indent=1, ensure_ascii=False).splitlines() for side in (recorded, found)
    ]
    return "\n".join(difflib.unified_diff(*texts, "recorded", "seen", lineterm="", n=2))


def keep(name: str, story: str, found: Mapping[str, Any], made: Mapping[str, Any]) -> None:
    """Record under a name."""
    FOLDER.mkdir(exist_ok=True)
    body = {"scenario": name, "story": story.strip(), "made": dict(made), "seen": dict(found)}
    _path_of(name).write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n")


def _path_of(name: str) -> Path:
    return FOLDER / f"{name}.json"
