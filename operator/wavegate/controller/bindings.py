"""Keeps what RBAC grants the operator in each namespace that has a channel.

There its rights come from a RoleBinding that people make, and may take away at any time. So they
are asked for before anything begins, again while a release rolls out, and at once when a request
was refused. While one is missing no node moves; a revert is tried all the same, as far as it goes.
"""

import logging
from collections import defaultdict
from collections.abc import Callable

from wavegate.cluster.client import ApiError, Client
from wavegate.cluster.reviews import in_words, not_granted_in
from wavegate.cluster.rights import agents_rights
from wavegate.controller.tasks import Tasks
from wavegate.controller.work import Key

log = logging.getLogger(__name__)

RETRY_SECONDS = 5.0
"""Between two looks while a right is missing."""
RENEW_SECONDS = 60.0
"""Between two looks while a release rolls out. Without one nothing is asked: a request that is
refused tells."""


class Bindings:
    """One answer for each namespace; `wake` is called when it has changed. `command` is what binds
    the operator's role, after `kubectl -n <namespace> create rolebinding`.
    """

    def __init__(
        self, client: Client, clock: Callable[[], float], wake: Callable[[Key], None], command: str
    ) -> None:
        self._client, self._clock, self._wake, self._command = client, clock, wake, command
        self._lacking: dict[str, str] = {}
        """In words; empty when all is granted."""
        self._doubted: set[str] = set()
        self._since: dict[str, float] = {}
        self._asked: dict[str, float] = {}
        self._tasks = Tasks[str]()
        self._keys: dict[str, set[Key]] = defaultdict(set)

    async def lacking(self, namespace: str) -> str:
        """What RBAC does not allow in a namespace, in words; empty when it allows all. Asked for
        now, if that is not known.
        """
        if namespace in self._lacking and namespace not in self._doubted:
            return self._lacking[namespace]
        return await self.look(namespace)

    def doubt(self, namespace: str) -> None:
        """A request was refused: what was known counts no more."""
        self._doubted.add(namespace)

    def ensure(self, key: Key, *, rolling: bool) -> None:
        """Ask again in the background, if it is time."""
        namespace = key[0]
        self._keys[namespace].add(key)
        retry = RETRY_SECONDS if self._lacking.get(namespace) else RENEW_SECONDS
        if self._tasks.is_running(namespace) or (not rolling and retry == RENEW_SECONDS):
            return
        if self._clock() - self._asked.get(namespace, 0.0) >= retry:
            self._tasks.start(namespace, self.look(namespace))

    def close(self) -> None:
        """Stop asking."""
        self._tasks.close()

    def since(self, namespace: str) -> float:
        """Since when all is allowed again, after it was not: what was seen before then could not
        be stored. 0 = it always was.
        """
        return self._since.get(namespace, 0.0)

    async def look(self, namespace: str) -> str:
        """Ask now; returns what is missing, as `lacking` does."""
        self._asked[namespace] = self._clock()
        self._doubted.discard(namespace)
        before = self._lacking.get(namespace)
        said = self._lacking[namespace] = await self._ask(namespace, before)
        if said and said != before:
            log.error("Nothing moves in namespace %s: %s", namespace, said)
        if before and not said:
            log.info("RBAC allows all that is needed in namespace %s now", namespace)
            self._since[namespace] = self._clock()
        if before is not None and said != before:
            for key in self._keys[namespace]:
                self._wake(key)
        return said

    async def _ask(self, namespace: str, known: str | None) -> str:
        """An apiserver that does not answer takes back nothing of what is known."""
        wanted = agents_rights(namespace)
        try:
            missing = await not_granted_in(self._client, namespace, wanted)
        except (ApiError, AttributeError, KeyError, TypeError) as error:
            log.warning("What RBAC allows in namespace %s can't be asked: %s", namespace, error)
            unknown = f"what RBAC allows the operator in namespace {namespace} can't be asked"
            return unknown if known is None else known
        if len(missing) == len(wanted):
            return self._unbound(namespace)
        return in_words(missing) if missing else ""

    def _unbound(self, namespace: str) -> str:
        return (
            f"namespace {namespace} has no RoleBinding for the operator, so it can write nothing "
            "there, not even a revert. Who looks after the cluster's namespaces makes one by: "
            f"kubectl -n {namespace} create rolebinding {self._command}"
        )
