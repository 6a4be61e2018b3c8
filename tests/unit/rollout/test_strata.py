"""Strata: which nodes are alike."""

from dataclasses import replace

import pytest

from wavegate.evidence import NodeView
from wavegate.rollout.attempt import Revision
from wavegate.rollout.strata import Stratum, strata, stratum_of
from wavegate.rollout.waves import in_order, order_of

NODE = NodeView("n", "u", "b", ready=True)
DEBIAN = replace(NODE, os="linux", arch="amd64", kernel="6.12", os_image="Debian", runtime="c://2")


@pytest.mark.parametrize("part", Stratum._fields)
def test_nodes_that_differ_in_one_thing_are_not_alike(part):
    other = replace(DEBIAN, **{part: "another"})
    assert stratum_of(DEBIAN) != stratum_of(other)


def test_nodes_alike_are_one_stratum_whatever_their_names_zones_and_roles():
    other = replace(DEBIAN, name="m", uid="v", boot_id="c", zone="z", control_plane=True)
    assert strata([DEBIAN, other]) == {stratum_of(DEBIAN)}
    assert len(strata([DEBIAN, other, NODE])) == 2


def test_a_stratum_is_told_in_its_own_words():
    assert str(stratum_of(DEBIAN)) == "linux, amd64, 6.12, Debian, c://2"
    assert str(stratum_of(replace(DEBIAN, runtime=""))) == "linux, amd64, 6.12, Debian"
    assert str(stratum_of(NODE)) == "unknown"


def candidate(attempt, release_uid):
    return Revision(attempt, "d", "r", release_uid, "1", 1, "sha256:x", 0.0)


def order(attempt, release_uid):
    nodes = [replace(NODE, name=f"n-{n}", uid=f"uid-{n}") for n in range(20)]
    return [node.name for node in in_order(nodes, order_of(candidate(attempt, release_uid)))]


def test_the_order_of_nodes_is_the_release_s_and_known_before_there_is_an_attempt():
    assert order("a", "release") == order("b", "release") != order("a", "other")


def test_what_is_no_release_has_an_order_of_its_own_in_each_attempt():
    assert order("a", "") != order("b", "")
