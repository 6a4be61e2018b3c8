"""What the self-check asks of a CRD is all that the CRDs of this version have."""

import copy
from pathlib import Path

import pytest
import yaml

from wavegate.api import Channel, Decision, Release
from wavegate.api.needed import needed_fields, served_fields

SCHEMAS = {
    crd["spec"]["names"]["kind"]: crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for crd in (
        yaml.safe_load(path.read_text())
        for path in sorted((Path(__file__).parents[3] / "crds").glob("*.yaml"))
    )
}
# A pod template is free: what is known in it serves rules of the CRD.
FREE = "spec.agent.template."


@pytest.mark.parametrize("kind", [Channel, Release, Decision])
def test_the_fields_that_are_needed_are_those_of_the_crd(kind):
    served = {
        field
        for field in served_fields(SCHEMAS[kind.kind])
        if field.startswith(("spec.", "status.")) and not field.startswith(FREE)
    }
    assert needed_fields(kind) == served


def test_a_field_within_a_list_that_is_not_served_is_missed():
    older = copy.deepcopy(SCHEMAS["SecurityContentChannel"])
    del older["properties"]["spec"]["properties"]["checks"]["items"]["properties"]["freshness"]
    missed = needed_fields(Channel) - served_fields(older)
    assert "spec.checks[].freshness" in missed
    assert "spec.checks[].freshness.maxAge" in missed
