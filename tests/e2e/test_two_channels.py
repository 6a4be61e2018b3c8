"""Two channels on the same nodes, on the real control plane: they keep apart.

The second channel is in a namespace of its own, as another team would have it.
"""

from collections.abc import Iterator, Mapping
from itertools import permutations
from typing import Any

import pytest

from fidelity.sandboxed import Recorder
from fidelity.trace import Change
from support.operator_process import OperatorProcess
from support.story import PATIENCE, Story, channel_spec, digest, let_agents_run
from wavegate.api import WaveState
from wavegate.cluster.projections import stored_config_map
from wavegate.evidence import Ledger
from wavegate.rollout.names import node_label
from wavegate.rollout.record import Record
from wavegate_sandbox.cluster import Sandbox


@pytest.fixture
def neighbour(story: Story, sandbox: Sandbox, operators: list[OperatorProcess]) -> Story:
    """A channel, not made yet, in another namespace. Its nodes are to be those of `story`."""
    assert operators
    name = f"{story.namespace}-near"
    sandbox.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    let_agents_run(sandbox, name)
    return Story(sandbox, name, workers=story.workers, channel="scans")


def spec_on(story: Story, agent: str) -> dict[str, Any]:
    """The spec of a channel that runs this agent on the nodes of a story."""
    spec = channel_spec(story.namespace)
    [container] = spec["agent"]["template"]["spec"]["containers"]
    container["image"] = f"registry.example/{agent}@{digest(agent)}"
    return spec


def test_two_channels_on_the_same_nodes_complete_and_have_none_in_the_same_soak(
    story: Story, neighbour: Story, sandbox: Sandbox
) -> None:
    with Recorder(sandbox) as recorder:
        story.begin()
        neighbour.apply_channel(spec_on(story, "scanner"))
        story.publish("a")
        neighbour.publish("s")

        def both_completed() -> bool:
            seen = [story.status("a"), neighbour.status("s")]
            return all(status.get("phase") == "Completed" for status in seen)

        sandbox.wait_for("both releases to complete", both_completed, PATIENCE)

        running = {pod["spec"]["nodeName"] for pod in neighbour.pods()}
        assert story.agents().keys() == running == set(story.nodes)
        both = [*recorder.changes(story.namespace), *recorder.changes(neighbour.namespace)]
        moved = list(moves(both))
    assert len(moved) == 2 * len(story.nodes)
    assert [f"{node}: {channel}" for node, channel, together in moved if together] == []
    releases = (c.body for c in both if c.plural == "securitycontentreleases")
    said = {release.get("status", {}).get("reason") for release in releases}
    assert "NodeBusy" in said  # one of the two has the canary first, and the other says so


def test_a_second_channel_for_the_same_agent_starts_nothing_and_the_first_goes_on(
    story: Story, neighbour: Story
) -> None:
    story.begin()
    story.until_channel_seen()
    neighbour.apply_channel(spec_on(story, "agent"))
    neighbour.publish("s")
    story.publish("a")
    story.until_phase("a", "Completed")
    waits = neighbour.until("s", "refused", lambda s: s.get("reason") == "NodeClaimedTwice")
    assert waits["phase"] == "Pending"
    assert f"channel {story.namespace}/rules" in waits["message"]
    ready = {c["type"]: c for c in neighbour.channel_status()["conditions"]}["Ready"]
    assert (ready["status"], ready["reason"]) == ("False", "NodeClaimedTwice")
    assert neighbour.pods() == []


def moves(changes: list[Change]) -> Iterator[tuple[str, str, bool]]:
    """Each move of a node: the node, the channel, and whether the other one had it in a wave that
    had not passed. Changes are taken in etcd's order.
    """
    records: dict[str, Record] = {}
    ledgers: dict[tuple[str, int], Ledger] = {}
    for change in sorted(changes, key=lambda c: int(c.body["metadata"]["resourceVersion"])):
        if change.plural == "configmaps":
            stored = stored_config_map(change.body, None, 0.0)
            if stored.record is not None:
                records[stored.record.channel] = stored.record
            if stored.ledger is not None:
                ledgers[stored.ledger.attempt, stored.ledger.number] = stored.ledger
        if change.plural != "nodes" or len(records) < 2:
            continue
        for mine, other in permutations(records.values(), 2):
            key = node_label(mine.namespace, mine.channel)
            now = side(change.after, key)
            if now and now != side(change.before, key):
                together = has_in_wave(other, ledgers, change.body)
                yield change.body["metadata"]["name"], mine.channel, together


def has_in_wave(
    record: Record, ledgers: Mapping[tuple[str, int], Ledger], node: Mapping[str, Any]
) -> bool:
    """Whether a node was moved by a wave of this channel that has not passed."""
    rollout = record.rollout
    if rollout is None or side(node, node_label(record.namespace, record.channel)) == "":
        return False
    active = (w for w in rollout.waves if w.state is not WaveState.Passed)
    found = (ledgers.get((rollout.attempt, wave.ledger)) for wave in active)
    names = {entry.name for ledger in found if ledger for entry in ledger.nodes}
    return node["metadata"]["name"] in names


def side(node: Mapping[str, Any] | None, key: str) -> str:
    """What a channel's label says; "" where it is not."""
    return str(((node or {}).get("metadata", {}).get("labels") or {}).get(key, ""))
