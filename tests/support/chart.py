"""The chart as real Helm renders it, its rights and its policies put on a control plane.

Invariant: nothing about the operator's command, settings or rights is written here; all of it is
read from what `helm template` prints, so that a test runs what a user's cluster would run.
"""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import yaml

from support.served import Asks, has_mutating_policies

T = TypeVar("T")
REPOSITORY = Path(__file__).resolve().parents[2]
CHART = REPOSITORY / "charts" / "wavegate"

# The chart has no default image, as none is published. Nothing is pulled in a test.
IMAGE = "image.repository=registry.example/wavegate"

# How the kinds that carry rights are reached; the order is the order in which they are applied.
_RIGHTS = {
    "ServiceAccount": "/api/v1/namespaces/{namespace}/serviceaccounts/{name}",
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles/{name}",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/{name}",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles/{name}",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings/{name}",
}
# Helm without a cluster does not know that it is served.
STAMPS = "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy"
_ADMISSION = "/apis/admissionregistration.k8s.io/v1/{plural}/{name}"
_POLICIES = {
    "MutatingAdmissionPolicy": "mutatingadmissionpolicies",
    "MutatingAdmissionPolicyBinding": "mutatingadmissionpolicybindings",
    "ValidatingAdmissionPolicy": "validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": "validatingadmissionpolicybindings",
}


class ControlPlane(Asks, Protocol):
    """What this code needs of the sandbox."""

    def tool(self, name: str) -> Path:
        """Return the path of a built tool."""
        ...

    def wait_for(self, what: str, predicate: Callable[[], T], timeout: float = 30) -> T:
        """Poll a condition."""
        ...

    def service_account_kubeconfig(self, namespace: str, name: str) -> Path:
        """Mint a token of the ServiceAccount and return a kubeconfig that uses it."""
        ...


@dataclass(frozen=True, slots=True)
class Rendered:
    """The objects of one `helm template`.

    Args:
        release: name of the Helm release.
        namespace: namespace of the Helm release.
        objects: every rendered manifest, in Helm's order.
    """

    release: str
    namespace: str
    objects: tuple[dict[str, Any], ...]

    def one(self, kind: str) -> dict[str, Any]:
        """Return the only object of a kind; ValueError when there is another number of them."""
        (found,) = (item for item in self.objects if item["kind"] == kind)
        return found

    @property
    def service_account(self) -> str:
        """Name of the ServiceAccount that the operator's pod uses."""
        name: str = self.pod_spec["serviceAccountName"]
        return name

    @property
    def pod_spec(self) -> dict[str, Any]:
        """The operator's pod."""
        spec: dict[str, Any] = self.one("Deployment")["spec"]["template"]["spec"]
        return spec

    @property
    def container(self) -> dict[str, Any]:
        """The operator's only container."""
        (found,) = self.pod_spec["containers"]
        container: dict[str, Any] = found
        return container


def render(
    helm: Path,
    namespace: str,
    release: str = "wavegate",
    values: tuple[str, ...] = (),
    *,
    stamps: bool = True,
) -> Rendered:
    """Run `helm template` on the chart.

    Args:
        helm: path of the helm program.
        namespace: the release's namespace.
        release: the release's name.
        values: `--set` arguments beyond the image, such as `operator.logLevel=debug`.
        stamps: whether the cluster that it is for serves MutatingAdmissionPolicies.

    Raises:
        subprocess.CalledProcessError: Helm refused; its words are in `stderr`.
    """
    sets = [word for value in (IMAGE, *values) for word in ("--set", value)]
    sets += ["--api-versions", STAMPS] if stamps else []
    done = subprocess.run(
        [str(helm), "template", release, str(CHART), "--namespace", namespace, *sets],
        check=True,
        capture_output=True,
        text=True,
    )
    return parse(done.stdout, namespace, release)


def parse(manifest: str, namespace: str, release: str) -> Rendered:
    """Read what `helm template` or `helm get manifest` printed."""
    objects = tuple(item for item in yaml.safe_load_all(manifest) if item)
    return Rendered(release=release, namespace=namespace, objects=objects)


def apply_rights(plane: ControlPlane, rendered: Rendered) -> None:
    """Put the release's namespace and the chart's ServiceAccount, roles and bindings in place."""
    namespace = {"metadata": {"name": rendered.namespace}, "apiVersion": "v1", "kind": "Namespace"}
    apply(plane, f"/api/v1/namespaces/{rendered.namespace}", namespace)
    for kind, path in _RIGHTS.items():
        for item in rendered.objects:
            if item["kind"] == kind:
                apply(plane, path.format(**{"namespace": "", **item["metadata"]}), item)


def apply_policies(plane: ControlPlane, rendered: Rendered) -> None:
    """Put the chart's admission policies in place, if any. They act within about a second.

    Those of other releases are taken away: one operator per cluster, as the policies of each
    reserve to it what the other would write.
    """
    take_other_policies_away(plane, rendered.release)
    for kind, plural in _POLICIES.items():
        for item in rendered.objects:
            if item["kind"] == kind:
                name = item["metadata"]["name"]
                apply(plane, _ADMISSION.format(plural=plural, name=name), item)


def take_other_policies_away(plane: ControlPlane, release: str) -> None:
    """Take the admission policies of all other releases away."""
    others = f"app.kubernetes.io/name=wavegate,app.kubernetes.io/instance!={release}"
    stamps = has_mutating_policies(plane)
    for plural in _POLICIES.values():
        if plural.startswith("mutating") and not stamps:
            continue
        path = _ADMISSION.format(plural=plural, name="").rstrip("/")
        plane.request("DELETE", path, params={"labelSelector": others})


def apply(plane: ControlPlane, path: str, item: dict[str, Any]) -> None:
    """Server-side apply one object: made when missing, brought to this state when not."""
    plane.request(
        "PATCH",
        path,
        body=item,
        params={"fieldManager": "wavegate-tests", "force": "true"},
        content_type="application/apply-patch+yaml",
    )


def apply_crds(sandbox: ControlPlane) -> None:
    """Apply our CRDs and wait until all are served."""
    for file in sorted((REPOSITORY / "crds").glob("*.yaml")):
        crd = yaml.safe_load(file.read_text())
        path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd['metadata']['name']}"
        params = {"fieldManager": "tests", "force": "true"}
        sandbox.request(
            "PATCH", path, crd, params=params, content_type="application/apply-patch+yaml"
        )
        sandbox.wait_for(f"{file.name} to be served", lambda path=path: _served(sandbox, path))


def _served(sandbox: ControlPlane, path: str) -> bool:
    crd = sandbox.request("GET", path)
    conditions = (crd.get("status") or {}).get("conditions") or []
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)
