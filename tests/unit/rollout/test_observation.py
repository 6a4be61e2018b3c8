"""What is worked out from an observation is worked out once, and never outlives it."""

from dataclasses import replace

import pytest

from support import fleet
from support.builders import digest
from support.invariants import ended
from wavegate.api import Pool
from wavegate.evidence import NodeView, Taint
from wavegate.rollout import channel_report, exposure, report
from wavegate.rollout.decide import decide
from wavegate.rollout.judge import judge, judged_nodes
from wavegate.rollout.kept import Kept
from wavegate.rollout.placement import membership, placement


class Counted(dict):
    """Counts how often somebody walks through all of it."""

    walks = 0

    def values(self):
        self.walks += 1
        return super().values()

    def items(self):
        self.walks += 1
        return super().items()

    def __iter__(self):
        self.walks += 1
        return super().__iter__()


@pytest.mark.parametrize("state", fleet.STATES)
def test_a_whole_pass_walks_through_the_nodes_a_few_times_whatever_the_state(state):
    obs = fleet.observe(200, state)
    obs = replace(obs, nodes=Counted(obs.nodes))
    step = decide(obs, fleet.NOW)
    channel_report.channel_status(obs)
    for release in obs.releases:
        report.release_status(obs, release, step, fleet.NOW)
    # By label and host name, the fleet of the candidate and of stable, the channel's one pool.
    assert obs.nodes.walks <= 5


def test_a_copy_that_differs_is_looked_at_anew():
    obs = fleet.observe(20, "soaking")
    rollout, template = obs.record.rollout, obs.revisions[fleet.NEW].template
    looks = (
        lambda o: len(o.pods_of(fleet.NEW)),
        lambda o: len(o.pods_on(fleet.NEW)),
        lambda o: len(o.moved(fleet.NEW)),
        lambda o: len(o.carriers(template)),
        lambda o: len(judged_nodes(o, rollout)),
    )
    assert [look(obs) for look in looks] == [20] * 5
    assert [look(replace(obs, nodes={}, pods=(), ledgers={})) for look in looks] == [0] * 5
    assert obs == replace(obs)


def test_a_decision_is_the_same_whoever_looked_at_the_observation_before(sim):
    def looked_at(_sim, obs, step):
        channel_report.channel_status(obs)
        for release in obs.releases:
            report.release_status(obs, release, step, _sim.now)
        anew = replace(obs, kept=Kept())
        assert decide(obs, _sim.now) == decide(anew, _sim.now) == step

    sim.watchers.append(looked_at)
    sim.publish("b", 2)
    sim.run(400, until=ended(sim, "b"))
    sim.harms[digest("c")] = "kill"
    sim.publish("c", 3)
    sim.run(400, until=ended(sim, "c"))


def test_a_fact_belongs_to_what_was_asked():
    obs = fleet.observe(20, "moving")
    nowhere = {"spec": {"nodeSelector": {"absent": "x"}}}
    assert len(obs.carriers(obs.revisions[fleet.NEW].template)) == 20
    assert obs.carriers(nowhere) == {}
    assert len(obs.pods_on(fleet.NEW)) == len(obs.pods_on(fleet.OLD)) == 10
    rollout, later = obs.record.rollout, fleet.NOW + 3600
    assert exposure.measure(obs, rollout, fleet.NOW).settled
    assert not exposure.measure(obs, rollout, later).settled, "no lease was renewed since"


def test_what_follows_from_the_same_things_serves_the_next_pass_and_no_longer():
    kept, asked = Kept(), []

    def compute(nodes, attempt):
        asked.append(attempt)
        return [attempt]

    nodes = {"a": 1}
    first = kept.of(compute, nodes, "x")
    kept.next_pass()
    assert kept.of(compute, nodes, f"{first[0]}") is first
    assert kept.of(compute, dict(nodes), "x") == first, "an equal object may be another one soon"
    assert kept.of(compute, nodes, "y") == ["y"]
    assert asked == ["x", "x", "y"]
    kept.next_pass()
    kept.next_pass()
    assert kept.of(compute, nodes, "x") is not first, "nobody had asked for it in a pass"


def test_a_pass_after_another_finds_each_change_and_nothing_else():
    """What is kept of a pass must not hide what the next one shows, of any node."""
    before = fleet.observe(20, "soaking")
    rollout = before.record.rollout
    name = sorted(before.nodes)[7]
    node, pod = before.nodes[name], next(pod for pod in before.pods if pod.node == name)
    others = tuple(p for p in before.pods if p is not pod)
    changes = (
        {"nodes": {**before.nodes, name: replace(node, ready=False)}},
        {"nodes": {**before.nodes, name: replace(node, boot_id="other")}},
        {"nodes": {n: v for n, v in before.nodes.items() if n != name}},
        {"pods": (*others, replace(pod, restarts=1))},
        {"pods": others},
        {"leases": {**before.leases, name: fleet.NOW - 26}},
    )
    for change in changes:
        assert judge(before, rollout, fleet.NOW) == ()
        before.kept.next_pass()
        (found,) = judge(replace(before, **change), rollout, fleet.NOW)
        assert found.node == name
        before.kept.next_pass()
        assert judge(before, rollout, fleet.NOW) == (), "it is well again"


def asks(kind, key, value):
    term = {kind: [{"key": key, "operator": "In", "values": [value]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    return {"affinity": {"nodeAffinity": required}}


PLAIN = NodeView("n1", "u", "b", ready=True, labels={"x": "a", "y": "a"})
TAINT = Taint("t", "", "NoExecute")


@pytest.mark.parametrize(
    ("spec", "other"),
    [
        ({"nodeSelector": {"x": "a"}}, replace(PLAIN, labels={"x": "b", "y": "a"})),
        (asks("matchExpressions", "x", "a"), replace(PLAIN, labels={"y": "a"})),
        (asks("matchFields", "metadata.name", "n1"), replace(PLAIN, name="n2")),
        ({}, replace(PLAIN, taints=(TAINT,))),
    ],
)
def test_nodes_are_told_apart_by_all_that_a_template_asks_for(spec, other):
    runs = placement({"spec": spec})
    alike = replace(PLAIN, uid="another", labels=PLAIN.labels | {"hostname": "another"})
    for _ in range(2):
        assert [runs(node) for node in (PLAIN, other, alike)] == [True, False, True]


def test_nodes_are_told_apart_by_all_that_pools_ask_for():
    expression = {"key": "y", "operator": "Exists"}
    pools_of = membership(
        [
            Pool.model_validate({"name": "of-x", "selector": {"matchLabels": {"x": "a"}}}),
            Pool.model_validate({"name": "of-y", "selector": {"matchExpressions": [expression]}}),
        ]
    )
    for _ in range(2):
        assert pools_of(PLAIN) == {"of-x", "of-y"}
        assert pools_of(replace(PLAIN, labels={"x": "a"})) == {"of-x"}
        assert pools_of(replace(PLAIN, labels={"x": "b", "y": ""})) == {"of-y"}
        assert pools_of(replace(PLAIN, labels={})) == set()
