"""What the apiserver makes of an agent's template is asked once, and kept with it."""

import copy

import pytest

from support.builders import agent_template, make_channel
from wavegate.api import Channel
from wavegate.controller.sources import Sources
from wavegate.controller.world import World
from wavegate.rollout.kept import Kept
from wavegate.rollout.record import Record


def with_default(sent):
    """An apiserver that has a default for each pod."""
    body = copy.deepcopy(sent)
    body["spec"]["template"]["spec"].setdefault("restartPolicy", "Always")
    return body


@pytest.fixture
def ask(client, objects):
    """Read the agent of a channel with this template."""
    objects.admit = with_default
    sources = Sources(client, World(client, lambda: 0.0, lambda _: None), lambda: 0.0)

    async def ask(template, record=None):
        channel: Channel = make_channel(agent={"template": template})
        return await sources.agent(channel, record or Record("agents", "rules"), {}, Kept())

    return ask


async def test_the_template_is_shown_as_the_apiserver_would_complete_it(ask, objects):
    agent = await ask(agent_template())
    assert agent.refused == ""
    assert agent.completed["spec"]["restartPolicy"] == "Always"
    assert "nodeAffinity" not in agent.completed["spec"]["affinity"], "it is not targeted"
    asked = len(objects.requests)
    assert (await ask(agent_template())).completed == agent.completed
    assert len(objects.requests) == asked


async def test_another_template_is_asked_anew(ask):
    assert (await ask(agent_template())).completed["spec"].get("hostNetwork") is None
    other = {"spec": {**agent_template()["spec"], "hostNetwork": True}}
    assert (await ask(other)).completed["spec"]["hostNetwork"] is True


async def test_of_what_is_refused_nothing_is_known(ask, objects):
    objects.refuse = lambda _verb, _path: 422
    agent = await ask(agent_template())
    assert "refuses a DaemonSet with this template" in agent.refused
    assert agent.completed is None
