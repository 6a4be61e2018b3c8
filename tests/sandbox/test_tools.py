"""Building tools: cached, locked, never half-made. Go is played by a script where it can be."""

import io
import json
import os
import re
import subprocess
import sys
import threading
import time

import pytest

from wavegate_sandbox import real_node
from wavegate_sandbox.build import (
    CORE,
    EXTRA,
    MINOR,
    MODULES,
    Tool,
    Workshop,
    cache_folder,
    chosen_tools,
    kubernetes_version,
    version_of,
)
from wavegate_sandbox.errors import BuildFailed
from wavegate_sandbox.progress import Terminal

FAKE_GO = """#!/bin/sh
[ "$1" = version ] && { echo go version fake; exit; }
echo run >> {log}
while [ "$1" != -o ]; do shift; done
printf half > "$2"
{pause}
printf ' whole' >> "$2"
"""


@pytest.fixture
def workshop(tmp_path):
    """Call it with what the compiler does half-way through."""
    (tmp_path / "modules" / "hello").mkdir(parents=True)
    (tmp_path / "modules" / "hello" / "go.mod").write_text("module hello\n\ngo 1.27\n")

    def make(pause=":"):
        go = tmp_path / "go"
        go.write_text(FAKE_GO.replace("{log}", str(tmp_path / "log")).replace("{pause}", pause))
        go.chmod(0o755)
        tools = (Tool("hello", "hello", "hello", "core", 1),)
        return Workshop(tools, tmp_path / "modules", tmp_path / "cache", go)

    return make


def runs(workshop):
    log = workshop.go.parent / "log"
    return len(log.read_text().splitlines()) if log.exists() else 0


def test_a_tool_is_compiled_once_and_then_found_in_the_cache(workshop):
    shop = workshop()
    path = shop.ensure(["hello"])["hello"]
    assert path.read_text() == "half whole"
    assert shop.ensure(["hello"])["hello"] == path
    assert runs(shop) == 1
    assert list(json.loads((path.parent / "build-times.json").read_text())) == ["hello"]


def test_whether_a_tool_is_in_the_cache_can_be_asked_without_building_it(workshop):
    shop = workshop()
    assert shop.cached("hello") is None
    assert runs(shop) == 0
    built = shop.ensure(["hello"])["hello"]
    assert shop.cached("hello") == built


def test_what_only_one_test_wants_is_built_by_nothing_else():
    asked = [*CORE, *EXTRA]
    assert {tool.name for tool in Workshop().tools} - set(asked) == {"argocd", *real_node.TOOLS}


def test_another_version_is_compiled_anew(workshop):
    shop = workshop()
    before = shop.ensure(["hello"])["hello"]
    (shop.modules / "hello" / "go.sum").write_text("other versions\n")
    after = shop.ensure(["hello"])["hello"]
    assert before != after
    assert before.exists()
    assert runs(shop) == 2


def test_two_runs_side_by_side_compile_once(workshop):
    shop = workshop(pause="sleep 0.3")
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(shop.ensure(["hello"])["hello"]))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2
    assert found[0].read_text() == "half whole"
    assert runs(shop) == 1


def test_a_killed_build_leaves_nothing_half_made(workshop, tmp_path):
    gate = tmp_path / "gate"
    shop = workshop(pause=f"for i in $(seq 400); do [ -e {gate} ] && break; sleep 0.05; done")
    builder = subprocess.Popen(
        [sys.executable, "-c", BUILD_HELLO, shop.modules, shop.cache, shop.go],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    while not list(shop.cache.rglob("hello")):  # half of it is written, somewhere
        assert builder.poll() is None
        time.sleep(0.02)
    builder.kill()
    builder.wait()
    assert not list(shop.cache.glob("tools/*/hello"))
    gate.touch()  # the orphaned compiler may go on into its own folder
    path = shop.ensure(["hello"])["hello"]
    assert path.read_text() == "half whole"
    assert not list(shop.cache.glob("tools/*/.building-*"))


BUILD_HELLO = """
import sys
from pathlib import Path
from wavegate_sandbox.build import Tool, Workshop
modules, cache, go = map(Path, sys.argv[1:])
Workshop((Tool("hello", "hello", "hello", "core", 1),), modules, cache, go).ensure(["hello"])
"""


def test_a_failing_build_shows_what_the_compiler_said(tmp_path):
    source = tmp_path / "modules" / "broken"
    source.mkdir(parents=True)
    (source / "go.mod").write_text("module broken\n\ngo 1.27\n")
    (source / "main.go").write_text("package main\n\nfunc main() { oops }\n")
    (tmp_path / "cache").mkdir()
    (cache_folder() / "go-build").mkdir(parents=True, exist_ok=True)
    # The standard library need not be compiled again for this.
    (tmp_path / "cache" / "go-build").symlink_to(cache_folder() / "go-build")
    shop = Workshop(
        (Tool("broken", "broken", ".", "core", 1),), tmp_path / "modules", tmp_path / "cache"
    )
    with pytest.raises(BuildFailed, match=r"broken did not compile.*\n(.*\n)*.*undefined: oops"):
        shop.ensure(["broken"])
    assert not list((tmp_path / "cache").glob("tools/*/*"))


def test_without_go_the_error_says_how_to_get_it(workshop, tmp_path):
    shop = workshop()
    shop.go.unlink()
    with pytest.raises(BuildFailed, match="make setup"):
        shop.ensure(["hello"])


def test_an_unknown_tool_is_refused_with_the_known_ones(workshop):
    with pytest.raises(BuildFailed, match="Known: hello"):
        workshop().ensure(["hullo"])


def test_progress_off_a_terminal_is_a_line_at_start_and_end_of_each_tool(workshop):
    stream = io.StringIO()
    workshop().ensure(["hello"], Terminal(stream))
    first, start, end = stream.getvalue().splitlines()
    assert "1 tools are compiled from source, once" in first
    assert start == "  [1 of 1] hello: compiling, about 1 s on 2 cores"
    assert re.fullmatch(r"  \[1 of 1\] hello: done in \d+ s", end)


@pytest.fixture
def minor(monkeypatch):
    """Call it with what the environment asks for."""
    return lambda asked: monkeypatch.setenv(MINOR, asked)


def test_another_minor_of_kubernetes_changes_its_programs_and_no_other_tool(minor):
    minor("")
    usual, usual_version = Workshop(), kubernetes_version()
    minor("1.34")
    older = Workshop()
    assert kubernetes_version().startswith("v1.34.")
    assert usual_version.startswith("v1.37.")
    moved = set()
    for name in {tool.name for tool in usual.tools}:
        before, after = (next(t for t in shop.tools if t.name == name) for shop in (usual, older))
        where = [shop.folder(tool.module, "go") for shop, tool in ((usual, before), (older, after))]
        if where[0] != where[1]:
            moved.add(name)
    assert moved == {"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl"}


def test_a_minor_that_cannot_be_built_is_refused_with_those_that_can(minor):
    minor("1.29")
    with pytest.raises(BuildFailed, match=r"=1\.29: .* can build 1\.34, 1\.37 \(the default\)"):
        Workshop()


def test_the_default_may_be_asked_for_by_name(minor):
    minor("")
    usual = chosen_tools()
    minor("1.37")
    assert chosen_tools() == usual


def test_programs_report_the_version_that_their_go_mod_names(sandbox):
    said = sandbox.request("GET", "/version")["gitVersion"]
    if not sandbox.ours:
        pytest.skip("not our apiserver")
    assert said == kubernetes_version()


def test_the_readme_names_the_versions_that_are_built():
    readme = (MODULES.parent / "README.md").read_text()
    rows = re.findall(r"^\| [^|]+ \| `([^`]+)` \| (v\S+) \|", readme, re.MULTILINE)
    modules = {
        "go.etcd.io/etcd/server/v3": "etcd",
        "k8s.io/kube-state-metrics/v2": "kube-state-metrics",
        "github.com/argoproj/argo-cd/v3": "argocd",
        "github.com/containerd/containerd/v2": "containerd",
        "github.com/opencontainers/runc": "runc",
    }
    assert len(rows) == 9
    for module, version in rows:
        go_mod = MODULES / modules.get(module, "kubernetes") / "go.mod"
        assert (module, version) == (module, version_of(go_mod, module))
    kubelet = MODULES / "kubelet" / "go.mod"
    assert version_of(kubelet, "k8s.io/kubernetes") == dict(rows)["k8s.io/kubernetes"]
