"""Asks the real `argocd admin settings resource-overrides`, without a cluster.

Its exit code is 0 for every health, and also where no script matches, so its words are read; what
they do not say plainly is an error here.
"""

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gitops.pack import PACK


@dataclass(frozen=True, slots=True)
class Overrides:
    """The pack's argocd-cm, as argocd reads it."""

    argocd: Path
    home: Path
    config_map: Path = PACK / "argocd-cm.yaml"

    def health(self, resource: Path) -> tuple[str, str]:
        """Status and message."""
        said = self.ask("health", resource)
        found = re.fullmatch(r"STATUS: (\w+)\nMESSAGE: (.*)\n", said, re.DOTALL)
        assert found, said
        return found[1], found[2]

    def actions(self, resource: Path) -> dict[str, bool]:
        """Each action, and whether it is possible now."""
        head, *rows = self.ask("list-actions", resource).splitlines()
        assert head.split() == ["NAME", "DISABLED"], head
        return {name: {"true": False, "false": True}[off] for name, off in map(str.split, rows)}

    def run(self, resource: Path, action: str, **parameters: str) -> dict[str, Any]:
        """The one object that an action creates. AssertionError with its words if it fails."""
        said = self.ask("run-action", resource, action, parameters)
        head, _, text = said.partition("\n")
        assert head == "Following resource was created:", said
        created: dict[str, Any] = yaml.safe_load(text)
        return created

    def updates(self, resource: Path) -> str:
        """What it says of changes that refresh no application."""
        return self.ask("ignore-resource-updates", resource)

    def ask(
        self, command: str, resource: Path, action: str = "", parameters: Mapping[str, str] = {}
    ) -> str:
        """Run one command; returns what it printed."""
        words = [str(self.argocd), "admin", "settings", "resource-overrides", command]
        words += [str(resource), *([action] if action else [])]
        words += ["--argocd-cm-path", str(self.config_map)]
        words += [f"--param={name}={value}" for name, value in parameters.items()]
        env = {"HOME": str(self.home), "PATH": "/usr/bin:/bin"}
        done = subprocess.run(words, capture_output=True, text=True, check=False, env=env)
        assert done.returncode == 0, f"{done.stdout}{done.stderr}"
        return done.stdout
