"""A block covers layers: other images that list one may not run either, and what is shared may."""

import zlib
from dataclasses import replace
from hashlib import sha256

import pytest

from support.builders import digest, layers, make_channel, make_decision, make_release
from support.invariants import ended, phase_of
from wavegate.api import MAX_LAYERS, Reason
from wavegate.rollout import agent_template, blocks, channel_report, queue, report
from wavegate.rollout.record import MAX_BLOCKED, MAX_BLOCKED_LAYERS, Blocked, Record
from wavegate.rollout.steps import Step

EMPTY = bytes.fromhex("621805a360148c5800080000ffff2eafb5ef00040000")
"""A kilobyte of nothing, as a layer without files is packed."""


@pytest.fixture
def sim(make_sim):
    """One canary and four workers on stable content `a`, which lists its layers."""
    sim = make_sim()
    sim.publish("a", 1, layers=["base", "a"])
    sim.run(200, until=ended(sim, "a"))
    return sim


def entry_of(name, *names, reason=Reason.AgentRestarted, incident="x1", loaded=""):
    return Blocked(digest(name), name, reason, 1.0, incident, loaded, layers(*names))


def revision_of(sim, name, *names, **changes):
    """A revision like stable's, of other content."""
    changes = {"attempt": f"attempt-{name}", "digest": digest(name)} | changes
    return replace(sim.record.stable, release=name, layers=layers(*names), **changes)


def blocked_layers(record, name="bad"):
    return next(b.layers for b in record.blocked if b.digest == digest(name))


# What is kept


def test_a_release_that_does_harm_is_blocked_with_the_layers_that_stable_lacks(sim):
    sim.harms[digest("bad")] = "loop"
    sim.publish("bad", 2, layers=["base", "bad", "worse"])
    sim.run(300, until=ended(sim, "bad"))
    assert phase_of(sim, "bad")[0] == "Reverted"
    assert blocked_layers(sim.record) == layers("bad", "worse")


def test_a_persons_block_keeps_them_too(sim):
    sim.channel = make_channel(suspend=True)
    sim.publish("bad", 2, layers=["base", "bad"])
    sim.decisions.append(make_decision("never", "bad", "Block"))
    sim.run(3)
    assert blocked_layers(sim.record) == layers("bad")


def test_what_the_last_baked_has_is_not_at_fault(sim):
    baked = revision_of(sim, "baked", "old base")
    record = blocks.add(
        replace(sim.record, last_baked=baked), entry_of("bad", "old base", "base", "bad")
    )
    assert blocked_layers(record) == layers("bad")


def test_of_stable_itself_what_it_goes_back_to_is_not_at_fault(sim):
    """What stable shares with itself says nothing, nor does what was stable before the last."""
    older = revision_of(sim, "older", "old base")
    before = revision_of(sim, "before", "base")
    record = replace(sim.record, last_baked=sim.record.stable, history=(before, older))
    record = blocks.add(record, entry_of("a", "old base", "base", "a"))
    assert blocked_layers(record, "a") == layers("old base", "a")
    assert record.blocked[0].is_of(sim.record.stable.digest)


@pytest.mark.parametrize("known", [True, False])
def test_content_that_is_blocked_itself_clears_no_layer(sim, known):
    """A person blocked what is stable: it stays on the nodes, and proves nothing."""
    record = replace(sim.record, blocked=(entry_of("a", incident="x0"),) if known else ())
    record = blocks.add(record, entry_of("bad", "base", "bad"))
    assert blocked_layers(record) == layers(*(["base", "bad"] if known else ["bad"]))


def test_content_that_agents_report_as_the_same_clears_no_layer(sim):
    record = replace(sim.record, stable=replace(sim.record.stable, loaded="RULES-7"))
    record = blocks.add(record, entry_of("bad", "base", "bad", loaded="sha256:rules-7"))
    assert blocked_layers(record) == layers("base", "bad")


@pytest.mark.parametrize(
    ("listed", "out"),
    [(["base", "bad"], True), (["base", "bad", "more"], True), (["base", "b"], False), ([], False)],
)
def test_with_nothing_to_compare_only_all_layers_together_are_at_fault(listed, out):
    """Which of them did it is not known; a base that is in every image must not end all repairs."""
    record = blocks.add(Record("agents", "rules"), entry_of("bad", "base", "bad"))
    assert blocked_layers(record) == layers("base", "bad")
    assert (record.block_of(digest("b"), "", layers(*listed)) is not None) is out


@pytest.mark.parametrize("listed", ["bad", "worse"])
def test_each_layer_that_nothing_good_has_is_at_fault_by_itself(sim, listed):
    record = blocks.add(sim.record, entry_of("bad", "base", "bad", "worse"))
    assert record.block_of(digest("b"), "", layers("base", listed)) is not None


def test_the_only_layer_of_an_image_is_at_fault_also_with_nothing_to_compare():
    record = blocks.add(Record("agents", "rules"), entry_of("bad", "bad"))
    assert record.block_of(digest("b"), "", layers("base", "bad")) is not None


def test_a_layer_without_files_is_never_blocked(sim):
    entry = replace(entry_of("bad"), layers=(*blocks.EMPTY_LAYERS, *layers("bad")))
    assert blocked_layers(blocks.add(sim.record, entry)) == layers("bad")


@pytest.mark.parametrize("header", ["1f8b080000096e8800ff", "1f8b08000000000000ff"])
def test_the_layers_without_files_are_what_they_are_called(header):
    packed = bytes.fromhex(header) + EMPTY
    assert zlib.decompress(packed, 31) == bytes(1024), "the end of a tar, and nothing before it"
    assert f"sha256:{sha256(packed).hexdigest()}" in blocks.EMPTY_LAYERS
    assert len(blocks.EMPTY_LAYERS) == 2


def test_a_bake_that_fails_keeps_what_is_not_in_what_nodes_go_back_to(make_sim):
    sim = make_sim(workers=4, rollout={"bake": "10m"})
    for number, name in enumerate("ab", start=1):
        sim.publish(name, number, layers=["base", name])
        sim.run(400, until=ended(sim, name))
    sim.run(20)
    sim.harms[digest("b")] = "loop"
    sim.run(80, until=lambda: sim.record.rollout is not None)
    assert sim.record.stable.digest == digest("a")
    assert blocked_layers(sim.record, "b") == layers("b")


@pytest.mark.parametrize("shares", [False, True])
def test_when_stable_fails_the_newer_release_is_taken_back_only_if_it_has_what_failed(
    make_sim, shares
):
    sim = make_sim(workers=4, rollout={"bake": "10m"})
    for number, name in enumerate("ab", start=1):
        sim.publish(name, number, layers=["base", name])
        sim.run(400, until=ended(sim, name))
    sim.publish("c", 3, layers=["base", "c", *(["b"] if shares else [])])
    sim.run(200, until=lambda: sim.running().get("canary-0") == "c")
    sim.revive("workers-4")
    sim.revive("workers-2")
    sim.run(30, until=lambda: sim.record.block_of(digest("b")))
    sim.run(1)
    assert blocked_layers(sim.record, "b") == layers("b")
    rollout = sim.record.rollout
    assert rollout.candidate.release == "c"
    said = rollout.incident.reason if shares else rollout.paused
    assert said is (Reason.DigestBlocked if shares else Reason.StableSuspect)


def test_the_list_keeps_the_newest_layers_and_no_more_than_a_record_has_room_for():
    record = Record("agents", "rules")
    full = MAX_BLOCKED_LAYERS // MAX_LAYERS
    for n in range(full + 2):
        names = [f"{n}.{m}" for m in range(MAX_LAYERS)]
        record = blocks.add(record, entry_of(f"bad-{n}", *names, incident=f"x{n}"))
    kept = [len(entry.layers) for entry in record.blocked]
    assert kept == [MAX_LAYERS] * full + [0, 0]
    for n in range(MAX_BLOCKED + 1):
        record = blocks.add(record, entry_of(f"worse-{n}", f"w{n}", incident=f"y{n}"))
    assert len(record.blocked) == MAX_BLOCKED
    assert sum(len(entry.layers) for entry in record.blocked) == MAX_BLOCKED


# What it does


@pytest.mark.parametrize(
    ("listed", "starts"),
    [(["bad"], []), (["base", "bad"], []), (["base", "b"], ["b"]), ([], ["b"])],
)
def test_what_lists_a_blocked_layer_does_not_start(sim, listed, starts):
    record = blocks.add(sim.record, entry_of("bad", "base", "bad"))
    release = make_release("b", 2, layers=listed)
    obs = replace(sim.observe(), record=record, releases=(release,))
    assert [r.name for r in queue.eligible(obs)] == starts


def rejected(sim, entry, release):
    obs = replace(sim.observe(), record=blocks.add(sim.record, entry), releases=(release,))
    status = report.release_status(obs, release, Step(), 0.0)
    assert (status["phase"], status["reason"]) == ("Rejected", "DigestBlocked")
    return status["message"]


def test_who_is_refused_is_told_the_layer_the_release_the_incident_and_the_ways_out(sim):
    release = make_release("b", 2, layers=["base", "worse", "bad"])
    said = rejected(sim, entry_of("bad", "base", "bad", "worse", incident="x7"), release)
    assert f"its layer {layers('worse')[0]} (and 1 more) is one of {digest('bad')}" in said
    assert "failed before as release bad (AgentRestarted)" in said
    assert f"Unblock with release: bad, digest: {digest('bad')}, incident: x7" in said
    assert "leave it out of the next release's content.layers" in said


def test_what_a_release_shares_beyond_a_layer_is_named_first(sim):
    release = make_release("b", 2, loaded="RULES-7", layers=["bad"])
    said = rejected(sim, entry_of("bad", "bad", loaded="rules-7"), release)
    assert "its loadedDigest rules-7" in said
    said = rejected(sim, entry_of("b", "bad", loaded="rules-7"), release)
    assert said.startswith(digest("b"))


def test_the_entry_of_the_digest_itself_comes_before_one_of_a_layer():
    of_a_layer, alike = entry_of("bad", "bad"), entry_of("like", loaded="rules-7", incident="x2")
    itself = entry_of("b", incident="x3")
    record = Record("agents", "rules", blocked=(of_a_layer, alike, itself))
    assert record.block_of(digest("b"), "rules-7", layers("bad")) == itself
    assert record.block_of(digest("c"), "rules-7", layers("bad")) == alike
    assert record.block_of(digest("c"), "rules-8", layers("bad")) == of_a_layer
    assert record.block_of(digest("c"), "", layers("base")) is None


def test_a_release_that_rolls_out_with_a_layer_that_is_blocked_meanwhile_is_taken_back(sim):
    sim.publish("bad", 2, layers=["base", "bad"])
    sim.publish("c", 3, layers=["base", "c", "bad"])
    sim.run(60, until=lambda: sim.record.rollout and sim.record.rollout.waves)
    assert sim.record.rollout.candidate.release == "c"
    sim.decisions.append(make_decision("never", "bad", "Block"))
    sim.run(60, until=ended(sim, "c"))
    incident = sim.record.outcomes[0].incident
    assert incident.reason is Reason.DigestBlocked
    assert f"its layer {layers('bad')[0]} is one of {digest('bad')} (release bad)" in (
        incident.message
    )
    assert "incident never" in incident.message
    assert [entry.release for entry in sim.record.blocked] == ["bad"], "c itself did no harm"


def test_one_that_shares_only_the_base_goes_on(sim):
    sim.publish("bad", 2, layers=["base", "bad"])
    sim.publish("c", 3, layers=["base", "c"])
    sim.run(60, until=lambda: sim.record.rollout and sim.record.rollout.waves)
    sim.decisions.append(make_decision("never", "bad", "Block"))
    sim.run(300, until=ended(sim, "c"))
    assert phase_of(sim, "c") == ("Completed", "Completed")


def test_who_unblocks_the_content_unblocks_its_layers(sim):
    sim.harms[digest("bad")] = "loop"
    sim.publish("bad", 2, layers=["base", "bad"])
    sim.run(300, until=ended(sim, "bad"))
    sim.publish("rebuilt", 3, layers=["base", "bad"])
    sim.run(30)
    assert sim.record.rollout is None
    incident = sim.record.blocked[0].incident
    sim.decisions.append(
        make_decision("trust", "bad", "Unblock", incident=incident, made=sim.now, decidedBy="alice")
    )
    sim.run(300, until=ended(sim, "rebuilt"))
    assert phase_of(sim, "rebuilt") == ("Completed", "Completed")
    assert sim.record.blocked == ()


def test_no_new_agent_gets_content_with_a_layer_that_is_blocked(sim):
    """After a lost record, say, stable is not what the list was made beside."""
    record = replace(sim.record, blocked=(entry_of("bad", "a"),))
    obs = replace(sim.observe(), record=record)
    assert record.block_of(record.stable.digest, "", record.stable.layers) == record.blocked[0]
    template = {"metadata": {"labels": {"new": "yes"}}, **obs.agent.template}
    changed = replace(obs, agent=replace(obs.agent, template=template))
    assert agent_template.problem(changed).reason == "DigestBlocked"
    free = replace(changed, record=replace(record, blocked=(entry_of("bad", "b"),)))
    assert agent_template.problem(free) is None


# What becomes of it


def test_the_channel_shows_the_layers_that_are_blocked(sim):
    record = blocks.add(sim.record, entry_of("bad", "base", "bad"))
    record = blocks.add(record, entry_of("other"))
    shown = channel_report.channel_status(replace(sim.observe(), record=record))["blocked"]
    assert [entry.get("layers") for entry in shown] == [None, list(layers("bad"))]


def test_stable_that_is_adopted_keeps_the_layers_that_its_daemon_set_names(sim):
    attempt = sim.record.stable.attempt
    sim.record = Record("agents", "rules")
    sim.run(10)
    assert sim.record.lost is not None
    assert (sim.record.stable.attempt, sim.record.stable.layers) == (attempt, layers("base", "a"))


def test_a_revision_in_the_history_keeps_its_layers(sim):
    sim.publish("b", 2)
    sim.run(400, until=ended(sim, "b"))
    assert sim.record.stable.layers == ()
    assert sim.record.history[0].layers == layers("base", "a")
