"""The Argo CD pack without Argo CD: its forms are what its Lua files make, and those are plain."""

import os
import re

import pytest
import yaml

from gitops.pack import ACTIONS, LUA, PACK, files
from support.chart import REPOSITORY
from wavegate.api import DecisionPhase, Phase, Reason

WRITE = bool(os.environ.get("WAVEGATE_WRITE_RENDERS"))
RECORDED = REPOSITORY / "tests/gitops/recorded"
SCRIPTS = sorted(LUA.rglob("*.lua"))


@pytest.mark.parametrize("name", files())
def test_a_form_is_what_the_lua_files_make(name: str) -> None:
    if WRITE:
        (PACK / name).write_text(files()[name])
    assert (PACK / name).read_text() == files()[name], "run `make renders`, read the diff"


def test_both_forms_say_the_same() -> None:
    patch, values = (yaml.safe_load(files()[name]) for name in ("argocd-cm.yaml", "values.yaml"))
    assert patch["data"] == values["configs"]["cm"]
    assert patch["metadata"]["labels"]["app.kubernetes.io/part-of"] == "argocd"  # else not read
    rbac = yaml.safe_load(files()["argocd-rbac-cm.yaml"])
    assert rbac["data"] == values["configs"]["rbac"]


@pytest.mark.parametrize("path", SCRIPTS, ids=str)
def test_a_script_uses_only_what_argo_cd_has_for_it(path) -> None:
    """In argocd-cm there are base and table: string, math, io and the like are nil there."""
    code = re.sub(r"--.*|\"[^\"]*\"", "", path.read_text())
    assert not re.search(r"\b(string|math|io|os|debug|require|print)\b|:\w+\(", code)


def test_each_phase_was_recorded_and_each_recorded_reason_is_still_one() -> None:
    """Who adds a phase gives it a health, and records it (gitops/recording.py)."""
    bodies = [yaml.safe_load(path.read_text()) for path in RECORDED.glob("*.yaml")]
    for kind, phases in {"Release": Phase, "Decision": DecisionPhase}.items():
        found = {
            (body.get("status") or {}).get("phase")
            for body in bodies
            if body["kind"] == f"SecurityContent{kind}"
        }
        assert found - {None} == {phase.value for phase in phases}
    reasons = {(body.get("status") or {}).get("reason") for body in bodies} - {None}
    assert reasons <= {reason.value for reason in Reason}


def test_each_action_of_each_kind_may_be_granted_by_name() -> None:
    policy = (PACK / "policy.csv").read_text()
    for kind, actions in ACTIONS.items():
        for action in actions:
            assert f"action/wavegate.dev/{kind}/{action}, */*, allow\n" in policy
