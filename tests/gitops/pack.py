"""Puts the Argo CD pack together: its Lua files become an argocd-cm patch and values for argo-helm.

Lua in argocd-cm can't share code between scripts, so each one that an action needs is: what its
kind can do (`actions.lua`), what all kinds do alike (`decide.lua`), and one line that calls it.
"""

import re
from typing import Any

import yaml

from support.chart import REPOSITORY

PACK = REPOSITORY / "examples/gitops/argocd"
LUA = PACK / "lua"
ACTIONS = {
    "SecurityContentChannel": ("pause", "revert"),
    "SecurityContentDecision": ("resume",),
    "SecurityContentRelease": ("approve", "pause", "resume", "revert"),
}
"""The three kinds, and the actions of each."""

HEAD = """\
# Made from examples/gitops/argocd/lua by `make renders`: edit there.
"""
_UPDATES = {
    # Counts that change with each node. Health comes from phase, reason and message, which stay.
    "SecurityContentRelease": ["gates", "nodes", "suspects", "wave", "waves", "breakGlass"],
    "SecurityContentChannel": ["nodes", "plan", "breakGlass"],
}
_FILLED_IN = ["/spec/decidedBy"]
"""What an admission policy writes into a decision."""


class _Text(str):
    """Written as a YAML block."""

    __slots__ = ()


def _block(dumper: yaml.SafeDumper, text: _Text) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style="|")


yaml.SafeDumper.add_representer(_Text, _block)


def customizations() -> dict[str, str]:
    """The keys for argocd-cm."""
    made: dict[str, str] = {}
    for kind, actions in ACTIONS.items():
        name = f"wavegate.dev_{kind}"
        made[f"resource.customizations.health.{name}"] = _Text(_lua(f"{kind}/health.lua"))
        made[f"resource.customizations.actions.{name}"] = _dump(_actions(kind, actions))
        if kind in _UPDATES:
            ignored = {"jsonPointers": [f"/status/{field}" for field in _UPDATES[kind]]}
            made[f"resource.customizations.ignoreResourceUpdates.{name}"] = _dump(ignored)
        if kind == "SecurityContentDecision":
            ignored = {"jsonPointers": _FILLED_IN}
            made[f"resource.customizations.ignoreDifferences.{name}"] = _dump(ignored)
    return made


def roles() -> str:
    """The policy lines for argocd-rbac-cm."""
    return (PACK / "policy.csv").read_text()


def files() -> dict[str, str]:
    """What is made: the name of each file → its text."""
    config_map: dict[str, Any] = {"apiVersion": "v1", "kind": "ConfigMap"}
    labels = {"app.kubernetes.io/name": "argocd-cm", "app.kubernetes.io/part-of": "argocd"}
    metadata = {"name": "argocd-cm", "namespace": "argocd", "labels": labels}
    rbac_labels = {**labels, "app.kubernetes.io/name": "argocd-rbac-cm"}
    rbac = {**metadata, "name": "argocd-rbac-cm", "labels": rbac_labels}
    policies = {"policy.wavegate.csv": _Text(roles())}
    values = {"configs": {"cm": customizations(), "rbac": policies}}
    return {
        "argocd-cm.yaml": HEAD
        + "# A patch: kubectl -n argocd patch configmap argocd-cm --patch-file argocd-cm.yaml\n"
        + _dump({**config_map, "metadata": metadata, "data": customizations()}),
        "argocd-rbac-cm.yaml": HEAD
        + "# A patch: kubectl -n argocd patch configmap argocd-rbac-cm --patch-file"
        " argocd-rbac-cm.yaml\n" + _dump({**config_map, "metadata": rbac, "data": policies}),
        "values.yaml": HEAD
        + "# For the Helm chart argo-cd of argo-helm: helm upgrade … --values values.yaml\n"
        + _dump(values),
    }


def _actions(kind: str, names: tuple[str, ...]) -> dict[str, Any]:
    common = _lua(f"{kind}/actions.lua") + "\n" + _lua("decide.lua")
    return {
        "discovery.lua": _Text(f"{common}\nreturn discovery()\n"),
        "definitions": [
            {"name": name, "action.lua": _Text(f'{common}\nreturn decide("{name}")\n')}
            for name in names
        ],
    }


def _lua(name: str) -> str:
    """A script without the comments and empty lines, which are for who reads the file."""
    lines = (LUA / name).read_text().splitlines()
    return "\n".join(line for line in lines if not re.fullmatch(r"\s*(--.*)?", line)) + "\n"


def _dump(value: Any) -> str:
    return _Text(yaml.safe_dump(value, sort_keys=False, width=1000, allow_unicode=True))
