"""Fixtures for all tests: the control plane, our CRDs on it, and a list of changed settings."""

import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support import chart, requests_of_operators
from support.requests_of_operators import Use
from wavegate_sandbox import build
from wavegate_sandbox.cluster import Options, Sandbox

pytest_plugins = ["wavegate_sandbox.fixtures"]

SETTINGS = pytest.StashKey[dict[str, dict[str, str]]]()
FIGURES = pytest.StashKey[list[str]]()
USED = pytest.StashKey[set[Use]]()
REFUSED = pytest.StashKey[set[Use]]()
PROBLEMS = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def sandbox_options(report_settings: Callable[[str, dict[str, str]], None]) -> Options:
    """Quicker kubelets and node controller than by default; the demo keeps the defaults."""
    lease = "--node-lease-duration-seconds=8"
    if build.kubernetes_module() != build.DEFAULT_KUBERNETES:
        usual = build.version_of(
            build.MODULES / build.DEFAULT_KUBERNETES / "go.mod", build.KUBERNETES
        )
        report_settings(
            "control plane",
            {f"Kubernetes, by {build.MINOR}": f"{build.kubernetes_version()} (default: {usual})"},
        )
    report_settings(
        "sandbox",
        {
            "kube-controller-manager --node-monitor-grace-period": "8s (default: 50s)",
            "kwok --node-lease-duration-seconds": "8, renewed every 2 s (default: 40, every 10 s)",
        },
    )
    return Options(audit=True, node_monitor_grace_period="8s", extra_args={"kwok": (lease,)})


@pytest.fixture(scope="session")
def sandbox(sandbox: Sandbox, request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """The session's control plane. At the end it is read what operators asked of it."""
    yield sandbox
    if sandbox.audit_log:
        used, refused = requests_of_operators.read(sandbox.audit_log)
        request.config.stash.setdefault(USED, set()).update(used)
        request.config.stash.setdefault(REFUSED, set()).update(refused)


@pytest.fixture(scope="session")
def apply_crds() -> Callable[[Sandbox], None]:
    """Call it to have our CRDs served by a cluster."""
    return chart.apply_crds


@pytest.fixture(scope="session")
def crds(sandbox: Sandbox) -> None:
    """Our CRDs are served."""
    chart.apply_crds(sandbox)


@pytest.fixture(scope="session")
def report_settings(request: pytest.FixtureRequest) -> Callable[[str, dict[str, str]], None]:
    """Call it with settings that differ from the defaults; they are printed at the end."""
    return request.config.stash.setdefault(SETTINGS, {}).__setitem__


@pytest.fixture(scope="session")
def report_figure(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Call it with a line that says what was measured; the lines are printed at the end."""
    return request.config.stash.setdefault(FIGURES, []).append


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand what this worker has to print to the process that prints (pytest-xdist). That one holds
    the chart's role against what operators asked for; what differs fails the run.
    """
    stash = session.config.stash
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["settings"] = stash.get(SETTINGS, {})
        session.config.workeroutput["figures"] = stash.get(FIGURES, [])
        session.config.workeroutput["used"] = [list(use) for use in stash.get(USED, set())]
        session.config.workeroutput["refused"] = [list(use) for use in stash.get(REFUSED, set())]
        return
    problems = []
    used = stash.get(USED, set())
    if used:
        rights, unused = _held_against_the_role(used)
        figure = f"the operator's role: {rights} rights, {rights - len(unused)} used in this run"
        words = f"; not: {', '.join(map(str, unused))}" if unused else ""
        stash.setdefault(FIGURES, []).append(figure + words)
        # What RBAC had not heard of yet, or a test took away, is granted elsewhere in the same run.
        missing = stash.get(REFUSED, set()) - used
        if _is_whole(session):
            problems += [f"no operator used this right of the chart's: {use}" for use in unused]
            problems += [f"RBAC refused an operator each time: {use}" for use in sorted(missing)]
    stash[PROBLEMS] = problems
    if problems and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _held_against_the_role(used: set[Use]) -> tuple[int, list[Use]]:
    """How many rights the chart's role has, and those that nobody used."""
    rendered = chart.render(build.ensure(["helm"])["helm"], "wavegate")
    rights = requests_of_operators.rights(rendered)
    return len(rights), requests_of_operators.unused(rights, used)


def _is_whole(session: pytest.Session) -> bool:
    """Whether all tests ran, and well: what a part of them does not use, another may."""
    config = session.config
    chosen = config.args_source is not pytest.Config.ArgsSource.TESTPATHS
    options = config.option
    chosen = chosen or options.keyword or options.markexpr or options.deselect
    chosen = chosen or getattr(options, "lf", False)  # not there without pytest's cache
    return not chosen and session.exitstatus == pytest.ExitCode.OK


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take what a worker has to print."""
    output = getattr(node, "workeroutput", {})
    node.config.stash.setdefault(SETTINGS, {}).update(output.get("settings", {}))
    node.config.stash.setdefault(FIGURES, []).extend(output.get("figures", []))
    for key, name in ((USED, "used"), (REFUSED, "refused")):
        uses = {Use(*words) for words in output.get(name, [])}
        if uses:
            node.config.stash.setdefault(key, set()).update(uses)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was measured, and the settings in which the tests differ from the defaults."""
    figures = terminalreporter.config.stash.get(FIGURES, [])
    if figures:
        terminalreporter.section("measured")
    for line in figures:
        terminalreporter.line(line)
    problems = terminalreporter.config.stash.get(PROBLEMS, [])
    if problems:
        terminalreporter.section("the operator's role")
    for line in problems:
        terminalreporter.line(line, red=True)
    changed = terminalreporter.config.stash.get(SETTINGS, {})
    if not changed:
        return
    terminalreporter.section("settings that differ from the defaults")
    for where, settings in sorted(changed.items()):
        for name, value in settings.items():
            terminalreporter.line(f"{where}: {name} = {value}")


def pytest_collection_finish() -> None:
    """What is imported by now stays, so that the collector need not look at it in each test."""
    gc.collect()
    gc.freeze()
