"""`python -m wavegate run`: the operator, on the kubeconfig's cluster or the one it runs in."""

import argparse
import asyncio
import inspect
import logging
import os
import re
import signal
import sys
from collections.abc import Sequence

from wavegate import __version__
from wavegate.app import run
from wavegate.settings import BadSetting, Settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and run; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="wavegate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser(
        "run",
        help="run the operator",
        description="Settings are environment variables:\n\n" + describe_settings(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args(arguments)
    try:
        settings = Settings.read(os.environ)
    except BadSetting as error:
        sys.stderr.write(f"wavegate: {error}\n")
        return 2
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("kopf").setLevel(logging.WARNING)
    return asyncio.run(_until_stopped(settings))


def describe_settings() -> str:
    """One line for each setting, from the docstrings of their fields."""
    lines = re.findall(r'^    """(WAVEGATE_.*?)"""$', inspect.getsource(Settings), re.MULTILINE)
    return "\n".join(f"  {line}" for line in lines)


async def _until_stopped(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT. Stopping changes nothing on any node."""
    task = asyncio.create_task(run(settings))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        return 0


if __name__ == "__main__":
    sys.exit(main())
