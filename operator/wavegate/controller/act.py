"""Carries out the actions of a step, in their order."""

import asyncio
import contextlib
from collections.abc import Callable

from wavegate.api import Phase
from wavegate.cluster.client import ApiError, Client
from wavegate.cluster.store import Store
from wavegate.controller.work import Key
from wavegate.controller.world import World
from wavegate.rollout.observation import Observation
from wavegate.rollout.record import Record
from wavegate.rollout.steps import (
    Action,
    CopyContent,
    CreateRevision,
    DeletePods,
    Forget,
    MoveNodes,
    Retarget,
    StoreLedger,
    Target,
    UnlabelNodes,
)
from wavegate.telemetry.metrics import Metrics

CONFIRMED_SECONDS = 1.0
"""A batch that takes longer, as when the apiserver is slow, asks again whether the record is still
the one that was decided on: another process may have fenced it, or moved others, meanwhile."""


_WRITTEN = "another process wrote the record meanwhile; it is read anew"


class NotLeader(Exception):  # noqa: N818 (a state, not an error)
    """This process may not act any more: its lease was not renewed in time."""


class Actor:
    """Acts for the leader. `may_act` is asked before every action and every node of a batch."""

    def __init__(
        self, client: Client, world: World, metrics: Metrics, may_act: Callable[[], bool]
    ) -> None:
        self._client, self._world, self._metrics = client, world, metrics
        self._may_act = may_act

    def store(self, key: Key) -> Store:
        """The store of one channel."""
        return Store(self._client, *key, self._world.fresh)

    async def act(self, obs: Observation, actions: tuple[Action, ...]) -> None:
        """Do all actions; raises ApiError or NotLeader when one can't be done."""
        store = self.store((obs.namespace, obs.name))
        await self._confirm(store, obs)
        failed: ApiError | None = None
        for together in _groups(actions):
            if _is_way_back(together[0]):
                await self._confirm_revert(store, obs)
            self.check()
            done = await asyncio.gather(
                *(self._do(store, obs, action) for action in together), return_exceptions=True
            )
            for error in done:
                # A revert must not depend on a delete: the writes behind it still take place.
                if isinstance(error, ApiError) and isinstance(together[0], DeletePods):
                    failed = failed or error
                elif error is not None:
                    raise error
        if failed is not None:
            raise failed

    async def _confirm(self, store: Store, obs: Observation) -> None:
        """Raise ApiError 409 if the record is not the one that was decided on any more.

        Versions keep a stale leader from saving, and from changing what it saw otherwise. They do
        not keep it from creating or deleting a DaemonSet, or from moving one that it sees as it is
        by a record of the past. A fence waits for no answer: what is fenced stays fenced.
        """
        rollout = obs.record.rollout
        if rollout is not None and rollout.phase is Phase.Reverting:
            return
        self.check()
        if await store.read_record() != obs.record:
            raise ApiError(409, _WRITTEN)

    async def _confirm_revert(self, store: Store, obs: Observation) -> None:
        """Raise ApiError 409 if this revert is over by now. What was stable then may have been
        fenced since, and must not get nodes again. No revert is stopped by an answer that does
        not come, or by a record that is gone.
        """
        reverted, record = obs.record.rollout, None
        with contextlib.suppress(ApiError, TimeoutError):
            async with asyncio.timeout(CONFIRMED_SECONDS):
                record = await store.read_record()
        if reverted is None or record is None or record == Record(obs.namespace, obs.name):
            return
        now = record.rollout
        if now is None or (now.attempt, now.phase) != (reverted.attempt, Phase.Reverting):
            raise ApiError(409, _WRITTEN)

    def check(self) -> None:
        """Raise NotLeader unless this process may act."""
        if not self._may_act():
            raise NotLeader

    async def _do(self, store: Store, obs: Observation, action: Action) -> None:
        match action:
            case Retarget():
                view = obs.revisions.get(action.revision)
                if view is None:
                    raise ApiError(404, f"the DaemonSet of revision {action.revision} is gone")
                await store.retarget(action, view)
            case CreateRevision():
                await store.create_revision(action)
            case CopyContent():
                await store.copy_content(action)
            case StoreLedger():
                await store.store_ledger(action.ledger)
            case MoveNodes() | UnlabelNodes():
                await self._label(store, obs, action)
            case DeletePods():
                await store.delete_pods(action.attempt, action.node, unbound=action.unbound)
            case Forget():
                await self._forget(store, obs, action)

    async def _label(
        self, store: Store, obs: Observation, action: MoveNodes | UnlabelNodes
    ) -> None:
        moved = self._metrics.moved.labels(obs.namespace, obs.name)
        clock = asyncio.get_running_loop().time
        confirmed = clock()
        for name, uid in action.nodes:
            if clock() - confirmed > CONFIRMED_SECONDS:
                await self._confirm(store, obs)
                confirmed = clock()
            self.check()
            if isinstance(action, UnlabelNodes):
                await store.unlabel_node(name, uid, action.attempt)
            else:
                await store.move_node(name, uid, action.attempt)
                moved.inc()

    async def _forget(self, store: Store, obs: Observation, action: Forget) -> None:
        view = obs.revisions.get(action.revision or "")
        if view is not None:
            await store.forget_revision(view)
        if action.ledgers_of is None:
            return
        for stored in list(self._world.stored.items.values()):
            ledger = stored.ledger
            if ledger is not None and ledger.attempt == action.ledgers_of:
                await store.forget_ledger(ledger.attempt, ledger.number)


def _groups(actions: tuple[Action, ...]) -> list[list[Action]]:
    """The actions one by one, in their order; but the pods of single nodes are deleted together.
    What comes behind them, the deletion of all the others, overtakes a sync of the DaemonSet
    controller if it is quick: else that sync spends its requests on pods that go anyway.
    """
    groups: list[list[Action]] = []
    for action in actions:
        if groups and _is_of_one_node(action) and _is_of_one_node(groups[-1][0]):
            groups[-1].append(action)
        else:
            groups.append([action])
    return groups


def _is_way_back(action: Action) -> bool:
    """Whether stable gets all nodes, in a revert."""
    return isinstance(action, Retarget) and action.fence and action.target is Target.ALL


def _is_of_one_node(action: Action) -> bool:
    return isinstance(action, DeletePods) and action.node is not None
