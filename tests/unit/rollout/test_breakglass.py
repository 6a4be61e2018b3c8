"""The lines that revert by hand are the writes of our own fence, word for word."""

import json
import shlex
from dataclasses import replace

import pytest

from support.builders import KEY, agent_template, make_release
from support.invariants import with_stable
from wavegate.api import Phase
from wavegate.cluster.projections import revision_view
from wavegate.cluster.store import Store
from wavegate.rollout import breakglass, report
from wavegate.rollout.revert import advance
from wavegate.rollout.steps import CreateRevision, DeletePods, Retarget, Step, Target
from wavegate.rollout.templates import REQUIRED, revision_template

TERMS = {
    "nodeAffinity": {
        REQUIRED: {
            "nodeSelectorTerms": [
                {"matchExpressions": [{"key": "it's", "operator": "In", "values": ["a b"]}]}
            ]
        }
    }
}


@pytest.fixture
def rolling(make_sim):
    """Release b is on its canary. The agent's own affinity needs quoting in a shell."""
    template = agent_template()
    template["spec"]["affinity"] = TERMS
    sim = make_sim(agent={"template": template})
    for node in sim.nodes.values():
        node.labels["it's"] = "a b"
    with_stable(sim)
    sim.publish("b", 2)
    sim.run(300, until=lambda: sim.running().get("canary-0") == "b")
    return sim


def words(sim, release="b"):
    """The lines of the status, as a shell would split them."""
    obs = sim.observe()
    status = report.release_status(obs, make_release(release, 2), Step(), sim.now)
    return [shlex.split(line) for line in status.get("breakGlass", [])]


def test_the_lines_are_in_the_order_of_a_fence(rolling):
    assert [line[3] for line in words(rolling)] == [
        "annotate",
        "patch",
        "delete",
        "patch",
        "delete",
    ]
    assert all(line[:3] == ["kubectl", "-n", "agents"] for line in words(rolling))
    assert words(rolling)[0][4:] == ["wgc", "rules", "wavegate.dev/hands-off=true", "--overwrite"]


async def test_the_lines_write_what_our_own_fence_writes(rolling, client, objects):
    """Both go to a real HTTP server; what it gets is compared."""
    sim = rolling
    store = Store(client, "agents", "rules", lambda _kind, _body: None)
    obs = sim.observe()
    views = {}
    for attempt, found in sim.sets.items():
        action = CreateRevision(found.revision, template_of(sim, attempt))
        await store.create_revision(action)
        path = f"/apis/apps/v1/namespaces/agents/daemonsets/{found.revision.daemon_set}"
        views[attempt] = revision_view(objects.bodies[path], None, 0.0)
    obs = replace(obs, revisions=views)
    rollout = replace(obs.record.rollout, phase=Phase.Reverting, reverting_since=sim.now)
    fence = advance(obs, rollout, sim.now).actions
    sent = []
    objects.on_patch = lambda path, patch: sent.append((path, patch))
    for action in fence:
        if isinstance(action, Retarget):
            await store.retarget(action, views[action.revision])
    lines = breakglass.lines(
        obs, views[rollout.attempt], views[obs.record.stable.attempt], hands_off=False
    )
    split = [shlex.split(line) for line in lines]
    by_hand = [
        (f"/apis/apps/v1/namespaces/agents/daemonsets/{line[5]}", json.loads(line[8]))
        for line in split
        if line[3] == "patch"
    ]
    assert by_hand == sent
    assert len(sent) == 2
    assert [a for a in fence if isinstance(a, DeletePods)][-1] == DeletePods(rollout.attempt)
    await store.delete_pods(rollout.attempt, None, unbound=True)
    unbound = objects.queries[-1]
    await store.delete_pods(rollout.attempt, None, unbound=False)
    every = objects.queries[-1]
    deletes = [line for line in split if line[3] == "delete"]
    only = ["--field-selector", unbound["fieldSelector"]]
    assert deletes[0][5:] == ["-l", unbound["labelSelector"], "--wait=false", *only]
    assert deletes[1][5:] == ["-l", every["labelSelector"], "--wait=false"]


def template_of(sim, attempt):
    template = agent_template()
    template["spec"]["affinity"] = TERMS
    return revision_template(template, "rules", attempt)


def test_what_the_lines_do_is_seen_as_a_fence_by_hand(rolling):
    sim = rolling
    attempt, stable = sim.record.rollout.attempt, sim.record.stable.attempt
    for line in words(sim):
        if line[3] == "patch":
            (change,) = json.loads(line[8])
            (found,) = (s for s in sim.sets.values() if s.revision.daemon_set == line[5])
            found.affinity, found.generation = change["value"], found.generation + 1
    obs = sim.observe()
    assert obs.revisions[attempt].targets(KEY, Target.NOTHING)
    assert obs.revisions[stable].targets(KEY, Target.ALL)
    sim.run(60, until=lambda: sim.record.rollout is None)
    assert sim.record.outcomes[0].incident.reason == "FencedByHand"


def test_a_release_that_is_reverted_shows_the_lines_and_one_that_ended_does_not(rolling):
    sim = rolling
    del sim.releases["b"]
    sim.step_until(lambda: sim.record.rollout.phase is Phase.Reverting)
    assert len(words(sim)) == 5
    sim.run(60, until=lambda: sim.record.rollout is None)
    assert words(sim) == []


def test_a_first_release_has_no_stable_to_go_back_to(make_sim):
    sim = make_sim()
    sim.publish("b", 2)
    sim.run(100, until=lambda: sim.running().get("canary-0") == "b")
    assert [line[3] for line in words(sim)] == ["annotate", "patch", "delete", "delete"]


def test_without_a_channel_there_is_nothing_to_annotate(rolling):
    obs = replace(rolling.observe(), channel=None)
    candidate = obs.revision(obs.record.rollout.candidate)
    assert "annotate" not in " ".join(breakglass.lines(obs, candidate, None))


def test_an_affinity_that_fits_no_status_leads_to_the_runbook(rolling):
    obs = rolling.observe()
    candidate = obs.revision(obs.record.rollout.candidate)
    term = {"matchExpressions": [{"key": "k", "operator": "In", "values": ["v" * 60] * 80}]}
    own = {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [term]}}}
    lines = breakglass.lines(obs, replace(candidate, own_affinity=own), None)
    assert all(len(line) <= breakglass.MAX_LINE for line in lines)
    assert lines[1].startswith("# ")
    assert "runbook" in lines[1]


def test_a_candidate_that_is_fenced_before_its_first_wave_is_not_armed_again(sim):
    sim.publish("b", 2)
    sim.step_until(lambda: sim.record.rollout and len(sim.sets) == 2)
    sim.retarget(sim.record.rollout.attempt, Target.NOTHING)
    sim.retarget(sim.record.stable.attempt, Target.ALL)
    before = sim.sets[sim.record.stable.attempt].generation
    sim.step_until(lambda: sim.record.rollout is None)
    assert sim.sets[sim.record.stable.attempt].generation == before
    assert sim.record.outcomes[0].incident.reason == "FencedByHand"
