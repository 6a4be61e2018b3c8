"""Keeps the proof of the way back of pending waves, as often as the pure core wants it."""

import asyncio
import logging
from collections.abc import Callable

from wavegate.cluster.client import Client
from wavegate.cluster.trial import try_revert
from wavegate.controller.work import Key
from wavegate.rollout import way_back
from wavegate.rollout.attempt import Rollout
from wavegate.rollout.decide import pause_reason
from wavegate.rollout.movable import fleet
from wavegate.rollout.observation import Observation, RevertProof, RevisionView

log = logging.getLogger(__name__)

Revisions = tuple[RevisionView, RevisionView | None]


class ProofRunner:
    """Tries in the background, since a webhook may take long to answer; `wake` is called when a
    proof is in.
    """

    def __init__(
        self, client: Client, clock: Callable[[], float], wake: Callable[[Key], None]
    ) -> None:
        self._client, self._clock, self._wake = client, clock, wake
        self._proofs: dict[Key, RevertProof] = {}
        self._running: dict[Key, asyncio.Task[None]] = {}

    def proof(self, key: Key) -> RevertProof | None:
        """The newest proof for a channel's rollout."""
        return self._proofs.get(key)

    def close(self) -> None:
        """Stop trying."""
        for task in self._running.values():
            task.cancel()

    def ensure(self, key: Key, obs: Observation) -> None:
        """Try the way back if it is due. Without a rollout nothing is remembered."""
        rollout = obs.record.rollout
        if rollout is None:
            self._proofs.pop(key, None)
            self._running.pop(key, None)
            return
        (candidate, stable), now = way_back.revisions(obs, rollout), self._clock()
        task = self._running.get(key)
        if candidate is None or (task is not None and not task.done()):
            return
        if pause_reason(obs, now) is None and way_back.is_due(obs, rollout, now):
            self._running[key] = asyncio.create_task(
                self._try(key, obs, rollout, (candidate, stable))
            )

    async def _try(
        self, key: Key, obs: Observation, rollout: Rollout, revisions: Revisions
    ) -> None:
        asked_at, node = self._clock(), min(fleet(obs, rollout), default="any")
        try:
            problem = await try_revert(self._client, obs.namespace, obs.key, revisions, node)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            log.exception("%s/%s: the dry run of the way back has an unreadable answer", *key)
            problem = f"the way back is unknown: the answer to its dry run can't be read ({error})"
        ledger = rollout.waves[-1].ledger
        tried = way_back.uids(revisions)
        self._proofs[key] = RevertProof(rollout.attempt, ledger, asked_at, problem, tried)
        self._wake(key)
