"""Presets are frozen into plain checks; what they see is asked of Prometheus (tests/sandbox)."""

import re

import pytest

from wavegate.api import Check, IntOrPercent, PresetName
from wavegate.controller.queries import VARIABLES
from wavegate.evidence.presets import MAX_AGE, PRESETS, resolve


def frozen(preset, **options):
    return resolve(Check.model_validate({"name": "c", "preset": preset, **options}))


def test_each_preset_of_the_api_is_there_with_a_query_and_the_series_of_its_age():
    assert set(PRESETS) == set(PresetName)
    plain = r"[a-z_]*[{].*[}]"
    assert [p for p in PresetName if not re.fullmatch(plain, PRESETS[p].age_of)] == []


@pytest.mark.parametrize("preset", PresetName)
def test_a_preset_names_the_judged_nodes_and_no_variable_that_is_not_replaced(preset):
    spec = frozen(preset)
    used = re.findall(r"[$](\w+)", spec.query + spec.age_of)
    assert set(used) <= set(VARIABLES)
    assert "nodes" in re.findall(r"[$](\w+)", spec.query)
    assert "nodes" in re.findall(r"[$](\w+)", spec.age_of)


@pytest.mark.parametrize("preset", PresetName)
def test_a_preset_reads_no_more_the_longer_a_bake_goes_on(preset):
    ranges = re.findall(r"\[([^]]+)\]", re.sub(r'"[^"]*"', "", frozen(preset).query))
    assert set(ranges) <= {"2m", "15m"}


@pytest.mark.parametrize("preset", PresetName)
def test_a_preset_comes_with_limits_of_its_own(preset):
    spec = frozen(preset)
    assert (spec.per_node, spec.node_label, spec.max, spec.min) == (
        True,
        "node",
        PRESETS[preset].max,
        None,
    )
    assert spec.max_age == MAX_AGE


def test_what_the_check_says_itself_is_used():
    options = {"max": "2.5", "nodeLabel": "instance", "freshness": {"maxAge": "9m"}}
    spec = frozen("oom-kill", coverage="90%", consecutive=3, dryRun=True, **options)
    assert (spec.max, spec.node_label, spec.max_age) == (2.5, "instance", 540.0)
    assert (spec.coverage, spec.consecutive, spec.dry_run) == (
        IntOrPercent(90, is_percent=True),
        3,
        True,
    )
    assert 'node_vmstat_oom_kill{instance=~"($nodes)(:[0-9]+)?"}' in spec.query
    assert "by (instance)" in spec.query
    assert "node=" not in spec.query + spec.age_of
    assert frozen("workload-restarts", max=0).max == 0.0


def test_a_query_of_one_s_own_is_frozen_as_it_is_written():
    spec = resolve(Check.model_validate({"name": "c", "query": "x > bool $t0", "max": 1}))
    assert (spec.query, spec.max, spec.max_age, spec.age_of) == ("x > bool $t0", 1.0, 0.0, "")
