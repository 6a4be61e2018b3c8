"""Writes docs/reference/ from where the facts stand, code and CRDs.

Run `python docs/generate.py`. Nothing is said twice by hand: what a page states is read from the
one place that acts on it. The same sources give the same bytes, so a test sees an outdated page.
One long file: it is run and loaded by its path, where it could import no other.
"""

import ast
import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import yaml

from wavegate.api import Reason, reasons
from wavegate.controller.queries import VARIABLES
from wavegate.evidence import presets, truth
from wavegate.rollout import transitions
from wavegate.settings import Settings
from wavegate.telemetry import metrics

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "reference"
COMMAND = "python docs/generate.py"

Schema = Mapping[str, Any]


def main() -> None:
    """Write all pages."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text)


def pages() -> dict[str, str]:
    """Return the text of each page by file name."""
    made = {
        "api.md": _api(),
        "evidence.md": _evidence(),
        "metrics.md": _metrics(),
        "presets.md": _presets(),
        "reasons.md": _reasons(),
        "settings.md": _settings(),
        "states.md": _states(),
        "values.md": _values(),
    }
    return {name: "\n".join(lines).rstrip() + "\n" for name, lines in made.items()}


# Reasons


def _reasons() -> Iterator[str]:
    yield from _head("Reasons", "operator/wavegate/api/reasons.py")
    yield (
        "The words in `status.reason`, in conditions, in Events and in the label `reason` of "
        "metrics. Each says what happened and what you can do. A wave without evidence shows "
        "`WaveHeld`; what is missing, the message says in words, and `status.gates` in figures."
    )
    said = _said_somewhere()
    for title, names in _sections().items():
        yield from ("", f"## {title}", "", "| Reason | What it means |", "|---|---|")
        for name in names:
            note = "" if name in said else " *(Not said by this version yet.)*"
            yield f"| `{name}` | {_cell(Reason[name].meaning)}{note} |"


def _sections() -> dict[str, list[str]]:
    """Names of reasons under the comments that group them in the source."""
    found: dict[str, list[str]] = {}
    for line in inspect.getsource(reasons.Reason).splitlines():
        title, member = (
            re.match(r"    # (.+)", line),
            re.match(r"    (\w+) = _(?:reason|harm)\(", line),
        )
        if title:
            found[title[1]] = []
        elif member:
            found[list(found)[-1]].append(member[1])
    return found


def _said_somewhere() -> set[str]:
    """Reasons that the operator's code names outside of their list."""
    package = ROOT / "operator" / "wavegate"
    texts = (path.read_text() for path in sorted(package.rglob("*.py")))
    return {name for text in texts for name in re.findall(r"\bReason\.(\w+)", text)}


# States


def _states() -> Iterator[str]:
    yield from _head("States", "operator/wavegate/rollout/transitions.py")
    yield (
        "Each change of state that there is, and when it comes. What has no row here does not "
        "happen: every record that the tests store is held against this table. How the states "
        "hang together is told in [002](../design/002-rollout.md)."
    )
    yield from ("", "## A release", "")
    yield (
        "`Pending`, `Rejected`, `Superseded` and a pause from outside are worked out anew for each "
        "status; the other phases are stored in the record."
    )
    yield from _rows(transitions.RELEASE_ROWS)
    yield from ("", "## A wave", "")
    yield (
        "A state stays while nothing in the table comes. It counts as held, too, while a `Pending` "
        "wave finds no healthy node in its pools or its way back is blocked (`RevertPathBlocked`), "
        "or it can't be seen where critical workloads run (`WorkloadsUnseen`), and while a soak is "
        "over its bound (`SoakInterrupted`). Judging that takes longer than `holdTimeout` pauses "
        "the release."
    )
    yield from _rows(transitions.WAVE_ROWS)


def _rows(rows: Iterable[transitions.Row]) -> Iterator[str]:
    yield from ("", "| From | When | To | Reasons |", "|---|---|---|---|")
    for row in rows:
        source = f"`{row.source}`" if row.source else "(none)"
        why = ", ".join(f"`{reason}`" for reason in row.reasons)
        yield f"| {source} | {_cell(row.when)} | `{row.to}` | {why} |"


# Evidence


def _evidence() -> Iterator[str]:
    yield from _head("Answers of Prometheus", "operator/wavegate/evidence/truth.py")
    yield (
        "What each kind of answer to a check means. Nothing else passes a wave, and no silence "
        "does; a hold ends by itself when answers are back. A test asks about every row. Why it "
        "is so is told in [003](../design/003-evidence.md)."
    )
    yield from ("", "| Prometheus' answer | `per: Node` | `per: Wave` |", "|---|---|---|")
    for row in truth.TABLE:
        yield f"| {_cell(row.answer)} | {_meaning(row.node)} | {_meaning(row.wave)} |"
    yield from ("", "## Variables of a query", "")
    yield "Replaced in `query` and in `freshness.series`, each time it is asked."
    yield from ("", "| Variable | Stands for |", "|---|---|")
    yield from (f"| `${name}` | {_cell(text)} |" for name, text in VARIABLES.items())
    yield from ("", "## A ratio to control nodes", "")
    yield (
        "Nodes that do not have the content show what is usual now. A check `per: Node` has "
        "`control.maxRatio` for that. With `per: Wave` it is a query; with "
        '`max: "1.5"` this one fails when the nodes with the content take half as long again. A '
        "wave that takes whole pools, as the last one does, leaves no control nodes, and those "
        "there are may be at rest: then the ratio is 1, so give the check a sister with an "
        "absolute limit."
    )
    yield from ("", "```promql", *RATIO, "```")


RATIO = (
    'avg(latency_seconds{node=~"$nodes"}) / (',
    '  avg(latency_seconds{node=~"$control_nodes"}) > 0',
    '  or avg(latency_seconds{node=~"$nodes"}) > 0',
    "  or vector(1)",
    ")",
)


def _meaning(meaning: truth.Meaning | None) -> str:
    if meaning is None:
        return "(not possible)"
    why = f" `{meaning.reason}`" if meaning.reason else ""
    return f"{meaning.verdict.name.title()}{why}"


# Presets


def _presets() -> Iterator[str]:
    yield from _head("Presets of checks", "operator/wavegate/evidence/presets.py")
    yield (
        "What `preset` stands for in a check, so that nobody must write these queries. Each judges "
        "every node by its own series; a node without trouble has one too, so one that is missing "
        "holds the wave. What a node suffered from before its wave opened is not blamed on the "
        "content. `max`, `nodeLabel`, `freshness.maxAge` and all other options may be your own."
    )
    yield from ("", "| `preset` | Its value for a node | `max` | Exporter |", "|---|---|---|---|")
    for name, preset in presets.PRESETS.items():
        meaning, needs = _cell(preset.meaning), _cell(preset.needs)
        yield f"| [`{name}`](#{name}) | {meaning} | {preset.max:g} | {needs} |"
    yield from ("", "```yaml", *_PRESET_EXAMPLE, "```", "")
    yield (
        "**The node's name.** The series of kube-state-metrics have it in the label `node`. "
        "node_exporter, windows_exporter and the Node Problem Detector know only their address: "
        "have Prometheus add it where it finds them, or write `nodeLabel: instance` where that is "
        "the node's name (a port is left out)."
    )
    yield from ("", "```yaml", *_RELABELLING, "```", "")
    yield (
        f"**Freshness.** Samples may be {presets.MAX_AGE:.0f} s old. Scrape at least every minute, "
        "kube-state-metrics with `honor_labels: true`."
    )
    yield ""
    yield (
        "**Cost.** `workload-…` read every pod of the cluster. Asked about 5,000 nodes with 25,000 "
        "pods, an answer took 2 to 5 s, of `workload-restarts` 7 s and of `agent-cpu-memory` up to "
        "8 s (25 November 2026, 2 busy cores, a Prometheus compiled without optimisation, three "
        "times each). In large clusters, write `timeout: 30s` where Prometheus needs it."
    )
    yield from ("", "## The queries", "")
    yield (
        "As they are asked, with [variables](evidence.md#variables-of-a-query) and `node` as the "
        "label. With `@`, so Prometheus 2.33 or newer, or what understands the same."
    )
    for name, preset in presets.PRESETS.items():
        query = preset.query.replace("$label", "node")
        yield from ("", f"### {name}", "", "```promql", *query.splitlines(), "```")


_PRESET_EXAMPLE = (
    "prometheus: {url: http://prometheus.monitoring:9090}",
    "checks:",
    "  - {name: kernel-oops, preset: kernel-oops}",
    "  - {name: workload, preset: workload-restarts, max: 0}",
)
_RELABELLING = (
    "relabel_configs:  # of the scrape job; `relabelings` in a ServiceMonitor or PodMonitor",
    "  - {source_labels: [__meta_kubernetes_pod_node_name], target_label: node}",
)


# Settings


def _settings() -> Iterator[str]:
    yield from _head("Settings of the operator", "operator/wavegate/settings.py")
    yield (
        "Environment variables, read once at the start. Lengths of time are written as `90s`, "
        "`10m` or `1h30m`. What can't be used ends the process with exit code 2 and says why. "
        "`python -m wavegate run --help` prints the same list."
    )
    yield from ("", "| Variable | Chart value | Meaning |", "|---|---|---|")
    chart = _chart_values()
    for variable, text in _documented_fields():
        value = f"`{chart[variable]}`" if chart.get(variable) else "set by the chart"
        yield f"| `{variable}` | {value} | {_cell(text)} |"


def _documented_fields() -> Iterator[tuple[str, str]]:
    """Variable and meaning of each setting, from the docstring under its field."""
    (body,) = ast.parse(inspect.getsource(Settings)).body
    assert isinstance(body, ast.ClassDef)  # noqa: S101 (narrows the type)
    for field, text in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
            variable, _, meaning = str(ast.literal_eval(text.value)).partition(": ")
            yield variable, meaning
    assert all(f.default is not MISSING for f in fields(Settings))  # noqa: S101


def _chart_values() -> dict[str, str]:
    """The value in values.yaml that sets a variable; empty where the chart sets it by itself."""
    template = (ROOT / "charts/wavegate/templates/deployment.yaml").read_text()
    pattern = r"- name: (WAVEGATE_\w+)\n\s+value(?:From)?:(?: \{\{ \.Values\.([\w.]+))?"
    return dict(re.findall(pattern, template))


# Values of the chart

CHART_VALUES = "charts/wavegate/values.yaml"


def _values() -> Iterator[str]:
    yield from _head("Values of the Helm chart", CHART_VALUES)
    yield (
        "Every value acts; one that is not listed is refused by `values.schema.json`, which also "
        "says what each may be. What [settings](settings.md) they become is listed there."
    )
    yield from ("", "| Value | Default | Meaning |", "|---|---|---|")
    text = (ROOT / CHART_VALUES).read_text()
    values = yaml.safe_load(text)
    for path, comment in _commented(text):
        value = values
        for key in path:
            value = value[key]
        if isinstance(value, dict) and value and not comment:
            continue  # its own values follow
        shown = "" if isinstance(value, dict) and value else f"`{_plain(value)}`"
        yield f"| `{'.'.join(path)}` | {shown} | {_cell(comment)} |"


def _commented(text: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """Each key of a YAML file that has mappings of two spaces only, with the comment above it."""
    path: list[str] = []
    comment: list[str] = []
    for line in text.splitlines():
        said, key = re.match(r" *# ?(.*)", line), re.match(r"( *)([\w]+):", line)
        if said:
            comment.append(said[1])
            continue
        if key:
            path[len(key[1]) // 2 :] = [key[2]]
            yield tuple(path), " ".join(comment)
        comment = []


# Metrics


def _metrics() -> Iterator[str]:
    yield from _head("Metrics of the operator", "operator/wavegate/telemetry/metrics.py")
    yield (
        "Served at `/metrics` by each replica. Only the leader's tell of rollouts "
        "(`wavegate_leader` is 1 there). Only `wavegate_candidate_node_info` has a series per node."
    )
    yield from ("", "| Metric | Type | Labels | Meaning |", "|---|---|---|---|")
    for collector in vars(metrics.Metrics()).values():
        for family in getattr(collector, "describe", list)():
            total = "_total" if family.type == "counter" else ""
            labels = ", ".join(f"`{name}`" for name in collector._labelnames)  # noqa: SLF001
            meaning = _cell(family.documentation)
            yield f"| `{family.name}{total}` | {family.type} | {labels or 'none'} | {meaning} |"
    yield from ("", "## A query of one's own about the nodes of a release", "")
    yield (
        "`wavegate_candidate_node_info` follows the nodes by itself, where `$nodes` would make a "
        "query long, or where another label tells of the node. It lags behind by a scrape, and "
        "a check holds meanwhile. It begins when a node has the content, and ends with a revert, "
        "or with the bake. If its nodes are more than fit, a channel has none of these series, and "
        "its checks hold: with a part of its nodes they would pass for all of them. Scrape the "
        "operator with `honor_labels: true`, else `namespace` is called `exported_namespace`."
    )
    yield from ("", "```promql", *_JOIN, "```")


_JOIN = (
    "sum by (node) (crashes_total)",
    "* on (node) group_left (wave) wavegate_candidate_node_info{",
    '    namespace="$namespace", channel="$channel", release="$release"}',
)


# API


def _api() -> Iterator[str]:
    yield from _head("API", "crds/")
    yield (
        "Group `wavegate.dev`, version `v1alpha1`. All kinds are namespaced; `kubectl get "
        "wavegate` lists them together, and `kubectl explain` prints the same texts. An int or "
        "string is a number, or a share as `5%`."
    )
    for path in sorted((ROOT / "crds").glob("*.yaml")):
        yield from _kind(yaml.safe_load(path.read_text())["spec"])


def _kind(spec: Schema) -> Iterator[str]:
    (version,) = spec["versions"]
    schema = version["schema"]["openAPIV3Schema"]
    short = ", ".join(f"`{name}`" for name in spec["names"]["shortNames"])
    yield from ("", f"## {spec['names']['kind']}", "")
    yield f"{schema['description']} Short name: {short}."
    for part, who in (("spec", "Written by people"), ("status", "Written by the operator")):
        yield from ("", f"### {part}", "", f"{who}.", "")
        yield from ("| Field | Type | Default | Meaning |", "|---|---|---|---|")
        yield from _fields(schema["properties"][part], part)
    refusals = list(dict.fromkeys(_refusals(schema)))
    yield from ("", "### What the apiserver refuses, in its words", "")
    yield from (f"- {_cell(message)}" for message in refusals)


def _fields(schema: Schema, path: str) -> Iterator[str]:
    required = schema.get("required", [])
    for name, field in schema.get("properties", {}).items():
        here = f"{path}.{name}"
        default = f"`{_plain(field['default'])}`" if "default" in field else ""
        default = "required" if name in required else default
        yield f"| `{here}` | {_type(field)} | {default} | {_cell(field.get('description', ''))} |"
        yield from _fields(field, here)
        if "items" in field:
            yield from _fields(field["items"], f"{here}[]")


def _type(field: Schema) -> str:
    if field.get("enum"):
        return ", ".join(f"`{word}`" for word in field["enum"])
    if field.get("x-kubernetes-int-or-string"):
        return "int or string"
    kind = str(field["type"])
    if "additionalProperties" in field:
        return f"map of {_type(field['additionalProperties'])}"
    if "items" in field:
        return f"list of {_type(field['items'])}"
    return "time" if field.get("format") == "date-time" else kind


def _refusals(schema: Schema) -> Iterator[str]:
    for rule in schema.get("x-kubernetes-validations", []):
        yield rule["message"]
    children = list(schema.get("properties", {}).values())
    children += [schema[key] for key in ("items", "additionalProperties") if key in schema]
    for child in children:
        yield from _refusals(child)


# Text


def _head(title: str, source: str) -> Iterator[str]:
    yield from (f"# {title}", "", f"<!-- Made from {source} by `{COMMAND}`: edit there. -->", "")


def _plain(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("\n...\n").strip()


def _cell(text: str) -> str:
    """Fit for a Markdown table: one line; placeholders and variables as code, so they show."""
    line = " ".join(text.split()).replace("|", "\\|")
    parts = re.split(r"(`[^`]*`)", line)  # what is code already stays as it is
    return "".join(p if p.startswith("`") else _PLACEHOLDER.sub(r"`\g<0>`", p) for p in parts)


# repository@sha256:<64 hex digits>, $nodes, up{node=~"$nodes"}, {pool: canary}
_PLACEHOLDER = re.compile(r"[\w./@:-]*<[^>]+>|[$]\w+|\w*\{\w+[^}]*\}")


if __name__ == "__main__":
    main()
