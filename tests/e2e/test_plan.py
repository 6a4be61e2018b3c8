"""The plan that is shown before anything starts, and a rollout that follows it, node for node."""

from datetime import datetime
from typing import Any

from support.operator_process import OperatorProcess
from support.story import Story
from wavegate.api import Duration
from wavegate.cluster.projections import stored_config_map
from wavegate.rollout.names import CONTROL_PLANE_LABEL, KIND_LABEL, ZONE_LABEL
from wavegate_sandbox.cluster import Sandbox
from wavegate_sandbox.nodes import NodeSpec

POOLS = ("workers", "payments")
OLDER, NEWER = "6.1.0", "6.18.1"
FOLLOWED = 5
"""So many waves are waited for: the ordinary ones."""


def test_a_suspended_channel_shows_the_plan_that_its_rollout_then_follows(
    story: Story, sandbox: Sandbox, operators: list[OperatorProcess]
) -> None:
    assert operators
    fleet = mixed_fleet(story)
    story.begin({"suspend": True, **shape(story)})
    sandbox.add_nodes(fleet)
    story.publish("a")
    names = {spec.name for spec in fleet} | set(story.nodes)
    plan = until_planned(story, len(names))

    assert [wave["name"] for wave in plan["waves"]] == [
        *("first-node", "each-stratum", "25-percent", "half", "all", "no-pool"),
        *("critical-first", "critical-half", "critical-all", "control-plane-1"),
    ]
    assert sum(wave["nodes"] for wave in plan["waves"]) == plan["nodes"]
    assert "later" not in plan
    named = {wave["name"]: wave["first"] for wave in plan["waves"] if wave["nodes"]}
    assert named["control-plane-1"] == [f"{story.namespace}-master"]
    assert named["no-pool"] == [f"{story.namespace}-canary"]
    assert story.agents() == {}
    assert story.status("a")["phase"] == "Pending"

    story.apply_channel({"suspend": False, **shape(story)})
    first = plan["waves"][:FOLLOWED]
    status = story.until("a", "the first waves have passed", has_passed, 150)

    ledgers = ledgers_of(story)
    assert [len(ledgers[place]) for place in range(FOLLOWED)] == [w["nodes"] for w in first]
    for place, wave in enumerate(first):
        assert ledgers[place][: len(wave["first"])] == wave["first"], wave
    assert sum(len(wave["first"]) for wave in first) >= FOLLOWED
    assert took(status["waves"][:FOLLOWED]) >= sum(Duration.parse(wave["least"]) for wave in first)


def shape(story: Story) -> dict[str, Any]:
    """The default waves over a large pool and a critical one; the canary is in none."""
    pools = [
        {"name": name, "selector": {"matchLabels": {"story": story.namespace, "pool": name}}}
        for name in POOLS
    ]
    pools[1]["critical"] = True
    return {"pools": pools, "waves": []}


def mixed_fleet(story: Story) -> list[NodeSpec]:
    """Workers of two more kernels in two zones, three expensive nodes, one of the control plane."""
    space = story.namespace
    mine = {"story": space, "pool": "workers"}
    kinds = [(OLDER, "east"), (OLDER, "west"), (NEWER, "east"), (NEWER, "west")]
    workers = [
        NodeSpec(f"{space}-{zone}-{kernel}-{n}", {**mine, ZONE_LABEL: zone}, kernel=kernel)
        for kernel, zone in kinds
        for n in range(3)
    ]
    payments = [
        NodeSpec(f"{space}-payments-{n}", {"story": space, "pool": "payments"}) for n in range(3)
    ]
    return [*workers, *payments, NodeSpec(f"{space}-master", {**mine, CONTROL_PLANE_LABEL: ""})]


def until_planned(story: Story, nodes: int) -> dict[str, Any]:
    """The channel's plan of release a, once it is about so many nodes."""
    found: dict[str, Any] = {}

    def shown() -> bool:
        found.clear()
        found.update(story.channel_status().get("plan", {}))
        return found.get("release") == "a" and found["nodes"] == nodes

    story.sandbox.wait_for("the plan is shown", shown)
    return found


def ledgers_of(story: Story) -> dict[int, list[str]]:
    """By wave, the nodes that it took, in their order."""
    path = f"/api/v1/namespaces/{story.namespace}/configmaps"
    ours = {"labelSelector": f"{KIND_LABEL}=ledger"}
    bodies = story.sandbox.request("GET", path, params=ours)["items"]
    found = [stored_config_map(body, None, 0.0).ledger for body in bodies]
    return {led.number: [node.name for node in led.nodes] for led in found if led is not None}


def has_passed(status: dict[str, Any]) -> bool:
    """Whether the waves that are waited for have."""
    waves = status.get("waves", [])
    return len(waves) > FOLLOWED and all(w["state"] == "Passed" for w in waves[:FOLLOWED])


def took(waves: list[dict[str, Any]]) -> float:
    """Seconds from the opening of the first until the last one passed."""
    first, last = waves[0]["openedAt"], waves[-1]["passedAt"]
    return (datetime.fromisoformat(last) - datetime.fromisoformat(first)).total_seconds()
