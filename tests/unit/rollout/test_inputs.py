"""What an agent reads besides its content is found wherever a template can name it."""

from dataclasses import replace

import pytest

from support.builders import agent_template, make_channel
from wavegate.rollout.channel_report import channel_status
from wavegate.rollout.inputs import inputs


def found(kind="imageVolume", target="volumeName", **pod):
    template = agent_template()
    template["spec"] |= pod
    return inputs(template, make_channel(content={kind: {target: "content"}}).spec)


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        ({}, ()),
        ({"volumes": None, "containers": None, "initContainers": None}, ()),
        ({"volumes": [{"name": "v", "configMap": {"name": "c"}}]}, (("ConfigMap", "c"),)),
        ({"volumes": [{"name": "v", "secret": {"secretName": "s"}}]}, (("Secret", "s"),)),
        (
            {
                "volumes": [
                    {
                        "name": "v",
                        "projected": {
                            "sources": [
                                {"configMap": {"name": "c"}},
                                {"secret": {"name": "s"}},
                                {"downwardAPI": {"items": []}},
                            ]
                        },
                    }
                ]
            },
            (("ConfigMap", "c"), ("Secret", "s")),
        ),
        (
            {"containers": [{"envFrom": [{"configMapRef": {"name": "c"}}, {"prefix": "x"}]}]},
            (("ConfigMap", "c"),),
        ),
        ({"initContainers": [{"envFrom": [{"secretRef": {"name": "s"}}]}]}, (("Secret", "s"),)),
        (
            {
                "containers": [
                    {
                        "env": [
                            {"name": "A", "value": "1"},
                            {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "x"}}},
                            {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "c"}}},
                            {"name": "D", "valueFrom": {"secretKeyRef": {"name": "s"}}},
                            {"name": "E", "valueFrom": {"secretKeyRef": {"name": "s"}}},
                        ]
                    }
                ]
            },
            (("ConfigMap", "c"), ("Secret", "s")),
        ),
        ({"imagePullSecrets": [{"name": "pull"}]}, ()),
    ],
)
def test_each_place_that_names_a_config_map_or_secret_is_found_once(pod, expected):
    assert found(**pod) == expected


def test_the_content_s_own_volume_is_no_input_but_another_channel_kind_s_is():
    volumes = [{"name": "content", "configMap": {"name": "c"}}]
    assert found("configMap", volumes=volumes) == ()
    assert found("containerImage", "containerName", volumes=volumes) == (("ConfigMap", "c"),)


@pytest.mark.parametrize(
    ("ungated", "status", "reason", "words"),
    [
        ((), "True", "Accepted", "reads nothing"),
        (("Secret s",), "False", "UngatedInput", "reads Secret s:"),
        (tuple(f"Secret {n}" for n in range(7)), "False", "UngatedInput", "Secret 4 and 2 more:"),
    ],
)
def test_the_channel_names_what_is_not_gated_and_stays_ready(sim, ungated, status, reason, words):
    obs = sim.observe()
    ready, gated, *_ = channel_status(with_inputs(obs, ungated))["conditions"]
    assert (ready["type"], ready["status"]) == ("Ready", "True")
    assert (gated["type"], gated["status"], gated["reason"]) == ("InputsGated", status, reason)
    assert words in gated["message"]


def test_a_channel_whose_inputs_are_not_known_says_nothing_of_them(sim):
    conditions = channel_status(sim.observe())["conditions"]
    assert [c["type"] for c in conditions] == ["Ready", "LoadedProof", "AgentCurrent"]


def with_inputs(obs, ungated):
    return replace(obs, agent=replace(obs.agent, ungated=ungated))
