"""What is read of critical workloads, how often, and what an answer that does not come means."""

import asyncio
from dataclasses import replace

import pytest

from support.builders import make_channel
from wavegate.api import Phase, WaveState
from wavegate.cluster import paths
from wavegate.cluster.client import ApiError
from wavegate.controller.workloads import WorkloadRunner
from wavegate.rollout import queue, workloads
from wavegate.rollout.attempt import Revision, Rollout
from wavegate.rollout.observation import CriticalWorkloads, Observation
from wavegate.rollout.record import Record
from wavegate.rollout.workloads import RENEW_SECONDS, RETRY_SECONDS

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
    """A runner with its client, its clock and a rollout whose wave is pending."""

    def __init__(self):
        self.client, self.now, self.woken = FakeClient(), 1_000.0, []
        self.runner = WorkloadRunner(
            self.client, lambda: self.now, self.woken.append, "wavegate-system/wavegate"
        )
        candidate = Revision("attempt", "d", "b", "uid-b", "b", 2, "sha256:b", 1.0)
        plan = replace(queue.freeze(make_channel()), prometheus="http://prom.monitoring.svc:9090")
        self.rollout = Rollout(candidate, plan, Phase.Rolling, 1.0).with_next_wave()
        self.due = None

    def read(self, rollout=None):
        """What is seen after a pass, and `due`: what the pass after it was told."""
        return asyncio.run(self._read(rollout or self.rollout))

    async def _read(self, rollout):
        obs = Observation(*KEY, None, Record(*KEY, rollout=rollout), {})
        self.runner.ensure(KEY, obs)
        await asyncio.gather(*self.runner._running.values())
        self.runner._running.clear()
        self.due = self.runner.ensure(KEY, obs)
        return self.runner.seen(KEY)


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
        endpoints("wavegate-system", "wavegate", ("n8", True)),
    ]
    found = reading.read()
    assert found.error == ""
    assert found.nodes == {
        "kube-system/kube-dns": {"n1", "n3"},
        "policy/hook": {"n4"},
        "mesh/inject": {"n6"},
        "wavegate-system/wavegate": {"n8"},
    }
    assert client.asked[-1] == (
        paths.ENDPOINT_SLICES,
        "kubernetes.io/service-name in (hook,inject,kube-dns,prom,wavegate)",
    )


def test_a_webhook_that_names_what_is_no_service_spoils_nothing(reading):
    odd = {"namespace": "policy", "name": "Not, a) name"}
    reading.client.lists[paths.VALIDATING_WEBHOOKS] = [webhook("Fail", service=odd)]
    assert reading.read().error == ""
    assert reading.client.asked[-1][1].endswith(" in (kube-dns,prom,wavegate)")


def test_it_is_read_again_before_it_is_old_and_forgotten_with_the_rollout(reading):
    reading.read()
    assert reading.woken == [KEY]
    assert reading.due == RENEW_SECONDS
    reading.now += RENEW_SECONDS - 1
    reading.read()
    assert len(reading.client.asked) == 3
    assert reading.due == 1.0
    reading.now += 1
    reading.read()
    assert len(reading.client.asked) == 6
    assert reading.woken == [KEY, KEY]
    idle = Observation(*KEY, None, Record(*KEY), {})
    assert reading.runner.ensure(KEY, idle) is None
    assert reading.runner.seen(KEY) == CriticalWorkloads()


def test_a_service_that_is_added_is_asked_for_at_once(reading):
    reading.read()
    plan = replace(reading.rollout.plan, critical_services=("pay/ledger",))
    found = reading.read(replace(reading.rollout, plan=plan))
    assert len(reading.client.asked) == 6
    assert "ledger" in reading.client.asked[-1][1]
    assert "pay/ledger" in found.services


def test_nothing_is_asked_while_no_nodes_are_chosen(reading):
    for state in WaveState:
        if state not in (WaveState.Pending, WaveState.Passed):
            reading.read(reading.rollout.with_wave(state=state))
            assert reading.due is None
    assert reading.client.asked == []


@pytest.mark.parametrize(
    "error", [ApiError(403, "forbidden"), ApiError(0, "no answer"), KeyError("items")]
)
def test_no_answer_is_an_error_and_soon_asked_again(reading, error):
    reading.client.error = error
    found = reading.read()
    assert "can't be read" in found.error
    assert found.nodes == {}
    assert reading.due == RETRY_SECONDS
    reading.read()
    assert len(reading.client.asked) == 1
    reading.client.error = None
    reading.now += RETRY_SECONDS
    assert reading.read().error == ""


def test_what_was_read_before_does_not_stand_for_an_answer_that_does_not_come(reading):
    assert reading.read().error == ""
    reading.now += RENEW_SECONDS
    reading.client.error = ApiError(500, "no")
    assert reading.read().error


def test_a_pass_does_not_wait_for_a_slow_answer(reading):
    """Else a fence would, too."""

    async def hang(_path, _params=None):
        await asyncio.Event().wait()

    async def passes():
        obs = Observation(*KEY, None, Record(*KEY, rollout=reading.rollout), {})
        assert reading.runner.ensure(KEY, obs) is None
        await asyncio.sleep(0)
        assert reading.runner.ensure(KEY, obs) is None
        reading.runner.close()

    reading.client.get = hang
    asyncio.run(passes())
    assert workloads.is_unread(Observation(*KEY, None, Record(*KEY), {}), reading.rollout, 1.0)
