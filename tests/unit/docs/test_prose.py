"""What people read points at things that exist: files, headings, commands, labels, reasons."""

import re
from pathlib import Path

import pytest

from wavegate.api import API_VERSION, Phase, Reason
from wavegate.rollout import names

ROOT = Path(__file__).parents[3]
PAGES = sorted(
    [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")),
        *(ROOT / "docs").rglob("*.md"),
    ]
)
WRITTEN = [page for page in PAGES if page.parent.name != "reference"]
LABELS = {
    API_VERSION,
    names.AFFINITY_ANNOTATION,
    names.CHANNEL_LABEL,
    names.ATTEMPT_LABEL,
    names.KIND_LABEL,
    names.AGENTS_LABEL,
    names.AGENT_ANNOTATION,
    names.HANDS_OFF_ANNOTATION,
    names.LOADED_DIGEST_ANNOTATION,
    names.VERSION_ANNOTATION,
}


def title(page: Path) -> str:
    return str(page.relative_to(ROOT))


def without_code(text: str) -> str:
    return re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The ids that headings get: lower case, no punctuation, hyphens for spaces."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def make_targets() -> set[str]:
    makefile = (ROOT / "Makefile").read_text()
    return set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_a_link_leads_to_a_file_and_heading_that_exist(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text())):
        path, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", path):
            continue
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{title(page)}: {target}"
        assert not anchor or anchor in anchors(file), f"{title(page)}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_a_make_command_names_a_target_that_exists(page):
    code = re.findall(r"```sh\n.*?```|`[^`\n]+`", page.read_text(), flags=re.DOTALL)
    named = {target for part in code for target in re.findall(r"\bmake ([a-z][a-z-]*)", part)}
    assert named <= make_targets()


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_a_file_named_as_code_exists(page):
    folders = "crds|charts|operator|sandbox|examples|docs|tests"
    for name in re.findall(rf"`((?:{folders})/[\w./-]*)`", page.read_text()):
        assert (ROOT / name).exists(), f"{title(page)}: {name}"


@pytest.mark.parametrize("page", WRITTEN, ids=title)
def test_labels_and_annotations_are_those_of_the_code(page):
    text = page.read_text()
    assert set(re.findall(r"\bwavegate\.dev/[\w-]*\w", text.replace("\\.", "."))) <= LABELS
    for prefix in re.findall(r"[\w.-]*node-restriction[\w.-]*/", text):
        assert prefix == f"{names.LABEL_DOMAIN}/"


def test_the_runbook_has_a_line_for_each_phase_and_knows_no_other_reason():
    text = (ROOT / "docs" / "runbook.md").read_text()
    firsts = re.findall(r"^\| `([A-Z]\w+)` \|", text, re.MULTILINE)
    assert set(Phase) <= set(firsts)
    assert set(firsts) <= {*Phase, *Reason}


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_no_page_names_a_path_of_somebodys_machine(page):
    assert re.findall(r"(?<![\w.])/(?:home|root|tmp|work)/", page.read_text()) == []
