"""Content is made for some versions of the agent; of others it does not even start."""

import pytest

from support.builders import agent_template, make_release
from wavegate.api.release import AgentVersion
from wavegate.rollout.compatible import version_problem


def problem(version, **limits):
    template = agent_template()
    if version:
        template["metadata"] = {"labels": {"app.kubernetes.io/version": version}}
    release = make_release("b", 2, agentVersion=limits)
    assert release.spec.agent_version == AgentVersion(**limits)
    found = version_problem(template, release)
    return found.message if found else ""


@pytest.mark.parametrize(
    "version", ["7.16", "7.16.0", "v7.16", "7.16.2-rc1", "7.100", "7.16_hotfix", "7.99.99+build"]
)
def test_a_version_within_the_limits_may_start(version):
    assert problem(version, min="7.16", below="8") == ""
    assert problem(version, min="7.16.0") == ""
    assert problem(version, below="8.0") == ""


@pytest.mark.parametrize("version", ["7.15", "7.9.9", "6", "8", "8.0.0", "v8.0-rc1", "10.1"])
def test_a_version_outside_of_them_does_not_and_is_told_why(version):
    said = problem(version, min="7.16", below="8")
    assert f"made for agents from 7.16 and below 8, and the channel's is {version}" in said


@pytest.mark.parametrize("version", ["", "latest", "7x", "x7"])
def test_an_agent_that_says_no_version_does_not_fit_any(version):
    assert "does not say its version" in problem(version, min="1")


def test_a_release_that_asks_nothing_and_a_template_that_is_not_seen_are_no_problem():
    assert version_problem(agent_template(), make_release("b", 2)) is None
    assert version_problem(None, make_release("b", 2, agentVersion={"min": "7"})) is None


def test_the_older_release_that_fits_starts_instead(sim):
    """Nothing runs that was made for another agent; `sim` has one without a version."""
    sim.publish("c", 3, agentVersion={"min": "7"})
    sim.publish("b", 2)
    sim.run(10)
    assert sim.record.rollout.candidate.release == "b"
