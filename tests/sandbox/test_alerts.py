"""Each alert of the chart asked of a real Prometheus that recorded who is well and who is not.

An alert fires for what its expression returned at each moment of its `for`. In the recording each
installation is in a namespace, and each channel of namespace `agents` has one course.
"""

import json
import re
import time
from pathlib import Path

import pytest
import requests
import yaml

from support.recorded import RecordedPrometheus, Recording
from wavegate.telemetry.metrics import Metrics

FILES = Path(__file__).parents[2] / "charts" / "wavegate" / "files"
STEP = 15
MINUTE = 60
RULES = {
    rule["alert"]: rule
    for group in yaml.safe_load((FILES / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
}
INSTALLATIONS = ("well", "leaderless", "gone", "double", "blind", "failing", "stumbled")

OF_INSTALLATIONS = {
    "WavegateNobodyLeads": {"leaderless", "gone"},
    "WavegateTwoLead": {"double"},
    "WavegateWatchInterrupted": {"blind"},
    "WavegateCannotWork": {"failing"},
}
"""By alert: the installations that it fires for."""
OF_CHANNELS = {
    "WavegateReverted": {"reverted", "reverted-first"},
    "WavegateRevertNotDone": {"stuck"},
    "WavegatePaused": {"paused"},
    "WavegateHeld": {"stuck"},
}
"""By alert: the channels that it fires for."""


def since(minutes, then, before=0):
    """From so many minutes ago until now it is `then`, and was `before`; None: no series."""
    return lambda t: then if t >= -minutes * MINUTE else before


def record_installations(recording):
    leaders = {"leaderless": (0, 0), "double": (1, 1)}
    for name in set(INSTALLATIONS) - {"gone"}:
        for pod, leads in zip(("a", "b"), leaders.get(name, (1, 0)), strict=True):
            labels = {"namespace": name, "pod": pod}
            recording.add("wavegate_leader", labels, leads)
            recording.add("wavegate_blind", labels, int(name == "blind" and pod == "a"))
        errors = {"failing": lambda t: 100 + t / 30, "stumbled": since(5, 8, 3)}
        labels = {"namespace": name, "pod": "a"}
        recording.add("wavegate_pass_errors_total", labels, errors.get(name, 3))


def record_channels(recording):
    reverts = {
        "calm": 2,
        "reverted": since(5, 3, 2),
        "reverted-first": since(5, 1, None),
        "reverted-long-ago": since(25, 2, 1),
    }
    for channel, course in reverts.items():
        labels = {"namespace": "agents", "channel": channel, "reason": "NodeNotReady", "pod": "a"}
        recording.add("wavegate_reverts_total", labels, course)
    for channel, minutes in {"stuck": 12, "reverting": 5, "calm": 0}.items():
        labels = {"namespace": "agents", "channel": channel}
        course = since(minutes, 1) if minutes else 0
        recording.add("wavegate_rollout_phase", {**labels, "phase": "Reverting"}, course)
        recording.add("wavegate_rollout_phase", {**labels, "phase": "Rolling"}, 1)
        recording.add("wavegate_wave_held", labels, course)
    for channel, course in {"paused": since(3, 1), "went-on": lambda t: int(t < -300)}.items():
        labels = {"namespace": "agents", "channel": channel, "reason": "CooldownPending"}
        recording.add("wavegate_rollout_paused", labels, course)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory):
    """The address of a Prometheus with the recording, and its last moment."""
    recording = Recording(time.time(), before=2400)
    record_installations(recording)
    record_channels(recording)
    with RecordedPrometheus(recording, tmp_path_factory.mktemp("alerts")) as recorded:
        yield recorded.url, recording.t0


@pytest.fixture(scope="module")
def fires(prometheus):
    """Call it with an alert and an installation: the channels it fires for ("": it names none)."""
    url, now = prometheus

    def ask(alert, installation="well"):
        rule = RULES[alert]
        seconds = int(rule.get("for", "0m").removesuffix("m")) * MINUTE
        query = rule["expr"].replace("RELEASE_NAMESPACE", installation)
        params = {"query": query, "start": now - seconds, "end": now, "step": STEP}
        answer = requests.get(f"{url}/api/v1/query_range", params, timeout=10)
        answer.raise_for_status()
        moments = seconds // STEP + 1
        return {
            series["metric"].get("channel", "")
            for series in answer.json()["data"]["result"]
            if len(series["values"]) == moments
        }

    return ask


@pytest.mark.parametrize(("alert", "ill"), OF_INSTALLATIONS.items())
def test_an_alert_about_an_installation_fires_where_it_is_ill_and_nowhere_else(fires, alert, ill):
    assert {name for name in INSTALLATIONS if fires(alert, name)} == ill


@pytest.mark.parametrize(("alert", "channels"), OF_CHANNELS.items())
def test_an_alert_about_channels_fires_for_those_that_need_someone(fires, alert, channels):
    assert fires(alert) == channels


def test_the_dashboard_counts_the_first_revert_of_a_leader_too(prometheus):
    """Of the day: 2 (calm, all of it new), 3, 1 and 2; increase() would say 2 in all."""
    url, _ = prometheus
    panels = json.loads((FILES / "dashboard.json").read_text())["panels"]
    queries = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    (query,) = (query for query in queries if "wavegate_reverts_total" in query)
    answer = requests.get(f"{url}/api/v1/query", {"query": query}, timeout=10)
    ((series),) = answer.json()["data"]["result"]
    assert float(series["value"][1]) == 8


def test_each_alert_is_tried_and_asks_about_metrics_that_the_operator_has():
    assert {*OF_INSTALLATIONS, *OF_CHANNELS} == set(RULES)
    families = Metrics().registry.collect()
    names = {f.name + ("_total" if f.type == "counter" else "") for f in families}
    asked = {name for rule in RULES.values() for name in re.findall(r"wavegate_\w+", rule["expr"])}
    assert asked - names == set()
