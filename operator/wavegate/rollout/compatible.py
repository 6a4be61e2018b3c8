"""Whether a release's content is made for the channel's agent: content that an agent of another
version reads wrongly can crash it, so the release says for which versions it is made.
"""

import re
from collections.abc import Mapping
from typing import Any

from wavegate.api import Reason, Release
from wavegate.rollout.steps import Problem

VERSION_LABEL = "app.kubernetes.io/version"
"""Kubernetes' recommended label, on the agent's pod template."""
_NUMBERS = re.compile(r"v?([0-9]+(?:\.[0-9]+)*)")


def version_problem(template: Mapping[str, Any] | None, release: Release) -> Problem | None:
    """Say why this agent can't take the release; None when it can, or the release does not ask, or
    the template is not looked at, as it is frozen in the candidate.
    """
    wanted = release.spec.agent_version
    if wanted is None or template is None:
        return None
    said = version_of(template)
    version = _parsed(said)
    if version is None:
        return Problem(
            Reason.AgentIncompatible,
            f"spec.agentVersion: the agent's template does not say its version ({said or 'none'}). "
            f"Give it the label {VERSION_LABEL}, as 7.16.2.",
        )
    low, below = _parsed(wanted.min or "0"), _parsed(wanted.below) if wanted.below else None
    if version >= (low or ()) and (below is None or version < below):
        return None
    span = " and ".join(
        f"{word} {limit}"
        for word, limit in (("from", wanted.min), ("below", wanted.below))
        if limit
    )
    return Problem(
        Reason.AgentIncompatible,
        f"spec.agentVersion: this content is made for agents {span}, and the channel's is {said}. "
        "Bring the channel an agent of such a version, or publish content for this one.",
    )


def version_of(template: Mapping[str, Any]) -> str:
    """What an agent's template says of its version; empty when it says nothing."""
    labels = (template.get("metadata") or {}).get("labels") or {}
    return str(labels.get(VERSION_LABEL, ""))


def _parsed(text: str) -> tuple[int, ...] | None:
    """The numbers of a version, without zeros at its end: 7.0 is 7. What follows a `-` or `+` is
    not compared. None when it is no version.
    """
    found = _NUMBERS.match(text)
    if found is None or text[found.end() : found.end() + 1] not in ("", "-", "+", "_"):
        return None
    numbers = [int(part) for part in found[1].split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
