"""The agent's pod on a moved node: what ran and broke is blamed, what never ran is not."""

from dataclasses import replace

import pytest

from wavegate.cluster.projections import pod_view
from wavegate.evidence import PodView, judge_agent
from wavegate.evidence.agents import CANNOT_FETCH, CANNOT_START

POD = PodView("p", "ns", "u", "c", "x", "n", "Running", True, 1.0, False, 0)
PENDING = replace(POD, phase="Pending", ready=False, ready_since=None)


def found(*pods, overdue=False):
    findings = list(judge_agent("n", pods, overdue=overdue))
    assert len(findings) <= 1
    return [(f.verdict.name, f.reason.value, f.blocks) for f in findings]


def test_a_ready_pod_is_no_finding_also_beside_one_that_goes():
    assert found(POD) == []
    assert found(POD, overdue=True) == []
    assert found(replace(POD, terminating=True, restarts=3), POD) == []


@pytest.mark.parametrize("overdue", [False, True])
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"restarts": 1}, "AgentRestarted"),
        ({"restarts": 1, "ready": False}, "AgentRestarted"),
        ({"restarts": 1, "phase": "Failed"}, "AgentRestarted"),
        ({"restarts": 2, "last_exit": "Error, exit code 1"}, "AgentRestarted"),
        ({"restarts": 1, "last_exit": "OOMKilled, exit code 137"}, "AgentOOMKilled"),
        *(({"waiting": reason, "phase": "Pending"}, "AgentRestarted") for reason in CANNOT_START),
    ],
)
def test_an_agent_that_ran_and_broke_fails_at_once_and_blocks(changes, reason, overdue):
    assert found(replace(POD, **changes), overdue=overdue) == [("FAIL", reason, True)]


@pytest.mark.parametrize("reason", sorted(CANNOT_FETCH))
def test_what_can_t_be_fetched_holds_and_never_fails(reason):
    pod = replace(PENDING, waiting=reason)
    assert found(pod) == [("HOLD", "CannotFetch", False)]
    assert found(pod, overdue=True) == [("HOLD", "CannotFetch", False)]


@pytest.mark.parametrize(
    "pod",
    [PENDING, replace(PENDING, node=None), replace(PENDING, waiting="CreateSandboxError")],
)
def test_a_pod_that_never_started_waits_and_past_the_deadline_holds(pod):
    assert found(pod) == [("WAIT", "Unschedulable", False)]
    assert found(pod, overdue=True) == [("HOLD", "Unschedulable", False)]


@pytest.mark.parametrize(
    "pods",
    [
        (),
        (replace(POD, terminating=True),),
        (replace(POD, phase="Failed", ready=False),),
        (replace(POD, phase="Unknown", ready=False),),
    ],
)
def test_a_pod_that_is_gone_or_ended_waits_and_past_the_deadline_fails_without_a_block(pods):
    assert found(*pods) == [("WAIT", "Unschedulable", False)]
    assert found(*pods, overdue=True) == [("FAIL", "Unschedulable", False)]


def test_an_agent_that_is_not_ready_waits_and_past_the_deadline_fails_and_blocks():
    pod = replace(POD, ready=False, ready_since=None)
    assert found(pod) == [("WAIT", "AgentNotReady", False)]
    assert found(pod, overdue=True) == [("FAIL", "AgentNotReady", True)]


@pytest.mark.parametrize(
    ("restarts", "waiting", "did"),
    [
        (1, "", "restarted once"),
        (2, "", "restarted 2 times"),
        (0, "RunContainerError", "does not start"),
    ],
)
def test_a_message_names_node_count_and_exit(restarts, waiting, did):
    exited = "OOMKilled, exit code 137"
    pod = replace(POD, restarts=restarts, waiting=waiting, last_exit=exited)
    (finding,) = judge_agent("n", [pod], overdue=False)
    assert finding.message == f"the agent on node n {did} ({exited})"


def kubelet(phase, **status):
    """A pod as the kubelet reports it, projected."""
    labels = {"wavegate.dev/channel": "c", "wavegate.dev/attempt": "x"}
    body = {
        "metadata": {"name": "p", "namespace": "ns", "uid": "u", "labels": labels},
        "spec": {"nodeName": "n"},
        "status": {"phase": phase, **status},
    }
    return pod_view(body, None, 5.0)


@pytest.mark.parametrize("reason", ["OutOfmemory", "NodeAffinity", "Evicted", "NodeShutdown"])
def test_a_pod_that_the_kubelet_refused_or_evicted_is_not_blamed_on_the_content(reason):
    pod = kubelet("Failed", reason=reason, message="Pod was rejected")
    assert found(pod) == [("WAIT", "Unschedulable", False)]


def ended(name, restarts, reason="Error", code=1):
    how = {"reason": reason, "exitCode": code}
    return {"name": name, "restartCount": restarts, "lastState": {"terminated": how}}


@pytest.mark.parametrize(
    ("containers", "said"),
    [
        ([ended("agent", 2, code=139)], "Error, exit code 139"),
        (
            [ended("agent", 1, code=139), {"name": "s", "restartCount": 0}],
            "agent: Error, exit code 139",
        ),
        ([ended("side", 1), ended("agent", 3, code=2)], "agent: Error, exit code 2"),
        (
            [ended("side", 9), ended("agent", 1, "OOMKilled", 137)],
            "agent: OOMKilled, exit code 137",
        ),
    ],
)
def test_a_finding_says_how_the_container_ended_that_tells_most(containers, said):
    (finding,) = judge_agent("n", [kubelet("Running", containerStatuses=containers)], overdue=False)
    assert finding.message.endswith(f"({said})")
    assert (finding.reason.value == "AgentOOMKilled") is ("OOM" in said)


def test_a_crash_loop_as_the_kubelet_reports_it_is_blamed():
    container = {
        "restartCount": 1,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137}},
    }
    assert found(kubelet("Running", containerStatuses=[container])) == [
        ("FAIL", "AgentOOMKilled", True)
    ]
