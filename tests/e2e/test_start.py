"""An operator that comes before its CRDs waits for them and says so."""

from collections.abc import Callable

from support.operator_process import OperatorProcess
from support.story import Story
from wavegate_sandbox.cluster import Options, Sandbox


def test_the_operator_waits_for_its_crds_says_so_and_then_works(
    apply_crds: Callable[[Sandbox], None], pace: dict[str, str]
) -> None:
    with (
        Sandbox.start(Options(prometheus=False)) as empty,
        OperatorProcess.from_chart(empty, "wavegate", pace) as operator,
    ):

        def said() -> bool:
            status, words = operator.get("/readyz")
            return status == 503 and "apply the files in crds/" in words

        empty.wait_for("the operator to say what it waits for", said)
        assert "securitycontentchannels.wavegate.dev" in operator.get("/readyz")[1]
        apply_crds(empty)
        operator.wait_ready()
        empty.request("POST", "/api/v1/namespaces", {"metadata": {"name": "early"}})
        story = Story(empty, "early").begin()
        story.publish("a")
        story.until("a", "an answer", lambda status: status.get("phase") == "Rolling")
