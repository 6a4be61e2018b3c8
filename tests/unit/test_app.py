"""What the rim does while kopf does not notice that a CRD is gone."""

import asyncio

import pytest

from support.fake_apiserver import PATIENCE
from wavegate import app
from wavegate.cluster.client import ApiError, Client
from wavegate.cluster.served import KINDS
from wavegate.settings import Settings
from wavegate.telemetry.metrics import Metrics

ALL = {"resources": [{"name": kind.plural} for kind in KINDS]}
GONE = ApiError(404, "404 page not found")
SILENT = ApiError(0, "nobody answers")


@pytest.fixture
def deaf(monkeypatch):
    """A kopf that waits for good, as it does when a CRD went before its scan; set when it ended."""
    ended = asyncio.Event()

    async def watch(*_):
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    monkeypatch.setattr(app, "_watch_our_kinds", watch)
    monkeypatch.setattr(app, "LOOK_WATCHED_SECONDS", 0.001)
    return ended


class Discovery(Client):
    """A client whose answers come in this order; the last one again and again."""

    def __init__(self, *answers):
        self._answers = list(answers)
        self.at_last = asyncio.Event()

    async def get(self, _path):
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if len(self._answers) == 1:
            self.at_last.set()
        if isinstance(answer, ApiError):
            raise answer
        return answer


class World:
    """One whose kinds are all served."""

    async def resync(self):
        return frozenset()


def run(client):
    """Run kopf as the leader does, after all CRDs were there."""
    operator = app.Operator(Settings.read({}), client, Metrics())
    operator._kinds.awaited = ""
    return asyncio.create_task(operator._run_kopf(World(), asyncio.Event()))


async def test_kopf_is_ended_once_a_crd_is_gone(deaf):
    await asyncio.wait_for(run(Discovery(ALL, GONE)), PATIENCE)
    assert deaf.is_set()


async def test_kopf_goes_on_while_the_apiserver_does_not_answer(deaf):
    silent = Discovery(ALL, SILENT, SILENT)
    running = run(silent)
    await asyncio.wait_for(silent.at_last.wait(), PATIENCE)
    assert not deaf.is_set()
    assert not running.done()
    running.cancel()
    await asyncio.wait({running})
    assert deaf.is_set()


async def test_what_breaks_kopf_is_raised(monkeypatch):
    async def watch(*_):
        raise RuntimeError("broken")

    monkeypatch.setattr(app, "_watch_our_kinds", watch)
    with pytest.raises(RuntimeError, match="broken"):
        await run(Discovery(ALL))


class Busy:
    """A leader whose watches and pass are as old as a test says."""

    def __init__(self, clock, silent, busy):
        self.world = self
        self._contact, self._busy = clock() - silent, busy

    def oldest_contact(self):
        return self._contact

    def busy_seconds(self):
        return self._busy


@pytest.mark.parametrize(
    ("silent", "busy", "says"),
    [
        (1, 1, ""),
        (299, 299, ""),
        (301, 0, "a watch was silent for 301 s"),
        (0, 301, "a pass takes 301 s"),
    ],
)
def test_a_watch_or_a_pass_that_is_too_old_asks_for_a_restart(silent, busy, says):
    operator = app.Operator(Settings.read({}), Discovery(ALL), Metrics())
    assert operator.unhealthy() == ""
    operator._clock = lambda: 1_000.0
    operator._leader = Busy(operator._clock, silent, busy)
    assert operator.unhealthy() == says
