"""Critical workloads on the real control plane: real Deployments, and the slices of the real
controller.

CoreDNS runs on two of four workers, and the backend of a webhook that fails closed on the other
two. The webhook is about a resource that nobody has, so that nothing else is refused here.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from support.operator_process import OperatorProcess
from support.story import Story
from wavegate.cluster.projections import stored_config_map
from wavegate.rollout.names import KIND_LABEL
from wavegate_sandbox.cluster import Sandbox

DNS = ("kube-system", "kube-dns")
HOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
SLICES = "/apis/discovery.k8s.io/v1"


@pytest.fixture
def placed(sandbox: Sandbox) -> Iterator[Callable[[str, str, list[str]], None]]:
    """Runs a Deployment behind a Service, one replica on each of these nodes, until the slices of
    the Service name them. Taken away afterwards, as other tests share the cluster.
    """
    made: list[str] = []

    def create(path: str, body: dict[str, Any]) -> None:
        sandbox.request("POST", path, body)
        made.append(f"{path}/{body['metadata']['name']}")

    def place(namespace: str, name: str, nodes: list[str]) -> None:
        create(f"/apis/apps/v1/namespaces/{namespace}/deployments", deployment(name, nodes))
        create(f"/api/v1/namespaces/{namespace}/services", service(name))
        path = f"{SLICES}/namespaces/{namespace}/endpointslices"
        of = {"labelSelector": f"kubernetes.io/service-name={name}"}

        def there() -> bool:
            items = sandbox.request("GET", path, params=of)["items"]
            ends = [end for item in items for end in item.get("endpoints") or ()]
            return sorted(e["nodeName"] for e in ends if e["conditions"]["ready"]) == sorted(nodes)

        sandbox.wait_for(f"{name} to be ready on {nodes}", there)

    yield place
    for path in reversed(made):
        sandbox.request("DELETE", path)


@pytest.fixture
def fails_closed(sandbox: Sandbox) -> Iterator[Callable[[str, str], None]]:
    """Makes a Service the backend of a webhook that fails closed."""
    made: list[str] = []

    def make(namespace: str, name: str) -> None:
        body = {"metadata": {"name": f"{name}.{namespace}"}, "webhooks": [webhook(namespace, name)]}
        sandbox.request("POST", HOOKS, body)
        made.append(f"{HOOKS}/{name}.{namespace}")

    yield make
    for path in made:
        sandbox.request("DELETE", path)


def webhook(namespace: str, name: str) -> dict[str, Any]:
    """About a resource that does not exist."""
    rule = {
        "apiGroups": ["nobody.example.com"],
        "apiVersions": ["v1"],
        "resources": ["nothings"],
        "operations": ["CREATE"],
    }
    return {
        "name": f"{name}.example.com",
        "clientConfig": {"service": {"namespace": namespace, "name": name}},
        "rules": [rule],
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }


def service(name: str) -> dict[str, Any]:
    """It selects the pods of the Deployment of its name."""
    spec = {"selector": {"app": name}, "ports": [{"port": 53, "protocol": "TCP"}]}
    return {"metadata": {"name": name}, "spec": spec}


def deployment(name: str, nodes: Iterable[str]) -> dict[str, Any]:
    """One replica on each of these nodes."""
    labels, names = {"app": name}, list(nodes)
    chosen = {"key": "kubernetes.io/hostname", "operator": "In", "values": names}
    terms = [{"matchExpressions": [chosen]}]
    apart = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": labels}}
    affinity = {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}
        },
        "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [apart]},
    }
    containers = [{"name": name, "image": "registry.example/anything:1"}]
    pod = {"affinity": affinity, "containers": containers}
    spec = {
        "replicas": len(names),
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    return {"metadata": {"name": name}, "spec": spec}


def ledgers(story: Story, release: str) -> list[set[str]]:
    """The nodes of each ledger of a release's last attempt, wave by wave."""
    path = f"/api/v1/namespaces/{story.namespace}/configmaps"
    params = {"labelSelector": f"{KIND_LABEL}=ledger"}
    items = story.sandbox.request("GET", path, params=params)["items"]
    found = [stored_config_map(item, None, 0.0).ledger for item in items]
    attempt = story.status(release)["attempt"]
    own = [ledger for ledger in found if ledger is not None and ledger.attempt == attempt]
    return [{n.name for n in led.nodes} for led in sorted(own, key=lambda led: led.number)]


def test_no_wave_takes_both_nodes_of_a_critical_workload(
    operators: list[OperatorProcess],
    story: Story,
    placed: Callable[[str, str, list[str]], None],
    fails_closed: Callable[[str, str], None],
) -> None:
    story.workers = 4
    story.begin()
    dns, backend = story.worker_names[:2], story.worker_names[2:]
    policy = ("default", f"policy-{story.namespace}")  # where agents run are only agents
    placed(*DNS, dns)
    placed(*policy, backend)
    fails_closed(*policy)
    story.publish("a")
    story.until_phase("a", "Completed")
    assert_apart(ledgers(story, "a"), dns, backend)
    story.publish("b", suspend=True)

    def shown() -> list[str]:
        plan = story.channel_status().get("plan") or {}
        moved = [line for line in plan.get("later", ()) if "so it comes" in line]
        return moved if plan.get("release") == "b" else []

    story.sandbox.wait_for("the plan to know of both", lambda: len(shown()) == 2)
    later = shown()
    for service in (DNS, policy):
        words = f"a wave takes 1 of the 2 nodes of {'/'.join(service)}, so it comes in a sweep"
        assert any(line.startswith(words) for line in later), later
    story.patch("releases", "b", {"suspend": False})
    story.until_phase("b", "Completed")
    taken = ledgers(story, "b")
    assert_apart(taken, dns, backend)
    assert {line.rpartition(": ")[2] for line in later} == taken[2], (
        "the plan named who comes later"
    )
    story.until_agents("b everywhere", story.everywhere("b"))


def assert_apart(taken: list[set[str]], *workloads: list[str]) -> None:
    """The canary, the wave over all, and a sweep; neither of these two has both nodes of one."""
    assert [len(nodes) for nodes in taken] == [1, 2, 2]
    for nodes in taken[1:]:
        assert [len(nodes & {*served}) for served in workloads] == [1, 1]
