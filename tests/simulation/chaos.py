"""A simulation to which anything happens; at its end the weather clears, and it must come to rest.

Deeds (deeds.py) are drawn by Hypothesis (test_random.py) or by a seeded walk (soak.py). The guard
watches every change; `rest` asks for the end that each story must have, whatever happened in it.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Self

from simulation import carried
from simulation.apiserver import Body, Change
from simulation.bodies import attempt_of, is_ours, record_in
from simulation.cluster import CHANNEL, SPACE, Simulation, content_of, is_ready
from simulation.critical import serve
from simulation.invariants import Guard
from simulation.line import Weather
from simulation.machines import images
from simulation.operators import SimOperator
from simulation.prefetches import pulls
from wavegate.api import PLURALS
from wavegate.rollout.attempt import Revision
from wavegate.rollout.names import CONTROL_PLANE_LABEL, HANDS_OFF_ANNOTATION, record_name
from wavegate.rollout.record import Record

CALM_SECONDS = 420.0
"""At rest nothing changes for so long: more than `holdTimeout`, and each deadline, of the channel
below, so that nothing but a person is waited for."""
PATIENCE = 4 * 3600.0
"""Virtual seconds until it must have come to rest."""
IDLE_SECONDS = 120.0
HARM_ENDS = 1800.0
"""So long after the end of all deeds no content does harm any more."""

CHECK = {"name": "oops", "query": "oops{node=~'$nodes'}", "max": 0, "interval": "5s"}
SPEC = {
    "rollout": {
        "holdTimeout": "5m",
        "progressDeadline": "2m",
        "coolDown": "2m",
        "maxSeverity": "Urgent",
        "breaker": {"reverts": 2, "within": "20m"},
    },
    "prometheus": {"url": "http://prometheus.example"},
    "checks": [CHECK],
}

POOLS = [
    {"name": name, "selector": {"matchLabels": {"pool": name}}, "critical": name == "till"}
    for name in ("canary", "workers", "till")
]
"""Those of a channel with the default plan."""

OTHER = {"kernelVersion": "6.18.1"}
"""A kind of machine that no canary is."""

CHANNEL_KIND = "SecurityContentChannel"
NEIGHBOUR = "models"
"""A channel for another agent on the same nodes; some stories have one."""

Deed = Callable[["Chaos", int], None]


class Chaos:
    """See the module. A context manager."""

    def __init__(
        self,
        seed: int,
        *,
        checks: bool = True,
        carrier: bool = False,
        drill: bool | None = None,
        prefetch: bool | None = None,
        default: bool | None = None,
    ) -> None:
        self.sim = Simulation(seed, operators=2)
        self.guard = Guard()
        self.spec = SPEC if checks else {"rollout": SPEC["rollout"]}
        asked = {}
        if seed % 3 == 0 if drill is None else drill:
            asked["drill"] = "Always"
        if seed % 2 == 0 if prefetch is None else prefetch:
            asked["prefetch"] = "NextWave"
        self.spec = self.spec | {"rollout": SPEC["rollout"] | asked}
        self.default = seed % 5 == 0 if default is None else default
        """The channel has the default plan, and there are a small pool and a critical one."""
        if self.default:
            self.spec = self.spec | {"waves": [], "pools": POOLS}
        self.carrier = carrier
        """Our pods only carry the content; an agent of someone else loads it."""
        if carrier:
            self.spec = self.spec | carried.SELECTED
        self.done: list[str] = []
        """The deeds so far, as `name(pick)`."""
        self.counted: dict[str, int] = defaultdict(int)
        self.incidents: set[tuple[str, str]] = set()
        """What went wrong: attempt and reason."""
        self.changes = 0
        self.absent: dict[str, float] = {}
        """By name of an operator: until when nobody starts it again."""
        self.lost_sets: dict[str, Body] = {}
        """DaemonSets of ours that a person deleted, by attempt."""
        self.harmful: set[str] = set()
        """Digests of contents that do harm, also after they stopped to."""
        self.restored = False
        """Something was restored from a backup, or the record was deleted."""
        self.writes: list[str] = []
        """What operators wrote, leases left out."""

    def __enter__(self) -> Self:
        for operator in self.sim.operators:
            operator.weather = Weather()
        self.sim.__enter__()
        self.sim.watchers.extend((self.guard, self._note))
        self.sim.add_nodes("canary", 2)
        self.sim.add_nodes("workers", 1)
        self.sim.add_nodes("workers", 2, **OTHER)
        self.sim.add_nodes("workers", 1, labels={CONTROL_PLANE_LABEL: ""})
        if self.default:
            self.sim.add_nodes("workers", 3)
            self.sim.add_nodes("till", 2)
        serve(self.sim, "kube-system/kube-dns", ["workers-1", "workers-2"])
        if self.carrier:
            carried.install(self.sim)
        self.sim.apply_channel(**_copy(self.spec))
        return self

    def __exit__(self, *error: object) -> None:
        self.sim.broken.clear()  # told already
        self.sim.__exit__(None, None, None)

    def do(self, deed: Deed, pick: int) -> None:
        """Do one deed; a moment goes by."""
        name = deed.__name__
        self.done.append(f"{name}({pick})")
        self.counted[name] += 1
        self.sim.log.append(f"{self.sim.now:8.1f}  ---- {name}({pick})")
        deed(self, pick)
        self.wait(0.05)

    def wait(self, seconds: float) -> None:
        """Let time go by. Processes that ended are started again."""
        ends = self.sim.now + seconds
        while self.sim.now < ends - 1e-3:
            for operator in self.sim.operators:
                if not operator.running and self.sim.now >= self.absent.get(operator.name, 0.0):
                    self.sim.act(operator.start)
            self.sim.run(min(2.0, ends - self.sim.now))

    # What is there

    @property
    def leader(self) -> SimOperator | None:
        """An operator that leads."""
        return next((o for o in self.sim.operators if o.leader is not None), None)

    def nodes(self) -> list[str]:
        """Names of all Nodes."""
        return sorted(name for _, name in self.sim.server.objects["nodes"])

    def living(self) -> list[str]:
        """Names of Nodes whose machine runs."""
        machines = self.sim.machines.machines
        return [name for name in self.nodes() if machines[name].alive]

    def releases(self) -> list[str]:
        """Names of all releases of the channel, oldest first."""
        every = self.sim.server.all(PLURALS["SecurityContentRelease"])
        return [body["metadata"]["name"] for body in every if body["spec"]["channel"] == CHANNEL]

    def sets(self) -> list[Body]:
        """The DaemonSets of ours."""
        return [body for body in self.sim.daemon_sets() if is_ours(body)]

    def channel(self) -> Body | None:
        """The channel."""
        return self.sim.server.find(PLURALS[CHANNEL_KIND], CHANNEL, SPACE)

    def _note(self, _sim: Simulation, change: Change) -> None:
        self.changes += 1
        if change.actor.startswith("operator") and change.plural != "leases":
            new, old = ((b or {}).get("status") or {} for b in (change.after, change.before))
            status = {k: v for k, v in new.items() if old.get(k) != v}
            self.writes.append(f"{change.actor}: {change.plural} {change.key[1]} {status}")
        record = record_in(change)
        rollout = record.rollout if record is not None else None
        if rollout is not None and rollout.incident is not None:
            self.incidents.add((rollout.attempt, rollout.incident.reason))

    # The end

    def rest(self) -> None:
        """The weather clears, machines run, people stop: it comes to rest, each node protected."""
        self.sim.log.append(f"{self.sim.now:8.1f}  ---- rest")
        self._clear()
        ends, calm, last = self.sim.now + PATIENCE, self.sim.now, self._picture()
        harmless = self.sim.now + HARM_ENDS
        while self.sim.now - calm < CALM_SECONDS or self._neighbour() or self._is_kept_waiting():
            if self.sim.now > ends:
                what = f"it never comes to rest {self._neighbour()}"
                raise AssertionError(f"{what}\n{self.story()}")
            self.harmful |= set(self.sim.machines.harms)
            if self.sim.now > harmless:
                self.sim.machines.harms.clear()
            self._revive()
            self._find_state()
            self.wait(20.0)
            now = self._picture()
            if now != last:
                calm, last = self.sim.now, now
        self.writes.clear()
        self.wait(IDLE_SECONDS)
        assert not self.writes, f"a quiet cluster is written to: {self.writes}\n{self.story()}"
        problems = [*self._unprotected(), *self._unfinished(), *self._left_behind()]
        assert not problems, "\n".join([*problems, self.story()])

    def story(self) -> str:
        """All deeds and the end of the log, for a failure's message."""
        return f"deeds: {' '.join(self.done)}\n{self.sim.tail(60)}"

    def _clear(self) -> None:
        sim = self.sim
        self.absent.clear()
        for operator in sim.operators:
            operator.weather, operator.dies_after = Weather(), None
            operator.believes = False
            sim.act(operator.kill)
        self.wait(1.0)
        self.guard.two_leaders = False
        self.annotate(HANDS_OFF_ANNOTATION, None)
        sim.prometheus.values.clear()
        sim.prometheus.error, sim.prometheus.default = "", 0.0
        sim.machines.unpullable.clear()
        for name in self.nodes():
            sim.machines.machines[name].silent = False
            node = sim.server.find("nodes", name)
            if node is not None:
                taints = [t for t in node["spec"].get("taints") or [] if t["key"] != "by-people"]
                spec = {**node["spec"], "taints": taints, "unschedulable": False}
                sim.act(lambda n=node, s=spec: sim.server.update("people", "nodes", n, spec=s))
        stable = sim.record.stable
        if stable is not None and sim.daemon_set_of(stable.attempt) is None:
            self.restore_set(stable.attempt)

    def restore_set(self, attempt: str) -> None:
        """A person restores a DaemonSet that a person deleted."""
        body = self.lost_sets.get(attempt)
        if body is None or self.sim.daemon_set_of(attempt) is not None:
            return
        self.recreate("daemonsets", body)

    def recreate(self, plural: str, body: Body) -> None:
        """A person creates an object anew, as it was."""
        dropped = ("uid", "resourceVersion", "generation", "creationTimestamp")
        metadata = {k: v for k, v in body["metadata"].items() if k not in dropped}
        new = {k: v for k, v in body.items() if k != "status"} | {"metadata": metadata}
        self.sim.act(lambda: self.sim.server.add("people", plural, new))

    def annotate(self, name: str, value: str | None) -> None:
        """A person annotates the channel; None takes the annotation away."""
        channel = self.channel()
        if channel is None:
            return
        kept = {k: v for k, v in channel["metadata"].get("annotations", {}).items() if k != name}
        annotations = kept if value is None else {**kept, name: value}
        metadata = {**channel["metadata"], "annotations": annotations}
        plural = PLURALS[CHANNEL_KIND]
        self.sim.act(lambda: self.sim.server.update("people", plural, channel, metadata=metadata))

    def _find_state(self) -> None:
        """What the runbook says to do about lost state: one revision for all nodes, then suspend
        and let go.
        """
        if not self.restored and self.sim.record.lost is None:
            return
        channel, lost = self.channel(), self.sim.record.lost
        if channel is None:
            self.sim.apply_channel(**_copy(self.spec))
        elif lost is not None and channel["spec"].get("suspend", False) is lost.taken_over:
            self.sim.patch("Channel", CHANNEL, suspend=not lost.taken_over)
        elif self._says("StateLost"):
            stable = self.sim.record.stable
            gone = stable is not None and self.sim.daemon_set_of(stable.attempt) is None
            (self._delete_record if gone else self._point_by_hand)()

    def _delete_record(self) -> None:
        record = self.sim.server.find("configmaps", record_name(CHANNEL), SPACE)
        if record is not None:
            self.sim.act(lambda: self.sim.server.remove("people", "configmaps", record))

    def _says(self, reason: str) -> bool:
        conditions = self.sim.channel_status().get("conditions") or []
        return any(condition["reason"] == reason for condition in conditions)

    def _point_by_hand(self) -> None:
        """The revision with the most agents is for all nodes, the others for none."""
        sets = {attempt_of(body): body for body in self.sets()}
        agents = [attempt_of(pod) for pod in self.sim.pods() if is_ready(pod)]
        if not sets:  # nothing runs: begin anew
            self._delete_record()
            return
        most = max(sets, key=lambda attempt: (agents.count(attempt), attempt))
        none = [{"key": self.sim.key, "operator": o} for o in ("Exists", "DoesNotExist")]
        for attempt in sets:
            self.sim.retarget(attempt, [] if attempt == most else none)

    def _revive(self) -> None:
        for pool in ("canary", "workers", *(["till"] if self.default else [])):
            if not any(_pool(node) == pool for node in self.sim.server.all("nodes")):
                self.sim.add_nodes(pool, 1)
        for name in self.nodes():
            if not self.sim.machines.machines[name].alive:
                self.sim.boot(name)
            if not all(is_ready(pod) for pod in carried.pods(self.sim, name)):
                carried.recover(self.sim, name)  # a back-off is over some time

    def _picture(self) -> object:
        """All that must stand still at rest."""
        server = self.sim.server
        sets = {
            b["metadata"]["name"]: b["metadata"]["generation"] for b in server.all("daemonsets")
        }
        pods = {p["metadata"]["uid"]: is_ready(p) for p in self.sim.pods()}
        nodes = {n["metadata"]["name"]: n["metadata"].get("labels") for n in server.all("nodes")}
        machines = sorted(self.sim.machines.machines.items())
        boots = [(name, machine.alive, machine.boots) for name, machine in machines]
        records = self.sim.record, self.sim.record_of(NEIGHBOUR)
        return *records, sets, pods, nodes, boots

    def _unprotected(self) -> list[str]:
        """Nodes that do not run exactly one Ready agent with the content that they should."""
        record, found = self.sim.record, []
        for name in self.living():
            pods = [p for p in self.sim.pods() if p["spec"].get("nodeName") == name]
            running = [(content_of(p), is_ready(p)) for p in pods]
            wanted = _wanted(record, self.sim.server.find("nodes", name), self.sim.key)
            if running == [(wanted, False)] and self._is_known_bad(pods[0]):
                continue
            if running == [(_promoted(record), True)]:
                continue  # its DaemonSet is for all nodes already, so who joins gets it at once
            if running != ([(wanted, True)] if wanted else []):
                found.append(f"{name} runs {running}, not {wanted}")
        return found

    def _left_behind(self) -> list[str]:
        """Pods that pull images while nothing soaks, or while a person is asked."""
        pods = [p["metadata"]["name"] for p in self.sim.server.all("pods") if pulls(p)]
        lost = self._says("StateLost") or self.channel() is None
        return [] if lost or not pods else [f"nothing soaks, and these pull: {pods}"]

    def _is_known_bad(self, pod: Body) -> bool:
        """Whether what it runs crashes some machines: after one (no proof in a bake), after a
        backup, or while a person is asked (`onFailure: Pause`). Containers do not recover here.
        """
        rollout = self.sim.record.rollout
        moving = rollout is not None and not rollout.paused and attempt_of(pod) == rollout.attempt
        found = {reference.partition("@")[2] for reference in images(pod)}
        return bool(found & self.harmful) and not moving

    def _unfinished(self) -> list[str]:
        """A rollout that is under way and waits for no person."""
        rollout, channel = self.sim.record.rollout, self.channel()
        if rollout is None:
            if channel is None or channel["spec"].get("suspend"):
                return []
            if self._says("BreakerOpen") or self._says("StableSuspect"):
                return []
            if self._says("AgentTemplateChanged"):
                return ["another template waits, and for nobody"]
            final = ("Completed", "Reverted", "Superseded", "Rejected")
            phases = {name: self.sim.status(name).get("phase") for name in self.releases()}
            return [
                f"{name} is {phase}: {self.sim.status(name).get('message')}"
                for name, phase in phases.items()
                if phase not in final and not self._suspended(name)
            ]
        candidate = rollout.candidate
        status = self._status_of(candidate)
        if status.get("phase") == "Paused" or status.get("reason") == "AwaitingApproval":
            return []
        return [f"{candidate.title} is still {rollout.phase}, and waits for nobody"]

    def _neighbour(self) -> str:
        """What the other channel still rolls out, "" when nothing, or when a person is asked (none
        answers). It may wait for a wave of the first that is paused, but not for ever.
        """
        rollout = self.sim.record_of(NEIGHBOUR).rollout
        if rollout is None:
            return ""
        status = self.sim.status(rollout.candidate.release)
        if status.get("phase") == "Paused" or status.get("reason") == "AwaitingApproval":
            return ""
        return f"{rollout.candidate.release} is still {rollout.phase}: {status.get('message')}"

    def _is_kept_waiting(self) -> bool:
        """Whether it waits for the other channel, in which a person may be asked; not for ever."""
        rollout = self.sim.record.rollout
        status = self._status_of(rollout.candidate) if rollout is not None else {}
        return status.get("reason") == "NodeBusy"

    def _status_of(self, candidate: Revision) -> Mapping[str, Any]:
        """What is told of what rolls out."""
        agent = self.sim.channel_status().get("agentRollout") or {}
        return agent if candidate.is_agent else self.sim.status(candidate.release)

    def _suspended(self, release: str) -> bool:
        body = self.sim.server.find(PLURALS["SecurityContentRelease"], release, SPACE)
        return bool(body and body["spec"].get("suspend"))


def _wanted(record: Record, node: Body | None, key: str) -> str:
    """The content that a node should run: the candidate's where it was moved, else stable's."""
    rollout, labels = record.rollout, (node or {"metadata": {}})["metadata"].get("labels") or {}
    if rollout is not None and labels.get(key) == rollout.attempt:
        return rollout.candidate.digest
    return record.stable.digest if record.stable else ""


def _promoted(record: Record) -> str:
    """The content that becomes stable, once all nodes carry it; "" while none does."""
    rollout = record.rollout
    return rollout.candidate.digest if rollout is not None and rollout.promoting else ""


def _pool(node: Body) -> str:
    return str((node["metadata"].get("labels") or {}).get("pool", ""))


def _copy(spec: dict[str, object]) -> dict[str, object]:
    return {k: dict(v) if isinstance(v, dict) else v for k, v in spec.items()}
