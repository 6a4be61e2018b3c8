"""Records objects of our three kinds as the operator leaves them, by playing the golden stories.

    PYTHONPATH=operator:tests .venv/bin/python -m gitops.recording

One file for each difference that a health script or an action could see: kind, phase, reason, what
is waited for, state of the wave, whether there was an incident, whether the object is valid, and
whether the operator has seen its generation.
"""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from simulation.apiserver import Body, Change
from simulation.cluster import CHANNEL, SPACE, Simulation
from simulation.scenarios import SCENARIOS, Scenario
from simulation.story import Story
from simulation.telling import CHANNELS, DECISIONS, RELEASES
from simulation.test_stories import MODULES
from wavegate.rollout.names import HANDS_OFF_ANNOTATION

FOLDER = Path(__file__).parent / "recorded"
KINDS = {CHANNELS: "channel", DECISIONS: "decision", RELEASES: "release"}


def name_of(body: Body) -> str:
    """What the object shows, as a file's name; alike for objects that show the same."""
    status = body.get("status") or {}
    conditions = status.get("conditions") or []
    ready = next((c for c in conditions if c["type"] == "Ready"), {})
    words = [
        body["kind"].removeprefix("SecurityContent"),
        body["spec"].get("action"),
        status.get("phase"),
        status.get("reason") if body["kind"] != "SecurityContentDecision" else None,
        (status.get("wave") or {}).get("state"),
        ready.get("reason") if ready.get("status") == "False" else None,
        "rolling" if status.get("candidate") else None,
        "suspended" if body["spec"].get("suspend") else None,
        "unseen" if _is_unseen(body, status) else None,
    ]
    kept = list(dict.fromkeys(str(word) for word in words if word))
    return "-".join(re.sub(r"(?<=[a-z])(?=[A-Z])", "-", word).lower() for word in kept)


def _is_unseen(body: Body, status: Body) -> bool:
    if body["kind"] == "SecurityContentDecision":
        return not status
    return bool(status.get("observedGeneration") != body["metadata"].get("generation"))


class Recorder:
    """A watcher that keeps the first object of each name."""

    def __init__(self) -> None:
        self.found: dict[str, tuple[str, Any]] = {}
        self.story = ""

    def __call__(self, _: Simulation, change: Change) -> None:
        if change.plural in KINDS and change.after is not None:
            body = change.after
            # The enumerations in it become words.
            self.found.setdefault(name_of(body), (self.story, json.loads(json.dumps(body))))


def bad_bake(story: Story) -> None:
    """The first release fails its bake: nothing is there to go back to."""
    story.apply_channel()
    story.publish("bad")
    story.until_phase("bad", "Completed")
    story.run(3_600)
    story.crash(*story.moves[-2:])
    story.until("the bake to fail", lambda: story.status("bad")["reason"] == "BakeFailed", 600)


def not_in_order(story: Story) -> None:
    """Releases without a channel and suspended from the start; a channel that is hands-off."""
    story.publish("lost", channel="nobody")
    story.publish("later", suspend=True)
    story.run(30)
    channel = story.server.find(CHANNELS, CHANNEL, SPACE)
    assert channel is not None
    metadata = {**channel["metadata"], "annotations": {HANDS_OFF_ANNOTATION: "true"}}
    story.act(lambda: story.server.update("people", CHANNELS, channel, metadata=metadata))
    story.run(30)


def not_newer(story: Story) -> None:
    """Somebody publishes with a sequence that was tried before."""
    story.publish("late", sequence=1)
    story.until("it is passed over", lambda: story.status("late"))


MORE: dict[str, Callable[[], str]] = {
    "bad-bake": Scenario(bad_bake, {"before": ""}).tell,
    "not-newer": Scenario(not_newer, {}).tell,
    "not-in-order": Scenario(not_in_order, {}).tell,
}
"""What no golden story shows, and these scripts tell apart."""


def record() -> dict[str, tuple[str, Any]]:
    """Play all stories; returns by name the story and the object."""
    assert MODULES  # they fill SCENARIOS
    recorder, begin = Recorder(), Story.__init__

    def watched(self: Story, **more: Any) -> None:
        begin(self, **more)
        self.watchers.append(recorder)

    Story.__init__ = watched  # type: ignore[method-assign]
    try:
        for name, tell in ({n: s.tell for n, s in SCENARIOS.items()} | MORE).items():
            recorder.story = name
            tell()
    finally:
        Story.__init__ = begin  # type: ignore[method-assign]
    return recorder.found


def main() -> int:
    """Write the files anew."""
    found = record()
    for old in FOLDER.glob("*.yaml"):
        old.unlink()
    for name, (story, body) in sorted(found.items()):
        text = yaml.safe_dump(body, sort_keys=False, width=100)
        (FOLDER / f"{name}.yaml").write_text(f"# As the story {story} left it.\n{text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
