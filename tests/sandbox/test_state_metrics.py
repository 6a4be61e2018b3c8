"""kube-state-metrics and Prometheus see what is in the cluster."""

from collections.abc import Iterator
from typing import Any

import pytest
import requests

from wavegate_sandbox.cluster import Options, Sandbox
from wavegate_sandbox.nodes import NodeSpec


@pytest.fixture(scope="module")
def measured() -> Iterator[Sandbox]:
    with Sandbox.start(Options(state_metrics=True)) as sandbox:
        yield sandbox


def ready_nodes(sandbox: Sandbox) -> dict[str, str]:
    query = 'kube_node_status_condition{condition="Ready",status="true"}'
    url = f"{sandbox.prometheus_url}/api/v1/query"
    found: list[dict[str, Any]] = requests.get(url, params={"query": query}, timeout=5).json()[
        "data"
    ]["result"]
    return {series["metric"]["node"]: series["value"][1] for series in found}


def test_the_readiness_of_nodes_is_in_prometheus(measured: Sandbox) -> None:
    measured.add_nodes([NodeSpec("measured-1"), NodeSpec("measured-2")])
    measured.wait_for(
        "both nodes in Prometheus",
        lambda: ready_nodes(measured) == {"measured-1": "1", "measured-2": "1"},
    )
    measured.remove_node("measured-2")
    measured.wait_for(
        "one node in Prometheus", lambda: ready_nodes(measured) == {"measured-1": "1"}
    )
