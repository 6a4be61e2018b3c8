"""How large what we write can get: 5,000 nodes, the longest names, and words that others wrote."""

import base64
import json
import random
import string
from dataclasses import replace

import pytest

from support import fleet
from support.builders import CHANNEL, SPACE, digest
from wavegate.api import MAX_LAYERS, GateKind, Phase, Reason
from wavegate.cluster import paths
from wavegate.cluster.client import ApiError
from wavegate.cluster.projections import encode_ledger, encode_record, stored_config_map
from wavegate.cluster.status import StatusWriter
from wavegate.cluster.store import Store
from wavegate.evidence import CheckResult, Finding, Ledger, LedgerNode, Verdict
from wavegate.evidence.gates import MAX_DETAILED, MAX_QUERY, cut
from wavegate.evidence.selected import MAX_PODS
from wavegate.rollout import channel_report, excerpts, gates, report, soak
from wavegate.rollout.attempt import AGENT_UID, Incident
from wavegate.rollout.breakglass import MAX_LINE
from wavegate.rollout.record import (
    MAX_BLOCKED,
    MAX_BLOCKED_LAYERS,
    MAX_FAILED_AGENTS,
    MAX_HISTORY,
    MAX_OUTCOMES,
    Blocked,
)
from wavegate.rollout.steps import Step
from wavegate.rollout.wording import MAX_MESSAGE, brief

NODES = 5_000
LONGEST = "n" * 247 + "-{:05d}"
STATUS_BYTES = 64 << 10
CHANNEL_BYTES = STATUS_BYTES + (20 << 10)
"""A channel's status lists the layers of its block list besides."""
OBJECT_BYTES = 1 << 20
LONG_WORDS = 'this "word" ü is quoted from someone\'s answer; ' * 1_000
WAVES, CHECKS = 60, 20
TIMES = ("opened_at", "moved_at", "passed_at", "soaked")


@pytest.fixture(scope="module")
def largest():
    """A running release at its largest: 50 planned waves, sweeps, and everything is remembered."""
    obs = fleet.observe(NODES, "soaking", LONGEST)
    record, rollout = obs.record, obs.record.rollout
    times = dict.fromkeys((*soak.NEVER, *TIMES), 1764146400.123456)
    wave = replace(rollout.waves[-1], name="w" * 63, labelled=5_000, approved="d" * 253, **times)
    planned = replace(rollout.plan.waves[0], name="w" * 63)
    nodes = tuple(obs.nodes)[:5]
    checks = tuple(
        replace(rollout.plan.checks[0], name="c" * 61 + f"{n:02d}", query=LONG_WORDS[:8_000])
        for n in range(CHECKS)
    )
    answer = CheckResult(fleet.NOW, frozenset(), (), error=LONG_WORDS, query=LONG_WORDS)
    found = Finding(Verdict.HOLD, Reason.CheckUnreachable, LONG_WORDS, gate=GateKind.Check)
    harm = Finding(Verdict.FAIL, Reason.NodeNotReady, LONG_WORDS, gate=GateKind.Nodes)
    judged = tuple(replace(harm, node=node) for node in nodes)
    said = gates.look(
        replace(obs, checks={check.name: answer for check in checks}),
        replace(rollout, plan=replace(rollout.plan, checks=checks)),
        (
            *judged,
            *(replace(f, gate=GateKind.Agents) for f in judged),
            *(replace(found, check=check.name, node=nodes[0]) for check in checks),
            replace(found, gate=GateKind.Sight),
        ),
        fleet.NOW,
    )
    assert len(said) == CHECKS + 3
    query = cut(LONG_WORDS, MAX_QUERY)
    full = replace(said[0], query=query, threshold="<= 0", value="-1e-300")
    said = (*(full,) * MAX_DETAILED, *said[MAX_DETAILED:])
    (lined,) = gates.with_lines((wave,), said)
    restless = tuple(obs.nodes)[: soak.MAX_UNSTEADY]
    last = replace(wave, interrupted=LONG_WORDS[: soak.MAX_WHY], unsteady=restless)
    listed = tuple(digest(f"layer {n}") for n in range(MAX_LAYERS))
    candidate = replace(
        rollout.candidate, release="r" * 253, version="v" * 63, daemon_set="d" * 253, layers=listed
    )
    rollout = replace(
        rollout,
        candidate=candidate,
        waves=gates.with_lines((*(lined,) * (WAVES - 1), last), said),
        gates=said,
        plan=replace(rollout.plan, waves=(planned,) * 50),
        incident=Incident(Reason.AgentRestarted, LONG_WORDS, nodes, fleet.NOW),
    )
    ended = replace(record, rollout=rollout)
    for _ in range(MAX_OUTCOMES + 1):
        ended = ended.ended(Phase.Reverted, Reason.RevertedWithNodesDown, LONG_WORDS, fleet.NOW)
        ended = replace(ended, rollout=rollout)
    blocked = Blocked(
        digest("x"), "r" * 253, Reason.RevertedWithNodesDown, fleet.NOW, "i" * 63, "l" * 128
    )
    whole = MAX_BLOCKED_LAYERS // MAX_LAYERS
    record = replace(
        ended,
        stable=candidate,
        history=(record.stable, *(candidate,) * (MAX_HISTORY - 1)),
        last_baked=candidate,
        blocked=(replace(blocked, layers=listed),) * whole + (blocked,) * (MAX_BLOCKED - whole),
        failed_agents=(blocked,) * MAX_FAILED_AGENTS,
        template_seen=("s" * 128, digest("x")),
    )
    return replace(obs, record=record)


def in_status(written):
    return len(json.dumps(written["status"], ensure_ascii=False).encode())


@pytest.fixture
def written(objects):
    """What was written as status, by the kind's path."""

    def read(subject):
        path = paths.ours(subject.plural, SPACE, subject.name)
        return objects.bodies[f"{path}/status"]

    return read


@pytest.fixture
async def write(client, objects, written):
    """Write a status as the operator does; returns its size."""

    async def do(subject, status):
        path = paths.ours(subject.plural, SPACE, subject.name)
        objects.put(f"{path}/status", {"metadata": {"name": subject.name}})
        assert await StatusWriter(client).write(subject, status, excerpts.timestamp(fleet.NOW))
        return in_status(written(subject))

    return do


async def test_the_largest_status_of_a_channel_fits(largest, write):
    assert len(largest.record.blocked) == 100
    shown = channel_report.channel_status(largest)
    assert sum(len(b.get("layers", ())) for b in shown["blocked"]) == MAX_BLOCKED_LAYERS
    assert STATUS_BYTES < await write(largest.channel, shown) < CHANNEL_BYTES


async def test_the_largest_status_of_a_channel_whose_agent_changes_fits(largest, write):
    record = largest.record
    candidate = replace(record.rollout.candidate, release_uid=AGENT_UID, agent=digest("agent 2"))
    record = replace(record, rollout=replace(record.rollout, candidate=candidate))
    step = Step(waiting=LONG_WORDS)
    status = channel_report.channel_status(replace(largest, record=record), step, fleet.NOW)
    assert len(status["agentRollout"]["gates"]) == CHECKS + 3
    # A hundred blocked digests, and a decision record besides.
    assert CHANNEL_BYTES < await write(largest.channel, status) < CHANNEL_BYTES + (16 << 10)


@pytest.mark.parametrize("running", [True, False])
async def test_the_largest_status_of_a_release_fits(largest, write, written, running):
    release = largest.releases[1]
    uid = largest.record.rollout.candidate.release_uid
    assert release.uid == uid
    record = largest.record if running else replace(largest.record, rollout=None)
    harm = Finding(Verdict.FAIL, Reason.AgentRestarted, LONG_WORDS, LONGEST.format(1))
    step = Step(findings=(harm,) * NODES, waiting=LONG_WORDS)
    obs = replace(largest, record=record)
    status = report.release_status(obs, release, step, fleet.NOW)
    assert len(status["waves"]) == WAVES
    assert 16 << 10 < await write(release, status) < STATUS_BYTES
    assert written(release)["status"]["incident"]["message"].startswith('this "word"')


async def test_a_channel_s_problem_in_someone_else_s_words_is_cut(largest, write, written):
    agent = replace(largest.agent, refused=LONG_WORDS)
    status = channel_report.channel_status(replace(largest, agent=agent))
    assert await write(largest.channel, status) < CHANNEL_BYTES
    condition, *_ = written(largest.channel)["status"]["conditions"]
    assert condition["reason"] == "InvalidTemplate"
    assert condition["message"].endswith("…")


async def test_a_line_to_paste_is_never_cut(largest, write, written):
    lines = ["kubectl " + "x" * (MAX_LINE - 8)] * 5
    status = {**channel_report.channel_status(largest), "breakGlass": lines}
    assert await write(largest.channel, status) < CHANNEL_BYTES
    assert written(largest.channel)["status"]["breakGlass"] == lines


def test_a_message_is_cut_between_characters_and_says_so():
    assert brief("short") == "short"
    assert brief("x" * MAX_MESSAGE) == "x" * MAX_MESSAGE
    cut = brief("a" + "ü" * MAX_MESSAGE)
    assert len(cut.encode()) <= MAX_MESSAGE
    assert cut.startswith("aü")
    assert cut.endswith("ü…")


def test_the_largest_record_fits_with_room_for_a_revert(largest):
    assert len(encode_record(largest.record)["record"].encode()) < OBJECT_BYTES * 3 // 4


def random_names(count, length):
    """Names that no packing makes smaller."""
    letters, chance = string.ascii_lowercase + string.digits, random.Random(1)  # noqa: S311
    return ["".join(chance.choices(letters, k=length)) for _ in range(count)]


def ledger_of(names, agents=0):
    chance = random.Random(2)  # noqa: S311

    def unique():
        return f"{chance.getrandbits(128):032x}"

    def counts():
        return tuple((unique()[:8], chance.randrange(10_000)) for _ in range(agents))

    nodes = (LedgerNode(name, unique(), unique(), healthy=True, agents=counts()) for name in names)
    return Ledger("a" * 10, 0, tuple(nodes))


@pytest.mark.parametrize(
    ("names", "most"),
    [
        ([f"ip-10-0-{n}.eu-central-1.compute.internal" for n in range(NODES)], OBJECT_BYTES // 4),
        ([LONGEST.format(n) for n in range(NODES)], OBJECT_BYTES // 4),
        ([f"{name}.{'d' * 189}" for name in random_names(NODES, 63)], OBJECT_BYTES // 2),
    ],
)
@pytest.mark.parametrize(("agents", "more"), [(0, 0), (1, 50 << 10), (MAX_PODS, 170 << 10)])
def test_a_ledger_of_5_000_nodes_fits_and_is_read_back(names, most, agents, more):
    ledger = ledger_of(names, agents)
    data = encode_ledger(ledger)
    assert len(base64.b64decode(data["ledger"])) < most + more
    assert read_back(data) == ledger


def read_back(data):
    labels = {"wavegate.dev/kind": "ledger", "wavegate.dev/channel": CHANNEL}
    metadata = {"name": "l", "namespace": SPACE, "resourceVersion": "1", "labels": labels}
    return stored_config_map({"metadata": metadata, "binaryData": data}, None, 0.0).ledger


@pytest.mark.parametrize("names", [random_names(NODES, 253), ["n" * 253] * 15_000])
async def test_a_ledger_that_does_not_fit_is_refused_before_it_is_sent(client, objects, names):
    store = Store(client, SPACE, CHANNEL, lambda _kind, _body: None)
    with pytest.raises(ApiError, match="smaller waves") as caught:
        await store.store_ledger(ledger_of(names))
    assert caught.value.status == 413
    assert objects.requests == []
