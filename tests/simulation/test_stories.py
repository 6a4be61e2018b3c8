"""Each scenario is run under all invariants and told; what is told must equal its golden file.

`WAVEGATE_WRITE_STORIES=1 pytest tests/simulation/test_stories.py` writes the files anew: read the
difference before you commit it. Times may shift a little; what is told, and its order, may not.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from simulation import (
    scenarios_agent,
    scenarios_bad,
    scenarios_carrier,
    scenarios_channels,
    scenarios_drill,
    scenarios_edits,
    scenarios_failure,
    scenarios_fetch,
    scenarios_forecast,
    scenarios_good,
    scenarios_layers,
    scenarios_leaving,
    scenarios_loaded,
    scenarios_people,
    scenarios_plan,
    scenarios_queue,
    scenarios_suspects,
    scenarios_workloads,
)
from simulation.scenarios import SCENARIOS

FOLDER = Path(__file__).parent / "stories"
WRITES = os.environ.get("WAVEGATE_WRITE_STORIES") == "1"
MODULES = (
    scenarios_fetch,
    scenarios_good,
    scenarios_bad,
    scenarios_people,
    scenarios_loaded,
    scenarios_layers,
    scenarios_leaving,
    scenarios_suspects,
    scenarios_carrier,
    scenarios_agent,
    scenarios_plan,
    scenarios_failure,
    scenarios_edits,
    scenarios_queue,
    scenarios_forecast,
    scenarios_drill,
    scenarios_workloads,
    scenarios_channels,
)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_story_is_told_as_in_its_golden_file(name) -> None:
    told, golden = SCENARIOS[name].tell(), FOLDER / f"{name}.txt"
    if WRITES:
        golden.write_text(told)
    expected = golden.read_text()
    assert without_times(told) == without_times(expected)
    for line, at, wanted in zip(told.splitlines(), times(told), times(expected), strict=True):
        assert at == pytest.approx(wanted, rel=0.1, abs=5.0), line


def test_the_list_of_stories_names_each_golden_file_and_no_other() -> None:
    text = (FOLDER / "README.md").read_text()
    listed = re.findall(r"^- \[([\w-]+)\]\(\1\.txt\): \S", text, re.MULTILINE)
    files = sorted(path.stem for path in FOLDER.glob("*.txt"))
    assert sorted(listed) == files == sorted(SCENARIOS)
    assert len(files) >= 24


@pytest.mark.parametrize("name", ["mass-crash-of-a-quarter"])
def test_a_story_does_not_depend_on_the_order_of_hashes(name) -> None:
    script = f"import simulation.test_stories as t; print(t.SCENARIOS[{name!r}].tell(), end='')"
    told = [
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert told[0] == told[1] == SCENARIOS[name].tell()


TIME = re.compile(r"^ *(\d[\d:]*)  ", re.MULTILINE)


def without_times(told: str) -> str:
    return TIME.sub("", told)


def times(told: str) -> list[float]:
    """Seconds of each line; a line without a time has 0."""
    found = [TIME.match(line) for line in told.splitlines()]
    return [seconds(match.group(1)) if match else 0.0 for match in found]


def seconds(text: str) -> float:
    total = 0.0
    for part in text.split(":"):
        total = total * 60 + int(part)
    return total
