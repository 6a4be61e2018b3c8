"""What is missing in a cluster is said at start; the operator goes on when it is there."""

import copy
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.chart import (
    CHART,
    IMAGE,
    Rendered,
    apply_policies,
    parse,
    render,
    take_other_policies_away,
)
from support.operator_process import OperatorProcess
from support.served import has_mutating_policies
from support.story import Story
from support.tools import Tool
from wavegate.cluster.served import KINDS
from wavegate_sandbox.cluster import Options, Sandbox

NAMESPACE = "wavegate"
CRD_NAMES = [f"{kind.plural}.wavegate.dev" for kind in KINDS]
ROLE = "/apis/rbac.authorization.k8s.io/v1/clusterroles/wavegate"
POLICY = "wavegate-refused-content"
POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"


@pytest.fixture(scope="module")
def empty() -> Iterator[Sandbox]:
    """A cluster without our CRDs."""
    with Sandbox.start(Options(prometheus=False)) as sandbox:
        yield sandbox


@pytest.fixture
def operator(empty: Sandbox, pace: dict[str, str]) -> OperatorProcess:
    """One that does not run yet."""
    return OperatorProcess.from_chart(empty, NAMESPACE, pace)


@pytest.fixture
def rendered(empty: Sandbox) -> Rendered:
    stamps = has_mutating_policies(empty)
    return render(empty.tool("helm"), NAMESPACE, NAMESPACE, stamps=stamps)


def until_said(sandbox: Sandbox, operator: OperatorProcess, words: str) -> str:
    """Wait until the operator is not ready for this reason; returns all that it says."""

    def said() -> str:
        status, text = operator.get("/readyz")
        return text if status == 503 and words in text else ""

    return sandbox.wait_for(f"/readyz to say {words!r}", said)


def put(sandbox: Sandbox, path: str, change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Change an object; returns it as it was, fit to be put back."""
    before = sandbox.request("GET", path)
    changed = copy.deepcopy(before)
    change(changed)
    sandbox.request("PUT", path, changed)
    del before["metadata"]["resourceVersion"]
    return before


def test_the_operator_waits_for_its_crds_says_so_and_then_works(
    apply_crds: Callable[[Sandbox], None], empty: Sandbox, operator: OperatorProcess
) -> None:
    with operator:
        said = until_said(empty, operator, "apply the files in crds/")
        assert "securitycontentchannels.wavegate.dev" in said
        apply_crds(empty)
        operator.wait_ready()
        empty.request("POST", "/api/v1/namespaces", {"metadata": {"name": "early"}})
        story = Story(empty, "early").begin()
        story.publish("a")
        story.until("a", "an answer", lambda status: status.get("phase") == "Rolling")


def test_crds_of_an_older_chart_are_named_with_what_they_lack_and_upgraded_as_documented(
    empty: Sandbox, pace: dict[str, str], tmp_path: Path
) -> None:
    """Helm installs CRDs once and never upgrades them; the commands are those of the runbook."""
    helm, kubectl = (Tool(empty, tool, tmp_path) for tool in ("helm", "kubectl"))
    kubectl("delete", "crd", "--ignore-not-found", *CRD_NAMES)
    name, where = "wavegate-older", ("--namespace", "wavegate-older")
    take_other_policies_away(empty, name)
    older = older_chart(tmp_path)
    helm("install", name, str(older), *where, "--create-namespace", "--set", IMAGE)
    installed = parse(helm("get", "manifest", name, *where), name, name)
    with OperatorProcess.from_rendered(empty, installed, pace, tmp_path) as operator:
        said = until_said(empty, operator, "is older than this operator and lacks")
        assert "lacks spec.rollout.bake: apply the files in crds/ of this version" in said
        assert operator.get("/healthz")[0] == 200, "a restart would not help"
        empty.request("POST", "/api/v1/namespaces", {"metadata": {"name": "older"}})
        story = Story(empty, "older").begin()
        story.publish("a")
        empty.wait_for(
            "the held release to say why",
            lambda: "older than this operator" in story.status("a").get("message", ""),
        )
        assert story.agents() == {}
        kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CHART / "crds"))
        helm("upgrade", name, str(CHART), *where, "--reset-then-reuse-values")
        operator.wait_ready()
        empty.wait_for("the first agent", story.agents)
    helm("uninstall", name, *where)
    assert kubectl("get", "crd", *CRD_NAMES, "-o", "name").count("wavegate.dev") == 3


def older_chart(folder: Path) -> Path:
    """A copy of the chart, from before channels had a bake."""
    chart = folder / "wavegate"
    shutil.copytree(CHART, chart)
    file = chart / "crds" / "wavegate.dev_securitycontentchannels.yaml"
    crd = yaml.safe_load(file.read_text())
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    del spec["properties"]["rollout"]["properties"]["bake"]
    file.write_text(yaml.safe_dump(crd))
    return chart


def test_a_verb_that_is_missing_is_named_until_it_is_granted(
    crds_of_empty: None, empty: Sandbox, operator: OperatorProcess
) -> None:
    def without_patch(role: dict[str, Any]) -> None:
        (rule,) = (r for r in role["rules"] if r["resources"] == ["nodes"])
        rule["verbs"].remove("patch")

    before = put(empty, ROLE, without_patch)
    with operator:
        said = until_said(empty, operator, "RBAC does not allow the operator to")
        assert "patch nodes (in all namespaces): install the roles of this version" in said
        empty.request("PUT", ROLE, before)
        operator.wait_ready()
    assert operator.log_path.read_text().count("RBAC does not allow") == 1, "one line, not a flood"


def test_a_policy_that_is_missing_is_warned_of_and_holds_where_it_is_required(
    crds_of_empty: None,
    empty: Sandbox,
    operator: OperatorProcess,
    rendered: Rendered,
    pace: dict[str, str],
) -> None:
    strict = OperatorProcess.from_chart(
        empty, NAMESPACE, pace | {"WAVEGATE_ADMISSION_REQUIRED": "true"}
    )
    empty.request("DELETE", f"{POLICIES}/{POLICY}")
    with operator, strict:
        operator.wait_ready()
        warning = f"admission policy validatingadmissionpolicies/{POLICY} is not installed"
        empty.wait_for("the warning", lambda: warning in operator.log_path.read_text())
        until_said(empty, strict, warning)
        apply_policies(empty, rendered)
        strict.wait_ready()


@pytest.fixture
def crds_of_empty(apply_crds: Callable[[Sandbox], None], empty: Sandbox) -> None:
    """All CRDs of this version are served."""
    apply_crds(empty)
