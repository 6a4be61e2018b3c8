"""Runs for test_mutations: what is played while a bug is in the operator."""

from simulation import carried, promises, scenarios_agent
from simulation.cluster import Simulation, another_agent, channel_spec
from simulation.critical import serve
from simulation.machines import crash_loops
from simulation.reporting import Reporter
from support.builders import digest
from wavegate.api import WaveState
from wavegate.rollout.names import CONTROL_PLANE_LABEL

ROLLOUT = channel_spec()["rollout"]


def good(sim: Simulation) -> None:
    """Two good releases, one after the other."""
    for name in ("a", "b"):
        sim.publish(name)
        sim.until_phase(name, "Completed", 600)


def drilled(sim: Simulation) -> None:
    """A release that drills the way back, on a node where stable takes its time."""
    sim.patch("Channel", "rules", rollout={**ROLLOUT, "drill": "Always"})
    good(sim)


def pulled_ahead(sim: Simulation) -> None:
    """The images of a wave of thirty nodes are pulled ahead, on workers and canaries."""
    sim.add_nodes("workers", 26)
    sim.patch("Channel", "rules", rollout={**ROLLOUT, "prefetch": "NextWave"})
    good(sim)


def one_of_three_drilled(sim: Simulation) -> None:
    """The same, with three canaries: the first of them goes back before the others are moved."""
    sim.add_nodes("canary", 2)
    drilled(sim)


def drilled_after_an_empty_wave(sim: Simulation) -> None:
    """The same, where all nodes of the first wave come last, as they are critical."""
    selector = {"matchLabels": {"pool": "canary"}}
    pools = [
        *sim.channel_spec()["pools"],
        {"name": "pay", "selector": selector, "critical": True},
    ]
    waves = [{"name": "early", "pools": ["canary"], "upTo": 1}, {"name": "all", "upTo": "100%"}]
    sim.patch("Channel", "rules", pools=pools, waves=waves)
    drilled(sim)


def taken_back_in_a_pause(sim: Simulation) -> None:
    """Harm only pauses; a person takes the release back."""
    sim.patch("Channel", "rules", rollout={**ROLLOUT, "onFailure": "Pause"})
    sim.publish("a")
    sim.until_phase("a", "Completed", 600)
    sim.harm("bad", crash_loops())
    sim.publish("bad")
    sim.until_phase("bad", "Paused", 600)
    sim.decide("back", "bad", "Revert")
    sim.until_phase("bad", "Reverted", 600)


def bad(sim: Simulation) -> None:
    """A good release, then one whose agent crashes on some workers only, in the second wave."""
    sim.publish("a")
    sim.until_phase("a", "Completed", 600)
    sim.publish("bad")
    victims = [n for n in promises.until_moved(sim, 4) if n.startswith("workers")][:2]
    for victim in victims:
        crash_agent(sim, victim)
    sim.until_phase("bad", "Reverted", 600)


def bad_then_good(sim: Simulation) -> None:
    """A release crashes the agent; the next one is there already, and starts half an hour later."""
    sim.patch("Channel", "rules", rollout={**ROLLOUT, "coolDown": "30m"})
    bad(sim)
    sim.publish("good")
    sim.until_phase("good", "Completed", 3_600)


def bad_twice(sim: Simulation) -> None:
    """Two releases are taken back; nothing starts until a person says so."""
    bad(sim)
    sim.harm("worse", crash_loops())
    sim.publish("worse")
    sim.until_phase("worse", "Reverted", 600)
    sim.publish("good")
    sim.run(120)
    sim.decide("go", "worse", "Resume")
    sim.until_phase("good", "Completed", 600)


def newer_in_the_second_wave(sim: Simulation) -> None:
    """A newer release, no more urgent, comes while another one is in its second wave."""
    sim.publish("a")
    sim.until_phase("a", "Completed", 600)
    sim.publish("b")
    promises.until_moved(sim, 3)
    sim.publish("c")
    sim.until_phase("c", "Completed", 600)


def newer_each_moment(sim: Simulation) -> None:
    """Releases come faster than a first wave passes."""
    sim.publish("a")
    sim.until_phase("a", "Completed", 600)
    for number in range(6):
        sim.publish(f"r{number}")
        sim.run(20)
    sim.until_phase("r5", "Completed", 600)


def bad_on_stable_too(sim: Simulation) -> None:
    """A release is taken back, and on two nodes stable's agent crashes as well."""
    sim.publish("a")
    sim.until_phase("a", "Completed", 600)
    sim.publish("bad")
    exposed = [n for n in promises.until_moved(sim, 5) if n.startswith("workers")]
    for name in exposed[:2]:
        sim.crash(name)
    sim.until("a revert", lambda: promises.reverting(sim))
    back = exposed[2:4]
    sim.until("they are back", lambda: all(sim.agents().get(n) == digest("a") for n in back))
    for name in back:
        sim.act(lambda name=name: sim.machines.restart_at_once(name, sim.pods(name)[0]))
    sim.run(5)
    for name in exposed[:2]:
        sim.boot(name)
    sim.until_phase("bad", "Reverted", 600)


def bad_on_one_kernel(sim: Simulation) -> None:
    """Two nodes of one kernel come to harm in the second wave; the others keep the content."""
    sim.patch("Channel", "rules", rollout={**ROLLOUT, "onFailure": "RevertFailing"})
    older = sim.add_nodes("canary", 1, kernelVersion="6.1.0")
    older += sim.add_nodes("workers", 6, kernelVersion="6.1.0")
    sim.publish("a")
    sim.until_phase("a", "Completed", 900)
    sim.publish("bad")
    exposed = promises.until_moved(sim, 6)
    for name in [name for name in exposed if name not in older][:2]:
        crash_agent(sim, name)
    sim.until_phase("bad", "Paused", 600)
    sim.run(300)
    sim.decide("back", "bad", "Revert")
    sim.until_phase("bad", "Reverted", 600)


def one_liar(sim: Simulation) -> None:
    """A node of the second wave feigns a crash of its agent, whenever it gets the release."""
    sim.publish("a")
    sim.until_phase("a", "Completed", 600)
    sim.publish("b")
    liar = next(n for n in promises.until_moved(sim, 3) if n.startswith("workers"))
    crash_agent(sim, liar)
    sim.until("it goes back", lambda: sim.agents().get(liar) == digest("a"))
    sim.until_phase("b", "Completed", 1_200)


def taken_back_while_one_is_dead(sim: Simulation) -> None:
    """A node dies in the second wave, and is tried again as it is; a person takes b back."""
    sim.publish("a")
    sim.until_phase("a", "Completed", 600)
    sim.publish("b")
    sim.crash(next(n for n in promises.until_moved(sim, 3) if n.startswith("workers")))
    sim.until("it is tried again", lambda: in_state(sim, WaveState.Soaking, "rest-1"), 900)
    sim.decide("back", "b", "Revert")
    sim.until_phase("b", "Reverted", 900)


def two_channels(sim: Simulation) -> None:
    """Two agents on the same nodes get a release at the same time, each its second."""
    sim.apply_channel("models", agent=another_agent("scanner"))
    for first, second in (("a", "m"), ("b", "n")):
        sim.publish(first)
        sim.publish(second, channel="models")
        sim.until_phase(first, "Completed", 1_200)
        sim.until_phase(second, "Completed", 1_200)


def edited(sim: Simulation) -> None:
    """A person makes the channel looser while a release rolls out."""
    sim.patch("Channel", "rules", rollout={**sim.channel_spec()["rollout"], "maxUnavailable": 1})
    sim.publish("a")
    sim.until_phase("a", "Completed", 900)
    sim.publish("b")
    promises.until_moved(sim, 2)
    sim.patch("Channel", "rules", rollout={**sim.channel_spec()["rollout"], "maxUnavailable": 5})
    sim.until_phase("b", "Completed", 900)


def blocked(sim: Simulation) -> None:
    """A person blocks the content of a release that rolls out."""
    sim.publish("a")
    sim.until_phase("a", "Completed", 600)
    sim.publish("b")
    promises.until_moved(sim, 1)
    sim.decide("heard", "b", "Block")
    sim.run(300)


def rebuilt(sim: Simulation) -> None:
    """Content that did harm comes again in another image."""
    sim.publish("a")
    sim.until_phase("a", "Completed", 600)
    sim.harm("b", crash_loops())
    sim.publish("b", loaded="f00d")
    sim.until_phase("b", "Reverted", 300)
    sim.publish("c", loaded="f00d")
    sim.run(300)


def rebuilt_of_its_layers(sim: Simulation) -> None:
    """Content that did harm comes again in another image, which lists a layer of the first."""
    sim.publish("a", layers=["base", "rules"])
    sim.until_phase("a", "Completed", 600)
    sim.harm("b", crash_loops())
    sim.publish("b", layers=["base", "faulty rules"])
    sim.until_phase("b", "Reverted", 300)
    sim.publish("c", layers=["newer base", "faulty rules"])
    sim.run(300)


def layer_blocked_under_way(sim: Simulation) -> None:
    """A person blocks content that shares a layer with a release that rolls out."""
    sim.publish("a", layers=["base", "rules"])
    sim.until_phase("a", "Completed", 600)
    sim.publish("older", layers=["base", "shared rules"])
    sim.publish("b", layers=["base", "shared rules", "more rules"])
    promises.until_moved(sim, 1)
    sim.decide("heard", "older", "Block")
    sim.run(300)


def given_up(sim: Simulation) -> None:
    """A pool selects no node in the moment in which a release starts."""
    good(sim)
    pools = sim.channel_spec()["pools"]
    sim.publish("late")
    while sim.record.rollout is None:
        sim.run(0.01)
    none = {"name": "none", "selector": {"matchLabels": {"pool": "none"}}}
    sim.patch("Channel", "rules", pools=[*pools, none])
    sim.run(20)
    sim.patch("Channel", "rules", pools=pools)
    sim.until_phase("late", "Completed", 600)
    assert sim.record.given_up


def crash_agent(sim: Simulation, node: str) -> None:
    sim.act(lambda: crash_loops(0.0)(sim.machines, node, sim.pods(node)[0]))


def dead_in_the_soak(sim: Simulation) -> None:
    """The canary dies in the soak, too late to be seen NotReady before its end."""
    sim.publish("a")
    sim.until("a soak", lambda: in_state(sim, WaveState.Soaking))
    sim.run(12)
    sim.crash("canary-1")
    sim.run(120)


def canary_drained(sim: Simulation) -> None:
    """The only node of the first wave is drained and removed in its soak, as announced."""
    sim.publish("a")
    sim.until_phase("a", "Completed", 600)
    sim.publish("b")
    sim.until("b soaks", lambda: in_state(sim, WaveState.Soaking))
    sim.act(lambda: sim.autoscaler.shrink("canary-1", 2.0))
    sim.run(200)


def crash_on_a_cordoned_canary(sim: Simulation) -> None:
    """The canary is cordoned for a reboot, and its agent crashes once, late in the soak. No reboot
    comes.
    """
    sim.publish("a")
    sim.until_phase("a", "Completed", 600)
    sim.publish("b")
    sim.until("b soaks", lambda: in_state(sim, WaveState.Soaking))
    node = sim.server.find("nodes", "canary-1")
    spec = {**node["spec"], "unschedulable": True}
    sim.act(lambda: sim.server.update("people", "nodes", node, spec=spec))
    sim.run(sim.record.rollout.planned.soak - 5)
    sim.act(lambda: sim.machines.restart_at_once("canary-1", sim.pods("canary-1")[0]))
    sim.until_phase("b", "Reverted", 200)


def silent_agent(sim: Simulation) -> None:
    """Agents have to say what they have loaded, and that of the canary does not."""
    reporter = Reporter()
    reporter.says["canary-1"] = ""
    sim.machines.harms[""] = reporter
    sim.patch("Channel", "rules", loadedProof={"annotation": {}})
    sim.publish("a")
    sim.run(300)


def carried_to_a_crash(sim: Simulation) -> None:
    """Our pods carry content on which the agent of someone else crashes, and runs again."""
    carried.install(sim)
    sim.run(10)
    sim.patch("Channel", "rules", **carried.SELECTED)
    sim.publish("a")
    sim.until("a soak", lambda: in_state(sim, WaveState.Soaking))
    carried.crash(sim, "canary-1")
    carried.recover(sim, "canary-1")
    sim.run(300)


def carried_to_a_crash_loop(sim: Simulation) -> None:
    """The same, and what is left of the content on the host keeps that agent in a crash loop."""
    carried.install(sim)
    sim.patch("Channel", "rules", **carried.SELECTED)
    sim.publish("a")
    sim.until_phase("a", "Completed", 600)
    sim.publish("b")
    sim.until("b soaks", lambda: in_state(sim, WaveState.Soaking))
    carried.crash(sim, "canary-1")
    sim.until_phase("b", "Reverted", 900)


def fenced_by_hand(sim: Simulation) -> None:
    """A person points the candidate's DaemonSet at no node."""
    sim.publish("a")
    sim.until_phase("a", "Completed", 600)
    sim.publish("b")
    promises.until_moved(sim, 3)
    body = sim.daemon_set_of(sim.record.rollout.attempt)
    rule = [{"key": sim.key, "operator": o} for o in ("Exists", "DoesNotExist")]
    template = body["spec"]["template"]
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    node = {required: {"nodeSelectorTerms": [{"matchExpressions": rule}]}}
    affinity = {**template["spec"]["affinity"], "nodeAffinity": node}
    new = {**template, "spec": {**template["spec"], "affinity": affinity}}
    spec = {**body["spec"], "template": new}
    sim.act(lambda: sim.server.update("people", "daemonsets", body, spec=spec))
    sim.run(60)


def channel_deleted(sim: Simulation) -> None:
    """The channel is deleted when all is quiet."""
    sim.publish("a")
    sim.until_phase("a", "Completed", 600)
    sim.delete("Channel", "rules")
    sim.run(60)


def release_after_a_bad_agent(sim: Simulation) -> None:
    """A new agent crashes and is taken back; the channel still has its template."""
    sim.publish("a")
    sim.until_phase("a", "Completed", 600)
    sim.harm("bad agent", crash_loops())
    sim.patch("Channel", "rules", agent=scenarios_agent.template("bad agent"))
    sim.until("it is taken back", lambda: bool(sim.record.failed_agents))
    sim.publish("b")
    sim.until_phase("b", "Completed", 4_000)


def newer_than_an_agent(sim: Simulation) -> None:
    """A release comes while a new agent is in its first wave."""
    sim.publish("a")
    sim.until_phase("a", "Completed", 600)
    sim.patch("Channel", "rules", agent=scenarios_agent.template("agent 2"))
    sim.until("the canary soaks", lambda: in_state(sim, WaveState.Soaking))
    sim.publish("b")
    sim.until_phase("b", "Completed", 4_000)


def kinds(sim: Simulation) -> None:
    """A good release for workers of two kernels, and for two nodes of the control plane."""
    sim.add_nodes("workers", 3, "newer", kernelVersion="6.18.1")
    sim.add_nodes("workers", 2, "master", labels={CONTROL_PLANE_LABEL: ""})
    sim.run(30)
    sim.publish("a")
    sim.until_phase("a", "Completed", 900)


def dns_on_two(sim: Simulation) -> None:
    """A good release, where CoreDNS runs on two of the workers."""
    serve(sim, "kube-system/kube-dns", ["workers-1", "workers-2"])
    sim.publish("a")
    sim.until_phase("a", "Completed", 900)


def in_state(sim: Simulation, state: WaveState, name: str = "") -> bool:
    rollout = sim.record.rollout
    wave = rollout.waves[-1] if rollout and rollout.waves else None
    return wave is not None and wave.state is state and name in ("", wave.name)
