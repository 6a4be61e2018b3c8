"""What the stories need: two operators under the chart's account, and namespaces with nodes."""

from collections.abc import Callable, Iterator

import pytest

from support.operator_process import Kubelet, OperatorProcess
from support.story import Story
from wavegate_sandbox.cluster import Sandbox

SYSTEM = "wavegate-e2e"


@pytest.fixture(scope="module")
def pace() -> dict[str, str]:
    """Operator settings of the stories; a module may have its own."""
    return {"WAVEGATE_SOAK_FLOOR": "1s", "WAVEGATE_LEASE_DURATION": "6s"}


@pytest.fixture(scope="module")
def machines(sandbox: Sandbox) -> Iterator[None]:
    """Takes the machines of a module's stories away after it: hundreds of leases that go on being
    renewed every 2 s slow everything that comes later.
    """
    yield
    nodes = sandbox.request("GET", "/api/v1/nodes", params={"labelSelector": "story"})["items"]
    for node in nodes:
        sandbox.remove_node(node["metadata"]["name"])


@pytest.fixture(scope="module")
def operators(
    sandbox: Sandbox,
    crds: None,
    machines: None,
    pace: dict[str, str],
    *,
    report_settings: Callable[[str, dict[str, str]], None],
    report_figure: Callable[[str], None],
) -> Iterator[list[OperatorProcess]]:
    """The chart's two replicas, and what a kubelet does for them."""
    pair = [OperatorProcess.from_chart(sandbox, SYSTEM, pace) for _ in range(2)]
    report_settings("operators of the stories", pair[0].env_differences)
    with Kubelet(pair) as kubelet, pair[0], pair[1]:
        for operator in pair:
            operator.wait_ready()
        yield pair
    if kubelet.restarts:
        report_figure(f"operators lost their lease, and were started again: {kubelet.restarts}")


@pytest.fixture
def story(namespace: str, sandbox: Sandbox, machines: None) -> Story:
    """A story that has not begun, in a namespace of its own."""
    return Story(sandbox, namespace)
