"""What is worked out from an observation is worked out once, and never outlives it."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import fleet
from support.builders import digest
from support.invariants import ended
from wavegate.evidence import NodeView, Taint
from wavegate.rollout import report
from wavegate.rollout.decide import decide
from wavegate.rollout.judge import judged_nodes
from wavegate.rollout.placement import placement, runs_on


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
    report.channel_status(obs)
    for release in obs.releases:
        report.release_status(obs, release, step, fleet.NOW)
    # By label, the fleet of the candidate and of stable, and the channel's one pool.
    assert obs.nodes.walks <= 4


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
        report.channel_status(obs)
        for release in obs.releases:
            report.release_status(obs, release, step, _sim.now)
        assert decide(obs, _sim.now) == decide(replace(obs), _sim.now) == step

    sim.watchers.append(looked_at)
    sim.publish("b", 2)
    sim.run(400, until=ended(sim, "b"))
    sim.harms[digest("c")] = "kill"
    sim.publish("c", 3)
    sim.run(400, until=ended(sim, "c"))


values = st.sampled_from(["", "a", "b", "7"])
keys = st.sampled_from(["x", "y", "metadata.name"])
operators = st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"])
expressions = st.lists(
    st.builds(
        lambda key, operator, value: {"key": key, "operator": operator, "values": [value]},
        keys,
        operators,
        values,
    ),
    max_size=2,
)
terms = st.lists(
    st.fixed_dictionaries(
        {}, optional={"matchExpressions": expressions, "matchFields": expressions}
    ),
    max_size=3,
)
taints = st.lists(
    st.builds(
        Taint, st.sampled_from(["t", "u"]), values, st.sampled_from(["NoSchedule", "NoExecute"])
    ),
    max_size=2,
).map(tuple)
nodes = st.lists(
    st.builds(
        lambda name, labels, taint: NodeView(
            name, name, "b", ready=True, labels=labels, taints=taint
        ),
        values,
        st.dictionaries(keys, values, max_size=3),
        taints,
    ),
    max_size=8,
)
tolerations = st.lists(
    st.builds(lambda key, value: {"key": key, "value": value}, st.sampled_from(["t", "u"]), values),
    max_size=2,
)


@given(st.dictionaries(keys, values, max_size=2), st.none() | terms, tolerations, nodes)
def test_nodes_that_look_alike_to_a_template_are_told_apart_from_all_others(
    selector, ored, tolerated, fleet_nodes
):
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": ored}}
    affinity = {} if ored is None else {"nodeAffinity": required}
    template = {"spec": {"nodeSelector": selector, "tolerations": tolerated, "affinity": affinity}}
    runs = placement(template)
    for node in [*fleet_nodes, *fleet_nodes]:
        assert runs(node) is runs_on(template, node)
