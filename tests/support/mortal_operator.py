"""The operator, except that it is killed right after each write that changes the rollout.

Run as a program in the place of `python -m wavegate`. Leases, status and Events are left out: they
decide nothing.
"""

import os
import signal
import sys
from typing import Any

from wavegate.__main__ import main
from wavegate.cluster.client import Client

_DECIDES_NOTHING = ("/leases", "/status", "/events")
_request = Client._request


async def _request_and_die(
    self: Client, verb: str, path: str, *rest: Any, **options: Any
) -> dict[str, Any]:
    answer = await _request(self, verb, path, *rest, **options)
    dry = rest and "dryRun" in (rest[0] or {})
    if verb != "GET" and not dry and not any(part in path for part in _DECIDES_NOTHING):
        sys.stderr.write(f"killed after {verb} {path}\n")
        sys.stderr.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    return answer


if __name__ == "__main__":
    Client._request = _request_and_die  # type: ignore[method-assign]
    sys.exit(main(sys.argv[1:]))
