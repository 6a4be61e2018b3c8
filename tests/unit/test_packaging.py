"""The chart's, the image's and the project's facts agree: each is written once and compared."""

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

import wavegate
from support.chart import CHART, REPOSITORY
from wavegate.settings import Settings
from wavegate.telemetry.metrics import Metrics

DOCKERFILE = (REPOSITORY / "Dockerfile").read_text()


def instructions(word: str) -> list[str]:
    """Return the arguments of each instruction of that name in the Dockerfile, lines joined."""
    joined = re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE).replace("\\\n", " ")
    return [
        " ".join(line.split()[1:]) for line in joined.splitlines() if line.startswith(f"{word} ")
    ]


def chart_container() -> str:
    return (CHART / "templates" / "deployment.yaml").read_text()


def value_paths(values: Any, prefix: str = "") -> list[str]:
    """Return the dotted path of each leaf of values.yaml."""
    if not isinstance(values, dict) or not values:
        return [prefix]
    return [
        path
        for key, value in values.items()
        for path in value_paths(value, f"{prefix}.{key}" if prefix else key)
    ]


def test_chart_and_application_have_the_version_of_the_package() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (wavegate.__version__, wavegate.__version__)


def test_the_charts_crds_are_copies_of_the_top_level_ones() -> None:
    def texts(folder: Path) -> dict[str, str]:
        return {path.name: path.read_text() for path in folder.glob("*.yaml")}

    source = texts(REPOSITORY / "crds")
    assert len(source) == 3
    assert texts(CHART / "crds") == source, (
        "refresh them: rm -f charts/wavegate/crds/*.yaml && cp crds/*.yaml charts/wavegate/crds/"
    )


def test_no_file_of_the_chart_is_a_link_since_helm_package_would_drop_what_it_points_to() -> None:
    assert [path for path in CHART.rglob("*") if path.is_symlink()] == []


def test_every_value_of_the_chart_is_in_the_schema() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert set(schema["properties"]) - {"global"} == set(values)
    for name in [name for name, value in values.items() if isinstance(value, dict) and value]:
        assert set(schema["properties"][name]["properties"]) == set(values[name]), name
        assert schema["properties"][name]["additionalProperties"] is False, name


def test_alerts_and_dashboard_ask_for_metrics_that_the_operator_has() -> None:
    served = {
        sample
        for collector in vars(Metrics()).values()
        for family in getattr(collector, "describe", list)()
        for sample in (family.name, f"{family.name}_total", f"{family.name}_bucket")
    }
    for file, least in (("alerts.yaml", 8), ("dashboard.json", 10)):
        asked = set(re.findall(r"\bwavegate_\w+", (CHART / "files" / file).read_text()))
        assert len(asked) >= least - 1, file
        assert asked <= served, file


def test_an_alert_names_a_heading_of_the_runbook() -> None:
    runbook = (REPOSITORY / "docs" / "runbook.md").read_text()
    headings = re.findall(r"^#+ (.+)$", runbook, re.MULTILINE)
    texts = (CHART / "files" / "alerts.yaml").read_text().replace("\\", "")
    named = re.findall(r'See the runbook, "([^"]+)"', texts)
    assert len(named) >= 4
    assert [name for name in named if not any(h.startswith(name) for h in headings)] == []


def test_the_network_policy_lets_the_port_of_the_probes_and_metrics_in() -> None:
    assert "{protocol: TCP, port: http}" in (CHART / "templates/networkpolicy.yaml").read_text()
    assert "- name: http\n              containerPort: 8080" in chart_container()


def test_every_value_of_the_chart_is_used_by_a_template() -> None:
    templates = "".join(path.read_text() for path in (CHART / "templates").iterdir())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    unused = [
        path
        for path in value_paths(values)
        # The whole of `resources`, and of labels, is printed as it is.
        if not re.search(rf"\.Values\.{re.escape(path)}\b", templates)
        and not path.startswith(("resources.", "dashboard.labels."))
    ]
    assert unused == []


def test_the_chart_sets_every_setting_of_the_operator_and_no_other() -> None:
    names = re.findall(r"- name: (WAVEGATE_\w+)", chart_container())
    assert sorted(names) == sorted(f"WAVEGATE_{f.name.upper()}" for f in fields(Settings))


def test_the_charts_defaults_are_the_operators() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())["operator"]
    snake = {re.sub(r"([A-Z])", r"_\1", key).upper(): text for key, text in values.items()}
    environment = {f"WAVEGATE_{key}": text for key, text in snake.items()}
    assert environment.keys() <= {f"WAVEGATE_{f.name.upper()}" for f in fields(Settings)}
    assert Settings.read(environment) == Settings()


def test_the_image_installs_only_what_the_lock_names_with_hashes() -> None:
    installs = [run for run in instructions("RUN") if "pip" in run and " install " in run]
    assert len(installs) == 1
    assert "--no-deps --require-hashes" in installs[0]
    assert installs[0].endswith("-r /build/requirements.lock")
    lock = (REPOSITORY / "requirements.lock").read_text()
    pins = re.findall(r"^[a-z0-9][^\s]*==[^\s]+(?: ; [^\\]+)? \\$", lock, flags=re.MULTILINE)
    requirements = [line for line in lock.splitlines() if re.match(r"[A-Za-z0-9]", line)]
    assert len(pins) == len(requirements) > 20


def test_setup_installs_the_lock_and_asks_no_resolver() -> None:
    """A release of a package that an extra names broke the resolver in hash-checking mode."""
    installs = [
        line.split(" install ")[1]
        for line in (REPOSITORY / "Makefile").read_text().splitlines()
        if "pip install" in line and "uv" not in line
    ]
    assert len(installs) == 2
    assert all("--no-deps" in options for options in installs)


def test_every_file_that_the_image_copies_is_there_and_is_sent_to_the_builder() -> None:
    sent = {
        line[1:]
        for line in (REPOSITORY / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copied = [line.split()[0] for line in instructions("COPY") if not line.startswith("--from")]
    assert copied
    for source in copied:
        assert (REPOSITORY / source).exists(), source
        assert Path(source).parts[0] in sent, source


def test_both_stages_of_the_image_start_from_the_one_base_that_can_be_pinned() -> None:
    bases = [line.split()[0] for line in instructions("FROM")]
    assert bases == ["${PYTHON_IMAGE}", "${PYTHON_IMAGE}"]
    (argument,) = instructions("ARG")
    assert re.fullmatch(r"PYTHON_IMAGE=python:3\.11-[a-z-]+", argument)


def test_the_image_runs_as_the_numeric_user_of_the_chart() -> None:
    (user,) = instructions("USER")
    uid, gid = user.split(":")
    assert f"runAsUser: {uid}\n" in chart_container()
    assert f"runAsGroup: {gid}\n" in chart_container()
    assert int(uid) > 0


def test_the_image_and_the_chart_start_the_same_command() -> None:
    (entrypoint,), (arguments,) = instructions("ENTRYPOINT"), instructions("CMD")
    image_command = [*json.loads(entrypoint), *json.loads(arguments)]
    match = re.search(r"command: \[(.*)\]", chart_container())
    assert match is not None
    assert match[1].split(", ") == image_command == ["python", "-m", "wavegate", "run"]


def test_the_licence_is_the_whole_apache_text() -> None:
    text = (REPOSITORY / "LICENSE").read_text()
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert text.count("\n") > 200


@pytest.mark.parametrize("folder", ["quickstart", "imagevolume", "carrier"])
def test_every_example_says_what_was_run_and_what_was_not(folder: str) -> None:
    readme = (REPOSITORY / "examples" / folder / "README.md").read_text()
    assert "## What was run, and what was not" in readme
