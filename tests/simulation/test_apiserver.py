"""The questions of tests/fidelity/questions.py to the simulated apiserver; see tests/e2e."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from fidelity.questions import ROWS, Body, Row
from simulation.cluster import SPACE, Simulation
from wavegate.cluster.client import ApiError


class SimulatedServer:
    """See fidelity.questions.Server."""

    def __init__(self, sim: Simulation) -> None:
        self._sim = sim

    def ask(
        self,
        verb: str,
        path: str,
        body: Any = None,
        *,
        params: Mapping[str, str] | None = None,
        kind: str = "application/json",
    ) -> tuple[int, Body]:
        server, where = self._sim.server, self._path(path)
        try:
            return 200, self._sim.act(
                lambda: server.handle("test", verb, where, params or {}, body=body, kind=kind)
            )
        except ApiError as error:
            return error.status, {}

    def told(self, path: str, params: Mapping[str, str]) -> list[tuple[str, str]]:
        stream = self._sim.server.watch(self._path(path), params, lambda: None)
        return [(kind, body["metadata"]["name"]) for kind, body in stream.waiting]

    def join(self, node: str, labels: Mapping[str, str]) -> None:
        self._sim.act(lambda: self._sim.machines.add(node, dict(labels)))

    def leave(self, node: str) -> None:
        self._sim.remove_node(node)

    def later(self, test: Callable[[], bool]) -> bool:
        self._sim.until("an answer", test, 30.0)
        return True

    def _path(self, path: str) -> str:
        group = "/apis/apps/v1" if path.startswith("daemonsets") else "/api/v1"
        return f"{group}/namespaces/{SPACE}/{path}"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_simulated_apiserver_answers(row: Row) -> None:
    with Simulation(operators=0) as sim:
        assert row.ask(SimulatedServer(sim)) == row.answer
