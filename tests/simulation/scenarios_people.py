"""Stories about people, and about the operator's own end: nothing depends on it being there."""

from simulation.machines import crash_loops, kills
from simulation.scenarios import scenario
from simulation.scenarios_good import CHECKED
from simulation.story import Story
from wavegate.api import Phase, WaveState


@scenario()
def paused_by_a_decision(story: Story) -> None:
    """A person pauses a release for ten minutes
    No node is moved meanwhile; the pause ends by itself.
    """
    story.publish("b")
    story.until_moved(1)
    story.people(
        "decide: Pause b for 10m", lambda: story.decide("wait", "b", "Pause", expiresAfter="10m")
    )
    moved = len(story.moved())
    story.run(590)
    assert len(story.moved()) == moved
    story.until_ended("b", Phase.Completed)
    assert story.everywhere("b")


@scenario()
def paused_and_harmed(story: Story) -> None:
    """Two machines stop while the release is paused
    A pause stops moving, never watching and reverting.
    """
    story.publish("bad")
    victims = [story.until_moved(1)[0], "canary-1"]
    story.people("decide: Pause bad", lambda: story.decide("wait", "bad", "Pause"))
    story.run(60)
    story.crash(*victims)
    story.until_phase("bad", Phase.Reverting)
    story.run(20)
    story.boot(*victims)
    story.until_ended("bad", Phase.Reverted)
    assert story.everywhere("a")


@scenario()
def suspended(story: Story) -> None:
    """A person suspends the release, then the channel
    Both mean: no node is moved. Unset, the release goes on where it was.
    """
    story.publish("b")
    story.until_moved(1)
    story.suspend("Release", "b", on=True)
    story.run(300)
    story.suspend("Release", "b", on=False)
    story.until_moved(2)
    story.suspend("Channel", "rules", on=True)
    story.run(300)
    story.suspend("Channel", "rules", on=False)
    story.until_ended("b", Phase.Completed)
    assert story.everywhere("b")


@scenario()
def reverted_by_a_decision(story: Story) -> None:
    """A person takes a release back
    No harm was seen, so its content is not blocked.
    """
    story.publish("b")
    story.until_moved(2)
    story.people("decide: Revert b", lambda: story.decide("back", "b", "Revert"))
    story.until_ended("b", Phase.Reverted)
    assert story.everywhere("a")
    assert not story.record.blocked


@scenario(spec={**CHECKED, "rollout": {"holdTimeout": "5m"}})
def resumed_by_a_decision(story: Story) -> None:
    """A release pauses itself, and a person decides to go on
    Prometheus was away for longer than holdTimeout. A pause by a decision is ended as well.
    """
    story.publish("b")
    story.until_moved(1)
    story.say("machine", "Prometheus is gone")
    story.prometheus.error = "the connection was refused"
    story.until_phase("b", Phase.Paused)
    story.people("decide: Pause b", lambda: story.decide("wait", "b", "Pause"))
    story.run(60)
    story.say("machine", "Prometheus is back")
    story.prometheus.error = ""
    story.run(60)
    assert len(story.moved()) == 1
    story.people("decide: Resume b", lambda: story.decide("go", "b", "Resume"))
    story.until_ended("b", Phase.Completed)
    assert story.everywhere("b")


@scenario()
def resumed_by_nobody(story: Story) -> None:
    """Somebody decides Resume on a cluster without the policies that prove who decided
    It is refused: the pause stays. What tightens is obeyed all the same.
    """
    story.policies = False
    story.run(5)
    story.kill()
    story.start()
    story.publish("b")
    story.until_moved(1)
    story.people("decide: Pause b", lambda: story.decide("wait", "b", "Pause"))
    story.run(60)
    story.people("decide: Resume b", lambda: story.decide("go", "b", "Resume"))
    story.run(600)
    assert len(story.moved()) == 1
    story.people("decide: Revert b", lambda: story.decide("back", "b", "Revert"))
    story.until_ended("b", Phase.Reverted)


@scenario()
def unblocked_by_a_decision(story: Story) -> None:
    """A person takes content off the block list: what crashed was another program
    It names the incident. The same content runs in a new release; the old one never does.
    """
    story.publish("b")
    story.until_wave("canary", WaveState.Soaking)
    story.reboot("canary-1")
    story.until_ended("b", Phase.Reverted)
    incident = story.record.blocked[0].incident
    story.publish("again", "b")
    story.run(60)
    story.people(
        "decide: Unblock b", lambda: story.decide("trust", "b", "Unblock", incident=incident)
    )
    story.until_ended("again", Phase.Completed)
    assert story.everywhere("b")


APPROVED = {
    "waves": [
        {"name": "canary", "pools": ["canary"], "upTo": "100%"},
        {"name": "all", "upTo": "100%", "approval": "Required"},
    ]
}


@scenario()
def wave_approved_by_a_decision(story: Story) -> None:
    """A wave waits for hours until a person approves it
    Nothing times out meanwhile, and an approval of another wave opens nothing.
    """
    story.people("set approval: Required of wave all", lambda: story.apply_channel(**APPROVED))
    story.publish("b")
    story.until_wave("all", WaveState.AwaitingApproval)
    story.run(7_200)
    assert not story.moved()
    story.people(
        "decide: Approve wave canary of b",
        lambda: story.decide("wrong", "b", "Approve", wave="canary"),
    )
    story.run(60)
    assert not story.moved()
    story.people(
        "decide: Approve wave all of b", lambda: story.decide("fine", "b", "Approve", wave="all")
    )
    story.until_ended("b", Phase.Completed)
    assert story.everywhere("b")


@scenario(canaries=2)
def crash_while_a_wave_waits_for_approval(story: Story) -> None:
    """Two machines stop while the next wave waits for a person
    Waiting never stops watching and reverting.
    """
    story.people("set approval: Required of wave all", lambda: story.apply_channel(**APPROVED))
    story.publish("bad")
    story.until_wave("all", WaveState.AwaitingApproval)
    story.run(600)
    story.crash("canary-1", "canary-2")
    story.until_phase("bad", Phase.Reverting)
    story.run(20)
    story.boot("canary-1", "canary-2")
    story.until_ended("bad", Phase.Reverted)
    assert story.everywhere("a")


@scenario()
def release_deleted(story: Story) -> None:
    """The running release is deleted
    That reverts it.
    """
    story.publish("b")
    story.until_moved(2)
    story.people("delete release b", lambda: story.delete("Release", "b"))
    story.until("the rollout has ended", lambda: story.record.rollout is None)
    story.run(20)
    assert story.everywhere("a")


@scenario()
def channel_deleted_in_flight(story: Story) -> None:
    """The channel is deleted while a release runs
    Its rollout ends, and the stable agent stays on every node: uninstalling never unprotects.
    """
    story.publish("b")
    story.until_moved(2)
    story.people("delete channel rules", lambda: story.delete("Channel", "rules"))
    story.until("the rollout has ended", lambda: story.record.rollout is None)
    story.run(60)
    assert story.everywhere("a")
    story.add_nodes("workers", 1)
    story.run(20)
    assert story.everywhere("a")


@scenario()
def candidate_fenced_by_hand(story: Story) -> None:
    """A person fences the candidate with kubectl, as the runbook says for an absent operator
    It counts as a revert: the operator does not undo it.
    """
    story.publish("b")
    story.until_moved(2)
    nothing = [{"key": story.key, "operator": o} for o in ("Exists", "DoesNotExist")]
    story.edit_set("b", nothing)
    story.until_ended("b", Phase.Reverted)
    assert story.everywhere("a")


@scenario()
def stable_edited_while_a_promotion_waits(story: Story) -> None:
    """A person points the stable DaemonSet at no node, and the candidate waits to be promoted
    One node can't be moved, and stable is what protects it: it is pointed back within a second.
    """
    victim = "workers-1"
    taint = {"key": "dedicated", "value": "gpu", "effect": "NoSchedule"}
    story.set_node(victim, "taint {}: dedicated=gpu:NoSchedule", taints=[taint])
    story.publish("b")
    story.until("all others have it", story.is_promoting)
    story.run(5)
    story.edit_set("a", [{"key": story.key, "operator": o} for o in ("Exists", "DoesNotExist")])
    story.run(20)
    assert story.targets(story.attempt_of("a")) == [f"NotIn {story.attempt_of('b')}"]
    story.set_node(victim, "take the taint from {}", taints=[])
    story.until_ended("b", Phase.Completed)
    assert story.everywhere("b")


@scenario()
def stable_edited_by_hand(story: Story) -> None:
    """A person points the stable DaemonSet at no node
    The agents of all nodes that are not moved yet would go; it is pointed back within a second.
    """
    story.publish("b")
    story.until_moved(1)
    story.edit_set("a", [{"key": story.key, "operator": o} for o in ("Exists", "DoesNotExist")])
    story.until_ended("b", Phase.Completed)
    assert story.everywhere("b")


@scenario()
def superseded_queue(story: Story) -> None:
    """Three releases are published while one runs
    The running one ends first; then the newest runs, and those between never do.
    """
    story.publish("b")
    story.until_moved(1)
    for name in ("c", "d", "e"):
        story.publish(name)
        story.run(2)
    story.until_ended("e", Phase.Completed)
    assert story.everywhere("e")


@scenario(workers=8)
def operator_dead_for_an_hour(story: Story) -> None:
    """The operator is dead for an hour while machines with the candidate stop
    It dies in the middle of a wave, and nothing moves without it. When it is back it finds them,
    and reverts.
    """
    story.publish("bad")
    exposed = story.until_moved(4)
    story.kill()
    story.run(60)
    story.crash(*exposed[:2])
    story.run(3_600)
    story.start()
    story.until_phase("bad", Phase.Reverting)
    story.run(20)
    story.boot(*exposed[:2])
    story.until_ended("bad", Phase.Reverted)
    assert story.everywhere("a")


@scenario(operators=2)
def leader_killed_in_mid_fence(story: Story) -> None:
    """The leader is killed between the writes of its fence
    The other process takes the lease over and finishes the fence before anything else.
    """
    story.publish("bad")
    story.until_wave("canary", WaveState.Soaking)
    leader = next(o for o in story.operators if o.leader is not None)
    line = leader.line
    assert line is not None
    line.dies_after = line.writes + 2  # the record that says Reverting, and the candidate's fence
    line.killed = lambda: (
        story.say("machine", f"the process of {leader.name.replace('-', ' ')} is killed"),
        leader.kill(),
    )
    story.reboot("canary-1")
    story.until_ended("bad", Phase.Reverted)
    assert story.everywhere("a")


@scenario()
def apiserver_gone_in_the_soak(story: Story) -> None:
    """The apiserver is gone for five minutes in the soak, and hides a reboot
    The operator gives its lease up and moves nothing. When it sees again, it finds another bootID.
    """
    story.publish("bad")
    story.until_wave("canary", WaveState.Soaking)
    story.run(5)
    story.cut()
    story.run(60)
    story.reboot("canary-1")
    story.run(240)
    story.mend()
    story.until_ended("bad", Phase.Reverted)
    assert story.everywhere("a")


@scenario()
def blind_for_a_moment(story: Story) -> None:
    """The leader sees nothing for a few seconds in the soak, and nothing happened meanwhile
    What was not watched is no good time; then the release goes on.
    """
    story.publish("b")
    story.until_wave("canary", WaveState.Soaking)
    story.run(10)
    story.blind()
    story.run(5)
    story.mend()
    story.until_ended("b", Phase.Completed)
    assert story.everywhere("b")


@scenario()
def failure_that_only_pauses(story: Story) -> None:
    """Content that stops machines, on a channel that only pauses on failure
    onFailure: Pause stops moving and asks a person, who reverts.
    """
    story.people(
        "set onFailure: Pause", lambda: story.apply_channel(rollout={"onFailure": "Pause"})
    )
    story.bring("bad", "stops a machine two seconds after it runs", kills())
    story.publish("bad")
    story.until_phase("bad", Phase.Paused)
    story.run(600)
    story.people("decide: Revert bad", lambda: story.decide("back", "bad", "Revert"))
    story.until_phase("bad", Phase.Reverting)
    story.run(10)
    story.boot("canary-1")
    story.until_ended("bad", Phase.Reverted)
    assert story.everywhere("a")


@scenario(spec={"rollout": {"coolDown": "30m"}})
def decided_when_its_release_is_gone(story: Story) -> None:
    """A bad release is taken out of Git and its repair is published; people decide by its name
    Deleting it deletes nothing of what is remembered: a Resume that names it ends the cool-down,
    and an Unblock lets its content run again.
    """
    story.harm("bad", crash_loops())
    story.publish("bad")
    story.until_ended("bad", Phase.Reverted)
    incident = story.record.blocked[0].incident
    story.people("delete release bad", lambda: story.delete("Release", "bad"))
    story.publish("repair")
    story.run(60)
    assert story.status("repair")["reason"] == "CoolingDown"
    story.people("decide: Resume bad", lambda: story.decide("go", "bad", "Resume"))
    story.until_ended("repair", Phase.Completed)
    story.people(
        "decide: Unblock bad, with the incident",
        lambda: story.decide("trust", "bad", "Unblock", incident=incident),
    )
    story.run(20)
    assert not story.record.blocked
    assert story.everywhere("repair")
