"""`python -m wavegate_sandbox`: build the tools, start a control plane that stays, stop it."""

import argparse
import shlex
import sys
from pathlib import Path

from wavegate_sandbox import build, detached
from wavegate_sandbox.cluster import Options
from wavegate_sandbox.detached import State
from wavegate_sandbox.errors import SandboxError
from wavegate_sandbox.kubeconfig import CONTEXT
from wavegate_sandbox.nodes import NodeSpec


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    chosen = _parser().parse_args(arguments)
    try:
        code: int = chosen.run(chosen)
    except SandboxError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; nothing was left running", file=sys.stderr)
        return 130
    return code


def _up(chosen: argparse.Namespace) -> int:
    build.ensure([*build.CORE, "kubectl"])
    options = Options(
        audit=chosen.audit, node_monitor_grace_period=chosen.node_monitor_grace_period
    )
    state, now = detached.up(options)
    print(f"The sandbox {'is running' if now else 'was running already'}: {state.server}\n")
    print(_usage(state))
    return 0


def _down(_: argparse.Namespace) -> int:
    state = detached.down()
    print(f"Stopped {state.server}." if state else "No sandbox was running.")
    return 0


def _status(_: argparse.Namespace) -> int:
    state = detached.current()
    if state is None:
        print("No sandbox is running. Start one with `make sandbox`.")
        return 3
    with detached.attach() as sandbox:
        nodes = sandbox.request("GET", "/api/v1/nodes")["items"]
    print(f"Running at {state.server}, {len(nodes)} nodes.\n")
    print(_usage(state))
    return 0


def _build(chosen: argparse.Namespace) -> int:
    names = chosen.tool or [*build.CORE, *(build.EXTRA if chosen.all else ())]
    for name, path in build.ensure(names).items():
        print(f"{name}\t{path}")
    return 0


def _nodes(chosen: argparse.Namespace) -> int:
    labels = dict(text.split("=", 1) for text in chosen.label)
    names = [f"{chosen.prefix}-{number}" for number in range(1, chosen.count + 1)]
    with detached.attach() as sandbox:
        sandbox.add_nodes([NodeSpec(name, labels, tuple(chosen.taint)) for name in names])
    print(f"Ready: {', '.join(names)}")
    return 0


def _crash(chosen: argparse.Namespace) -> int:
    with detached.attach() as sandbox:
        sandbox.crash(chosen.node)
    print(f"{chosen.node} is down; Kubernetes will find out when its lease is too old.")
    return 0


def _boot(chosen: argparse.Namespace) -> int:
    with detached.attach() as sandbox:
        boot_id = sandbox.boot(chosen.node)
    print(f"{chosen.node} is back with bootID {boot_id}.")
    return 0


def _usage(state: State) -> str:
    kubectl = build.ensure(["kubectl"])["kubectl"]
    package = Path(__file__).parent.parent
    existing = " ".join(
        [
            f"WAVEGATE_KUBECONFIG={shlex.quote(state.kubeconfig)}",
            f"WAVEGATE_CONTEXT={CONTEXT}",
            f"WAVEGATE_PROMETHEUS_URL={state.prometheus_url or ''}",
        ]
    )
    ours = f"PYTHONPATH={shlex.quote(str(package))} {sys.executable} -m wavegate_sandbox"
    return f"""\
  export KUBECONFIG={shlex.quote(state.kubeconfig)}
  {kubectl} get nodes
  Prometheus  {state.prometheus_url or "was not started"}
  logs        {state.folder}/logs

  add nodes   {ours} nodes 5 --prefix worker --label pool=workers
  crash one   {ours} crash worker-1      (and boot worker-1)
  demo there  {existing} make demo
  stop        make sandbox-down"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="wavegate_sandbox", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    up = commands.add_parser("up", help="start a control plane that keeps running")
    up.add_argument("--audit", action="store_true", help="log every request to audit.log")
    up.add_argument(
        "--node-monitor-grace-period",
        metavar="DURATION",
        help="how long a silent node counts as Ready (default: Kubernetes' 50s)",
    )
    up.set_defaults(run=_up)

    commands.add_parser("down", help="stop it").set_defaults(run=_down)
    commands.add_parser("status", help="say whether it runs (exit code 3 if not)").set_defaults(
        run=_status
    )

    compiled = commands.add_parser("build", help="compile the tools, without starting anything")
    compiled.add_argument("--all", action="store_true", help="also kubectl and Helm")
    compiled.add_argument("tool", nargs="*", help="only these, as argocd, which --all leaves out")
    compiled.set_defaults(run=_build)

    nodes = commands.add_parser("nodes", help="add simulated nodes")
    nodes.add_argument("count", type=int)
    nodes.add_argument("--prefix", default="node", help="names are PREFIX-1, PREFIX-2, …")
    nodes.add_argument("--label", action="append", default=[], metavar="KEY=VALUE")
    nodes.add_argument("--taint", action="append", default=[], metavar="KEY=VALUE:EFFECT")
    nodes.set_defaults(run=_nodes)

    for name, run, text in (
        ("crash", _crash, "stop a simulated node's machine"),
        ("boot", _boot, "start it again, with a new bootID"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("node")
        command.set_defaults(run=run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
