"""The questions of tests/fidelity/questions.py to the real apiserver.

tests/simulation/test_apiserver.py asks the simulated one, with the same answers expected.
"""

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from fidelity.questions import ROWS, Body, Row
from wavegate_sandbox.cluster import Sandbox
from wavegate_sandbox.errors import TimedOut
from wavegate_sandbox.nodes import NodeSpec


class RealServer:
    """See fidelity.questions.Server."""

    def __init__(self, sandbox: Sandbox, namespace: str) -> None:
        self._sandbox, self._namespace = sandbox, namespace

    def ask(
        self,
        verb: str,
        path: str,
        body: Any = None,
        *,
        params: Mapping[str, str] | None = None,
        kind: str = "application/json",
    ) -> tuple[int, Body]:
        found = self._sandbox.request(
            verb, self._path(path), body, params=params, content_type=kind, check=False
        )
        failed = found.get("kind") == "Status" and found.get("status") != "Success"
        return (found["code"] if failed else 200), found

    def told(self, path: str, params: Mapping[str, str]) -> list[tuple[str, str]]:
        key, _, value = params["labelSelector"].partition("=")
        last = {"metadata": {"name": "told-last", "labels": {key: value}}}
        self._sandbox.request("POST", self._path(path), last)
        found = []
        for event in self._sandbox.api.watch(self._path(path), 30, **params):
            name = event["object"]["metadata"]["name"]
            if name == "told-last":
                return found
            found.append((event["type"], name))
        raise AssertionError(f"the watch ended before it told of everything: {found}")

    def join(self, node: str, labels: Mapping[str, str]) -> None:
        self._sandbox.add_nodes([NodeSpec(node, labels)])

    def leave(self, node: str) -> None:
        self._sandbox.remove_node(node)

    def later(self, test: Callable[[], bool]) -> bool:
        with contextlib.suppress(TimedOut):
            return self._sandbox.wait_for("an answer", test, 30)
        return False

    def _path(self, path: str) -> str:
        group = "/apis/apps/v1" if path.startswith("daemonsets") else "/api/v1"
        return f"{group}/namespaces/{self._namespace}/{path}"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_real_apiserver_answers(row: Row, sandbox: Sandbox, namespace: str) -> None:
    assert row.ask(RealServer(sandbox, namespace)) == row.answer
