"""URL paths of what we read and write."""

from wavegate.api import GROUP, VERSION

NODES = "/api/v1/nodes"
NODE_LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
PODS = "/api/v1/pods"
DAEMON_SETS = "/apis/apps/v1/daemonsets"
CONFIG_MAPS = "/api/v1/configmaps"
ENDPOINT_SLICES = "/apis/discovery.k8s.io/v1/endpointslices"
_ADMISSION = "/apis/admissionregistration.k8s.io/v1"
VALIDATING_WEBHOOKS = f"{_ADMISSION}/validatingwebhookconfigurations"
MUTATING_WEBHOOKS = f"{_ADMISSION}/mutatingwebhookconfigurations"
OUR_API = f"/apis/{GROUP}/{VERSION}"


def node(name: str) -> str:
    """One node."""
    return f"{NODES}/{name}"


def pods(namespace: str) -> str:
    """The pods of a namespace."""
    return f"/api/v1/namespaces/{namespace}/pods"


def daemon_sets(namespace: str, name: str = "") -> str:
    """The DaemonSets of a namespace, or one of them."""
    return _in(f"/apis/apps/v1/namespaces/{namespace}/daemonsets", name)


def config_maps(namespace: str, name: str = "") -> str:
    """The ConfigMaps of a namespace, or one of them."""
    return _in(f"/api/v1/namespaces/{namespace}/configmaps", name)


def leases(namespace: str, name: str = "") -> str:
    """The Leases of a namespace, or one of them."""
    return _in(f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases", name)


def events(namespace: str, name: str = "") -> str:
    """The Events of a namespace, or one of them."""
    return _in(f"/apis/events.k8s.io/v1/namespaces/{namespace}/events", name)


def ours(plural: str, namespace: str = "", name: str = "") -> str:
    """Objects of one of our kinds: all, those of a namespace, or one."""
    if not namespace:
        return f"{OUR_API}/{plural}"
    return _in(f"{OUR_API}/namespaces/{namespace}/{plural}", name)


def _in(path: str, name: str) -> str:
    return f"{path}/{name}" if name else path
