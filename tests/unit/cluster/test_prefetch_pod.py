"""What the status of a pod that pulls images ahead says of them."""

import pytest

from wavegate.cluster.projections import prefetch_pod


def pod(phase="Pending", *states, reason="", name="prefetch-{}", **metadata):
    containers = [{"name": name.format(n), "state": state} for n, state in enumerate(states)]
    labels = {
        "wavegate.dev/kind": "prefetch",
        "wavegate.dev/prefetch-for": "rules",
        "wavegate.dev/attempt": "x1",
        "wavegate.dev/soaking-ledger": "2",
    }
    return {
        "metadata": {"name": "p", "namespace": "agents", "labels": labels, **metadata},
        "spec": {"nodeName": "n1"},
        "status": {"phase": phase, "reason": reason, "containerStatuses": containers},
    }


MADE = {"terminated": {"reason": "StartError", "exitCode": 128, "containerID": "containerd://1"}}
NEVER_MADE = {"terminated": {"reason": "ContainerStatusUnknown", "exitCode": 137}}


def waits(why):
    return {"waiting": {"reason": why}}


@pytest.mark.parametrize(
    ("body", "pulled", "problem", "ended"),
    [
        ({**pod(), "status": {}}, False, "", False),
        (pod("Pending", waits("ContainerCreating")), False, "", False),
        (pod("Pending", waits("ErrImagePull")), False, "ErrImagePull", False),
        (pod("Pending", waits("ImagePullBackOff")), False, "ErrImagePull", False),
        (pod("Pending", waits("RunContainerError")), True, "", True),
        (pod("Pending", waits("CreateContainerError")), True, "", True),
        (pod("Failed", MADE), True, "", True),
        (pod("Running", MADE), True, "", True),
        (pod("Succeeded", {"terminated": {"containerID": "c://1"}}), True, "", True),
        (pod("Pending", MADE, waits("ErrImagePull")), False, "ErrImagePull", False),
        (pod("Failed", NEVER_MADE, reason="Evicted"), False, "Evicted", True),
        (pod("Failed", reason="OutOfpods"), False, "OutOfpods", True),
        (pod("Failed"), False, "Failed", True),
        (pod("Running", MADE, name="sidecar-{}"), False, "", False),
    ],
)
def test_an_image_is_there_when_a_container_was_made_of_it(body, pulled, problem, ended) -> None:
    found = prefetch_pod(body, None, 0.0)
    assert (found.pulled, found.problem, found.ended) == (pulled, problem, ended)
    assert (found.channel, found.soak, found.node) == ("rules", ("x1", "2"), "n1")


def test_one_that_is_being_deleted_is_told() -> None:
    assert prefetch_pod(pod(deletionTimestamp="now"), None, 0.0).terminating
