"""Stories in which content does harm, or cannot be brought, and is taken back."""

from simulation.apiserver import Change
from simulation.cluster import Simulation
from simulation.machines import crash_loops, kills, only_on
from simulation.scenarios import scenario
from simulation.scenarios_good import CHECK, CHECKED
from simulation.story import Story
from wavegate.api import Phase, WaveState


@scenario()
def canary_crashes(story: Story) -> None:
    """The canary's machine stops on the new content
    Nobody else ever gets it. The fence comes when the node controller says NotReady; the machine
    comes back on stable, because its candidate pod was deleted while it was down.
    """
    story.bring("bad", "stops a machine two seconds after it runs", kills())
    story.publish("bad")
    story.until_phase("bad", Phase.Reverting)
    story.run(30)
    story.boot("canary-1")
    story.until_ended("bad", Phase.Reverted)
    assert story.everywhere("a")
    assert set(story.moves) == {"canary-1"}


@scenario(workers=12)
def crash_in_a_later_wave(story: Story) -> None:
    """Content that harms only some machines reaches them in the second wave
    Five workers have it when the first one dies; all go back.
    """
    story.publish("bad")
    exposed = story.until_moved(5)
    story.crash(*exposed[3:5])
    story.until_phase("bad", Phase.Reverting)
    story.run(20)
    story.boot(*exposed[3:5])
    story.until_ended("bad", Phase.Reverted)
    assert story.everywhere("a")


@scenario(
    canaries=0,
    workers=40,
    spec={
        "pools": [{"name": "workers", "selector": {}}],
        "waves": [
            {"name": "one", "upTo": 1},
            {"name": "quarter", "upTo": "25%"},
            {"name": "all", "upTo": "100%"},
        ],
    },
)
def mass_crash_of_a_quarter(story: Story) -> None:
    """A time bomb: the whole 25 % wave stops in its soak
    Ten machines are gone at once. Nothing moves any more, the fence needs none of them, and each
    comes back on stable.
    """
    story.publish("bad")
    story.until_wave("quarter", WaveState.Soaking)
    story.run(10)
    victims = story.moved()
    story.crash(*victims)
    story.until_phase("bad", Phase.Reverting)
    story.run(30)
    story.boot(*victims)
    story.until_ended("bad", Phase.Reverted)
    assert story.everywhere("a")


@scenario()
def fast_reboot(story: Story) -> None:
    """A machine reboots so fast that it is never NotReady
    Its bootID is another one, so it is found all the same.
    """
    story.publish("bad")
    story.until_wave("canary", WaveState.Soaking)
    story.run(5)
    story.reboot("canary-1")
    story.until_ended("bad", Phase.Reverted)
    assert story.everywhere("a")


@scenario()
def agent_crash_loop(story: Story) -> None:
    """The agent crashes on the new content; the machine lives
    One restart of a pod that is new is enough.
    """
    story.bring("bad", "ends the agent one second after its start", crash_loops())
    story.publish("bad")
    story.until_ended("bad", Phase.Reverted)
    assert story.everywhere("a")


@scenario()
def agent_out_of_memory(story: Story) -> None:
    """The new content needs more memory than the agent may have"""
    story.bring("bad", "makes the agent need too much memory", crash_loops(3.0, "OOMKilled", 137))
    story.publish("bad")
    story.until_ended("bad", Phase.Reverted)
    assert story.everywhere("a")


@scenario()
def agent_never_ready(story: Story) -> None:
    """The agent runs on the new content but is never Ready
    It may take progressDeadline (two minutes here); then it is a failure, and the content blocked.
    """
    story.bring("bad", "keeps the agent from becoming Ready", never_ready)
    story.publish("bad")
    story.until_ended("bad", Phase.Reverted)
    assert story.everywhere("a")


@scenario()
def node_removed_after_its_move(story: Story) -> None:
    """Two nodes that have the candidate are removed from the cluster
    Nobody announced it, so nobody can tell whether the content is why. One alone would be a
    suspect; two count as failed.
    """
    story.publish("b")
    for victim in story.until_moved(2)[:2]:
        story.remove_node(victim)
    story.until_ended("b", Phase.Reverted)
    assert story.everywhere("a")


@scenario()
def node_replaced_after_its_move(story: Story) -> None:
    """A node that has the candidate is replaced under its name
    Another UID: what happened to the first machine is unknown, so it is a suspect. The new one
    starts with stable, and is swept in the end.
    """
    story.publish("b")
    victim = story.until_moved(2)[0]
    story.remove_node(victim)
    story.replace_node(victim)
    story.until_ended("b", Phase.Completed)
    story.run(60)
    assert story.everywhere("b")


@scenario(spec=CHECKED)
def check_above_its_max(story: Story) -> None:
    """A query shows harm on two nodes of the wave
    It reverts; the number of a query alone blocks no content.
    """
    story.publish("b")
    victims = story.until_moved(2)[:2]
    story.say("machine", "errors on {} rise to 7; at most 1 is allowed", victims)
    story.prometheus.values |= dict.fromkeys(victims, 7.0)
    story.until_ended("b", Phase.Reverted)
    assert story.everywhere("a")
    assert not story.record.blocked


COUNTED = {**CHECK, "query": 'errors{node=~"$nodes"} - errors{node=~"$nodes"} @ $t0'}


@scenario(canaries=2, spec={**CHECKED, "checks": [COUNTED]})
def harm_between_two_waves(story: Story) -> None:
    """Counters rise after the last answer about a wave, before the next one opens
    Each wave is compared with its own opening. So all checks are asked once more, as of the wave
    before, when the next one has opened, and no node is moved until they pass.
    """
    rises = story.prometheus.rises

    def rise(sim: Simulation, _change: Change) -> None:
        rollout = sim.record.rollout
        waves = rollout.waves if rollout and rollout.candidate.release == "b" else ()
        if not rises and waves and waves[-1].state is WaveState.Passed:
            rises.update((name, [sim.loop.time()] * 2) for name in story.moved("canary"))

    story.publish("b")
    story.watchers.append(rise)
    story.until("a rise", lambda: rises)
    story.say("machine", "errors of {} rise by 2; at most 1 is allowed", sorted(rises))
    story.until_ended("b", Phase.Reverted)
    assert story.everywhere("a")
    assert not story.record.blocked


@scenario(workers=5)
def machine_down_for_hours(story: Story) -> None:
    """A machine that is down at the revert comes back hours later
    The revert ends without it and names it. Its candidate pod is being deleted, so that its
    kubelet does not start it again: it comes back on stable.
    """
    story.bring("bad", "stops one of the machines", only_on(frozenset({"canary-1"}), kills()))
    story.publish("bad")
    story.until_ended("bad", Phase.Reverted)
    story.run(4 * 3_600)
    story.boot("canary-1")
    story.run(30)
    assert story.everywhere("a")


@scenario()
def blocked_content_comes_again(story: Story) -> None:
    """Content that failed is published again under another name
    The digest is blocked, whatever the release is called, and so is another image of which agents
    would report the same as loaded. Repaired content is free to run.
    """
    story.bring("bad", "ends the agent one second after its start", crash_loops())
    story.publish("bad", loaded="F00D")
    story.until_ended("bad", Phase.Reverted)
    story.publish("same", content="bad")
    story.until_ended("same", Phase.Rejected)
    story.publish("rebuilt", loaded="F00D")
    story.until_ended("rebuilt", Phase.Rejected)
    story.publish("repaired")
    story.until_ended("repaired", Phase.Completed)
    assert story.everywhere("repaired")


@scenario(workers=12)
def sync_that_ignores_the_fence(story: Story) -> None:
    """The DaemonSet controller is in the middle of a sync when the fence comes
    It makes pods of the fenced candidate for seconds more. They are deleted until there are none.
    """
    story.publish("bad")
    story.until_moved(4)
    story.say("machine", "the controller-manager is slow: one write in two seconds")
    story.controller.rate.per_second = story.controller.rate.burst = 0.5
    story.until("more are moved", lambda: len(story.moved()) >= 8)
    story.run(1)
    story.people("decide: Revert bad", lambda: story.decide("back", "bad", "Revert"))
    story.until_ended("bad", Phase.Reverted)
    story.run(30)
    assert story.everywhere("a")


@scenario()
def time_bomb_in_the_bake(story: Story) -> None:
    """Content that stops machines an hour after the release was completed
    It is watched for its bake, and taken back on harm beyond chance: two machines in a minute.
    """
    story.publish("bad")
    story.until_phase("bad", Phase.Completed)
    story.run(3_600)
    victims = story.moves[-2:]
    story.crash(*victims)
    story.until_phase("bad", Phase.Reverting)
    story.run(30)
    story.boot(*victims)
    story.until_ended("bad", Phase.Reverted)
    assert story.everywhere("a")


@scenario()
def way_back_that_is_blocked(story: Story) -> None:
    """A webhook that refuses new pods keeps the way back from working
    The dry run before the wave finds it: nothing is moved until somebody repairs the webhook.
    """
    story.say("given", "a webhook fails, and closes: no pod may be created")
    story.server.refuses.append(no_pods)
    story.publish("b")
    story.run(600)
    assert not story.moves
    story.people("repair the webhook", lambda: story.server.refuses.remove(no_pods))
    story.until_ended("b", Phase.Completed)
    assert story.everywhere("b")


def no_pods(verb, plural, _body) -> str:
    """A webhook that fails closed."""
    return "webhook guard.example does not answer" if (verb, plural) == ("POST", "pods") else ""


def never_ready(machines, name, pod) -> None:
    """Content that keeps the agent from becoming Ready."""
    stored = machines._current(pod)
    if stored is not None:
        machines._report(name, stored, ready=False, restarts=0)
