"""A small cluster in memory: it applies the steps of the real `decide` and plays everyone else.

DaemonSet controller, scheduler, kubelets, node leases and Prometheus are a few lines each, which
keep the properties that Wavegate relies on: pods follow their DaemonSet's affinity, two agents
never share a node, a dead node keeps its pods, and its Ready for 50 s. The clock is virtual. Only
`forget` stands between what the cluster stores and what an operator remembers, so a restart is a
call. What must always hold is asserted by the watchers, on every single pass.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from support import answers
from support.builders import (
    CHANNEL,
    KEY,
    SPACE,
    SimDaemonSet,
    SimNode,
    SimPod,
    make_channel,
    make_release,
    matches,
    seen_nowhere,
    summary,
)
from wavegate.api import Channel, Decision, Release
from wavegate.evidence import CheckResult, Ledger, NodeView, announcement, left_as_announced
from wavegate.rollout import transitions
from wavegate.rollout.decide import decide
from wavegate.rollout.observation import (
    AgentSource,
    ContentView,
    Observation,
    PolicyProof,
    RevertProof,
)
from wavegate.rollout.record import Record
from wavegate.rollout.steps import (
    Action,
    CopyContent,
    CreateRevision,
    DeletePods,
    Forget,
    MoveNodes,
    Retarget,
    Step,
    StoreLedger,
    Target,
    UnlabelNodes,
    describe,
)
from wavegate.rollout.templates import HOSTNAME, targeted

NOT_READY_AFTER = 50.0
"""Seconds until the node controller says NotReady of a node that died."""
LEASE_EVERY = 10.0
START_SECONDS = 2.0
"""A pod is Ready so long after it was bound."""
MAX_WRITES_AT_ONCE = 40
"""More passes that write without time going by are a loop."""


class Conflict(Exception):  # noqa: N818 (what the apiserver calls it)
    """Compare-and-swap lost: someone else wrote since the observation."""


@dataclass(slots=True)
class SimCluster:
    """See the module. `harms` maps a content's digest to what it does: kill, loop, unpullable,
    unready; only on `victims`, when given.
    """

    channel: Channel | None = field(default_factory=make_channel)
    nodes: dict[str, SimNode] = field(default_factory=dict)
    record: Record = field(default_factory=lambda: Record(SPACE, CHANNEL))
    record_version: int = 0
    releases: dict[str, Release] = field(default_factory=dict)
    decisions: list[Decision] = field(default_factory=list)
    sets: dict[str, SimDaemonSet] = field(default_factory=dict)
    ledgers: dict[tuple[str, int], Ledger] = field(default_factory=dict)
    pods: list[SimPod] = field(default_factory=list)
    contents: dict[str, ContentView] = field(default_factory=dict)
    harms: dict[str, str] = field(default_factory=dict)
    victims: frozenset[str] | None = None
    check_value: float = 0.0
    check_values: dict[str, float | None] = field(default_factory=dict)
    """By node: what a check answers instead of `check_value`; None: no series."""
    check_error: str = ""
    says: dict[str, str] = field(default_factory=dict)
    """By node: what agents report there as loaded, instead of their own content; empty: nothing."""
    now: float = 1_000_000.0
    watching_since: float = 0.0
    leases: dict[str, float] = field(default_factory=dict)
    gone: dict[str, NodeView] = field(default_factory=dict)
    pods_lost: dict[str, float] = field(default_factory=dict)
    refuses: str = ""
    """What the apiserver answers to each new DaemonSet; empty: it takes them."""
    refused: tuple[str, str] = ("", "")
    """Attempt whose DaemonSet it refused, and why: the operator's memory of the answer."""
    blocks: str = ""
    """What keeps a dry run of the revert from passing; empty: nothing."""
    way_back: RevertProof | None = None
    dry_runs: int = 0
    checks: dict[str, CheckResult] = field(default_factory=dict)
    bake_checks: dict[str, CheckResult] = field(default_factory=dict)
    watchers: list[Callable[["SimCluster", Observation, Step], None]] = field(default_factory=list)
    writes: int = 0
    kill_after: int | None = None
    """The operator is killed right after this write (counted from 1), and started again."""
    policies: str = ""
    """What is missing of the policies that prove who decided."""
    policies_since: float = 0.0
    story: list[str] = field(default_factory=list)
    crossed: set[transitions.Row] = field(default_factory=set)
    """Rows of the table of states that the stored records went along."""
    ids: "itertools.count[int]" = field(default_factory=itertools.count)

    # What people and machines do

    def add_nodes(self, pool: str, count: int) -> list[str]:
        """Add healthy nodes; returns their names."""
        names = [f"{pool}-{next(self.ids)}" for _ in range(count)]
        for name in names:
            labels = {"pool": pool, "kubernetes.io/hostname": name}
            self.nodes[name] = SimNode(name, f"uid-{next(self.ids)}", labels)
        return names

    def remove_node(self, name: str) -> None:
        """The Node object and its pods are deleted."""
        self.gone[name] = self.node_view(self.nodes.pop(name))
        self._keep([pod for pod in self.pods if pod.node != name])

    def publish(self, name: str, sequence: int, content: str = "", **spec: Any) -> None:
        """Create a release, or replace its spec."""
        self.releases[name] = make_release(name, sequence, content, **spec)

    def die(self, name: str) -> None:
        """The machine stops, like one that crashed."""
        node = self.nodes[name]
        node.alive, node.died_at = False, self.now

    def revive(self, name: str) -> None:
        """The machine boots: its kubelet ends Terminating pods and starts the others anew."""
        node = self.nodes[name]
        node.alive, node.boot = True, node.boot + 1
        self._keep([p for p in self.pods if p.node != name or not p.deleting or not p.bound_at])
        for pod in self.pods:
            if pod.node == name and pod.bound_at is not None:
                pod.phase, pod.ready, pod.bound_at = "Pending", False, self.now
                pod.restarts += 1

    def delete_pod(self, node: str) -> None:
        """Someone deletes the agent's pod on a node."""
        for pod in self.pods:
            if pod.node == node:
                pod.deleting = True

    def retarget(self, attempt: str, target: Target, arms: str = "") -> None:
        """Someone (the operator too) points a DaemonSet elsewhere."""
        found = self.sets[attempt]
        found.affinity = targeted(found.own, KEY, target, arms)
        found.generation += 1

    def restore(self, record: Record | None = None) -> None:
        """Someone restores the record of another day, or deletes it."""
        self.record = record or Record(SPACE, CHANNEL)
        self.record_version = self.record_version + 1 if record else 0

    def forget(self) -> None:
        """The operator restarts: all that it knew from its own clock is gone."""
        self.story.append("the operator restarts")
        self.leases, self.gone, self.checks, self.pods_lost = {}, {}, {}, {}
        self.bake_checks = {}
        self.refused, self.way_back = ("", ""), None
        self.watching_since = self.now
        for node in self.nodes.values():
            node.label_seen, node.announced = self.now, ""
            node.lost_at, node.left, node.seen = None, "", None
            self._note_announcement(node)
        for pod in self.pods:
            pod.seen_since, pod.seen_restarts = self.now, (pod.restarts, self.now)

    # What is seen

    def running(self) -> dict[str, str]:
        """Release of the Ready agent on each node."""
        return {
            pod.node: self.sets[pod.attempt].revision.release
            for pod in self.pods
            if pod.ready and not pod.deleting and self.nodes[pod.node].alive
        }

    def pod_on(self, node: str) -> SimPod | None:
        """The bound pod on a node."""
        return next((p for p in self.pods if p.node == node and p.bound_at is not None), None)

    def is_ready(self, node: SimNode) -> bool:
        """What the node's Ready condition says; late for a node that just died."""
        return node.alive or self.now - node.died_at < NOT_READY_AFTER

    def node_view(self, node: SimNode) -> NodeView:
        """A node as the operator projects it."""
        return node.view(self.is_ready(node))

    def observe(self) -> Observation:
        """All that the operator would gather now."""
        rollout = self.record.rollout
        attempt = rollout.attempt if rollout else ""
        baking = self.record.bake.attempt if self.record.bake else ""
        template = self.channel.spec.agent.template if self.channel else None
        return Observation(
            SPACE,
            CHANNEL,
            self.channel,
            self.record,
            {name: self.node_view(node) for name, node in self.nodes.items()},
            gone=dict(self.gone),
            agent=AgentSource(template=template),
            releases=tuple(self.releases.values()),
            decisions=tuple(self.decisions),
            revisions={attempt: found.view() for attempt, found in self.sets.items()},
            ledgers={wave: led for (of, wave), led in self.ledgers.items() if of == attempt},
            bake_ledgers={wave: led for (of, wave), led in self.ledgers.items() if of == baking},
            bake_checks=dict(self.bake_checks),
            old_ledgers=frozenset(of for of, _ in self.ledgers if of != attempt),
            old_sequence=max(
                (led.sequence for (of, _), led in self.ledgers.items() if of != attempt), default=-1
            ),
            pods=tuple(pod.view() for pod in self.pods),
            leases=dict(self.leases),
            checks=dict(self.checks),
            contents=dict(self.contents),
            critical=seen_nowhere(self.record, self.now),
            soak_floor=10.0,
            watching_since=self.watching_since,
            seen_at=self.now,
            refused=self.refused[1] if attempt and attempt == self.refused[0] else "",
            pods_lost=dict(self.pods_lost),
            record_lost=bool(self.sets) and not self.record_version,
            way_back=self.way_back,
            policies=PolicyProof(self.now + 1, self.policies_since, self.policies),
        )

    # How time goes by

    def run(self, seconds: int, until: Callable[[], bool] | None = None) -> None:
        """Let time go by; with `until`, at most so long until it holds, else fail."""
        for _ in range(seconds):
            self.tick()
            for _ in range(MAX_WRITES_AT_ONCE):
                if not self.work():
                    break
            else:
                raise AssertionError("writes without end:\n" + "\n".join(self.story[-12:]))
            if until is not None and until():
                return
        assert until is None, "it never came to that:\n" + "\n".join(self.story[-25:])

    def step_until(self, reached: Callable[[], object]) -> None:
        """Pass by pass until it holds, so that a test can act between two writes."""
        for _ in range(5_000):
            if reached():
                return
            if not self.work():
                self.tick()
        raise AssertionError("it never came to that:\n" + "\n".join(self.story[-25:]))

    def work(self) -> bool:
        """One pass of the operator; whether it wrote anything."""
        obs = self.observe()
        step = decide(obs, self.now)
        try:
            self.apply(obs, step)
        except StopIteration:
            self.forget()
        for watcher in self.watchers:
            watcher(self, obs, step)
        return step.record is not None or bool(step.actions)

    def apply(self, obs: Observation, step: Step, version: int | None = None) -> None:
        """Store the step's record or do its actions. Raises Conflict as the apiserver would."""
        if step.record is not None:
            if version is not None and version != self.record_version:
                raise Conflict
            problem = transitions.check(self.record, step.record)
            assert not problem, f"{problem}\n" + "\n".join(self.story[-25:])
            self.crossed |= transitions.crossed(self.record, step.record)
            self.record, self.record_version = step.record, self.record_version + 1
            self._wrote(f"record {summary(step.record)}")
        for action in () if step.record is not None else step.actions:
            self._act(obs, action)
            self._wrote(describe(action))

    def tick(self) -> None:
        """One second."""
        self.now += 1.0
        for attempt, found in self.sets.items():
            self._control(attempt, found)
        self._schedule()
        self._keep([pod for pod in self.pods if self._kubelet(pod)])
        self._see_pods()
        for node in self.nodes.values():
            self._note_announcement(node)
            self._see_loss(node)
        rollout = self.record.rollout
        for place, (name, node) in enumerate(self.nodes.items()):
            if node.alive and (self.now + place) % LEASE_EVERY < 1.0 and rollout:
                self.leases[name] = self.now
        if rollout is None:
            self.leases.clear()
        answers.ask(self)
        answers.prove(self)

    def _note_announcement(self, node: SimNode) -> None:
        leaving, ready = node.is_leaving(), self.is_ready(node)
        if node.seen is not None:
            ready_then, boot = node.seen
            then = replace(node, boot=boot).view(ready_then)
            node.left = left_as_announced(then, node.boot_id, leaving=leaving)
        node.announced_at = node.announced_at if node.announced else self.now
        node.announced = announcement(node.announced, node.boot_id, leaving=leaving, ready=ready)

    def _wrote(self, what: str) -> None:
        self.story.append(f"{self.now - 1_000_000:.0f} s: {what}")
        self.writes += 1
        if self.writes == self.kill_after:
            raise StopIteration

    def _act(self, obs: Observation, action: Action) -> None:
        match action:
            case Retarget():
                seen = obs.revisions[action.revision].version
                if not action.fence and seen != str(self.sets[action.revision].generation):
                    raise Conflict
                self.retarget(action.revision, action.target, action.attempt)
            case CreateRevision(revision) if self.refuses:
                self.refused = (revision.attempt, self.refuses)
            case CreateRevision(revision, template):
                rule = targeted(template["spec"]["affinity"], KEY, Target.IN, revision.attempt)
                self.sets.setdefault(revision.attempt, SimDaemonSet(revision, template, rule))
            case CopyContent(_, name, found):
                self.contents.setdefault(name, ContentView(name, found, immutable=True))
            case StoreLedger(ledger):
                self.ledgers.setdefault((ledger.attempt, ledger.number), ledger)
            case MoveNodes() | UnlabelNodes():
                self._label(action)
            case DeletePods():
                self._delete(action)
            case Forget(revision_name, of):
                self.sets.pop(revision_name or "", None)
                self.ledgers = {k: v for k, v in self.ledgers.items() if k[0] != of}

    def _label(self, action: MoveNodes | UnlabelNodes) -> None:
        for name, uid in action.nodes:
            node = self.nodes.get(name)
            if node is None or node.uid != uid:
                continue
            if isinstance(action, MoveNodes):
                node.attempt, node.label_seen = action.attempt, self.now
            elif node.attempt == action.attempt:
                node.attempt = None

    def _delete(self, action: DeletePods) -> None:
        for pod in self.pods:
            bound_to = pod.node if pod.bound_at is not None else None
            chosen = bound_to == action.node if action.node or action.unbound else True
            pod.deleting |= chosen and pod.attempt == action.attempt

    def _control(self, attempt: str, found: SimDaemonSet) -> None:
        """The DaemonSet controller: one pod on each node that the affinity matches, no other."""
        found.observed = found.generation
        spec = {**found.template["spec"], "affinity": found.affinity}
        mine = {p.node: p for p in self.pods if p.attempt == attempt and not p.deleting}
        for node in self.nodes.values():
            stays = node.name in mine
            wanted = matches({"spec": spec}, self.node_view(node), stays=stays)
            if wanted and not stays:
                held = any(
                    p.attempt == attempt and p.node == node.name and p.deleting for p in self.pods
                )
                if not held:
                    uid = f"pod-{next(self.ids)}"
                    self.pods.append(SimPod(uid, attempt, node.name, seen_since=self.now))
            elif not wanted and stays:
                mine[node.name].deleting = True

    def _schedule(self) -> None:
        """Required anti-affinity: no two pods of the channel share a host name; if there is one."""
        hosts = {name: node.labels.get(HOSTNAME) for name, node in self.nodes.items()}
        taken = {hosts[pod.node] for pod in self.pods if pod.bound_at is not None}
        for pod in self.pods:
            host = hosts[pod.node]
            if pod.bound_at is None and not pod.deleting and (host is None or host not in taken):
                pod.bound_at = self.now
                taken.add(host)

    def _kubelet(self, pod: SimPod) -> bool:
        """Start, harm or end one pod; False when it is gone."""
        node = self.nodes[pod.node]
        if pod.bound_at is None:
            return not pod.deleting
        if not node.alive:
            return True
        if pod.deleting:
            return False
        harm = self.harms.get(self.sets[pod.attempt].revision.digest, "")
        harm = harm if self.victims is None or pod.node in self.victims else ""
        if harm == "unpullable":
            pod.waiting = "ImagePullBackOff"
        elif self.now - pod.bound_at >= START_SECONDS:
            pod.waiting, pod.phase = "", "Running"
            pod.ready = harm not in ("loop", "unready")
            pod.said = self.says.get(pod.node, self.sets[pod.attempt].revision.digest)
        if harm in ("kill", "loop") and self.now - pod.bound_at >= START_SECONDS + 2:
            pod.restarts += harm == "loop"
            if harm == "kill":
                self.die(pod.node)
        return True

    def _keep(self, left: list[SimPod]) -> None:
        """Only these pods are left; the operator sees from which nodes the others vanished."""
        kept = {pod.uid for pod in left}
        for pod in self.pods:
            if pod.uid not in kept and pod.bound_at is not None:
                self.pods_lost[pod.node] = self.now
        self.pods = left

    def _see_loss(self, node: SimNode) -> None:
        """As `projections.node_view`: a reboot that follows on NotReady is the same loss."""
        was, node.seen = node.seen, (self.is_ready(node), node.boot)
        if was is not None and was[0] and was != node.seen:
            node.lost_at = self.now

    def _see_pods(self) -> None:
        """The node controller takes Ready from the pods of a node that is NotReady."""
        for pod in self.pods:
            ready = pod.ready and self.is_ready(self.nodes[pod.node])
            if ready != pod.seen_ready:
                pod.seen_ready, pod.seen_since = ready, self.now
            if pod.restarts != pod.seen_restarts[0]:
                pod.seen_restarts = pod.restarts, self.now
