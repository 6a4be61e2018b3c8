"""Agents that say which content they have loaded, as real ones do a moment after their start."""

import contextlib
import threading
from collections.abc import Mapping
from typing import Any, Self

import requests

from support.story import Story, content_of, is_running
from wavegate.rollout.names import LOADED_DIGEST_ANNOTATION
from wavegate_sandbox.errors import ApiError
from wavegate_sandbox.exporter import Exporter

EVERY_SECONDS = 0.3
SERIES = "agent_content_info"


class ReportingAgents:
    """The agents of one story: each annotates its pod or, with an exporter, has a series there.

    Use as a context manager.
    """

    def __init__(self, story: Story, exporter: Exporter | None = None) -> None:
        self.says: dict[str, str] = {}
        """By node: the digest that is said there instead of its content's; empty: nothing."""
        self._story, self._exporter = story, exporter
        self._told: dict[str, str] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        """They begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """They say nothing new."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(EVERY_SECONDS):
            with contextlib.suppress(requests.RequestException, ApiError):  # a pod that is gone
                for pod in filter(is_running, self._story.pods()):
                    self._tell(pod)

    def _tell(self, pod: Mapping[str, Any]) -> None:
        said = self.says.get(pod["spec"]["nodeName"], content_of(pod))
        if self._exporter is not None:
            self._export(self._exporter, pod["spec"]["nodeName"], said)
        elif said and said != pod["metadata"].get("annotations", {}).get(LOADED_DIGEST_ANNOTATION):
            metadata = {"annotations": {LOADED_DIGEST_ANNOTATION: said}}
            path = f"/api/v1/namespaces/{self._story.namespace}/pods/{pod['metadata']['name']}"
            self._story.sandbox.request("PATCH", path, {"metadata": metadata})

    def _export(self, exporter: Exporter, node: str, said: str) -> None:
        before = self._told.get(node, "")
        if before != said:
            if before:
                exporter.remove(SERIES, {"node": node, "digest": before})
            if said:
                exporter.set(SERIES, {"node": node, "digest": said}, 1)
            self._told[node] = said
