"""The installation changes under a release in flight; agents stay, and the rollout goes on.

No kubelet runs the operator's pods here, so each test ends the old operator and starts the one that
the installed Deployment describes, as a Deployment's controller and a kubelet would.
"""

import itertools
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.chart import CHART, IMAGE, parse, take_other_policies_away
from support.operator_process import OperatorProcess
from support.story import Story, asks_before_its_last, bind_operators, digest, unbind_operators
from support.tools import Tool
from wavegate_sandbox.cluster import Sandbox

# Not named as other operators of the tests: once its roles are uninstalled it is refused things,
# and these refusals must not count where the role is held against its use.
NAME, NAMESPACE = "flight-wavegate", "flight"
WHERE = ("--namespace", NAMESPACE)
PACE = ("--set", f"{IMAGE},operator.soakFloor=1s,operator.leaseDuration=6s")
WATCHED = (
    "/apis/wavegate.dev/v1alpha1/namespaces/{}/securitycontentchannels",
    "/apis/wavegate.dev/v1alpha1/namespaces/{}/securitycontentreleases",
    "/apis/apps/v1/namespaces/{}/daemonsets",
    "/api/v1/namespaces/{}/configmaps",
    "/api/v1/namespaces/{}/pods",
)


@dataclass(slots=True)
class Installation:
    """A Helm release, and the operator that its Deployment asks for."""

    sandbox: Sandbox
    helm: Tool
    folder: Path
    operator: OperatorProcess | None = None

    def __call__(self, *words: str) -> None:
        """Run Helm, and replace the operator by the one that is installed then, if any."""
        self.helm(*words, *WHERE)
        before, self.operator = self.operator, None
        # Helm takes the roles away too, and then it may lose its Lease before it is told to end.
        fine = {0, 1} if words[0] == "uninstall" else {0}
        assert before is None or before.stop() in fine, before.log_tail()
        if words[0] != "uninstall":
            self.operator = self.replica().start().wait_ready()

    def replica(self) -> OperatorProcess:
        """One more pod of the installed Deployment, not started."""
        installed = parse(self.helm("get", "manifest", NAME, *WHERE), NAMESPACE, NAME)
        return OperatorProcess.from_rendered(self.sandbox, installed, folder=self.folder)

    @property
    def log_level(self) -> str:
        """What the running operator was told, which each revision of these tests sets anew."""
        assert self.operator is not None
        return self.operator.env["WAVEGATE_LOG_LEVEL"]


@pytest.fixture
def installation(
    sandbox: Sandbox,
    crds: None,
    tmp_path: Path,
    report_settings: Callable[[str, dict[str, str]], None],
) -> Iterator[Installation]:
    """The chart, installed for this test."""
    take_other_policies_away(sandbox, NAME)
    helm = Tool(sandbox, "helm", tmp_path)
    made = Installation(sandbox, helm, tmp_path)
    made("install", NAME, str(older_chart(tmp_path)), "--create-namespace", *PACE)
    report_settings("operators of tests/e2e/test_lifecycle.py", {"chart values": PACE[1]})
    yield made
    if made.operator is not None:
        made("uninstall", NAME)


def older_chart(folder: Path) -> Path:
    """A copy of the chart, of the time when the operator might write in all namespaces."""
    chart = folder / "wavegate"
    shutil.copytree(CHART, chart)
    file = chart / "templates" / "clusterrole.yaml"
    binding = next(part for part in file.read_text().split("---\n") if "ClusterRoleBinding" in part)
    name = '{{ include "wavegate.name" . }}\n'
    everywhere = binding.replace(f"  name: {name}", f"  name: {name.strip()}-agents\n", 2)
    file.write_text(f"{file.read_text()}---\n{everywhere}")
    return chart


def rollout(soak: str) -> dict[str, Any]:
    return {"rollout": {"maxUnavailable": "100%", "settle": "1s", "soak": soak}}


def begin(story: Story) -> None:
    """All nodes run a; b is on the canary, and its next wave waits for `approve`."""
    story.begin()
    story.publish("a")
    story.until_phase("a", "Completed")
    story.apply_channel({"waves": asks_before_its_last(story.namespace)})
    story.publish("b")
    story.until("b", "it asks", lambda status: status.get("reason") == "AwaitingApproval")
    assert story.agents() == in_flight(story)


def approve(story: Story) -> None:
    """Approve until it is obeyed: an operator that was just started has not tried yet whether the
    policies are in force, and what was decided before that is refused.
    """
    number = itertools.count()

    def obeyed() -> bool:
        name = f"go-{next(number)}"
        story.decide(name, "b", "Approve", wave="all")
        return bool(story.settled(name)["phase"] == "Accepted")

    story.sandbox.wait_for("an approval that is obeyed", obeyed)


def wave_state(status: dict[str, Any]) -> str:
    return str(status.get("wave", {}).get("state"))


def in_flight(story: Story) -> dict[str, str]:
    """What runs where while b is on the canary only."""
    return story.everywhere_digest("a") | {story.nodes[0]: digest("b")}


def assert_nothing_changed(story: Story) -> None:
    assert story.agents() == in_flight(story)
    assert story.status("b")["phase"] == "Rolling"


def assert_nothing_is_stuck(sandbox: Sandbox, namespace: str) -> None:
    """No object of ours ends, waits for a finalizer, or hangs on an owner that may go."""
    for path in WATCHED:
        items = sandbox.request("GET", path.format(namespace))["items"]
        assert items, path
        for item in items:
            meta = item["metadata"]
            assert "deletionTimestamp" not in meta, meta
            assert not meta.get("finalizers"), meta
            owners = {owner["kind"] for owner in meta.get("ownerReferences", [])}
            assert owners <= {"DaemonSet"}, "of pods only"


def test_upgrade_rollback_and_uninstall_with_a_release_in_flight(
    installation: Installation, story: Story, sandbox: Sandbox
) -> None:
    begin(story)
    unbind_operators(sandbox, story.namespace)
    uids = {pod["metadata"]["uid"] for pod in story.pods()}

    debug = ("--reuse-values", "--set", "operator.logLevel=debug")
    installation("upgrade", NAME, str(CHART), *debug)
    assert installation.log_level == "debug"
    story.until("b", "the missing RoleBinding", lambda s: s["reason"] == "NamespaceNotBound")
    assert_nothing_changed(story)
    bind_operators(sandbox, story.namespace)
    story.until("b", "the end of the wait", lambda s: s["reason"] != "NamespaceNotBound")
    assert_nothing_changed(story)

    installation("rollback", NAME, "1")
    assert installation.log_level == "info"
    assert_nothing_changed(story)

    installation("uninstall", NAME)
    assert_nothing_changed(story)
    assert_nothing_is_stuck(sandbox, story.namespace)
    assert {pod["metadata"]["uid"] for pod in story.pods()} == uids, "no agent was restarted"

    installation("install", NAME, str(CHART), *PACE)
    assert_nothing_changed(story)
    approve(story)
    story.until_agents("all run b", story.everywhere("b"))
    assert_nothing_is_stuck(sandbox, story.namespace)


def test_a_killed_leader_is_replaced_by_the_second_replica_and_the_rollout_goes_on(
    installation: Installation,
    story: Story,
    sandbox: Sandbox,
    report_figure: Callable[[str], None],
) -> None:
    leader = installation.operator
    assert leader is not None
    with installation.replica() as standby:
        standby.wait_ready()
        story.begin(rollout(soak="5s"))
        story.publish("a")
        story.until("a", "the first soak", lambda status: wave_state(status) == "Soaking")
        assert standby.metrics()["wavegate_leader"] == 0
        leader.kill()
        began = time.monotonic()
        sandbox.wait_for(
            "the second replica to lead and to see everything",
            lambda: standby.metrics()["wavegate_leader"] == 1 and standby.get("/readyz")[0] == 200,
        )
        took = time.monotonic() - began
        report_figure(f"fail-over: {took:.1f} s after a kill, with a Lease of 6 s (default: 15 s)")
        installation.operator = standby
        story.until_agents("all run a", story.everywhere("a"))
