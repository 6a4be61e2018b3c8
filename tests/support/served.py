"""What the cluster that the tests run on has: on an older minor they do what users have to do there
(docs/kubernetes-versions.md).
"""

import copy
from collections.abc import Mapping
from typing import Any, Protocol

ADMISSION = "/apis/admissionregistration.k8s.io/v1"


class Asks(Protocol):
    """What this code needs of the sandbox."""

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        params: Mapping[str, str] | None = None,
        content_type: str | None = None,
        check: bool = True,
    ) -> dict[str, Any]:
        """Send one request as admin and return the decoded answer."""
        ...


def has_mutating_policies(cluster: Asks) -> bool:
    """Whether the chart can have `decidedBy` filled in: by the group version that it asks for."""
    kinds = {resource["kind"] for resource in cluster.request("GET", ADMISSION)["resources"]}
    return "MutatingAdmissionPolicy" in kinds


def own_name(cluster: Asks) -> dict[str, str]:
    """What a decision of ours has to say of who makes it: nothing where it is filled in."""
    if has_mutating_policies(cluster):
        return {}
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    user = cluster.request("POST", path, review)["status"]["userInfo"]["username"]
    return {"decidedBy": user}


def has_image_volumes(cluster: Asks) -> bool:
    """Whether the apiserver keeps image volumes: where it has none it drops them silently."""
    container = {"name": "c", "image": "registry.example/c"}
    volumes = [{"name": "v", "image": {"reference": "registry.example/v"}}]
    pod = {"metadata": {"name": "try"}, "spec": {"containers": [container], "volumes": volumes}}
    path = "/api/v1/namespaces/default/pods"
    answer = cluster.request("POST", path, pod, params={"dryRun": "All"})
    return any("image" in volume for volume in answer["spec"]["volumes"])


def as_served(cluster: Asks, spec: Mapping[str, Any]) -> dict[str, Any]:
    """A channel's spec for this cluster: without image volumes its content is the image of a
    container.
    """
    volume = _image_volume(spec)
    return dict(spec) if volume is None or has_image_volumes(cluster) else by_container(spec)


def by_container(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A channel's spec with an init container, of the same name, instead of the image volume."""
    volume, made = _image_volume(spec), copy.deepcopy(dict(spec))
    assert volume is not None
    del made["content"]["imageVolume"]
    made["content"]["containerImage"] = {"containerName": volume["name"]}
    pod = made["agent"]["template"]["spec"]
    pod["volumes"] = [v for v in pod["volumes"] if v["name"] != volume["name"]]
    container = {"name": volume["name"], "image": volume["image"]["reference"]}
    pod["initContainers"] = [*pod.get("initContainers", []), container]
    return made


def _image_volume(spec: Mapping[str, Any]) -> dict[str, Any] | None:
    """The volume of the agent's own template that the content takes."""
    name = spec.get("content", {}).get("imageVolume", {}).get("volumeName")
    pod = (spec.get("agent", {}).get("template") or {}).get("spec", {})
    found = [v for v in pod.get("volumes", []) if v["name"] == name and "image" in v]
    return found[0] if found else None
