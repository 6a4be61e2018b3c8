"""Killed after every single write, the operator ends where an undisturbed one does."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support import mortal_operator
from support.operator_process import OperatorProcess
from support.story import FINAL, Story, digest
from wavegate_sandbox.cluster import Sandbox
from wavegate_sandbox.faults import AgentCrashLoop, Faults

PATIENCE = 240.0


class Mortal:
    """An operator that begins a new life each time it is dead. `lives` counts them."""

    def __init__(self, process: OperatorProcess, sandbox: Sandbox) -> None:
        self._process, self._sandbox = process, sandbox

    @property
    def lives(self) -> int:
        """How many lives have begun."""
        return self._process.log_path.read_text().count(mortal_operator.A_LIFE_BEGINS)

    def until_final(self, story: Story, release: str) -> str:
        """Wait until the release has ended; returns the phase."""

        def ended() -> str | None:
            assert self._process.running, self._process.log_tail()
            phase = story.status(release).get("phase")
            return phase if phase in FINAL else None

        found = self._sandbox.wait_for(f"{release} to end", ended, PATIENCE)
        assert found is not None
        return found


@pytest.fixture(scope="module")
def mortal(
    sandbox: Sandbox,
    crds: None,
    pace: dict[str, str],
    report_settings: Callable[[str, dict[str, str]], None],
) -> Iterator[Mortal]:
    process = OperatorProcess.from_chart(sandbox, "wavegate-mortal", pace)
    report_settings("operator of tests/e2e/test_kill.py", process.env_differences)
    process.argv = (process.argv[0], str(Path(mortal_operator.__file__)), *process.argv[3:])
    with process:
        yield Mortal(process, sandbox)


def test_good_and_bad_releases_end_as_without_kills(
    mortal: Mortal, story: Story, sandbox: Sandbox
) -> None:
    story.begin()
    for good in ("a", "b"):
        story.publish(good)
        assert mortal.until_final(story, good) == "Completed"
        assert [wave["nodes"] for wave in story.status(good)["waves"]] == [1, 3]
    story.until_agents("all run the second", story.everywhere("b"))
    assert mortal.lives > 20

    with Faults(sandbox, {digest("mortal-bad"): AgentCrashLoop(every_seconds=1)}) as faults:
        story.publish("bad", letter="mortal-bad")
        assert mortal.until_final(story, "bad") == "Reverted"
        exposed = {event.node for event in faults.timeline if event.kind == "loaded"}
    assert len(exposed) == 1
    story.until_agents("all are back", story.everywhere("b"))
    blocked = story.channel_status()["blocked"]
    assert [entry["digest"] for entry in blocked] == [digest("mortal-bad")]
