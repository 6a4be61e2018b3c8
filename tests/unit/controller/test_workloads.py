"""What is read of critical workloads, how often, and what an answer that does not come means."""

import asyncio
from dataclasses import replace

import pytest

from support.builders import make_channel
from wavegate.api import Phase, WaveState
from wavegate.cluster import paths
from wavegate.cluster.client import ApiError
from wavegate.controller.workloads import FRESH_SECONDS, RETRY_SECONDS, WorkloadReader
from wavegate.rollout import queue
from wavegate.rollout.record import Revision, Rollout

KEY = ("agents", "rules")
HOOKS = {paths.VALIDATING_WEBHOOKS: [], paths.MUTATING_WEBHOOKS: []}


def endpoints(namespace, name, *nodes):
    return {
        "metadata": {
            "namespace": namespace,
            "name": f"{name}-abc",
            "labels": {"kubernetes.io/service-name": name},
        },
        "endpoints": [
            {"nodeName": node, "conditions": {} if ready is None else {"ready": ready}}
            for node, ready in nodes
        ],
    }


def webhook(policy, **config):
    said = {"failurePolicy": policy} if policy else {}
    return {"webhooks": [{"name": "w", "clientConfig": config, **said}]}


class FakeClient:
    def __init__(self):
        self.lists = {**HOOKS, paths.ENDPOINT_SLICES: []}
        self.asked = []
        self.error = None

    async def get(self, path, params=None):
        self.asked.append((path, (params or {}).get("labelSelector", "")))
        if self.error is not None:
            raise self.error
        return {"items": self.lists[path]}


class Reading:
    """A reader with its client, its clock and a rollout whose wave is pending."""

    def __init__(self):
        self.client, self.now = FakeClient(), 1_000.0
        self.reader = WorkloadReader(self.client, lambda: self.now)
        candidate = Revision("attempt", "d", "b", "uid-b", "b", 2, "sha256:b", 1.0)
        plan = replace(queue.freeze(make_channel()), prometheus="http://prom.monitoring.svc:9090")
        self.rollout = Rollout(candidate, plan, Phase.Rolling, 1.0).with_next_wave()

    def read(self, rollout=None):
        return asyncio.run(self.reader.read(KEY, rollout or self.rollout))


@pytest.fixture
def reading():
    return Reading()


def test_ready_endpoints_of_critical_services_are_found(reading):
    client = reading.client
    client.lists[paths.VALIDATING_WEBHOOKS] = [
        webhook("Fail", service={"namespace": "policy", "name": "hook"}),
        webhook("Ignore", service={"namespace": "policy", "name": "optional"}),
        webhook("Fail", url="https://elsewhere.example.com"),
        {"metadata": {"name": "empty"}},
    ]
    client.lists[paths.MUTATING_WEBHOOKS] = [
        webhook("", service={"namespace": "mesh", "name": "inject"})
    ]
    client.lists[paths.ENDPOINT_SLICES] = [
        endpoints("kube-system", "kube-dns", ("n1", True), ("n2", False), (None, True)),
        endpoints("kube-system", "kube-dns", ("n1", True), ("n3", None)),
        endpoints("elsewhere", "kube-dns", ("n9", True)),
        endpoints("policy", "hook", ("n4", True)),
        endpoints("policy", "optional", ("n5", True)),
        endpoints("mesh", "inject", ("n6", True)),
        endpoints("monitoring", "prom", ("n7", False)),
    ]
    found = reading.read()
    assert found.error == ""
    assert found.nodes == {
        "kube-system/kube-dns": {"n1", "n3"},
        "policy/hook": {"n4"},
        "mesh/inject": {"n6"},
    }
    assert client.asked[-1] == (
        paths.ENDPOINT_SLICES,
        "kubernetes.io/service-name in (hook,inject,kube-dns,prom)",
    )


def test_it_is_believed_for_a_minute_and_forgotten_with_the_rollout(reading):
    reading.read()
    reading.now += FRESH_SECONDS - 1
    reading.read()
    assert len(reading.client.asked) == 3
    reading.now += 1
    reading.read()
    assert len(reading.client.asked) == 6
    asyncio.run(reading.reader.read(KEY, None))
    reading.read()
    assert len(reading.client.asked) == 9


def test_a_service_that_is_added_is_asked_for_at_once(reading):
    reading.read()
    plan = replace(reading.rollout.plan, critical_services=("pay/ledger",))
    reading.read(replace(reading.rollout, plan=plan))
    assert len(reading.client.asked) == 6
    assert "ledger" in reading.client.asked[-1][1]


def test_nothing_is_asked_while_no_nodes_are_chosen(reading):
    for state in WaveState:
        if state not in (WaveState.Pending, WaveState.Passed):
            reading.read(reading.rollout.with_wave(state=state))
    assert reading.client.asked == []


@pytest.mark.parametrize(
    "error", [ApiError(403, "forbidden"), ApiError(0, "no answer"), KeyError("items")]
)
def test_no_answer_is_an_error_and_soon_asked_again(reading, error):
    reading.client.error = error
    found = reading.read()
    assert "can't be read" in found.error
    assert found.nodes == {}
    reading.read()
    assert len(reading.client.asked) == 1
    reading.client.error = None
    reading.now += RETRY_SECONDS
    assert reading.read().error == ""


def test_what_was_read_before_does_not_stand_for_an_answer_that_does_not_come(reading):
    assert reading.read().error == ""
    reading.now += FRESH_SECONDS
    reading.client.error = ApiError(500, "no")
    assert reading.read().error
