"""Whether the apiserver serves our kinds: their CRDs may come after us, and may be deleted."""

import logging

from wavegate.api import GROUP, Channel, Decision, Release, Resource
from wavegate.cluster import paths
from wavegate.cluster.client import ApiError, Client

log = logging.getLogger(__name__)

KINDS: tuple[type[Resource], ...] = (Channel, Release, Decision)


class ServedKinds:
    """Asks discovery for our kinds, and says in the log what is missing when that changes."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.awaited = "the API was not read yet"
        """What is missing, in words; empty when all of our kinds are served."""

    async def all_there(self) -> bool:
        """Whether all can be watched. An apiserver that does not answer is no yes."""
        try:
            missing = await self._missing()
        except ApiError as error:
            log.warning("The API can't be read: %s", error)
            return False
        said = awaited(missing) if missing else ""
        if said and said != self.awaited:
            log.warning("This operator is %s. Until then nothing moves.", said)
        self.awaited = said
        return not missing

    async def are_gone(self) -> bool:
        """Whether one is known to be missing. An apiserver that does not answer is no yes."""
        await self.all_there()
        return bool(self.awaited)

    async def _missing(self) -> frozenset[str]:
        wanted = frozenset(kind.plural for kind in KINDS)
        found = await self._client.find(paths.OUR_API)
        if found is None:
            return wanted
        return wanted - {resource["name"] for resource in found.get("resources", [])}


def awaited(missing: frozenset[str]) -> str:
    """Which CRDs of these plurals are missing, and what to do about it."""
    names = ", ".join(f"{plural}.{GROUP}" for plural in sorted(missing))
    return f"waiting for the CRDs {names}: apply the files in crds/"
