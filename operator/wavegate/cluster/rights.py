"""The rights that the operator needs: in all namespaces, and where agents run. The chart's roles
grant exactly these, each with what it is for: a test holds both against each other.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from wavegate.api import GROUP, Channel, Decision, Release
from wavegate.cluster.forged import FORGED
from wavegate.cluster.served import KINDS

EVERYWHERE = ""
NODE_LEASES = "kube-node-lease"


@dataclass(frozen=True, slots=True, order=True)
class Right:
    """One verb on one resource, as access reviews name it. `namespace` empty: in all of them."""

    verb: str
    group: str
    resource: str
    subresource: str = ""
    namespace: str = EVERYWHERE
    name: str = ""

    def __str__(self) -> str:
        """As `kubectl auth can-i` takes it, for people."""
        resource = f"{self.resource}.{self.group}" if self.group else self.resource
        resource += f"/{self.subresource or self.name}" if self.subresource or self.name else ""
        where = f"in namespace {self.namespace}" if self.namespace else "in all namespaces"
        return f"{self.verb} {resource} ({where})"


_EVERYWHERE = (
    ("", "nodes", "list watch patch"),
    ("", "pods", "list watch"),
    ("", "configmaps", "list watch"),
    ("apps", "daemonsets", "list watch"),
    ("discovery.k8s.io", "endpointslices", "list"),
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations", "list"),
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations", "list"),
    *((GROUP, kind.plural, "get list watch") for kind in (Channel, Release)),
    (GROUP, Decision.plural, "list watch"),
    *((GROUP, f"{kind.plural}/status", "patch") for kind in KINDS),
)
_WITH_AGENTS = (
    ("", "pods", "create deletecollection"),
    ("", "configmaps", "get create update delete"),
    ("apps", "daemonsets", "get create patch delete"),
    ("events.k8s.io", "events", "create"),
)


def needed_rights(namespace: str, lease: str, policies: tuple[str, ...] = ()) -> frozenset[Right]:
    """The rights without which nothing works. `namespace` and `lease` are where the leader's Lease
    is; `policies` are admission policies that are looked for, as `group/version/plural/name`.
    """
    leases = ("coordination.k8s.io", "leases", "")
    return frozenset(
        {
            *_spelled(_EVERYWHERE),
            Right("create", *leases, namespace),
            Right("get", *leases, namespace, lease),
            Right("update", *leases, namespace, lease),
            Right("list", *leases, NODE_LEASES),
            *(_policy(path) for path in policies),
        }
    )


def agents_rights(namespace: str) -> frozenset[Right]:
    """What is needed besides in a namespace in which agents run."""
    # Only as dry runs: whether the policies prove who decided.
    forged = (
        Right(verb, GROUP, Decision.plural, "", namespace, FORGED) for verb in ("create", "patch")
    )
    return frozenset((*_spelled(_WITH_AGENTS, namespace), *forged))


def _spelled(
    rules: tuple[tuple[str, str, str], ...], namespace: str = EVERYWHERE
) -> Iterator[Right]:
    for group, resource, verbs in rules:
        for verb in verbs.split():
            yield Right(verb, group, *_split(resource), namespace)


def _split(resource: str) -> tuple[str, str]:
    plural, _, subresource = resource.partition("/")
    return plural, subresource


def _policy(path: str) -> Right:
    group, _, plural, name = path.split("/")
    return Right("get", group, plural, name=name)
