"""The real argocd, where it is built. Else its tests are skipped, and the run says so."""

from collections.abc import Callable
from pathlib import Path

import pytest

from wavegate_sandbox import build


@pytest.fixture(scope="session")
def argocd(report_figure: Callable[[str], None]) -> Path:
    """The program: command line and servers in one."""
    shop = build.Workshop()
    path = shop.cached("argocd")
    if path is None:
        report_figure("Argo CD: NOT tested, as it is not built here; make test-argocd builds it")
        pytest.skip("argocd is not built here: make test-argocd builds it")
    go_mod = shop.modules / "argocd" / "go.mod"
    report_figure(f"Argo CD: tested with {build.version_of(go_mod, build.ARGO_CD)}")
    return path
