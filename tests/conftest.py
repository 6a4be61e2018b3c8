"""Fixtures for all tests: the control plane, our CRDs on it, and a list of changed settings."""

from collections.abc import Callable
from typing import Any

import pytest

from support import chart
from wavegate_sandbox.cluster import Options, Sandbox

pytest_plugins = ["wavegate_sandbox.fixtures"]

SETTINGS = pytest.StashKey[dict[str, dict[str, str]]]()
FIGURES = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def sandbox_options(report_settings: Callable[[str, dict[str, str]], None]) -> Options:
    """Quicker kubelets and node controller than by default; the demo keeps the defaults."""
    lease = "--node-lease-duration-seconds=8"
    report_settings(
        "sandbox",
        {
            "kube-controller-manager --node-monitor-grace-period": "8s (default: 50s)",
            "kwok --node-lease-duration-seconds": "8, renewed every 2 s (default: 40, every 10 s)",
        },
    )
    return Options(audit=True, node_monitor_grace_period="8s", extra_args={"kwok": (lease,)})


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
    """Hand what this worker has to print to the process that prints (pytest-xdist)."""
    if hasattr(session.config, "workeroutput"):
        stash = session.config.stash
        session.config.workeroutput["settings"] = stash.get(SETTINGS, {})
        session.config.workeroutput["figures"] = stash.get(FIGURES, [])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take what a worker has to print."""
    output = getattr(node, "workeroutput", {})
    node.config.stash.setdefault(SETTINGS, {}).update(output.get("settings", {}))
    node.config.stash.setdefault(FIGURES, []).extend(output.get("figures", []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was measured, and the settings in which the tests differ from the defaults."""
    figures = terminalreporter.config.stash.get(FIGURES, [])
    if figures:
        terminalreporter.section("measured")
    for line in figures:
        terminalreporter.line(line)
    changed = terminalreporter.config.stash.get(SETTINGS, {})
    if not changed:
        return
    terminalreporter.section("settings that differ from the defaults")
    for where, settings in sorted(changed.items()):
        for name, value in settings.items():
            terminalreporter.line(f"{where}: {name} = {value}")
