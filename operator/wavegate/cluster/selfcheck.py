"""Asks the cluster at start for what this operator needs everywhere: CRDs of its version, rights,
policies. What it may do where agents run is asked for each namespace: see controller/bindings.py.

Nothing is refused for good: what is missing is said once, in the log and at /readyz, is looked for
again every few seconds, and the operator goes on by itself when it is there. Until then no node
moves; a revert is not kept from what can still be done of it.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import Any

from wavegate.api import GROUP, VERSION, Resource
from wavegate.api.needed import needed_fields, served_fields
from wavegate.cluster import reviews
from wavegate.cluster.client import ApiError, Client
from wavegate.cluster.rights import Right
from wavegate.cluster.served import KINDS, ServedKinds
from wavegate.rollout.wording import some

log = logging.getLogger(__name__)

RETRY_SECONDS = 3.0
"""Between two looks while something is missing."""
AGAIN_SECONDS = 300.0
"""Between two looks at CRDs and policies when all is there. Rights are asked for once: a request
that is refused later says so itself.
"""
_SCHEMAS = f"/openapi/v3/apis/{GROUP}/{VERSION}"


class SelfCheck:
    """Call `keep` in the background. `kinds` tells of CRDs that are missing altogether. `policies`
    are admission policies and their bindings as `group/version/plural/name`; one that is missing is
    only warned of, unless they are `required`.
    """

    def __init__(
        self,
        client: Client,
        kinds: ServedKinds,
        rights: Iterable[Right],
        policies: tuple[str, ...] = (),
        *,
        required: bool = False,
    ) -> None:
        self._client, self._kinds = client, kinds
        self._unproven = sorted(rights)
        self._policies, self._required = policies, required
        self._waits = "the cluster was not looked at yet"
        self._problems: tuple[str, ...] = ()
        self._warnings: tuple[str, ...] = ()
        self._looked = asyncio.Event()

    @property
    def problem(self) -> str:
        """What is missing, in words; empty once all that is needed is there."""
        return "; ".join(filter(None, (self._waits, *self._problems)))

    async def first_look(self, seconds: float) -> None:
        """Wait for the first answer, so that a new leader ends no soak because it has not looked
        yet; but not for long: an apiserver that is silent must not keep it from a revert.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._looked.wait()

    async def keep(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            try:
                await self._look()
            except (ApiError, AttributeError, KeyError, TypeError) as error:
                log.warning("The self-check got no answer that it understands: %r", error)
                if self.problem:  # else all was there before, and requests say what is refused
                    self._waits = f"the self-check got no answer that it understands: {error}"
            self._looked.set()
            await asyncio.sleep(RETRY_SECONDS if self.problem else AGAIN_SECONDS)

    async def _look(self) -> None:
        waits, old = await self._schemas()
        lacking = await self._rights()
        missing = [text async for text in self._missing_policies()]
        problems = (*old, *lacking, *(missing if self._required else ()))
        warnings = () if self._required else tuple(missing)
        for text in problems:
            if text not in self._problems:
                log.error("Not ready: %s. Until then no node moves.", text)
        for text in warnings:
            if text not in self._warnings:
                log.warning("%s", text)
        if self._problems and not problems:
            log.info("What was missing in the cluster is there now")
        self._waits, self._problems, self._warnings = waits, problems, warnings

    async def _schemas(self) -> tuple[str, list[str]]:
        """What is waited for, and which CRDs are too old. Schemas are published a second after
        their CRD; `kinds` says itself in the log what it misses.
        """
        if not await self._kinds.all_there():
            if not self._kinds.awaited:
                raise ApiError(0, "the apiserver's list of kinds can't be read")
            return self._kinds.awaited, []
        unpublished = "the apiserver has not published the schemas of the CRDs yet"
        try:
            served = dict(_kinds(await self._client.get(_SCHEMAS)))
        except ApiError as error:
            if error.status != 404:
                raise
            return unpublished, []
        if any(kind.kind not in served for kind in KINDS):
            return unpublished, []
        return "", [text for kind in KINDS if (text := _too_old(kind, served[kind.kind]))]

    async def _rights(self) -> list[str]:
        """Ask for the rights that were not granted yet."""
        self._unproven = await reviews.not_granted(self._client, self._unproven)
        return [reviews.in_words(self._unproven)] if self._unproven else []

    async def _missing_policies(self) -> AsyncIterator[str]:
        for path in self._policies:
            group_version, plural, name = path.rsplit("/", 2)
            try:
                await self._client.get(f"/apis/{path}")
            except ApiError as error:
                if error.status not in (403, 404):
                    raise
                why = "can't be read" if error.status == 403 else "is not installed"
                if error.status == 404 and not await self._serves(group_version, plural):
                    why = f"can't be there, as this server has no {plural} in {group_version}"
                yield (
                    f"admission policy {plural}/{name} {why}, so what it refuses is not refused: "
                    "install it with the chart, or set admissionPolicies.enabled to false"
                )

    async def _serves(self, group_version: str, plural: str) -> bool:
        try:
            found = await self._client.get(f"/apis/{group_version}")
        except ApiError as error:
            if error.status != 404:
                raise
            return False
        return plural in {resource["name"] for resource in found.get("resources", [])}


def _kinds(document: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The schema of each kind in an OpenAPI document."""
    for schema in document.get("components", {}).get("schemas", {}).values():
        for what in schema.get("x-kubernetes-group-version-kind", []):
            yield what["kind"], schema


def _too_old(kind: type[Resource], schema: Mapping[str, Any]) -> str:
    lacking = sorted(needed_fields(kind) - served_fields(schema))
    if not lacking:
        return ""
    return (
        f"the CRD {kind.plural}.{GROUP} is older than this operator and lacks {some(lacking)}: "
        "apply the files in crds/ of this version (Helm does not upgrade CRDs)"
    )
