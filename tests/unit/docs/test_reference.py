"""docs/reference/ says what code and CRDs say."""

import importlib.util
from pathlib import Path

import pytest

from wavegate.api import Reason

DOCS = Path(__file__).parents[3] / "docs"


def generator():
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATE = generator()
PAGES = GENERATE.pages()


@pytest.mark.parametrize("page", PAGES)
def test_a_page_of_the_reference_is_up_to_date(page):
    path = DOCS / "reference" / page
    written = path.read_text() if path.exists() else ""
    assert written == PAGES[page], f"refresh it in the virtual environment: {GENERATE.COMMAND}"


def test_no_page_is_left_of_what_is_not_made_any_more():
    assert {path.name for path in (DOCS / "reference").iterdir()} == set(PAGES)


def test_the_same_sources_give_the_same_pages():
    assert GENERATE.pages() == PAGES


def test_each_reason_has_its_line():
    page = PAGES["reasons.md"]
    assert [name for name in Reason if page.count(f"\n| `{name}` |") != 1] == []


def test_each_setting_and_metric_has_its_line():
    assert PAGES["settings.md"].count("\n| `WAVEGATE_") == len(GENERATE.fields(GENERATE.Settings))
    collectors = vars(GENERATE.metrics.Metrics())
    assert PAGES["metrics.md"].count("\n| `wavegate_") == len(collectors) - 1  # the registry


def test_fields_lists_and_limits_of_the_api_are_shown():
    page = PAGES["api.md"]
    assert "| `spec.rollout.maxUnavailable` | int or string | `5%` |" in page
    assert "| `spec.waves[].upTo` | int or string | required |" in page
    assert "| `status.conditions[].type` | string | required |" in page
    assert "\n- only a pause expires: remove expiresAfter, or write action: Pause" in page
