"""What people read: why a release waits, and what is wrong with a channel."""

from dataclasses import replace

import pytest

from support.builders import agent_template, digest, make_channel, make_release
from support.invariants import ended
from wavegate.api import Reason, Release
from wavegate.evidence import Finding, Verdict
from wavegate.rollout import channel_report, report
from wavegate.rollout.decide import decide
from wavegate.rollout.observation import AgentSource, ContentView
from wavegate.rollout.record import Record
from wavegate.rollout.steps import Step


def said(obs, release):
    """Phase, reason and whom a release waits for."""
    status = report.release_status(obs, release, Step(), 1_000_000.0)
    return status["phase"], status["reason"], status["waitingFor"]


def ready(obs):
    """The Ready condition of the channel."""
    condition, *_ = channel_report.channel_status(obs)["conditions"]
    return condition


def map_release(name, sequence, reference, **spec):
    body = make_release(name, sequence, **spec).model_dump(by_alias=True)
    body["spec"]["content"] = {"configMap": {"name": reference}}
    return Release.parse(body)


@pytest.mark.parametrize(
    ("sequence", "spec", "expected"),
    [
        (2, {}, ("Pending", "Queued", "Nothing")),
        (1, {"made": 1_500_000}, ("Superseded", "NotNewer", "Nothing")),
        (1, {}, ("Superseded", "Superseded", "Nothing")),
        (2, {"suspend": True}, ("Pending", "Suspended", "Person")),
    ],
)
def test_a_release_that_does_not_run_says_why(sim, sequence, spec, expected):
    release = make_release("b", sequence, **spec)
    obs = replace(sim.observe(), releases=(release,))
    assert said(obs, release) == expected


def test_a_release_with_another_kind_of_content_than_the_channel_binds_says_so(sim):
    release = map_release("b", 2, "mine")
    assert said(sim.observe(), release) == ("Pending", "ContentMismatch", "Person")


def test_a_release_without_its_channel_says_so(sim):
    obs = replace(sim.observe(), channel=None)
    assert said(obs, make_release("b", 2)) == ("Pending", "UnknownChannel", "Person")


def test_a_release_on_a_suspended_channel_says_so(sim):
    sim.channel = make_channel(suspend=True)
    assert said(sim.observe(), make_release("b", 2)) == ("Pending", "ChannelSuspended", "Person")


def test_a_release_on_a_channel_that_is_not_ready_names_the_channel_s_problem(sim):
    obs = replace(sim.observe(), agent=AgentSource(missing="agent"))
    assert said(obs, make_release("b", 2)) == ("Pending", "AgentTemplateNotFound", "Person")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "ContentNotFound"),
        (ContentView("mine", digest("b"), immutable=False), "ContentMutable"),
        (ContentView("mine", digest("b"), immutable=True), "Queued"),
    ],
)
def test_a_config_map_that_can_t_be_used_says_why(sim, content, reason):
    channel = make_channel(content={"configMap": {"volumeName": "content"}})
    agent = AgentSource(template(volumes=[{"name": "content", "configMap": {"name": "any"}}]))
    contents = {"mine": content} if content else {}
    release = map_release("b", 2, "mine")
    obs = replace(sim.observe(), channel=channel, agent=agent, contents=contents)
    obs = replace(obs, releases=(release,))
    assert said(obs, release)[1] == reason


def test_an_old_release_is_superseded_though_its_config_map_is_not_read_any_more(sim):
    sim.channel = make_channel(content={"configMap": {"volumeName": "content"}})
    old = map_release("old", 1, "cleaned-up", made=1_500_000)
    status = report.release_status(sim.observe(), old, Step(), 1_000_000.0)
    assert (status["phase"], status["reason"]) == ("Superseded", "NotNewer")
    assert [c["status"] for c in status["conditions"] if c["type"] == "Ready"] == ["True"]


def test_a_digest_that_failed_is_rejected_and_names_the_release_that_failed(sim):
    sim.harms[digest("b")] = "loop"
    sim.publish("b", 2)
    sim.run(300, until=ended(sim, "b"))
    again = make_release("again", 3, "b")
    assert said(sim.observe(), again) == ("Rejected", "DigestBlocked", "Nothing")
    status = report.release_status(sim.observe(), again, Step(), sim.now)
    assert "release b (AgentRestarted)" in status["message"]
    assert status["conditions"][1]["status"] == "False"
    (blocked,) = channel_report.channel_status(sim.observe())["blocked"]
    assert (blocked["digest"], blocked["release"]) == (digest("b"), "b")


def test_of_several_that_wait_the_newest_is_queued_and_the_others_are_superseded(sim):
    sim.publish("b", 2)
    sim.run(60, until=lambda: sim.record.rollout and sim.record.rollout.waves)
    sim.publish("c", 3)
    sim.publish("d", 4)
    obs = sim.observe()
    assert said(obs, sim.releases["d"]) == ("Pending", "Queued", "Nothing")
    assert said(obs, sim.releases["c"]) == ("Superseded", "Superseded", "Nothing")
    assert said(obs, sim.releases["a"])[0] == "Completed"
    assert said(obs, make_release("old", 2, "older", made=int(sim.now)))[1] == "NotNewer"


def test_what_was_said_of_an_overtaken_release_stays_and_so_of_one_that_came_too_late(sim):
    sim.publish("b", 2)
    sim.run(60, until=lambda: sim.record.rollout and sim.record.rollout.waves)
    sim.publish("c", 3, made=int(sim.now))
    sim.publish("late", 2, "late", made=int(sim.now))
    sim.publish("d", 4, made=int(sim.now))
    heard = {"c": set(), "late": set()}
    sim.watchers.append(
        lambda sim, obs, _: [said_.add(said(obs, sim.releases[n])) for n, said_ in heard.items()]
    )
    sim.run(900, until=ended(sim, "d"))
    sim.publish("e", 5, made=int(sim.now))
    sim.run(900, until=ended(sim, "e"))
    assert heard == {
        "c": {("Superseded", "Superseded", "Nothing")},
        "late": {("Superseded", "NotNewer", "Nothing")},
    }


def test_a_rollout_waits_to_begin_while_its_channel_can_t_be_read_and_says_so(sim):
    """As after a change of the CRD: what can't be read is neither gone nor wrong."""
    sim.publish("b", 2)
    sim.step_until(lambda: sim.record.rollout is not None and not sim.record.rollout.waves)
    sim.work()
    sim.tick()
    obs = replace(sim.observe(), channel=None, agent=AgentSource(), unreadable=True)
    assert obs.revision(obs.record.rollout.candidate) is None
    step = decide(obs, sim.now)
    assert (step.record, step.actions) == (None, ())
    status = report.release_status(obs, sim.releases["b"], step, sim.now)
    assert (status["phase"], status["reason"]) == ("Rolling", "ViewStale")
    assert "channel rules or release b can't be read" in status["message"]
    sim.run(900, until=ended(sim, "b"))
    assert said(sim.observe(), sim.releases["b"])[0] == "Completed"


def test_a_running_release_shows_its_wave_and_a_hold_its_reason(sim):
    sim.publish("b", 2)
    sim.run(60, until=lambda: sim.record.rollout and sim.running().get("canary-0") == "b")
    obs, release = sim.observe(), sim.releases["b"]
    status = report.release_status(obs, release, Step(), sim.now)
    assert (status["phase"], status["wave"]["name"], status["nodes"]["moved"]) == (
        "Rolling",
        "canary",
        1,
    )
    assert channel_report.channel_status(obs)["nodes"] == {"total": 5, "stable": 4, "candidate": 1}
    from_check = Finding(Verdict.HOLD, Reason.CheckNoData, "check c has no series")
    held = report.release_status(obs, release, Step(findings=(from_check,)), sim.now)
    assert (held["reason"], held["waitingFor"]) == ("CheckNoData", "Evidence")
    assert "check c has no series" in held["message"]


def test_the_status_of_a_soak_does_not_tick(sim):
    sim.publish("b", 2)
    sim.run(200, until=lambda: "Soaking" in str(sim.record.rollout))
    first = report.release_status(sim.observe(), sim.releases["b"], Step(), sim.now)
    assert first == report.release_status(sim.observe(), sim.releases["b"], Step(), sim.now + 1)


def test_a_channel_that_is_well_says_what_is_stable(sim):
    assert ready(sim.observe()) == {
        "type": "Ready",
        "status": "True",
        "reason": "Accepted",
        "message": "a is stable",
    }
    assert channel_report.channel_status(sim.observe())["stable"]["release"] == "a"


def template(**changes):
    """The agent's template with changes to its pod spec."""
    base = agent_template()
    return {"spec": {**base["spec"], **changes}}


TAGGED = [{"name": "agent", "image": "registry.example/agent:1"}]


@pytest.mark.parametrize(
    ("changes", "reason", "hint"),
    [
        ({"agent": AgentSource(missing="agent")}, "AgentTemplateNotFound", "'agent'"),
        ({"agent": AgentSource(template(nodeName="n"))}, "InvalidTemplate", "nodeName"),
        ({"agent": AgentSource(template(schedulerName="x"))}, "InvalidTemplate", "schedulerName"),
        ({"agent": AgentSource(template(), refused="it says no")}, "InvalidTemplate", "says no"),
        ({"agent": AgentSource(template(volumes=[]))}, "MissingVolume", "has: none"),
        ({"agent": AgentSource(template(containers=TAGGED))}, "ImageNotPinned", "agent:1"),
        ({"agent": AgentSource({"spec": {"volumes": 7}})}, "InvalidTemplate", "can't be read"),
        ({"record_lost": True}, "StateLost", "wavegate-record-rules"),
        ({"revisions": {}}, "StateLost", "the stable revision"),
        ({"nodes": {}}, "PoolMatchesNoNode", "'canary'"),
        ({"soak_floor": 31.0}, "SoakBelowFloor", "31 s"),
    ],
)
def test_each_problem_of_a_channel_is_a_condition_with_reason_field_and_remedy(
    sim, changes, reason, hint
):
    condition = ready(replace(sim.observe(), **changes))
    assert (condition["status"], condition["reason"]) == ("False", reason)
    assert hint in condition["message"]


def test_a_container_that_is_not_there_is_named_with_those_that_are(sim):
    channel = make_channel(content={"containerImage": {"containerName": "rules"}})
    condition = ready(replace(sim.observe(), channel=channel))
    assert condition["reason"] == "MissingContainer"
    assert "it has: agent" in condition["message"]


def test_a_parked_daemon_set_that_runs_pods_is_named(sim):
    channel = make_channel(agent={"daemonSetRef": {"name": "parked"}})
    agent = AgentSource(agent_template(), running_pods=3)
    condition = ready(replace(sim.observe(), channel=channel, agent=agent))
    assert condition["reason"] == "AgentAlreadyRunning"
    assert "parked runs on 3 nodes" in condition["message"]


@pytest.mark.parametrize(
    ("waves", "field"),
    [
        ([{"name": "all", "upTo": "100%"}], "spec.rollout.soak"),
        (
            [{"name": "a", "upTo": 1, "soak": "5m"}, {"name": "b", "upTo": "100%", "soak": "1m"}],
            "spec.waves[1].soak",
        ),
    ],
)
def test_a_soak_below_the_floor_names_the_field_that_set_it(sim, waves, field):
    channel = make_channel(waves=waves)
    condition = ready(replace(sim.observe(), channel=channel, soak_floor=180.0))
    assert condition["reason"] == "SoakBelowFloor"
    assert condition["message"].startswith(f"{field}: ")


def test_a_soak_as_long_as_the_floor_is_long_enough(sim):
    assert ready(replace(sim.observe(), soak_floor=30.0))["status"] == "True"


def test_a_channel_whose_daemon_set_is_frozen_in_the_candidate_is_ready(sim):
    """While nodes move, the parked DaemonSet is not read: its absence is no problem."""
    channel = make_channel(agent={"daemonSetRef": {"name": "parked"}})
    obs = replace(sim.observe(), channel=channel, agent=AgentSource())
    assert ready(obs)["status"] == "True"


def test_a_refused_daemon_set_ends_the_release_with_the_words_of_the_apiserver(sim):
    sim.refuses = "spec.template: Invalid value"
    sim.publish("b", 2)
    sim.run(30, until=ended(sim, "b"))
    outcome = sim.record.outcomes[0]
    assert (outcome.phase, outcome.incident.reason) == ("Reverted", "InvalidTemplate")
    assert "spec.template: Invalid value" in outcome.message
    assert sim.record.blocked == ()
    assert set(sim.running().values()) == {"a"}


def test_an_empty_record_has_a_status_too(sim):
    obs = replace(sim.observe(), record=Record("agents", "rules"), revisions={})
    assert ready(obs)["message"] == "nothing yet is stable"


@pytest.mark.parametrize(
    ("sequence", "made", "message"),
    [
        (
            1,
            1_500_000,
            "it is not rolled out: its sequence 1 is not higher than 1, which was tried",
        ),
        (1, 0, "it is not rolled out: release a is newer"),
    ],
)
def test_a_release_that_is_passed_over_says_that_it_is_not_rolled_out(sim, sequence, made, message):
    """Argo CD shows it as Healthy, and this beside it."""
    release = make_release("b", sequence, **({"made": made} if made else {}))
    status = report.release_status(sim.observe(), release, Step(), sim.now)
    assert status["message"].startswith(message)
    [complete] = [c for c in status["conditions"] if c["type"] == "Complete"]
    assert complete["status"] == "False"


def test_a_late_release_is_told_the_sequence_that_runs_now(sim):
    sim.publish("b", 7)
    sim.step_until(lambda: sim.record.rollout is not None)
    late = make_release("late", 5, made=int(sim.now) + 2)
    status = report.release_status(sim.observe(), late, Step(), sim.now)
    assert "its sequence 5 is not higher than 7" in status["message"]
