"""Images that are pulled ahead: by which pods, when, on which nodes, and what is said of it."""

from dataclasses import replace

import pytest

from support.builders import agent_template, digest, make_channel
from support.invariants import in_wave, with_stable
from wavegate.api import Phase, WaveState
from wavegate.rollout.names import CHANNEL_LABEL, prefetch_name
from wavegate.rollout.observation import Prefetched, PrefetchPod
from wavegate.rollout.prefetch import AT_ONCE, clause, due, over, pulled_by, room, soak

AHEAD = {"rollout": {"prefetch": "NextWave"}}
AGENT = f"registry.example/agent@{digest('agent')}"
NOW = 1e6


@pytest.fixture
def obs(make_sim):
    """The canary soaks with b, and four workers are next."""
    sim = with_stable(make_sim())
    sim.publish("b", 2)
    sim.run(200, until=in_wave(sim, "canary", WaveState.Soaking))
    return replace(sim.observe(), channel=make_channel(**AHEAD))


def pods_of(obs):
    return list(due(obs, NOW).values())


def nodes_of(obs):
    return sorted(pod["spec"]["nodeName"] for pod in pods_of(obs))


def of_node(obs, name, **more):
    rollout = obs.record.rollout
    ledger = rollout.waves[-1].ledger
    pod = prefetch_name(rollout.attempt, ledger, obs.nodes[name].uid)
    this = more.pop("soak", (rollout.attempt, str(ledger)))
    return PrefetchPod(pod, obs.namespace, obs.name, this, name, **more)


def seeing(obs, *pods, **failed):
    return replace(obs, prefetched=Prefetched(pods, **failed))


def in_state(obs, **wave):
    rollout = obs.record.rollout.with_wave(**wave)
    return replace(obs, record=replace(obs.record, rollout=rollout))


def with_node(obs, name, **fields):
    return replace(obs, nodes={**obs.nodes, name: replace(obs.nodes[name], **fields)})


# Which pods


def test_each_node_of_the_next_wave_gets_a_pod_that_is_no_agent(obs):
    pods = pods_of(obs)
    assert nodes_of(obs) == ["workers-2", "workers-3", "workers-4", "workers-5"]
    assert not any(CHANNEL_LABEL in pod["metadata"]["labels"] for pod in pods)
    (owner,) = pods[0]["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"]) == (
        *("SecurityContentChannel", "channel"),
        True,
    )


def test_its_program_is_named_by_the_attempt_which_nobody_knew_when_the_image_was_made(obs):
    attempt = obs.record.rollout.attempt
    commands = [c["command"] for pod in pods_of(obs) for c in pod["spec"]["containers"]]
    assert commands == [[f"/wavegate-runs-nothing-{attempt}"]] * 4


def test_content_is_a_volume_of_a_container_of_an_image_that_is_there(obs):
    spec = pods_of(obs)[0]["spec"]
    (container,), (volume,) = spec["containers"], spec["volumes"]
    assert container["image"] == AGENT
    reference = f"registry.example/content@{digest('b')}"
    assert volume["image"] == {"reference": reference, "pullPolicy": "IfNotPresent"}
    assert [mount["name"] for mount in container["volumeMounts"]] == [volume["name"]]


def test_it_has_the_agents_way_to_the_registry_and_none_of_its_rights():
    template = agent_template()
    template["spec"] |= {
        "serviceAccountName": "agent",
        "imagePullSecrets": [{"name": "registry"}],
        "hostNetwork": True,
        "hostPID": True,
        "priorityClassName": "system-node-critical",
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
    }
    template["spec"]["containers"][0] |= {
        "securityContext": {"privileged": True},
        "env": [{"name": "KEY", "value": "secret"}],
        "lifecycle": {"postStart": {"exec": {"command": ["/agent"]}}},
    }
    template["spec"]["volumes"].append({"name": "host", "hostPath": {"path": "/"}})
    spec = pulled_by(template, {})
    assert spec["serviceAccountName"] == "agent"
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert spec["hostNetwork"] is True
    assert {"key": "gpu", "operator": "Exists"} in spec["tolerations"]
    assert spec["automountServiceAccountToken"] is False
    assert not spec.keys() & {"hostPID", "priorityClassName"}
    (container,) = spec["containers"]
    assert not container.keys() & {"env", "lifecycle"}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert [key for volume in spec["volumes"] for key in volume if key != "name"] == ["image"]


def test_an_image_that_stable_has_is_not_pulled_and_a_new_agent_is():
    old, new = agent_template(), agent_template()
    assert pulled_by(new, old) is None
    image = f"registry.example/agent@{digest('agent 2')}"
    new["spec"]["initContainers"] = [{"name": "init", "image": AGENT}]
    new["spec"]["containers"][0]["image"] = image
    spec = pulled_by(new, old)
    assert [container["image"] for container in spec["containers"]] == [image]
    assert spec["volumes"] == []


def test_content_in_a_config_map_is_not_pulled():
    template = agent_template()
    template["spec"]["volumes"] = [{"name": "content", "configMap": {"name": "c"}}]
    other = agent_template()
    other["spec"]["volumes"] = [{"name": "content", "configMap": {"name": "d"}}]
    assert pulled_by(template, other) is None


# When


def test_nothing_is_pulled_unless_the_channel_asks_for_it(obs):
    assert due(obs, NOW)
    for channel in (make_channel(), None):
        assert due(replace(obs, channel=channel), NOW) == {}
        assert soak(replace(obs, channel=channel), NOW) is None


def test_nothing_is_pulled_while_the_operator_does_not_see(obs):
    assert due(replace(obs, blind="the watch of pods is interrupted"), NOW) == {}


@pytest.mark.parametrize("state", [WaveState.Moving, WaveState.Judging])
def test_pods_stay_while_the_wave_may_soak_on_but_none_is_made(obs, state):
    obs = seeing(in_state(obs, state=state), of_node(obs, "workers-2"))
    assert due(obs, NOW) == {}
    assert over(obs, NOW) == []


@pytest.mark.parametrize("state", [WaveState.Passed, WaveState.Held, WaveState.Failed])
def test_pods_go_when_the_wave_has_passed_or_is_held(obs, state):
    left = of_node(obs, "workers-2", pulled=True, ended=True)
    assert over(seeing(in_state(obs, state=state), left), NOW) == [left.soak]


def test_pods_go_when_the_next_wave_is_open(obs):
    left = of_node(obs, "workers-2")
    rollout = obs.record.rollout.with_wave(state=WaveState.Passed).with_next_wave()
    opened = rollout.with_wave(state=WaveState.Moving)
    obs = seeing(replace(obs, record=replace(obs.record, rollout=opened)), left)
    assert over(obs, NOW) == [left.soak]


def test_pods_go_when_it_is_paused_or_turned_off_or_reverted_or_over(obs):
    left = of_node(obs, "workers-2")
    obs = seeing(obs, left)
    paused = make_channel(**AHEAD, suspend=True)
    reverting = replace(obs.record.rollout, phase=Phase.Reverting)
    assert over(obs, NOW) == []
    for ended in (
        replace(obs, channel=paused),
        replace(obs, channel=make_channel()),
        replace(obs, record=replace(obs.record, rollout=reverting)),
        replace(obs, record=replace(obs.record, rollout=None)),
    ):
        assert over(ended, NOW) == [left.soak]
        assert due(ended, NOW) == {}
        assert clause(ended, NOW) == ""


def test_those_that_are_going_are_not_deleted_again(obs):
    left = of_node(obs, "workers-2", soak=("old", "1"), terminating=True)
    assert over(seeing(obs, left), NOW) == []


# On which nodes


@pytest.mark.parametrize(
    "fields", [{"ready": False}, {"unschedulable": True}, {"announced": "drain"}]
)
def test_a_node_that_may_leave_is_not_asked(obs, fields):
    obs = with_node(obs, "workers-2", **fields)
    assert nodes_of(obs) == ["workers-3", "workers-4", "workers-5"]


def test_a_node_that_another_channel_has_in_a_wave_is_not_asked(obs):
    obs = replace(obs, busy={"workers-2": "agents/other"})
    assert nodes_of(obs) == ["workers-3", "workers-4", "workers-5"]


def test_so_many_pull_at_a_time_and_no_more(obs):
    assert room(obs, NOW) == AT_ONCE
    pulling = of_node(obs, "workers-2")
    others = (
        replace(pulling, pulled=True, ended=True),
        replace(pulling, terminating=True),
        replace(pulling, soak=("old", "1")),
    )
    assert room(seeing(obs, pulling, *others), NOW) == AT_ONCE - 1


def in_the_last_wave(obs, *left):
    """The last wave soaks, and all nodes have the content but those that are left."""
    rollout = obs.record.rollout
    wave = replace(rollout.waves[-1], name="all")
    side = obs.nodes["canary-0"].sides[obs.key]
    moved = {name: replace(n, sides={obs.key: side}) for name, n in obs.nodes.items()}
    moved |= {name: obs.nodes[name] for name in left}
    entries = obs.ledgers[wave.ledger]
    more = [
        replace(entries.nodes[0], name=n.name, uid=n.uid)
        for n in moved.values()
        if n.name not in left
    ]
    ledgers = {wave.ledger: replace(entries, nodes=tuple(more))}
    record = replace(obs.record, rollout=replace(rollout, waves=(wave, wave)))
    return replace(obs, nodes=moved, ledgers=ledgers, record=record)


def test_behind_the_last_wave_there_is_nothing_to_pull(obs):
    assert due(in_the_last_wave(obs), NOW) == {}


def test_a_sweep_is_the_next_wave_too_but_not_its_nodes_that_may_leave(obs):
    last = in_the_last_wave(obs, "workers-2", "workers-3")
    assert nodes_of(last) == ["workers-2", "workers-3"]
    assert nodes_of(with_node(last, "workers-2", unschedulable=True)) == ["workers-3"]


# What is said


def test_what_the_apiserver_refuses_is_told_in_that_soak_only(obs):
    this = soak(obs, NOW)
    refused = seeing(obs, failed={this: "quota exceeded (HTTP 403)"})
    assert clause(refused, NOW) == "images can't be pulled ahead: quota exceeded (HTTP 403)"
    assert clause(seeing(obs, failed={("old", "1"): "quota exceeded"}), NOW) == ""


def test_the_message_counts_and_names_where_it_fails(obs):
    assert clause(obs, NOW) == ""
    pods = [
        of_node(obs, "workers-2", pulled=True, ended=True),
        of_node(obs, "workers-3", problem="ErrImagePull"),
        of_node(obs, "workers-4"),
        of_node(obs, "workers-5", soak=("old", "1"), pulled=True),
    ]
    assert clause(seeing(obs, *pods), NOW) == (
        "images pulled ahead on 1 node of the next wave, not on workers-3 (ErrImagePull)"
    )
