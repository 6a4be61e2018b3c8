"""Names fit Kubernetes' limits for any legal namespace and channel, and never collide."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wavegate.rollout import names

LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)")
"""The name part of a label's key: at most 63 characters."""
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")

part = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)
namespaces = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True)
channels = st.lists(part, min_size=1, max_size=4).map(".".join).filter(lambda text: len(text) < 64)


@given(namespaces, channels)
def test_every_name_is_one_that_kubernetes_accepts(namespace, channel):
    prefix, _, name = names.node_label(namespace, channel).partition("/")
    assert prefix == names.LABEL_DOMAIN
    assert LABEL.fullmatch(name)
    attempt = names.attempt_id("uid", 3, 1.0)
    daemon_set = names.daemon_set_name(channel, attempt)
    assert SUBDOMAIN.fullmatch(daemon_set)
    assert len(daemon_set) <= 57
    assert daemon_set.endswith(f"-{attempt}")
    for other in (names.record_name(channel), names.ledger_name(attempt, 12)):
        assert SUBDOMAIN.fullmatch(other)


@given(st.tuples(namespaces, channels), st.tuples(namespaces, channels))
def test_two_channels_never_share_a_node_label(one, other):
    assert (names.node_label(*one) == names.node_label(*other)) == (one == other)


@pytest.mark.parametrize(
    ("namespace", "channel", "expected"),
    [
        ("agents", "rules", "agents.rules"),
        ("n" * 31, "c" * 31, f"{'n' * 31}.{'c' * 31}"),
        ("n" * 32, "c" * 31, None),
        ("n" * 51, "-" * 20 + "c", None),
    ],
)
def test_a_label_is_cut_only_when_it_is_longer_than_63(namespace, channel, expected):
    name = names.node_label(namespace, channel).partition("/")[2]
    assert len(name) <= 63
    if expected:
        assert name == expected
    else:
        assert "_" in name
        assert re.search(r"[a-z0-9]_[0-9a-f]{10}$", name)


@pytest.mark.parametrize("mark", ["-", ".", "-.-"])
def test_a_daemon_set_s_name_is_not_cut_into_an_illegal_one(mark):
    channel = ("c" * 40 + mark)[:41] + "c" * 10
    name = names.daemon_set_name(channel, "0123456789")
    assert SUBDOMAIN.fullmatch(name)
    assert name == "c" * 40 + "-0123456789"


def test_long_names_that_differ_only_at_the_end_differ():
    one, other = "c" * 60 + "1", "c" * 60 + "2"
    assert names.node_label("ns", one) != names.node_label("ns", other)


def test_an_attempt_is_never_the_same_again():
    ids = {
        names.attempt_id(uid, attempts, now)
        for uid in ("a", "b")
        for attempts in (1, 11)
        for now in (1.0, 1.000001)
    }
    assert len(ids) == 8


def test_content_is_named_by_its_digest():
    assert names.content_name("sha256:" + "ab" * 32) == "wavegate-content-" + "ab" * 16
