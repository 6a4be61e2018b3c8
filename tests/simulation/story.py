"""A simulation that is told, with what people and machines do in it as words of the story.

All actors take even times, and all kubelets renew their leases at the same moment, so that a story
changes only when what happens in it changes.
"""

from collections.abc import Callable, Iterable
from typing import Any, Self

from simulation import carried
from simulation.apiserver import Body, Change
from simulation.bodies import side
from simulation.cluster import Simulation, is_ready, rules_of
from simulation.invariants import Guard
from simulation.line import LOST_BEFORE, Weather
from simulation.machines import Harm, Speeds
from simulation.reporting import Reporter
from simulation.telling import Teller, targets
from support.builders import digest, layers
from wavegate.api import Phase, WaveState
from wavegate.rollout.names import ATTEMPT_LABEL

RESTART_SECONDS = 10.0
"""A process that has ended is looked for, and started again, this often."""


class Story(Simulation):
    """See the module. It begins when `before` runs on all nodes; empty: no agent runs yet."""

    def __init__(self, *, before: str = "a", canaries: int = 1, workers: int = 4, **more: Any):
        self._other_agent = more.pop("other_agent", False)
        spec, reporting = more.pop("spec", {}), more.pop("reporting", False)
        even = Speeds(start=(1.5, 1.5), end=(1.0, 1.0), bind=(0.1, 0.1))
        calm = Weather(request=(0.005, 0.005), watch=(0.05, 0.05))
        super().__init__(7, weather=calm, speeds=even, **more)
        self.controller.delay = (0.1, 0.1)
        self.teller, self.guard = Teller(), Guard()
        self.moves: list[str] = []
        """Nodes in the order in which the operator gave them to a candidate."""
        self.watchers += [self.guard, self.teller, self._note_move]
        self._before, self._spec = before, spec
        self.reporter = Reporter()
        if reporting:
            self.machines.harms[""] = self.reporter  # with any content
        self._down: set[int] = set()
        self._pools = {"canary": canaries, "workers": workers}

    def __enter__(self) -> Self:
        super().__enter__()
        self.act(self._restart)
        for pool, count in self._pools.items():
            self.add_nodes(pool, count)
        if not self._before:
            self.teller.begin(self)
            return self
        if self._other_agent:
            carried.install(self)
        self.apply_channel(**self._spec)
        self.publish(self._before)
        self.until_phase(self._before, "Completed")
        self.run(10 - self.now % 10)
        self.moves.clear()
        self.teller.begin(self)
        everyone = " and ".join(f"{count} {pool}" for pool, count in self._pools.items() if count)
        self.say("given", f"{everyone}, all with {self._before}")
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._end()
        self.teller.muted = True
        super().__exit__()

    def say(self, who: str, what: str, nodes: Iterable[str] = ()) -> None:
        """Add a line to the story."""
        self.teller.say(self, who, what, nodes)

    def _end(self) -> None:
        """Say which agent runs where, in the end."""
        content = {digest(name): name for name in self.teller.contents.values()}
        running = self.agents()
        for name in sorted({content.get(found, "?") for found in running.values()}):
            nodes = [n for n in running if content.get(running[n], "?") == name]
            everywhere = len(nodes) == len(self.machines.machines)
            self.say("in the end", f"{'all nodes run' if everywhere else '{} run'} {name}", nodes)
        gone = [n for n in self._present() if n not in running]
        if gone:
            self.say("in the end", "no agent runs on {}", gone)
        record = self.record
        stable = f"stable is {record.stable.release if record.stable else 'nothing'}"
        blocked = [content.get(block.digest, "?") for block in record.blocked]
        self.say("in the end", "; ".join([stable, *(f"blocked is {name}" for name in blocked)]))

    def _present(self) -> list[str]:
        return [n for n in self.machines.machines if self.server.find("nodes", n) is not None]

    # Machines

    def add_nodes(self, pool: str, count: int, prefix: str = "", **more: Any) -> list[str]:
        names = super().add_nodes(pool, count, prefix, **more)
        for name in names:
            self.machines.machines[name].beat = 0.0
        if not self.teller.muted:
            self.say("cloud", "{}: joined", names)
        return names

    def crash(self, *nodes: str) -> None:
        self.say("machine", "{}: stopped", nodes)
        for node in nodes:
            super().crash(node)

    def boot(self, *nodes: str) -> None:
        self.say("machine", "{}: started", nodes)
        for node in nodes:
            super().boot(node)
            self.machines.machines[node].beat = 0.0

    def remove_node(self, node: str) -> None:
        self.say("cloud", "{}: removed", [node])
        super().remove_node(node)

    def replace_node(self, node: str) -> None:
        """Another machine joins under the name of one that was removed."""
        self.say("cloud", "{}: another machine joined under this name", [node])
        self.act(lambda: self.machines.add(node, {"pool": node.rpartition("-")[0]}))

    def reboot(self, node: str) -> None:
        """A reboot so quick that nobody sees the node NotReady."""
        self.say("machine", "{}: rebooted within seconds", [node])
        super().crash(node)
        super().boot(node)

    def reboot_in_parts(self, node: str, late: float) -> None:
        """The same; the kubelet tells of its pods, and so many seconds later of the node."""
        self.say("machine", f"{{}}: rebooted; tells its bootID {late:g} s after its pods", [node])
        super().crash(node)
        self.act(lambda: self.machines.boot(node, late))
        self.machines.machines[node].beat = 0.0

    def restart_agent(self, node: str) -> None:
        """Its container ends, once."""
        self.say("machine", "{}: its agent ended, and was started anew", [node])
        [pod] = self.pods(node)
        self.act(lambda: self.machines.restart_at_once(node, pod))

    def cut_off(self, *nodes: str) -> None:
        """Nothing is heard of these machines any more; on them all goes on."""
        self.say("machine", "{}: their network is gone", nodes)
        for node in nodes:
            super().crash(node)

    def reach(self, *nodes: str) -> None:
        """Their network is back; nothing was started anew."""
        self.say("machine", "{}: their network is back", nodes)
        for node in nodes:
            self.act(lambda node=node: self.machines.reappear(node))

    def deafen(self, node: str) -> None:
        """This machine reaches no registry any more."""
        self.say("machine", "{}: reaches no registry", [node])
        self.machines.unreachable.add(node)

    def hear(self, node: str) -> None:
        """It reaches the registry again."""
        self.say("machine", "{}: reaches the registry again", [node])
        self.machines.unreachable.discard(node)

    def bring(self, content: str, what: str, deed: Harm) -> None:
        """Content that does harm; `what` says which."""
        self.say("given", f"{content} {what}")
        self.harm(content, deed)

    def condition(self, node: str, kind: str) -> None:
        """The Node Problem Detector reports a problem of the machine."""
        self.say("problem detector", f"{{}}: {kind}", [node])
        body = self.server.find("nodes", node)
        assert body is not None
        conditions = [*body["status"]["conditions"], {"type": kind, "status": "True"}]
        status = {**body["status"], "conditions": conditions}
        self.act(lambda: self.server.update("problem detector", "nodes", body, status=status))

    # People

    def publish(self, name: str, content: str = "", **spec: Any) -> str:
        self.teller.contents[digest(content or name)] = content or name
        what = f"with the content of {content}" if content else ""
        if "loaded" in spec:
            what = f"{what} with loadedDigest {spec['loaded']}".strip()
        if "layers" in spec:
            self.teller.layers |= dict(zip(layers(*spec["layers"]), spec["layers"], strict=True))
            what = f"{what} with layers {', '.join(spec['layers'])}".strip()
        self.say("people", f"publish release {name} {what}".strip())
        return super().publish(name, content, **spec)

    def people(self, what: str, deed: Callable[[], Any], nodes: Iterable[str] = ()) -> None:
        """People do something, told in these words."""
        self.say("people", what, nodes)
        deed()

    def suspend(self, kind: str, name: str, *, on: bool) -> None:
        """Set `spec.suspend` of the channel or a release."""
        what = f"set suspend of {kind.lower()} {name} to {str(on).lower()}"
        self.people(what, lambda: self.patch(kind, name, suspend=on))

    def edit_set(self, release: str, rules: list[dict[str, Any]]) -> None:
        """Someone points the DaemonSet of a release elsewhere, by kubectl edit."""
        attempt = self.attempt_of(release)
        body = self.daemon_set_of(attempt)
        assert body is not None
        template = body["spec"]["template"]
        terms = {"nodeSelectorTerms": [{"matchExpressions": rules}]}
        node = {"requiredDuringSchedulingIgnoredDuringExecution": terms}
        affinity = {**template["spec"]["affinity"], "nodeAffinity": node}
        if not rules:
            del affinity["nodeAffinity"]
        new = {**template, "spec": {**template["spec"], "affinity": affinity}}
        spec = {**body["spec"], "template": new}
        where = targets(rules_of({"spec": spec}, self.key))
        self.say("people", f"point {release}'s DaemonSet at {where}")
        self.act(lambda: self.server.update("people", "daemonsets", body, spec=spec))

    def set_node(self, node: str, what: str, **spec: Any) -> None:
        """Someone changes a node's spec: cordon, taints."""
        body = self.server.find("nodes", node)
        assert body is not None
        changed = {**body["spec"], **spec}
        deed = lambda: self.server.update("people", "nodes", body, spec=changed)  # noqa: E731
        self.people(what, lambda: self.act(deed), [node])

    # Operators

    def kill(self, number: int = 1) -> None:
        """An operator process dies, and stays down until `start`."""
        self.say("machine", f"the process of operator {number} is killed")
        self._down.add(number)
        self.act(self.operators[number - 1].kill)

    def start(self, number: int = 1) -> None:
        """It starts again, with nothing in its memory."""
        self._down.discard(number)
        self.say("machine", f"the process of operator {number} starts")
        self.act(self.operators[number - 1].start)

    def cut(self) -> None:
        """The apiserver answers nobody any more, and all watches break."""
        self.say("machine", "the apiserver stops answering the operator")
        self.weather.fails = lambda _verb, _path: LOST_BEFORE
        self.act(self.server.break_watches)

    def blind(self) -> None:
        """All watches break, and no list is answered; the lease is renewed all the same."""
        self.say("machine", "all watches of the operator break, and no list is answered")
        self.weather.fails = lambda verb, path: (
            503 if verb == "GET" and "leases" not in path else None
        )
        self.act(self.server.break_watches)

    def mend(self) -> None:
        """It answers again."""
        self.say("machine", "the apiserver answers again")
        self.weather.fails = lambda _verb, _path: None

    def _restart(self) -> None:
        """As a kubelet: a process that has ended by itself is started again."""
        for number, operator in enumerate(self.operators, 1):
            if not operator.running and number not in self._down:
                self.say("machine", f"the process of operator {number} had ended and is started")
                operator.start()
        self.loop.call_later(RESTART_SECONDS, self._restart)

    # What is seen

    @staticmethod
    def digest_of(content: str) -> str:
        """The digest of a content that is called so."""
        return digest(content)

    def attempt_of(self, release: str) -> str:
        """The newest attempt id of a release."""
        sets = self.server.all("daemonsets")
        mine = [
            found
            for found in sets
            if (found["metadata"].get("annotations") or {}).get("wavegate.dev/release") == release
        ]
        return str(mine[-1]["metadata"]["labels"][ATTEMPT_LABEL])

    def moved(self, pool: str = "workers") -> list[str]:
        """The nodes of a pool that the running candidate was given to, as they were moved."""
        rollout = self.record.rollout
        side = rollout.attempt if rollout else ""
        order = [n for n in self.moves if n in self._on(side) and n.startswith(pool)]
        return list(dict.fromkeys(order))

    def suspects(self) -> list[str]:
        """The nodes that came to harm alone, in this order."""
        rollout = self.record.rollout
        return [suspect.node for suspect in rollout.suspects] if rollout else []

    def stalled(self) -> bool:
        """Whether a node is known that could not start the running candidate."""
        rollout = self.record.rollout
        return rollout is not None and bool(rollout.stalls)

    def is_promoting(self) -> bool:
        """Whether all waves have passed, and the candidate is to become stable."""
        rollout = self.record.rollout
        return rollout is not None and rollout.promoting

    def unmoved(self, pool: str = "workers") -> list[str]:
        """The nodes of a pool that were not given to the running candidate, by name."""
        rollout = self.record.rollout
        on = self._on(rollout.attempt) if rollout else set()
        return sorted(n for n in self._present() if n not in on and n.startswith(pool))

    def _on(self, attempt: str) -> set[str]:
        nodes = self.server.all("nodes")
        return {n["metadata"]["name"] for n in nodes if side(n, self.key) == attempt}

    def _running(self) -> list[str]:
        """Moved workers on which the candidate is Ready."""
        rollout = self.record.rollout
        attempt = rollout.attempt if rollout else ""
        return [n for n in self.moved() if any(self._runs(p, attempt) for p in self.pods(n))]

    @staticmethod
    def _runs(pod: Body, attempt: str) -> bool:
        return is_ready(pod) and pod["metadata"]["labels"].get(ATTEMPT_LABEL) == attempt

    def _note_move(self, _sim: Simulation, change: Change) -> None:
        if change.plural == "nodes" and change.actor.startswith("operator"):
            self.moves.append(change.key[1])

    def until_moved(self, count: int) -> list[str]:
        """Wait until so many workers carry the candidate and run it; returns them."""
        self.until(f"{count} workers are moved", lambda: len(self._running()) >= count)
        return self._running()

    def until_wave(self, name: str, state: WaveState) -> None:
        """Wait until the current wave is this one, in this state."""

        def there() -> bool:
            rollout = self.record.rollout
            wave = rollout.waves[-1] if rollout and rollout.waves else None
            return wave is not None and (wave.name, wave.state) == (name, state)

        self.until(f"wave {name} is {state}", there)

    def until_ended(self, release: str, phase: Phase, patience: float = 3_600.0) -> None:
        """Wait for the end of a release, and a while longer."""
        self.until_phase(release, phase, patience)
        self.run(20)
