"""The operator, except that it is killed right after each write that changes the rollout.

Run as a program in the place of `python -m wavegate`. Each life is a child forked from a parent
that has imported everything and done nothing, so that dozens of lives cost no dozens of imports;
it starts with as little memory of the life before as a new process would. Leases, status and
Events are left out: they decide nothing.
"""

import ctypes
import os
import signal
import sys
from typing import Any, NoReturn

from wavegate.__main__ import main
from wavegate.cluster.client import Client

A_LIFE_BEGINS = "a life begins"
_DECIDES_NOTHING = ("/leases", "/status", "/events", "reviews")
_DIES_WITH_PARENT = (1, signal.SIGKILL)  # PR_SET_PDEATHSIG
_LOST_ITS_LEASE = 75
"""Exit code of a life; the operator's own is that of any error."""
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


def _live() -> NoReturn:
    ctypes.CDLL(None).prctl(*_DIES_WITH_PARENT)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    Client._request = _request_and_die  # type: ignore[method-assign]
    code = main(sys.argv[1:])
    os._exit(_LOST_ITS_LEASE if code == 1 else code)


def _live_again_and_again() -> NoReturn:
    while True:
        sys.stderr.write(f"{A_LIFE_BEGINS}\n")
        sys.stderr.flush()
        child = os.fork()
        if child == 0:
            _live()
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        if not os.WIFSIGNALED(status) and code != _LOST_ITS_LEASE:
            sys.exit(code)  # it ended by itself: that is no kill


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    _live_again_and_again()
