"""What the chart renders, as committed files: a change of it is read in a diff before it is merged.

`make renders` writes them anew. No control plane is needed, only the real Helm.
"""

import os
import re
import subprocess
from pathlib import Path

import pytest

from support.chart import CHART, REPOSITORY
from wavegate_sandbox import build

GOLDEN = Path(__file__).parent / "renders"
INSTALL = REPOSITORY / "examples" / "install" / "wavegate.yaml"
PLACEHOLDER = "replace-me.invalid/wavegate"
WRITE = bool(os.environ.get("WAVEGATE_WRITE_RENDERS"))

EVERYTHING = (
    "replicas=3",
    "image.digest=sha256:" + "a" * 64,
    "imagePullSecrets[0].name=pull",
    "priorityClassName=system-cluster-critical",
    "prometheusConnections[0].name=thanos",
    "prometheusConnections[0].secretName=reader",
    "agentNamespaces[0]=agents",
    "admissionPolicies.required=true",
    "networkPolicy.enabled=true",
    "networkPolicy.apiserver.cidrs[0]=10.0.0.1/32",
    "networkPolicy.prometheus[0].ports[0].port=9090",
    "networkPolicy.metricsFrom[0].namespaceSelector.matchLabels.team=monitoring",
    "serviceMonitor.enabled=true",
    "serviceMonitor.labels.release=prometheus",
    "prometheusRule.enabled=true",
    "dashboard.enabled=true",
)
BARE = ("replicas=1", "admissionPolicies.enabled=false", "podDisruptionBudget.enabled=false")


@pytest.fixture(scope="module")
def helm() -> Path:
    return build.ensure(["helm"])["helm"]


def rendered(helm: Path, namespace: str, repository: str, values: tuple[str, ...] = ()) -> str:
    """Return what Helm prints for a release `wavegate`, without the names of its templates."""
    sets = [f"--set={value}" for value in (f"image.repository={repository}", *values)]
    argv = [str(helm), "template", "wavegate", str(CHART), "--namespace", namespace, *sets]
    text = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    return re.sub(r"^# Source: .*\n", "", text, flags=re.MULTILINE)


def compare(path: Path, text: str) -> None:
    if WRITE:
        path.write_text(text)
    assert path.read_text() == text, (
        "the chart renders otherwise: run `make renders`, read the diff"
    )


@pytest.mark.parametrize(("name", "values"), [("everything", EVERYTHING), ("bare", BARE)])
def test_the_chart_renders_what_is_committed(
    helm: Path, name: str, values: tuple[str, ...]
) -> None:
    text = rendered(helm, "security", "registry.example/wavegate", values)
    compare(GOLDEN / f"{name}.yaml", text)


def test_the_plain_manifests_are_the_charts_defaults(helm: Path) -> None:
    text = rendered(helm, "wavegate", PLACEHOLDER)
    of_helm = r"^ *(app\.kubernetes\.io/managed-by: Helm|helm\.sh/chart: .*)\n"
    head = (
        "# Made from charts/wavegate by `make renders`: edit there.\n"
        f"# Write your image for {PLACEHOLDER}, as the README beside this file says.\n"
    )
    compare(INSTALL, head + re.sub(of_helm, "", text, flags=re.MULTILINE))


def test_the_readmes_replace_the_image_that_the_manifests_name() -> None:
    (image,) = re.findall(r"^ +image: (.+)$", INSTALL.read_text(), flags=re.MULTILINE)
    for readme in (REPOSITORY / "README.md", INSTALL.parent / "README.md"):
        assert f'sed "s|{image}|$REPOSITORY:' in readme.read_text()
