"""Images that are pulled ahead: by which pods, when, on which nodes, and what is said of it."""

from dataclasses import replace

import pytest

from support.builders import agent_template, digest, make_channel
from support.invariants import in_wave, with_stable
from wavegate.api import WaveState
from wavegate.rollout.names import CHANNEL_LABEL, prefetch_name
from wavegate.rollout.observation import PrefetchFailure, PrefetchPod
from wavegate.rollout.prefetch import AT_ONCE, RETRY_SECONDS, added, clause, failed, pulled_by
from wavegate.rollout.steps import EndPrefetch, Prefetch, Step, act

AHEAD = {"rollout": {"prefetch": "NextWave"}}
AGENT = f"registry.example/agent@{digest('agent')}"


def soaking(make_sim, **more):
    """The canary soaks with b, and four workers are next."""
    sim = with_stable(make_sim(**more))
    sim.publish("b", 2)
    sim.run(200, until=in_wave(sim, "canary", WaveState.Soaking))
    return replace(sim.observe(), channel=make_channel(**AHEAD))


@pytest.fixture
def obs(make_sim):
    return soaking(make_sim)


def actions(obs, *, paused=False, now=1e6):
    return added(obs, Step(), now, paused=paused).actions


def pods_of(obs):
    (found,) = actions(obs)
    assert isinstance(found, Prefetch)
    return found.pods


def of_node(obs, name, **more):
    rollout = obs.record.rollout
    ledger = rollout.waves[-1].ledger
    pod = prefetch_name(rollout.attempt, ledger, obs.nodes[name].uid)
    return PrefetchPod(pod, obs.namespace, obs.name, rollout.attempt, ledger, name, **more)


# Which pods


def test_each_node_of_the_next_wave_gets_a_pod_that_is_no_agent(obs):
    pods = pods_of(obs)
    names = sorted(pod["spec"]["nodeName"] for pod in pods)
    assert names == ["workers-2", "workers-3", "workers-4", "workers-5"]
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
    assert actions(replace(obs, channel=make_channel())) == ()
    assert actions(replace(obs, channel=None)) == ()


def test_it_never_comes_before_anything_else(obs):
    step = act(EndPrefetch("x", 1))
    assert added(obs, step, 1e6, paused=False) is step
    saves = Step(record=obs.record)
    assert added(obs, saves, 1e6, paused=False) is saves


def test_no_request_is_made_in_a_revert(obs):
    rollout = replace(obs.record.rollout, phase=obs.record.rollout.phase.Reverting)
    left = of_node(obs, "workers-2")
    record = replace(obs.record, rollout=rollout)
    assert actions(replace(obs, record=record, prefetches=(left,))) == ()


def test_nothing_is_pulled_while_the_operator_does_not_see_or_may_not_write(obs):
    assert actions(replace(obs, blind="the watch of pods is interrupted")) == ()
    assert actions(replace(obs, forbidden="no RoleBinding")) == ()


@pytest.mark.parametrize("state", [WaveState.Moving, WaveState.Judging])
def test_pods_stay_while_the_wave_may_soak_on_but_none_is_made(obs, state):
    rollout = obs.record.rollout.with_wave(state=state)
    obs = replace(obs, record=replace(obs.record, rollout=rollout))
    assert actions(replace(obs, prefetches=(of_node(obs, "workers-2"),))) == ()


@pytest.mark.parametrize("state", [WaveState.Passed, WaveState.Held])
def test_pods_go_when_the_wave_has_passed_or_is_held(obs, state):
    left = of_node(obs, "workers-2", pulled=True, ended=True)
    rollout = obs.record.rollout.with_wave(state=state)
    obs = replace(obs, record=replace(obs.record, rollout=rollout), prefetches=(left,))
    assert actions(obs) == (EndPrefetch(*left.soaking),)


def test_pods_go_when_it_is_paused_or_turned_off_or_over(obs):
    left = of_node(obs, "workers-2")
    ends = (EndPrefetch(*left.soaking),)
    obs = replace(obs, prefetches=(left,))
    assert actions(obs, paused=True) == ends
    assert actions(replace(obs, channel=make_channel())) == ends
    assert actions(replace(obs, record=replace(obs.record, rollout=None))) == ends


def test_those_that_are_going_are_not_deleted_again(obs):
    left = of_node(obs, "workers-2", terminating=True)
    assert actions(replace(obs, prefetches=(left,)), paused=True) == ()


# On which nodes


def test_a_node_is_asked_once_in_a_soak(obs):
    known = of_node(obs, "workers-2", pulled=True, ended=True)
    names = [pod["spec"]["nodeName"] for pod in pods_of(replace(obs, prefetches=(known,)))]
    assert sorted(names) == ["workers-3", "workers-4", "workers-5"]


def test_a_node_that_is_not_ready_is_not_asked(obs):
    nodes = {**obs.nodes, "workers-2": replace(obs.nodes["workers-2"], ready=False)}
    names = [pod["spec"]["nodeName"] for pod in pods_of(replace(obs, nodes=nodes))]
    assert sorted(names) == ["workers-3", "workers-4", "workers-5"]


def test_so_many_pull_at_a_time_and_no_more(make_sim):
    obs = soaking(make_sim, workers=60)
    assert len(pods_of(obs)) == AT_ONCE
    named = [pod["spec"]["nodeName"] for pod in pods_of(obs)]
    half = [of_node(obs, name) for name in named[: AT_ONCE // 2]]
    assert len(pods_of(replace(obs, prefetches=tuple(half)))) == AT_ONCE - AT_ONCE // 2
    more = [of_node(obs, name) for name in named[: AT_ONCE // 2 + 1]]
    assert actions(replace(obs, prefetches=tuple(more))) == ()
    done = [replace(pod, pulled=True, ended=True) for pod in more]
    assert len(pods_of(replace(obs, prefetches=tuple(done)))) == AT_ONCE


def test_behind_the_last_wave_there_is_nothing_to_pull(obs):
    rollout = obs.record.rollout
    wave = replace(rollout.waves[-1], name="all")
    key = obs.key
    side = obs.nodes["canary-0"].sides[key]
    nodes = {name: replace(n, sides={key: side}) for name, n in obs.nodes.items()}
    entries = obs.ledgers[wave.ledger]
    more = [replace(entries.nodes[0], name=n.name, uid=n.uid) for n in nodes.values()]
    ledgers = {wave.ledger: replace(entries, nodes=tuple(more))}
    last = replace(rollout, waves=(wave, wave))
    record = replace(obs.record, rollout=last)
    assert actions(replace(obs, nodes=nodes, ledgers=ledgers, record=record)) == ()


# What is refused, and what is said


def test_what_the_apiserver_refuses_is_told_and_tried_again_a_minute_later(obs):
    failure = failed(replace(obs, at=1_000.0), "quota exceeded (HTTP 403)")
    refused = replace(obs, prefetch_failure=failure)
    assert clause(refused) == "images can't be pulled ahead: quota exceeded (HTTP 403)"
    assert actions(refused, now=1_000.0 + RETRY_SECONDS - 1) == ()
    assert len(actions(refused, now=1_000.0 + RETRY_SECONDS)) == 1


def test_what_can_t_be_deleted_is_not_tried_with_each_look(obs):
    left = of_node(obs, "workers-2")
    failure = failed(replace(obs, at=1_000.0), "webhook down (HTTP 500)")
    stuck = replace(obs, prefetches=(left,), prefetch_failure=failure)
    assert actions(stuck, paused=True, now=1_001.0) == ()
    assert actions(stuck, paused=True, now=1_000.0 + RETRY_SECONDS) == (EndPrefetch(*left.soaking),)


def test_what_was_refused_in_another_soak_is_not_told(obs):
    failure = PrefetchFailure("another", 1, 1_000.0, "quota exceeded")
    assert clause(replace(obs, prefetch_failure=failure)) == ""


def test_the_message_counts_and_names_where_it_fails(obs):
    assert clause(obs) == ""
    pods = [
        of_node(obs, "workers-2", pulled=True, ended=True),
        of_node(obs, "workers-3", problem="ImagePullBackOff"),
        of_node(obs, "workers-4"),
    ]
    assert clause(replace(obs, prefetches=tuple(pods))) == (
        "images of the next wave: pulled on 1 of 3 nodes, not on workers-3 (ImagePullBackOff)"
    )
    assert clause(replace(obs, prefetches=tuple(pods), channel=make_channel())) == ""
