"""Keeps the proof that decisions tell who made them: tried when a process begins to lead, and again
after each decision that needs it. Nothing is asked while nobody decides.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable

from wavegate.cluster.client import ApiError, Client
from wavegate.cluster.forged import try_forged
from wavegate.controller.tasks import Tasks
from wavegate.controller.work import Key
from wavegate.rollout import decisions
from wavegate.rollout.observation import Observation, PolicyProof

log = logging.getLogger(__name__)

RETRY_SECONDS = 5.0
"""An apiserver that does not answer says nothing about its policies."""


class PolicyRunner:
    """One proof for each namespace, tried in the background; `wake` is called when one is in."""

    def __init__(
        self, client: Client, clock: Callable[[], float], wake: Callable[[Key], None]
    ) -> None:
        self._client, self._clock, self._wake = client, clock, wake
        self._proofs: dict[str, PolicyProof] = {}
        self._tasks = Tasks[str]()
        self._waiting: dict[str, set[Key]] = defaultdict(set)

    def proof(self, key: Key) -> PolicyProof | None:
        """The newest proof for a channel's namespace."""
        return self._proofs.get(key[0])

    def close(self) -> None:
        """Stop trying."""
        self._tasks.close()

    def ensure(self, key: Key, obs: Observation) -> None:
        """Try the policies if a decision, or a new process, wants it. Without the right to try it
        nothing is known.
        """
        at, (namespace, _) = decisions.proof_wanted_at(obs), key
        if obs.forbidden:
            self._proofs.pop(namespace, None)
        if at is None or obs.forbidden:
            return
        self._waiting[namespace].add(key)
        if not self._tasks.is_running(namespace):
            self._tasks.start(namespace, self._try(namespace, at))

    async def _try(self, namespace: str, at: float) -> None:
        await asyncio.sleep(max(0.0, at - self._clock()))
        asked_at, before = self._clock(), self._proofs.get(namespace)
        try:
            problem = await try_forged(self._client, namespace)
        except ApiError as error:
            log.warning(
                "Whether decisions in %s prove who made them is unknown: %s", namespace, error
            )
            await asyncio.sleep(RETRY_SECONDS)
        else:
            held = before is not None and not before.problem and not problem
            since = before.since if held and before is not None else asked_at
            self._proofs[namespace] = PolicyProof(asked_at, since, problem)
            if problem:
                log.warning("Only decisions that tighten are obeyed in %s: %s", namespace, problem)
        for key in self._waiting.pop(namespace, ()):
            self._wake(key)
