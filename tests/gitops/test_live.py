"""Argo CD, Wavegate and a Git repository together, on a control plane of their own.

One story in chapters, each a test that begins where the one before ended; they run in their order.
`make test-argocd` watches a reverted release for ten minutes, `make test` for two.
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from gitops import argo_cd
from gitops.argo_cd import ArgoCd
from gitops.pack import PACK
from gitops.watching import Seen, watching
from support.chart import CHART, IMAGE, REPOSITORY, parse
from support.operator_process import OperatorProcess
from support.story import REVIEWS
from support.tools import Tool
from support.workloads import restart_container
from wavegate_sandbox.cluster import Options, Sandbox
from wavegate_sandbox.nodes import NodeSpec

EXAMPLE = REPOSITORY / "examples/gitops"
SPACE, APPLICATION = "wavegate-gitops", "security-content"
OURS = f"/apis/wavegate.dev/v1alpha1/namespaces/{SPACE}/securitycontent{{}}"
QUIET_SECONDS = float(os.environ.get("WAVEGATE_ARGOCD_QUIET", "120"))
PATIENCE = 180.0
PACE = {"soak": "2s", "settle": "1s", "coolDown": "0s", "bake": "0s"}
CHECK = {"name": "quiet", "per": "Wave", "query": "vector(0)", "max": "0"}
CONTROLLER = "system:serviceaccount:argocd:argocd-application-controller"
SERVER = "system:serviceaccount:argocd:argocd-server"


@dataclass(slots=True)
class Live:
    """All of it, and what people do: commit, look, click."""

    sandbox: Sandbox
    argo: ArgoCd
    kubectl: Tool
    git: Path
    seen: Seen
    operator: OperatorProcess
    failed_before: int
    sequence: int = 0
    channel: dict[str, Any] = field(default_factory=dict)

    def commit(self, what: str) -> None:
        """Everything in the folder is committed, and Argo CD is told."""
        git(self.git, "add", "-A")
        git(self.git, "commit", "-q", "-m", what)
        self.argo.refresh(APPLICATION)

    def set_channel(self, **spec: Any) -> None:
        """Write the channel's file: the example's, with changes."""
        body = {**self.channel, "spec": {**self.channel["spec"], **spec}}
        (self.git / "content/channel.yaml").write_text(yaml.safe_dump(body))

    def publish(self, name: str, rules: str = "") -> Path:
        """Write a file with the example's release, under another name and with other content."""
        self.sequence += 1
        content, release = yaml.safe_load_all(
            (EXAMPLE / "content/releases/2026-11-21.yaml").read_text()
        )
        content["metadata"]["name"] = release["spec"]["content"]["configMap"]["name"] = (
            f"content-{name}"
        )
        content["data"]["rules"] = rules or f"rules: {name}\n"
        release["metadata"]["name"] = name
        release["spec"] |= {"sequence": self.sequence, "version": f"{self.sequence}.0"}
        path = self.git / "content/releases" / f"{self.sequence:03}-{name}.yaml"
        path.write_text(yaml.safe_dump_all([content, release]))
        return path

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """One of our objects; empty when it is not there."""
        found = self.sandbox.request("GET", f"{OURS.format(kind)}/{name}", check=False)
        return {} if found["kind"] == "Status" else found

    def status(self, release: str) -> dict[str, Any]:
        return dict(self.get("releases", release).get("status") or {})

    def decisions(self) -> list[dict[str, Any]]:
        return list(self.sandbox.request("GET", OURS.format("decisions"))["items"])

    def pods(self) -> dict[str, dict[str, Any]]:
        path = f"/api/v1/namespaces/{SPACE}/pods"
        return {pod["metadata"]["uid"]: pod for pod in self.sandbox.request("GET", path)["items"]}

    def app(self) -> dict[str, Any]:
        return self.argo.application(APPLICATION).get("status") or {}

    def until(self, what: str, test: Callable[[], Any]) -> Any:
        def reached() -> Any:
            self.operator.revive()
            return test()

        try:
            return self.sandbox.wait_for(what, reached, PATIENCE)
        except Exception as error:
            raise AssertionError(
                f"{error}\nreleases: {json.dumps(self.seen.releases)}\n{self.messages()}"
                f"\napplication: {self.seen.application[-8:]}\n{self.conditions()}"
                f"\n{self.operator.log_tail()}\n{self.argo.logs()}"
            ) from error

    def until_phase(self, release: str, phase: str) -> dict[str, Any]:
        self.until(f"{release} is {phase}", lambda: self.status(release).get("phase") == phase)
        return self.status(release)

    def until_synced(self) -> None:
        """Wait until the last sync ended well."""

        def ended() -> bool:
            return bool(self.app().get("operationState", {}).get("phase") == "Succeeded")

        self.until("the sync to end", ended)

    def until_app(self, wanted: str) -> None:
        """Wait for sync and health of the Application, as `Synced Healthy`."""

        def reached() -> bool:
            status = self.app()
            return f"{status['sync']['status']} {status['health']['status']}" == wanted

        self.until(f"the Application is {wanted}", reached)

    def until_health(self, release: str, health: str) -> None:
        """Wait until Argo CD's page shows this health last."""
        wanted = lambda: self.seen.releases.get(release, [])[-1:] == [health]  # noqa: E731
        self.until(f"{release} is shown {health}", wanted)

    def messages(self) -> str:
        found = self.sandbox.request("GET", OURS.format("releases"))["items"]
        return "\n".join(
            f"{item['metadata']['name']}: {item.get('status', {}).get('message')}" for item in found
        )

    def conditions(self) -> str:
        status = self.app()
        return json.dumps([status.get("conditions"), status.get("operationState")], indent=1)[:4000]


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=people", "-c", "user.email=people@example.com"]
    argv = ["git", "-C", str(folder), *identity, *words]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def live(whole: Live, request: pytest.FixtureRequest) -> Live:
    """The story so far. A chapter needs all before it, so the first that fails ends it."""
    if request.session.testsfailed > whole.failed_before:
        pytest.skip("a chapter before this one failed")
    return whole


@pytest.fixture(scope="module")
def whole(
    request: pytest.FixtureRequest,
    argocd: Path,
    tmp_path_factory: pytest.TempPathFactory,
    sandbox_options: Options,
    report_figure: Callable[[str], None],
) -> Iterator[Live]:
    """Set up as the example's README says; the repository is a folder of this machine."""
    if shutil.which("redis-server") is None:
        report_figure("Argo CD: NOT tested live, as redis-server is not installed")
        pytest.skip("redis-server is not installed: apt-get install redis-server (Debian)")
    folder, repository = (tmp_path_factory.mktemp(name) for name in ("live", "repository"))
    git(repository, "init", "-q", "-b", "main")
    (repository / "content/releases").mkdir(parents=True)
    with Sandbox.start(sandbox_options) as sandbox:
        sandbox.add_nodes([NodeSpec(f"node-{number}") for number in range(3)])
        kubectl = Tool(sandbox, "kubectl", folder)
        with _operator(sandbox, folder) as operator:
            kubectl("apply", "-f", str(EXAMPLE / "namespace.yaml"))
            with (
                argo_cd.running(sandbox, argocd, folder) as argo,
                watching(argo, APPLICATION) as seen,
            ):
                failed = request.session.testsfailed
                yield Live(sandbox, argo, kubectl, repository, seen, operator, failed)


def _operator(sandbox: Sandbox, folder: Path) -> OperatorProcess:
    helm = Tool(sandbox, "helm", folder)
    name = "wavegate"
    helm("install", name, str(CHART), "-n", name, "--create-namespace", "--set", IMAGE)
    manifest = parse(helm("get", "manifest", name, "-n", name), name, name)
    pace = {"WAVEGATE_SOAK_FLOOR": "1s"}
    return OperatorProcess.from_rendered(sandbox, manifest, pace, folder)


def test_the_example_is_taken_by_argo_cd_and_a_good_release_becomes_healthy(live: Live) -> None:
    (live.channel,) = yaml.safe_load_all((EXAMPLE / "content/channel.yaml").read_text())
    live.channel["spec"]["rollout"] = PACE
    live.channel["spec"]["waves"] = [{"name": "first", "upTo": 1}, {"name": "all", "upTo": "100%"}]
    live.channel["spec"]["prometheus"] = {"url": live.sandbox.prometheus_url}
    live.channel["spec"]["checks"] = [CHECK]
    live.set_channel()
    live.publish("one")
    git(live.git, "add", "-A")
    git(live.git, "commit", "-q", "-m", "the channel and its first release")
    placeholder = "https://git.example.com/security/content.git"
    text = (EXAMPLE / "application.yaml").read_text()
    assert text.count(placeholder) == 2
    file = live.argo.folder / "application.yaml"
    file.write_text(text.replace(placeholder, live.git.as_uri()))
    live.kubectl("apply", "-f", str(file))
    live.until_synced()
    ended = live.until_phase("one", "Completed")["finishedAt"]
    assert live.app()["operationState"]["finishedAt"] < ended  # it did not wait for the rollout
    live.until_health("one", "Healthy")
    live.until_app("Synced Healthy")
    # Applied together with its channel it may be invalid for a moment: the operator saw it first.
    assert live.seen.lasting("one") in (["Healthy"], ["Degraded", "Healthy"])


def test_a_wave_that_waits_is_suspended_and_an_action_approves_it(live: Live) -> None:
    waves = [{"name": "first", "upTo": 1}, {"name": "all", "upTo": "100%", "approval": "Required"}]
    live.set_channel(waves=waves)
    live.publish("two")
    live.commit("a release that somebody has to approve")
    live.until_health("two", "Suspended")
    live.until_app("Synced Suspended")
    about = ("--kind", "SecurityContentRelease", "--resource-name", "two")
    rows = live.argo("app", "actions", "list", APPLICATION, *about).splitlines()
    off = {row.split()[3]: row.split()[4] for row in rows[1:]}
    assert off == {"approve": "false", "pause": "false", "resume": "true", "revert": "false"}
    # Where Argo CD's account lacks the verb, nobody approves through it.
    grant(live, ["pause", "resume", "revert"])
    with pytest.raises(AssertionError, match="may not approve release two in namespace"):
        live.argo("app", "actions", "run", APPLICATION, "approve", *about)
    assert live.decisions() == []
    grant(live, ["approve", "pause", "resume", "revert"])
    live.argo("app", "actions", "run", APPLICATION, "approve", *about)
    (decision,) = live.until("a decision", live.decisions)
    assert decision["spec"]["action"] == "Approve"
    assert decision["spec"]["wave"] == "all"
    assert decision["spec"]["decidedBy"] == SERVER  # no person
    live.until_phase("two", "Completed")
    (decision,) = live.decisions()
    assert decision["status"]["phase"] == "Accepted"
    live.until_health("two", "Healthy")
    live.until_app("Synced Healthy")
    assert live.seen.lasting("two") == ["Suspended", "Healthy"]
    (child,) = [n for n in live.argo.tree(APPLICATION) if n["kind"] == "SecurityContentDecision"]
    assert child["health"]["status"] == "Healthy"
    assert [parent["name"] for parent in child["parentRefs"]] == ["two"]
    events = live.sandbox.request("GET", f"/api/v1/namespaces/{argo_cd.SPACE}/events")["items"]
    ran = [e["message"] for e in events if e["reason"] == "ResourceActionRan"]
    assert ran == ["admin ran action approve on resource wavegate.dev/SecurityContentRelease/two"]


def grant(live: Live, verbs: list[str]) -> None:
    """Let Argo CD's server have these verbs on releases, and wait until it is so."""
    role, binding = yaml.safe_load_all((PACK / "rights.yaml").read_text())
    role["rules"][1]["verbs"] = verbs
    file = live.argo.folder / "rights.yaml"
    file.write_text(yaml.safe_dump_all([role, binding]))
    live.kubectl("apply", "-f", str(file))
    asked = {"verb": "approve", "group": "wavegate.dev", "resource": "securitycontentreleases"}
    review = {"spec": {"user": SERVER, "resourceAttributes": asked | {"namespace": SPACE}}}

    def acts() -> bool:
        answer = live.sandbox.request("POST", REVIEWS, review)
        return bool(answer["status"]["allowed"]) is ("approve" in verbs)

    live.until("the rights to act", acts)


def test_an_action_that_makes_no_sense_now_is_refused(live: Live) -> None:
    about = ("--kind", "SecurityContentRelease", "--resource-name", "two")
    with pytest.raises(AssertionError, match=r"revert makes no sense: .*it is Completed"):
        live.argo("app", "actions", "run", APPLICATION, "revert", *about)
    assert len(live.decisions()) == 1


def test_a_release_without_evidence_is_progressing_until_the_evidence_is_back(live: Live) -> None:
    live.set_channel()
    live.commit("no approvals any more")
    live.until("the channel", lambda: "approval" not in str(live.get("channels", "gitops")["spec"]))
    live.sandbox.stop_component("prometheus")
    live.publish("three")
    live.commit("a release while Prometheus is down")
    live.until("it is held", lambda: live.status("three").get("reason") == "CheckUnreachable")
    live.until_app("Synced Progressing")
    live.until_synced()
    live.sandbox.start_component("prometheus")
    live.until_phase("three", "Completed")
    live.until_health("three", "Healthy")
    assert live.seen.lasting("three") == ["Healthy"]


def test_actions_pause_and_resume(live: Live) -> None:
    live.set_channel(rollout={**PACE, "soak": "8s"})
    live.publish("four")
    live.commit("a release that is paused on its way")
    live.until_phase("four", "Rolling")
    about = ("--kind", "SecurityContentRelease", "--resource-name", "four")
    live.until("it is on the page", lambda: "four" in live.seen.releases)
    live.argo.click(APPLICATION, "four", "pause", "look at the first node")
    live.until_health("four", "Suspended")
    assert live.status("four")["reason"] == "PausedByDecision"
    assert "look at the first node" in [d["spec"]["reason"] for d in live.decisions()]
    time.sleep(1.1)  # a Resume is about pauses of an earlier second: stamps have whole seconds
    live.argo("app", "actions", "run", APPLICATION, "resume", *about)
    live.until_phase("four", "Completed")
    live.until_health("four", "Healthy")
    assert live.seen.lasting("four") == ["Suspended", "Healthy"]
    live.set_channel()
    live.commit("the usual pace again")
    live.until_app("Synced Healthy")


def test_self_heal_undoes_what_git_says_and_leaves_what_it_does_not(
    live: Live, report_figure: Callable[[str], None]
) -> None:
    drift = {"spec": {"rollout": {"soak": "1h"}}}
    live.kubectl("-n", SPACE, "patch", "wgc", "gitops", "--type=merge", "-p", json.dumps(drift))

    def soak() -> str:
        return str(live.get("channels", "gitops")["spec"]["rollout"]["soak"])

    began = time.monotonic()
    live.until("self-heal", lambda: soak() == PACE["soak"])
    report_figure(f"Argo CD: self-heal took back a patch after {time.monotonic() - began:.1f} s")
    stop = json.dumps({"spec": {"suspend": True}})
    live.kubectl("-n", SPACE, "patch", "wgc", "gitops", "--type=merge", "-p", stop)
    live.kubectl("-n", SPACE, "annotate", "wgc", "gitops", "wavegate.dev/hands-off=true")
    live.until("it is shown", lambda: live.app()["health"]["status"] == "Suspended")
    before = live.app()["operationState"]["startedAt"]
    # Argo CD has compared once more since, and healed nothing.
    seen = live.app()["reconciledAt"]
    live.until("another look", lambda: live.app()["reconciledAt"] != seen)
    live.argo.refresh(APPLICATION)
    live.until("a look for us", lambda: not marked(live))
    channel = live.get("channels", "gitops")
    assert channel["spec"]["suspend"] is True
    assert channel["metadata"]["annotations"]["wavegate.dev/hands-off"] == "true"
    assert live.app()["sync"]["status"] == "Synced"
    assert live.app()["operationState"]["startedAt"] == before
    go = json.dumps({"spec": {"suspend": False}})
    live.kubectl("-n", SPACE, "patch", "wgc", "gitops", "--type=merge", "-p", go)
    live.kubectl("-n", SPACE, "annotate", "wgc", "gitops", "wavegate.dev/hands-off-")
    live.until_app("Synced Healthy")


def marked(live: Live) -> bool:
    annotations = live.argo.application(APPLICATION)["metadata"].get("annotations") or {}
    return "argocd.argoproj.io/refresh" in annotations


def test_pruning_an_old_release_moves_nothing(live: Live) -> None:
    before, stable = live.pods().keys(), live.get("channels", "gitops")["status"]["stable"]
    for path in (live.git / "content/releases").glob("*.yaml"):
        if not path.stem.endswith("four"):
            path.unlink()
    live.commit("tidy up")
    live.until("they are gone", lambda: not live.get("releases", "one"))
    for name in ("two", "three"):
        live.until(f"{name} is gone", lambda name=name: not live.get("releases", name))
    live.until_app("Synced Healthy")
    # The last one too: what is stable has its record, and its content a copy.
    next((live.git / "content/releases").glob("*-four.yaml")).unlink()
    live.commit("tidy up more than one should")
    live.until("it is gone", lambda: not live.get("releases", "four"))
    live.until_app("Synced Healthy")
    assert live.pods().keys() == before
    assert live.get("channels", "gitops")["status"]["stable"] == stable


def test_a_reverted_release_is_degraded_and_nothing_loops(
    live: Live, report_figure: Callable[[str], None]
) -> None:
    stable = live.get("channels", "gitops")["status"]["stable"]["release"]
    live.set_channel(rollout={**PACE, "soak": "1h"})
    live.publish("bad")
    live.commit("content that the agent crashes on")
    live.until("it is on a node", lambda: live.status("bad").get("nodes", {}).get("settled"))
    attempt = live.status("bad")["attempt"]
    (pod,) = (p for p in live.pods().values() if attempt in p["metadata"]["labels"].values())
    restart_container(live.sandbox, pod)
    live.until_phase("bad", "Reverted")
    live.until_health("bad", "Degraded")
    live.until_app("Synced Degraded")
    assert live.seen.releases["bad"][0] == "Progressing"
    assert set(live.seen.releases["bad"]) == {"Progressing", "Degraded"}
    before, began = live.app(), len(live.seen.application)
    release, writes = live.get("releases", "bad"), written_by(live, CONTROLLER)
    time.sleep(QUIET_SECONDS)  # what must not happen can only be waited out
    after = live.app()
    assert live.seen.application[began:] == []
    assert after["reconciledAt"] != before["reconciledAt"]
    assert after["operationState"] == before["operationState"]
    assert after["history"] == before["history"]
    assert live.get("releases", "bad") == release
    assert written_by(live, CONTROLLER) == writes
    assert live.get("channels", "gitops")["status"]["stable"]["release"] == stable
    report_figure(f"Argo CD: a reverted release stayed Synced, Degraded for {QUIET_SECONDS:.0f} s")


def written_by(live: Live, account: str) -> int:
    """How often an account wrote one of our objects."""
    assert live.sandbox.audit_log
    count = 0
    for line in live.sandbox.audit_log.read_text().splitlines():
        entry = json.loads(line)
        group = entry.get("objectRef", {}).get("apiGroup")
        wrote = entry["verb"] in ("create", "update", "patch", "delete", "deletecollection")
        count += wrote and group == "wavegate.dev" and entry["user"]["username"] == account
    return count


def test_the_repair_replaces_the_file_of_the_reverted_release(live: Live) -> None:
    next((live.git / "content/releases").glob("*-bad.yaml")).unlink()
    live.set_channel()
    live.publish("repaired")
    live.commit("the repair, instead of what was reverted")
    live.until_phase("repaired", "Completed")
    live.until_health("repaired", "Healthy")
    live.until_app("Synced Healthy")
    assert live.get("channels", "gitops")["status"]["blocked"][0]["release"] == "bad"


def test_a_later_wave_and_a_hook_wait_for_the_release(
    live: Live, report_figure: Callable[[str], None]
) -> None:
    waves = [{"name": "first", "upTo": 1}, {"name": "all", "upTo": "100%", "approval": "Required"}]
    live.set_channel(waves=waves)
    for name, annotation in LATER.items():
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
        body["metadata"] |= {"namespace": SPACE, "annotations": annotation}
        (live.git / f"content/{name}.yaml").write_text(yaml.safe_dump(body))
    live.publish("waited-for")
    live.commit("things that wait for the release")
    live.until_health("waited-for", "Suspended")
    assert live.app()["operationState"]["phase"] == "Running"
    assert not there(live)
    about = ("--kind", "SecurityContentRelease", "--resource-name", "waited-for")
    live.argo("app", "actions", "run", APPLICATION, "approve", *about)
    live.until("the later wave", lambda: "later-wave" in there(live))
    assert live.status("waited-for")["phase"] == "Completed"
    live.until("the hook", lambda: "post-sync" in there(live))
    live.until_synced()
    live.until_app("Synced Healthy")
    for name, states in live.seen.releases.items():
        report_figure(f"Argo CD showed release {name}: {', '.join(states)}")


LATER = {
    "later-wave": {"argocd.argoproj.io/sync-wave": "1"},
    "post-sync": {"argocd.argoproj.io/hook": "PostSync"},
}


def there(live: Live) -> set[str]:
    """Which of them exist."""
    found = live.sandbox.request("GET", f"/api/v1/namespaces/{SPACE}/configmaps")["items"]
    return {item["metadata"]["name"] for item in found} & LATER.keys()
