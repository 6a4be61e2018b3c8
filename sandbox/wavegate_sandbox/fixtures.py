"""pytest fixtures: one control plane per session, and what a test wants of its own."""

import contextlib
import secrets
from collections.abc import Callable, Iterator, Mapping

import pytest

from wavegate_sandbox.cluster import Options, Sandbox
from wavegate_sandbox.exporter import Exporter
from wavegate_sandbox.faults import Fault, Faults


@pytest.fixture(scope="session")
def sandbox_options() -> Options:
    """Options of the session's control plane; a conftest.py may override this."""
    return Options(audit=True)


@pytest.fixture(scope="session")
def sandbox(request: pytest.FixtureRequest, sandbox_options: Options) -> Iterator[Sandbox]:
    """The session's control plane: a new one, or `$WAVEGATE_KUBECONFIG` (see `attach_or_start`)."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    # The first build takes minutes, and whoever waits should see it.
    shown = capture.global_and_fixture_disabled() if capture else contextlib.nullcontext()
    with shown:
        running = Sandbox.attach_or_start(sandbox_options)
    with running:
        yield running


@pytest.fixture
def namespace(sandbox: Sandbox) -> Iterator[str]:
    """A namespace of the test's own; deleted afterwards, which nobody waits for."""
    name = f"t-{secrets.token_hex(4)}"
    sandbox.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    # Pods are refused until the controller-manager has made the default ServiceAccount.
    path = f"/api/v1/namespaces/{name}/serviceaccounts/default"
    sandbox.wait_for(
        f"the default ServiceAccount of namespace {name}",
        lambda: sandbox.request("GET", path, check=False).get("kind") == "ServiceAccount",
    )
    yield name
    sandbox.request("DELETE", f"/api/v1/namespaces/{name}", check=False)


@pytest.fixture(scope="session")
def session_exporter(sandbox: Sandbox) -> Iterator[Exporter]:
    """One for all tests: Prometheus takes 5 s to begin with a new target."""
    if not (sandbox.ours and sandbox.prometheus_url):
        pytest.skip("there is no Prometheus of ours that could be told what to scrape")
    with Exporter() as made:
        sandbox.scrape(made.address)
        yield made
        sandbox.unscrape(made.address)


@pytest.fixture
def exporter(session_exporter: Exporter) -> Iterator[Exporter]:
    """An exporter without series, scraped every second by the sandbox's Prometheus."""
    session_exporter.clear()
    yield session_exporter
    session_exporter.clear()


@pytest.fixture
def faults(sandbox: Sandbox) -> Iterator[Callable[[Mapping[str, Fault]], Faults]]:
    """Call it with faults by content; they are stopped after the test."""
    with contextlib.ExitStack() as stack:
        yield lambda by_content: stack.enter_context(Faults(sandbox, by_content))
