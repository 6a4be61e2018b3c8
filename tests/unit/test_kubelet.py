"""What the tests' kubelet starts again, and what it does not. Programs of a line play operators."""

import sys
from pathlib import Path

import pytest

from support.operator_process import Kubelet, OperatorGoneError, OperatorProcess
from wavegate_sandbox.client import wait_for

LOSES_ITS_LEASE = """\
import pathlib, sys, time
print("2026-01-01 00:00:00 ERROR a line of a log", flush=True)
lives = pathlib.Path("lives")
lives.write_text(lives.read_text() + "." if lives.exists() else ".")
sys.exit(1) if len(lives.read_text()) < 3 else time.sleep(60)
"""


def operator(folder: Path, program: str) -> OperatorProcess:
    identity = {"WAVEGATE_IDENTITY": "played"}
    return OperatorProcess((sys.executable, "-c", program), identity, {}, folder / "log")


def test_who_lost_the_lease_is_started_again(tmp_path):
    played = operator(tmp_path, LOSES_ITS_LEASE)
    with Kubelet([played]) as kubelet, played:
        wait_for("the third life", lambda: kubelet.restarts == 2 and played.running)
        played.kill()
    assert kubelet.restarts == 2


def test_who_was_ended_stays_so(tmp_path):
    played = operator(tmp_path, LOSES_ITS_LEASE.replace("< 3", "< 0"))
    with played:
        played.kill()
        assert not played.revive()
        assert not played.running


def test_who_ends_by_an_error_is_no_loser_of_a_lease(tmp_path):
    played = operator(tmp_path, "raise ValueError('of ours')")
    with pytest.raises(OperatorGoneError, match="of ours"), Kubelet([played]) as kubelet, played:
        wait_for("the kubelet to see it", lambda: kubelet._gone)
