"""The Argo CD pack, by the real argocd, over what the operator wrote in the golden stories.

`expected.txt` says of each recorded object which health it has and which actions are possible.
`WAVEGATE_WRITE_STORIES=1` writes it anew: read the difference.
"""

import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from gitops.overrides import Overrides
from gitops.pack import ACTIONS, PACK
from gitops.recording import FOLDER
from wavegate.api import Decision

EXPECTED = Path(__file__).with_name("expected.txt")
RECORDED = sorted(path.stem for path in FOLDER.glob("*.yaml"))
WRITES = os.environ.get("WAVEGATE_WRITE_STORIES") == "1"


@pytest.fixture
def overrides(argocd: Path, tmp_path: Path) -> Overrides:
    return Overrides(argocd, tmp_path)


def load(name: str) -> dict[str, Any]:
    body: dict[str, Any] = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    return body


@pytest.fixture(scope="module")
def asked(
    argocd: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[tuple[str, str], dict[str, bool]]]:
    """By name: health with its message, and the actions. Each question starts the program anew."""
    overrides = Overrides(argocd, tmp_path_factory.mktemp("argocd"))

    def ask(name: str) -> tuple[tuple[str, str], dict[str, bool]]:
        path = FOLDER / f"{name}.yaml"
        return overrides.health(path), overrides.actions(path)

    with ThreadPoolExecutor(4) as pool:
        return dict(zip(RECORDED, pool.map(ask, RECORDED), strict=True))


def test_each_recorded_object_has_the_health_and_the_actions_that_are_expected(asked) -> None:
    rows = []
    for name, ((health, _), possible) in asked.items():
        assert set(possible) == set(ACTIONS[load(name)["kind"]]), name
        rows.append(f"{name:62} {health:12}" + " ".join(a for a, on in possible.items() if on))
    told = "".join(f"{row.rstrip()}\n" for row in rows)
    if WRITES:
        EXPECTED.write_text(told)
    assert told == EXPECTED.read_text()
    assert len(rows) >= 90


def test_the_message_is_the_operators_own(asked) -> None:
    for name, ((_, message), _) in asked.items():
        body = load(name)
        status = body.get("status") or {}
        if name.endswith("unseen"):
            assert "has not looked at" in message
        elif body["kind"] == "SecurityContentChannel":
            assert status["conditions"][0]["message"] in message
        else:
            assert status["message"] in message
            assert status["phase"] in message


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("release-superseded", "release better is newer"),
        ("release-superseded-not-newer", "its sequence 1 is not higher than 1"),
    ],
)
def test_what_was_passed_over_troubles_nobody_and_says_that_it_is_not_rolled_out(
    asked, name: str, why: str
) -> None:
    """Old releases stay in Git: Degraded, they would keep their Application so for ever."""
    (health, message), _ = asked[name]
    assert health == "Healthy"
    assert f": it is not rolled out: {why}" in message


def test_a_message_says_which_wave_of_how_many(overrides: Overrides) -> None:
    _, message = overrides.health(FOLDER / "release-rolling-awaiting-approval.yaml")
    assert message.startswith("Rolling, AwaitingApproval, wave 2 of 2: Wave all (2): not open yet")


def test_what_can_be_done_now_creates_a_decision_that_the_api_knows(
    overrides: Overrides, asked
) -> None:
    made = set()
    for name, (_, actions) in asked.items():
        path, body = FOLDER / f"{name}.yaml", load(name)
        kind, status = body["kind"], body.get("status") or {}
        about = {
            "SecurityContentRelease": (body["metadata"]["name"], status.get("digest")),
            "SecurityContentDecision": (body["spec"].get("release"), body["spec"].get("digest")),
            "SecurityContentChannel": tuple(
                status.get("candidate", {}).get(key) for key in ("release", "digest")
            ),
        }
        # Once for each kind and action: the scripts take these fields whatever the phase is.
        for action in (a for a, on in actions.items() if on and (kind, a) not in made):
            made.add((kind, action))
            created = overrides.run(path, action, reason="the payments team asked")
            metadata, spec = created["metadata"], created["spec"]
            named = {**created, "metadata": {**metadata, "name": "a", "uid": "b"}}
            decision = Decision.model_validate(named)
            [owner] = metadata.pop("ownerReferences")
            assert owner["uid"] == body["metadata"]["uid"]
            assert metadata == {"generateName": f"argocd-{action}-", "namespace": "agents"}
            assert (spec["action"], spec["reason"]) == (
                action.capitalize(),
                "the payments team asked",
            )
            assert "decidedBy" not in spec  # the apiserver says who it was
            assert decision.spec.wave == (status["wave"]["name"] if action == "approve" else None)
            assert (spec["release"], spec["digest"]) == about[kind]
    assert made == {(kind, action) for kind, actions in ACTIONS.items() for action in actions}


IMPOSSIBLE = {
    ("release-rolling-wave-soaking-soaking", "approve"): "no wave of it waits",
    ("release-rolling-wave-soaking-soaking", "resume"): "not paused: it is Rolling",
    ("release-paused-suspended-moving-suspended", "resume"): r"no decision ends .*Suspended",
    ("release-paused-suspended-moving-suspended", "pause"): "it is Paused",
    ("release-reverted", "revert"): "it is Reverted",
    ("release-unseen", "approve"): "the operator has not looked",
    ("channel", "pause"): "nothing rolls out on this channel",
    ("channel-unseen", "revert"): "nothing rolls out on this channel",
    ("decision-approve-accepted", "resume"): "this is no pause",
    ("decision-pause-expired", "resume"): "not in force",
}


@pytest.mark.parametrize(("name", "action"), IMPOSSIBLE)
def test_what_cannot_be_done_now_is_refused_with_the_reason(
    overrides: Overrides, asked, name: str, action: str
) -> None:
    """Argo CD's server runs an action for a client that asks, disabled or not."""
    assert not asked[name][1][action]
    why = f"{action} makes no sense: .*{IMPOSSIBLE[name, action]}"
    with pytest.raises(AssertionError, match=why):
        overrides.run(FOLDER / f"{name}.yaml", action)


def test_a_click_without_words_still_gives_a_reason(overrides: Overrides) -> None:
    path = FOLDER / "release-rolling-awaiting-approval.yaml"
    for parameters in ({}, {"reason": ""}):
        assert "Argo CD" in overrides.run(path, "approve", **parameters)["spec"]["reason"]


@pytest.mark.parametrize(
    "name",
    ["channel-rolling", "decision-pause-accepted", "release-rolling-awaiting-approval"],
)
def test_no_missing_field_breaks_a_script(overrides: Overrides, tmp_path: Path, name: str) -> None:
    """Without status, with an empty one, and without each of its fields in turn."""

    def ask(numbered: tuple[int, dict[str, Any]]) -> None:
        path = tmp_path / f"{numbered[0]}.yaml"
        path.write_text(yaml.safe_dump(numbered[1]))
        health, _ = overrides.health(path)
        assert health in ("Healthy", "Progressing", "Suspended"), numbered[1]
        overrides.actions(path)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, enumerate(less(load(name)))))


def less(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The object without status, with an empty one, and without each of its fields in turn."""
    status = body["status"]
    changes: list[dict[str, Any]] = [{}, *(without(status, key) for key in status)]
    for key, value in status.items():
        if isinstance(value, dict):
            changes += [{**status, key: without(value, inner)} for inner in value]
        if isinstance(value, list) and value and isinstance(value[0], dict):
            changes += [{**status, key: [without(value[0], inner)]} for inner in value[0]]
    return [without(body, "status"), *({**body, "status": change} for change in changes)]


def without(mapping: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in mapping.items() if name != key}


def test_a_generation_that_the_operator_has_not_seen_is_progressing(
    overrides: Overrides, tmp_path: Path
) -> None:
    """Else a sync would go on, or a hook run, on what was said of the object before."""
    path = tmp_path / "object.yaml"
    for name in ("release-completed", "release-reverted", "channel", "channel-breaker-open"):
        body = load(name)
        body["metadata"]["generation"] += 1
        path.write_text(yaml.safe_dump(body))
        assert overrides.health(path)[0] == "Progressing"


@pytest.fixture
def compared(argocd: Path, tmp_path: Path) -> Overrides:
    """Says which fields are passed over. argocd 3.6.1's own command for updates finds no rule at
    all, so they are shown to its neighbour; status, which that ignores whole, is switched on.
    """
    config_map = yaml.safe_load((PACK / "argocd-cm.yaml").read_text())
    data = config_map["data"]
    data["resource.compareoptions"] = "ignoreResourceStatusField: none\n"
    for key in [key for key in data if ".ignoreResourceUpdates." in key]:
        data[key.replace("ignoreResourceUpdates", "ignoreDifferences")] = data.pop(key)
    path = tmp_path / "cm.yaml"
    path.write_text(yaml.safe_dump(config_map))
    return Overrides(argocd, tmp_path, path)


PASSED_OVER = {
    "release-rolling-wave-soaking-soaking": ["breakGlass", "gates", "nodes", "wave", "waves"],
    "channel": ["nodes", "plan"],
    "decision-pause-accepted": ["decidedBy"],
}


@pytest.mark.parametrize("name", PASSED_OVER)
def test_counts_refresh_no_application_and_who_decided_is_no_difference(
    compared: Overrides, name: str
) -> None:
    said = compared.ask("ignore-differences", FOLDER / f"{name}.yaml")
    assert re.findall(r"^<   (\w+):", said, re.MULTILINE) == PASSED_OVER[name]


AGENT = f"sha256:{'a' * 64}"
FAILED = {"type": "AgentCurrent", "status": "False", "reason": "AgentTemplateFailed"}


@pytest.mark.parametrize(
    ("health", "agent", "conditions"),
    [
        ("Progressing", {"phase": "Rolling", "message": "wave 1"}, []),
        ("Suspended", {"phase": "Rolling", "waitingFor": "Person"}, []),
        ("Suspended", {"phase": "Paused"}, []),
        ("Degraded", {"phase": "Paused", "incident": {"reason": "AgentRestarted"}}, []),
        ("Degraded", {"phase": "Reverting", "incident": {"reason": "AgentRestarted"}}, []),
        ("Degraded", {"phase": "Reverted"}, [FAILED]),
        ("Healthy", {"phase": "Completed"}, []),
    ],
)
def test_a_change_of_the_agent_is_seen_at_its_channel(
    overrides: Overrides, tmp_path: Path, health, agent, conditions
) -> None:
    """It has no release: without this a new agent that was taken back would be Healthy."""
    body = load("channel-rolling")
    body["status"]["agentRollout"] = agent
    body["status"]["conditions"] += conditions
    path = tmp_path / "channel.yaml"
    path.write_text(yaml.safe_dump(body))
    assert overrides.health(path)[0] == health


def test_an_action_on_a_channel_names_a_change_of_the_agent_as_decisions_do(
    overrides: Overrides, tmp_path: Path
) -> None:
    body = load("channel-rolling")
    body["status"]["candidate"] |= {"kind": "Agent", "agent": AGENT}
    path = tmp_path / "channel.yaml"
    path.write_text(yaml.safe_dump(body))
    assert overrides.run(path, "revert")["spec"]["digest"] == AGENT


@pytest.mark.parametrize(
    ("status", "health"),
    [
        (None, "Progressing"),
        ({}, "Progressing"),
        ({"phase": "Thawing", "reason": "New"}, "Progressing"),
        ({"phase": "Thawing", "waitingFor": "Person"}, "Suspended"),
        ({"phase": "Rolling", "message": "x" * 32_768}, "Progressing"),
        ({"phase": "Completed", "wave": {}, "conditions": []}, "Healthy"),
    ],
)
def test_a_release_s_status_that_is_odd_is_no_error(
    overrides: Overrides, tmp_path: Path, status, health
) -> None:
    """As from a newer operator, or one that has not come to it yet."""
    body = load("release-completed")
    seen = {"observedGeneration": body["metadata"]["generation"]}
    body["status"] = status and seen | status
    path = tmp_path / "release.yaml"
    path.write_text(yaml.safe_dump(body))
    assert overrides.health(path)[0] == health
    assert set(overrides.actions(path)) == set(ACTIONS["SecurityContentRelease"])
