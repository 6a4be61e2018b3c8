"""The way back is tried in the background, when it is due, and its proof names its wave."""

import asyncio

import pytest
from aiohttp import web

from support.fake_apiserver import until
from support.invariants import about_to_open
from wavegate.controller.proofs import ProofRunner

KEY = ("agents", "rules")


@pytest.fixture
def sim():
    return about_to_open()


@pytest.fixture
def woken():
    return []


@pytest.fixture
async def runner(client, sim, woken):
    made = ProofRunner(client, lambda: sim.now, woken.append)
    yield made
    made.close()


class Webhook:
    """Answers every request with `status`, once `open` is set."""

    def __init__(self, server):
        self.status, self.open = 500, asyncio.Event()
        self.open.set()
        server.handler = self.answer

    async def answer(self, _request):
        await self.open.wait()
        return web.json_response({"message": "webhook says no"}, status=self.status)


@pytest.fixture
def webhook(server):
    return Webhook(server)


async def test_a_pass_is_not_kept_waiting_and_is_woken_by_the_proof(runner, sim, webhook, woken):
    webhook.open.clear()
    runner.ensure(KEY, sim.observe())
    await asyncio.sleep(0)
    assert (runner.proof(KEY), woken) == (None, [])
    webhook.open.set()
    await until(lambda: woken)
    proof, rollout = runner.proof(KEY), sim.record.rollout
    assert (proof.attempt, proof.ledger) == (rollout.attempt, rollout.waves[-1].ledger)
    assert proof.asked_at == sim.now
    assert "webhook says no" in proof.problem


async def test_it_is_not_tried_twice_at_once_nor_again_before_15_s(
    runner, sim, webhook, server, woken
):
    webhook.open.clear()
    runner.ensure(KEY, sim.observe())
    await until(lambda: server.requests)
    runner.ensure(KEY, sim.observe())
    webhook.open.set()
    await until(lambda: woken)
    assert len(server.requests) == 1
    sim.way_back = runner.proof(KEY)
    for seconds, requests in ((14, 1), (1, 2)):
        sim.now += seconds
        runner.ensure(KEY, sim.observe())
        await until(lambda wanted=requests: len(server.requests) == wanted)


async def test_nobody_asks_during_a_pause(runner, sim, webhook, server):
    sim.publish("b", 2, suspend=True)
    runner.ensure(KEY, sim.observe())
    await asyncio.sleep(0.01)
    assert server.requests == []


async def test_an_answer_that_can_t_be_read_is_no_proof(runner, sim, server, woken):
    async def odd(_request):
        return web.json_response({"spec": []})

    server.handler = odd
    runner.ensure(KEY, sim.observe())
    await until(lambda: woken)
    assert "the way back is unknown" in runner.proof(KEY).problem


async def test_nothing_is_remembered_of_a_rollout_that_has_ended(runner, sim, webhook, woken):
    runner.ensure(KEY, sim.observe())
    await until(lambda: woken)
    del sim.releases["b"]
    sim.run(60, until=lambda: sim.record.rollout is None)
    runner.ensure(KEY, sim.observe())
    assert runner.proof(KEY) is None
