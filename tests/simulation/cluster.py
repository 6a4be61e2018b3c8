"""The whole simulation: a cluster in this process, and the real engine working on it.

Everything happens on one virtual clock, in an order drawn from `seed`. A test acts as people do
(publish, crash, boot, delete a pod) and lets time go by; what must always hold is asserted by
`watchers` after every single change of the cluster, whoever made it.
"""

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Any, Self

from simulation.apiserver import Apiserver, Body, Change, MadeUp
from simulation.clock import START, VirtualLoop
from simulation.daemonsets import DaemonSetController, PodCollector
from simulation.line import Weather
from simulation.log import describe, rules_of
from simulation.machines import LEASES, Autoscaler, Machines, Scheduler, Speeds, images
from simulation.operators import SimOperator, SimPrometheus
from simulation.stored import stored_in
from support.builders import digest, layers
from wavegate.api import GROUP, PLURALS, VERSION, Decision
from wavegate.cluster.forged import FORGED, REFUSED
from wavegate.rollout.names import ATTEMPT_LABEL, CHANNEL_LABEL, node_label, record_name
from wavegate.rollout.record import Record
from wavegate.rollout.templates import REQUIRED, untargeted

SPACE, CHANNEL = "agents", "rules"
PATIENCE = 3_600.0
"""Virtual seconds that a story may take until its next turn."""
LOOK_SECONDS = 0.5

Watcher = Callable[["Simulation", Change], None]


class Simulation:
    """See the module. A context manager; `weather` and `speeds` say how network and nodes are."""

    def __init__(
        self,
        seed: int = 1,
        *,
        weather: Weather | None = None,
        speeds: Speeds | None = None,
        operators: int = 1,
        soak_floor: float = 10.0,
        lease_duration: float = 15.0,
    ) -> None:
        self.seed, self.rng = seed, random.Random(seed)  # noqa: S311
        self.loop = VirtualLoop()
        self.weather = weather or Weather()
        self.server = Apiserver(self.loop.time)
        self.watchers: list[Watcher] = []
        self.log: list[str] = []
        """What was done, by whom, when: one line for each change that matters."""
        self.broken: list[Exception] = []
        """What watchers found broken: kept here, as whoever wrote would catch what is raised."""
        self.sequence = 0
        speeds = speeds or Speeds()
        self.machines = Machines(self.server, self._child(), speeds)
        self.scheduler = Scheduler(self.server, self._child(), speeds)
        self.controller = DaemonSetController(self.server, self._child())
        self.collector = PodCollector(self.server, self._child())
        self.autoscaler = Autoscaler(self.machines, self._child())
        self.prometheus = SimPrometheus()
        self.operators = [
            SimOperator(
                self.server,
                f"operator-{number}",
                rng=self._child(),
                weather=self.weather,
                prometheus=self.prometheus,
                soak_floor=soak_floor,
                lease_duration=lease_duration,
            )
            for number in range(1, operators + 1)
        ]
        self._leases = _Leases(self.machines)
        self.server.objects[LEASES] = self._leases  # type: ignore[assignment]
        self.server.after.append(self._watch)
        self.policies = True
        """The admission policies that prove who decided are in force."""
        self.server.refuses.append(self._refuse_forged)

    def __enter__(self) -> Self:
        random.seed(self.seed)  # jitter and back-off of the engine
        self._do(self._start_all)
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._stop_all)
        self.run(1.0)
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.run(0.1)
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()

    def _refuse_forged(self, _verb: str, plural: str, body: Body) -> str:
        """What the policies say to the operator's own dry run; people here never forge."""
        forged = self.policies and body["metadata"]["name"] == FORGED
        return f"{REFUSED}it may not" if forged and plural == PLURALS[Decision.kind] else ""

    # Time

    @property
    def now(self) -> float:
        """Virtual seconds since the beginning."""
        return self.loop.time() - START

    def run(self, seconds: float) -> None:
        """Let time go by."""
        self.loop.run_until_complete(asyncio.sleep(seconds))
        self._complain()

    def until(self, what: str, test: Callable[[], object], patience: float = PATIENCE) -> None:
        """Let time go by until it holds; fails after so many virtual seconds."""
        ends = self.now + patience
        while not test():
            if self.now > ends:
                raise AssertionError(f"never: {what} (seed {self.seed})\n{self.tail()}")
            self.run(LOOK_SECONDS)

    def act(self, deed: Callable[[], Any]) -> Any:
        """Do something inside the loop, where machines set their timers."""
        return self._do(deed)

    def later(self, seconds: float, deed: Callable[[], Any]) -> None:
        """Do something in so many seconds, while other things go on."""
        self._do(lambda: self.loop.call_later(seconds, deed))

    # Machines and people

    def add_nodes(
        self,
        pool: str,
        count: int,
        prefix: str = "",
        labels: Mapping[str, str] | None = None,
        **kind: str,
    ) -> list[str]:
        """Machines join; returns their names: `<pool>-<number>`. `labels` are set on them, and
        `kind` is what of `nodeInfo` is not as on the others.
        """
        begun = sum(name.startswith(f"{prefix or pool}-") for name in self.machines.machines)
        names = [f"{prefix or pool}-{begun + n}" for n in range(1, count + 1)]
        for name in names:
            said = {"pool": pool, **(labels or {})}
            self.act(lambda name=name, said=said: self.machines.add(name, said, **kind))
        return names

    def crash(self, node: str) -> None:
        """The machine stops."""
        self.act(lambda: self.machines.crash(node))

    def boot(self, node: str) -> None:
        """The machine starts again."""
        self.act(lambda: self.machines.boot(node))

    def remove_node(self, node: str) -> None:
        """Machine and Node are gone, unannounced."""
        self.act(lambda: self.machines.remove(node))

    def label_node(self, node: str, **labels: str | None) -> None:
        """Someone with rights on nodes sets labels; None takes one away. `key` = our own label."""
        body = self.server.find("nodes", node)
        if body is None:
            return
        old = dict(body["metadata"].get("labels") or {})
        for name, value in labels.items():
            label = self.key if name == "key" else name
            old.pop(label, None)
            if value is not None:
                old[label] = value
        metadata = {**body["metadata"], "labels": old}
        self.act(lambda: self.server.update("people", "nodes", body, metadata=metadata))

    def apply_channel(self, channel: str = CHANNEL, **spec: Any) -> None:
        """Create the channel, or replace fields of its spec. Another one than the usual is told of
        with its name, and only invariant 13 is asserted for it.
        """
        self._apply("SecurityContentChannel", channel, channel_spec(**spec))

    def publish(self, name: str, content: str = "", **spec: Any) -> str:
        """Create the next release; by default its content is named like it."""
        self.sequence += 1
        image = f"registry.example/content@{digest(content or name)}"
        body = {"channel": CHANNEL, "version": name, "sequence": self.sequence}
        says = {"loadedDigest": loaded} if (loaded := spec.pop("loaded", "")) else {}
        listed = {"layers": list(layers(*names))} if (names := spec.pop("layers", ())) else {}
        carried = {"content": {"image": image, **says, **listed}}
        self._apply("SecurityContentRelease", name, {**body, **carried, **spec})
        return name

    def patch(self, kind: str, name: str, **spec: Any) -> None:
        """Merge into the spec of one of our objects (`Channel`, `Release`)."""
        body = self._ours(kind, name)
        assert body is not None
        self._apply(f"SecurityContent{kind}", name, {**body["spec"], **spec})

    def channel_spec(self) -> dict[str, Any]:
        """What people wrote into the channel."""
        body = self._ours("Channel", CHANNEL)
        assert body is not None
        return dict(body["spec"])

    def decide(self, name: str, release: str, action: str, content: str = "", **spec: Any) -> None:
        """Record a person's decision."""
        body = {"release": release, "digest": digest(content or release), "action": action}
        body["decidedBy"] = "alice"
        self._apply("SecurityContentDecision", name, {**body, "reason": "a test", **spec})

    def delete(self, kind: str, name: str) -> None:
        """Delete one of our objects."""
        body = self._ours(kind, name)
        if body is not None:
            plural = PLURALS[f"SecurityContent{kind}"]
            self.act(lambda: self.server.remove("people", plural, body))

    def delete_pod(self, node: str) -> None:
        """Someone deletes the agent's pod on a node, as an eviction would."""
        for pod in self.pods(node):
            self.act(lambda pod=pod: self.server.delete("people", "pods", pod))

    def retarget(self, attempt: str, rules: list[Body]) -> None:
        """Someone points a revision's DaemonSet elsewhere: expressions on our label, [] = all."""
        body = self.daemon_set_of(attempt)
        if body is None:
            return
        template = body["spec"]["template"]
        affinity = untargeted(template["spec"].get("affinity") or {})
        if rules:
            terms = {"nodeSelectorTerms": [{"matchExpressions": rules}]}
            affinity["nodeAffinity"] = {REQUIRED: terms}
        template = {**template, "spec": {**template["spec"], "affinity": affinity}}
        spec = {**body["spec"], "template": template}
        self.act(lambda: self.server.update("people", "daemonsets", body, spec=spec))

    def harm(self, content: str, deed: Any) -> None:
        """From now on this content does that to machines on which it starts."""
        self.machines.harms[digest(content)] = deed

    # What is seen

    @property
    def key(self) -> str:
        """The channel's node label."""
        return node_label(SPACE, CHANNEL)

    @property
    def record(self) -> Record:
        """What the channel remembers; an empty record before anything was stored."""
        return self.record_of(CHANNEL)

    def record_of(self, channel: str) -> Record:
        """The same of any channel."""
        body = self.server.find("configmaps", record_name(channel), SPACE)
        stored = stored_in(body).record if body else None
        return stored or Record(SPACE, channel)

    def status(self, release: str) -> Mapping[str, Any]:
        """Status of a release; empty before the operator wrote one."""
        body = self._ours("Release", release)
        return (body or {}).get("status") or {}

    def channel_status(self) -> Mapping[str, Any]:
        """Status of the channel."""
        return (self._ours("Channel", CHANNEL) or {}).get("status") or {}

    def until_phase(self, release: str, phase: str, patience: float = PATIENCE) -> None:
        """Wait for a phase of a release's status."""
        self.until(
            f"{release} is {phase}", lambda: self.status(release).get("phase") == phase, patience
        )

    def pods(self, node: str = "") -> list[Body]:
        """Agent pods of the channel: those bound to one node, or all."""
        found = self.machines.pods_on[node].values() if node else self.server.all("pods")
        return [
            pod
            for pod in found
            if (pod["metadata"].get("labels") or {}).get(CHANNEL_LABEL) == CHANNEL
        ]

    def agents(self) -> dict[str, str]:
        """The content that a Ready agent runs on each node: node → digest."""
        running = {}
        for pod in self.pods():
            node = pod["spec"].get("nodeName")
            if node and is_ready(pod) and "deletionTimestamp" not in pod["metadata"]:
                machine = self.machines.machines.get(node)
                if machine is not None and machine.alive:
                    running[node] = content_of(pod)
        return running

    def everywhere(self, content: str) -> bool:
        """Whether exactly the living machines run this content."""
        alive = {m.name for m in self.machines.machines.values() if m.alive}
        return self.agents() == dict.fromkeys(alive, digest(content))

    def daemon_sets(self) -> list[Body]:
        """Those of the channel, and whatever is no channel's."""
        found = self.server.all("daemonsets")
        label = [(b["metadata"].get("labels") or {}).get(CHANNEL_LABEL, CHANNEL) for b in found]
        return [b for b, channel in zip(found, label, strict=True) if channel == CHANNEL]

    def daemon_set_of(self, attempt: str) -> Body | None:
        """The DaemonSet of an attempt."""
        found = (
            body
            for body in self.server.all("daemonsets")
            if body["metadata"]["labels"].get(ATTEMPT_LABEL) == attempt
        )
        return next(found, None)

    def targets(self, attempt: str) -> list[str]:
        """How a revision's DaemonSet is targeted, see `rules_of`."""
        found = self.daemon_set_of(attempt)
        return rules_of(found, self.key) if found else ["gone"]

    def tail(self, lines: int = 40) -> str:
        """The end of the log, for a failure's message."""
        return "\n".join(self.log[-lines:])

    # Inside

    def _child(self) -> random.Random:
        """A generator of one actor's own, so that one actor's draws do not shift another's."""
        return random.Random(self.rng.getrandbits(64))  # noqa: S311

    def _do(self, deed: Callable[[], Any]) -> Any:
        async def inside() -> Any:
            return deed()

        return self.loop.run_until_complete(inside())

    def _start_all(self) -> None:
        for operator in self.operators:
            operator.start()

    def _stop_all(self) -> None:
        for operator in self.operators:
            operator.kill()
        self.controller.close()

    def _complain(self) -> None:
        """A broken invariant, or an error that no part of the operator foresaw, fails the test."""
        if self.broken:
            raise self.broken[0]
        for operator in self.operators:
            for error in operator.errors:
                raise AssertionError(
                    f"{operator.name} died (seed {self.seed})\n{self.tail()}"
                ) from error

    def _apply(self, kind: str, name: str, spec: Mapping[str, Any]) -> None:
        plural = PLURALS[kind]
        old = self.server.find(plural, name, SPACE)
        if old is not None:
            self.act(lambda: self.server.update("people", plural, old, spec=dict(spec)))
            return
        body = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": kind,
            "metadata": {"name": name, "namespace": SPACE},
            "spec": dict(spec),
        }
        self.act(lambda: self.server.add("people", plural, body))

    def _ours(self, kind: str, name: str) -> Body | None:
        return self.server.find(PLURALS[f"SecurityContent{kind}"], name, SPACE)

    def _watch(self, change: Change) -> None:
        line = describe(change, self.key)
        if line:
            self.log.append(f"{self.now:8.1f}  {change.actor}: {line}")
        for watcher in self.watchers:
            try:
                watcher(self, change)
            except Exception as error:  # noqa: BLE001 (an error in a check is no pass)
                self.broken.append(error)


class _Leases(MadeUp):
    """Node leases, made up at the moment when they are listed: 5,000 machines renew for nothing."""

    def __init__(self, machines: Machines) -> None:
        super().__init__()
        self._machines = machines

    def listing(self, namespace: str) -> list[Body]:
        """One of each machine, or the operator's own."""
        if namespace == "kube-node-lease":
            return list(self._machines.leases().values())
        return [body for (space, _), body in self.items() if namespace in ("", space)]


def channel_spec(**spec: Any) -> dict[str, Any]:
    """A channel in two waves (a canary pool, then all) at a quick pace; `spec` replaces fields."""
    image = f"registry.example/agent@{digest('agent')}"
    pools = [{"name": p, "selector": {"matchLabels": {"pool": p}}} for p in ("canary", "workers")]
    rollout: dict[str, Any] = {
        "maxUnavailable": "50%",
        "settle": "5s",
        "soak": "30s",
        "progressDeadline": "2m",
        "coolDown": "0s",  # most stories mean the next release to start at once
    }
    base = {
        "agent": {
            "template": {
                "spec": {
                    "containers": [{"name": "agent", "image": image}],
                    "volumes": [{"name": "content", "image": {"reference": "set-by-wavegate"}}],
                }
            }
        },
        "content": {"imageVolume": {"volumeName": "content"}},
        "pools": pools,
        "waves": [
            {"name": "canary", "pools": ["canary"], "upTo": "100%"},
            {"name": "all", "upTo": "100%"},
        ],
        "rollout": {**rollout, **spec.pop("rollout", {})},
    }
    return base | spec


def another_agent(name: str) -> dict[str, Any]:
    """`spec.agent` of a channel for another agent than the usual one."""
    agent: dict[str, Any] = channel_spec()["agent"]
    [container] = agent["template"]["spec"]["containers"]
    container["image"] = f"registry.example/{name}@{digest(name)}"
    return agent


def is_ready(pod: Body) -> bool:
    """Whether a pod's Ready condition is True."""
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def content_of(pod: Body) -> str:
    """The digest of a pod's content, `sha256:…`."""
    found = (r.partition("@")[2] for r in images(pod) if "/content@" in r)
    return next(found, "")
