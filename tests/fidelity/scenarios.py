"""The scenarios that are played in both worlds. Each begins with content `a` on all nodes.

They act only where the story stands still, so that a slow machine plays the same story: for good
where what they do ends the soak, else for a while (15 s).
"""

from collections.abc import Callable
from dataclasses import dataclass

from fidelity.stage import CHANNEL, QUICK, STANDS, Stage


@dataclass(frozen=True, slots=True)
class Scenario:
    """A story and the number of its workers. `disturbs`: it is bad for others beside it.

    `at_last` is waited for at the very end, when all stories are played.
    """

    play: Callable[[Stage], None]
    workers: int = 3
    disturbs: bool = False
    at_last: Callable[[Stage], None] = lambda _stage: None
    alike: tuple[str, str] | None = None
    """Two reasons for one event, of which either may be seen first: nodes and pods are watched
    apart.
    """

    @property
    def name(self) -> str:
        """A name that fits a namespace."""
        return self.play.__name__.replace("_", "-")


def good_release(stage: Stage) -> None:
    """Two waves after one another; b becomes stable."""
    stage.publish("b")
    stage.until_phase("b", "Completed")
    stage.until_runs("b", stage.nodes)


def canary_crash(stage: Stage) -> None:
    """The canary dies of the content, is found NotReady, and boots."""
    stage.soak(STANDS)
    stage.publish("bad")
    stage.until_phase("bad", "Reverting")
    stage.until_lost(stage.canary)
    stage.boot(stage.canary)
    stage.until_phase("bad", "Reverted")
    stage.until_runs("a", stage.nodes)


def fast_reboot(stage: Stage) -> None:
    """The canary reboots, faster than anyone sees it NotReady. The channel only pauses on that, so
    that the content starts once more; then a person reverts.
    """
    stage.soak(STANDS, onFailure="Pause")
    stage.publish("b")
    stage.until_wave("canary", "Soaking")
    stage.boot(stage.canary)
    stage.until_phase("b", "Paused")
    stage.until_state(stage.canary, "ready (restarted)")
    stage.decide("b", "Revert")
    stage.until_phase("b", "Reverted")
    stage.until_runs("a", stage.nodes)


def agent_crash_loop(stage: Stage) -> None:
    """The agent ends again and again on the canary."""
    stage.publish("loop")
    stage.until_phase("loop", "Reverted")
    stage.until_runs("a", stage.nodes)


def blocked_again(stage: Stage) -> None:
    """Content that failed is published again under another name, then repaired content."""
    stage.publish("first", "loop-again")
    stage.until_phase("first", "Reverted")
    stage.publish("second", "loop-again")
    stage.until_phase("second", "Rejected")
    stage.publish("third")
    stage.until_phase("third", "Completed")


def down_at_revert(stage: Stage) -> None:
    """The canary is down when a person reverts, and comes back during the revert."""
    _lose_canary(stage)
    stage.decide("b", "Revert")
    stage.until_phase("b", "Reverting")
    stage.boot(stage.canary)
    stage.until_phase("b", "Reverted")
    stage.until_runs("a", stage.nodes)


def back_after_revert(stage: Stage) -> None:
    """The canary is down when a person reverts, and comes back when nobody waits for it."""
    _lose_canary(stage, progressDeadline="12s")
    stage.decide("b", "Revert")
    stage.until_phase("b", "Reverted")
    stage.boot(stage.canary)
    stage.until_runs("a", stage.nodes)


def joins_mid_rollout(stage: Stage) -> None:
    """A node joins in the last wave: stable first, then swept."""
    joined = f"{stage.space}-worker-99"
    stage.soak("2s", "15s")
    stage.publish("b")
    stage.until_wave("all", "Soaking")
    stage.join(joined)
    stage.until_runs("a", [joined])
    stage.until_phase("b", "Completed")
    stage.until_runs("b", [*stage.nodes, joined])


def stable_pod_deleted(stage: Stage) -> None:
    """A pod of a node outside the wave is deleted: it comes back with the same content."""
    stage.publish_to_canary()
    _delete_pod_on(stage, stage.workers[0])
    stage.until_runs("a", stage.workers)
    stage.until_phase("b", "Completed")


def candidate_pod_deleted(stage: Stage) -> None:
    """The canary's pod is deleted (evicted): it comes back with the candidate's content."""
    stage.publish_to_canary()
    _delete_pod_on(stage, stage.canary)
    stage.until_runs("b", [stage.canary])
    stage.until_phase("b", "Completed")


def suspended_and_resumed(stage: Stage) -> None:
    """A person suspends the release in its first wave, and resumes it."""
    stage.publish_to_canary()
    stage.suspend("b", suspend=True)
    stage.until_phase("b", "Paused")
    stage.suspend("b", suspend=False)
    stage.until_phase("b", "Completed")


def decision_revert(stage: Stage) -> None:
    """A person's decision reverts."""
    stage.publish_to_canary(soak=STANDS)
    stage.decide("b", "Revert")
    stage.until_phase("b", "Reverted")
    stage.until_runs("a", stage.nodes)


def release_deleted(stage: Stage) -> None:
    """The release is deleted while it rolls."""
    stage.publish_to_canary(soak=STANDS)
    stage.delete("Release", "b")
    stage.until_ended("b", "Reverted")
    stage.until_runs("a", stage.nodes)


def channel_deleted(stage: Stage) -> None:
    """The channel is deleted while a release rolls: stable stays everywhere."""
    stage.publish_to_canary(soak=STANDS)
    stage.delete("Channel", CHANNEL)
    stage.until_ended("b", "Reverted")
    stage.until_runs("a", stage.nodes)


def fenced_by_hand(stage: Stage) -> None:
    """A person points the candidate at no node, as the runbook says."""
    stage.publish_to_canary(soak=STANDS)
    stage.fence(stage.daemon_set("b"))
    stage.until_phase("b", "Reverted")
    stage.until_runs("a", stage.nodes)


def node_deleted(stage: Stage) -> None:
    """The canary's Node is deleted in its wave; its pod stays until the garbage collector."""
    stage.publish_to_canary(soak=STANDS)
    stage.remove(stage.canary)
    stage.until_phase("b", "Reverted")
    stage.until_runs("a", stage.workers)


def canary_tainted(stage: Stage) -> None:
    """Someone taints the canary NoSchedule while it soaks: what runs there stays."""
    stage.publish_to_canary()
    stage.taint(stage.canary, "maintenance")
    stage.until_phase("b", "Completed")
    stage.until_runs("b", stage.nodes)


def worker_cordoned(stage: Stage) -> None:
    """Someone cordons a worker before its wave: agents tolerate that."""
    stage.publish_to_canary()
    stage.cordon(stage.workers[0])
    stage.until_phase("b", "Completed")
    stage.until_runs("b", stage.nodes)


def superseded(stage: Stage) -> None:
    """A newer release comes in the first wave."""
    stage.publish_to_canary(soak=STANDS)
    stage.soak(QUICK)
    stage.publish("c")
    stage.until_phase("c", "Completed")
    stage.until_runs("c", stage.nodes)


def replaced_under_its_name(stage: Stage) -> None:
    """A worker is replaced by another machine of the same name before its wave."""
    stage.publish_to_canary()
    stage.remove(stage.workers[0])
    stage.join(stage.workers[0])
    stage.until_phase("b", "Completed")
    stage.until_runs("b", stage.nodes)


def mass_move(stage: Stage) -> None:
    """Thirty nodes move in steps of 1, 1, 2, 4, 8 …"""
    stage.publish("b")
    stage.until_phase("b", "Completed")
    stage.until_runs("b", stage.nodes)


def leader_killed(stage: Stage) -> None:
    """The leading operator dies in the middle of a wave, and the other goes on."""
    stage.publish_to_canary()
    stage.kill_leader()
    stage.until_phase("b", "Completed")
    stage.until_runs("b", stage.nodes)


def lost_pod_is_collected(stage: Stage) -> None:
    """Pod GC, 40 to 60 s after a Node is gone."""
    stage.until(
        "the lost pod is collected",
        lambda: all(p["spec"].get("nodeName") != stage.canary for p in stage.bodies("pods")),
    )


def _lose_canary(stage: Stage, **rollout: str) -> None:
    """The canary dies while it soaks. The channel only pauses on that."""
    stage.soak(STANDS, onFailure="Pause", **rollout)
    stage.publish("b")
    stage.until_wave("canary", "Soaking")
    stage.crash(stage.canary)
    stage.until_lost(stage.canary)
    stage.until_phase("b", "Paused")


def _delete_pod_on(stage: Stage, node: str) -> None:
    pod = stage.pod_on(node)
    assert pod is not None
    stage.delete_pod(pod)

    def replaced() -> bool:
        found = stage.pod_on(node)
        return found is not None and found["metadata"]["uid"] != pod["metadata"]["uid"]

    stage.until(f"another pod runs on {node}", replaced)


SCENARIOS = (
    Scenario(node_deleted, at_last=lost_pod_is_collected),
    Scenario(good_release),
    Scenario(canary_crash),
    Scenario(fast_reboot, alike=("NodeRebooted", "AgentRestarted")),
    Scenario(agent_crash_loop),
    Scenario(blocked_again),
    Scenario(down_at_revert),
    Scenario(back_after_revert),
    Scenario(joins_mid_rollout),
    Scenario(stable_pod_deleted),
    Scenario(candidate_pod_deleted),
    Scenario(suspended_and_resumed),
    Scenario(decision_revert),
    Scenario(release_deleted),
    Scenario(channel_deleted),
    Scenario(fenced_by_hand),
    Scenario(canary_tainted),
    Scenario(worker_cordoned),
    Scenario(superseded),
    Scenario(replaced_under_its_name),
    Scenario(mass_move, workers=29),
    Scenario(leader_killed, disturbs=True),
)
