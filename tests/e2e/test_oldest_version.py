"""An apiserver that plays the oldest version that the chart allows: no newer feature, no newer CEL.

It is 1.37's code with 1.34's features, so it shows what is accepted there, and not how 1.34 works.
"""

import re
from collections.abc import Iterator

import pytest
import yaml

from support.chart import CHART, apply_crds
from support.operator_process import OperatorProcess
from support.story import Story, channel_spec
from wavegate_sandbox.cluster import Options, Sandbox

CHART_FILE = yaml.safe_load((CHART / "Chart.yaml").read_text())
OLDEST = re.search(r">=(\d+\.\d+)", CHART_FILE["kubeVersion"]).group(1)


@pytest.fixture(scope="module")
def oldest(pace: dict[str, str]) -> Iterator[Sandbox]:
    """A control plane with an operator that leads."""
    extra = {"kube-apiserver": (f"--emulated-version={OLDEST}",)}
    with Sandbox.start(Options(prometheus=False, extra_args=extra)) as sandbox:
        apply_crds(sandbox)
        with OperatorProcess.from_chart(sandbox, "wavegate-oldest", pace) as operator:
            operator.wait_ready()
            yield sandbox


def begin(sandbox: Sandbox, name: str, **changes: object) -> Story:
    sandbox.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    story = Story(sandbox, name, workers=1).begin(changes)
    story.publish("a")
    return story


def test_it_is_the_version_that_it_says(oldest: Sandbox) -> None:
    assert oldest.request("GET", "/version")["emulationMinor"] == OLDEST.partition(".")[2]


def test_content_by_container_image_rolls_out_and_the_policies_reserve(oldest: Sandbox) -> None:
    agent = channel_spec("containers")["agent"]["template"]["spec"]
    pod = {
        **agent,
        "volumes": [],
        "initContainers": [{"name": "rules", "image": "set-by-wavegate"}],
    }
    content = {"containerImage": {"containerName": "rules"}}
    story = begin(oldest, "containers", content=content, agent={"template": {"spec": pod}})
    story.until_phase("a", "Completed")
    made = {
        binding["metadata"]["name"]
        for binding in oldest.request(
            "GET", "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings"
        )["items"]
    }
    assert {"wavegate-oldest-own-objects", "wavegate-oldest-reserved-objects"} <= made


def test_image_volumes_are_refused_with_a_reason(oldest: Sandbox) -> None:
    story = begin(oldest, "volumes")
    status = story.until("a", "an answer", lambda status: status.get("reason") == "InvalidTemplate")
    assert status["phase"] == "Pending"
