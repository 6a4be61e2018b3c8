"""Stories about critical workloads: no wave takes too many of the nodes that all others hang on."""

from simulation.critical import SLICES, fail_closed, serve
from simulation.machines import kills
from simulation.scenarios import scenario
from simulation.story import Story
from wavegate.api import Phase, WaveState

DNS = "kube-system/kube-dns"


@scenario(workers=8)
def two_nodes_of_coredns(story: Story) -> None:
    """CoreDNS runs on two of eight workers
    The wave over all workers takes one of the two; the other comes in a sweep of its own, which is
    soaked. So names are resolved whatever the content does.
    """
    serve(story, DNS, ["workers-1", "workers-2"])
    story.say("given", "CoreDNS runs on {}", ["workers-1", "workers-2"])
    story.publish("b")
    story.until_ended("b", Phase.Completed)
    assert len({n for n in story.moves[:8] if n in ("workers-1", "workers-2")}) == 1
    assert story.record.outcomes[0].waves[2].name == "rest-1"
    assert story.everywhere("b")


@scenario(workers=8)
def backend_of_a_webhook_that_fails_closed(story: Story) -> None:
    """A webhook without whose backend no pod can be made runs on two workers
    The content ends every machine on which it starts. One of the two is lost with the wave, the
    other never gets the content, so that the pods of the way back can be made.
    """
    serve(story, "policy/webhook", ["workers-3", "workers-4"])
    fail_closed(story, "policy/webhook")
    story.say("given", "the backend of a webhook runs on {}", ["workers-3", "workers-4"])
    story.bring("bad", "ends the machine, two minutes after its start", kills(120.0))
    story.publish("bad")
    story.until_ended("bad", Phase.Reverted)
    assert not {"workers-3", "workers-4"} <= set(story.moves)


@scenario(workers=4)
def workloads_that_are_not_seen(story: Story) -> None:
    """The right to list EndpointSlices is gone
    Nothing says where critical workloads run, so no wave opens, and nobody is blamed. When the
    right is back, the release goes on by itself.
    """
    serve(story, DNS, ["workers-1", "workers-2"])
    story.say("given", "CoreDNS runs on {}", ["workers-1", "workers-2"])
    story.say("given", "the operator may not list EndpointSlices")
    story.weather.fails = lambda _verb, path: 403 if path.endswith(SLICES) else None
    story.publish("b")
    story.run(120)
    assert not story.moves
    assert story.status("b")["reason"] == "WorkloadsUnseen"
    story.say("people", "give the right back")
    story.weather.fails = lambda _verb, _path: None
    story.until_wave("all", WaveState.Soaking)
    assert len({"workers-1", "workers-2"} & set(story.moves)) == 1
    story.until_ended("b", Phase.Completed)
    assert story.everywhere("b")
