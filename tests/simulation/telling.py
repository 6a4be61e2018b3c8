"""Tells what happens in a simulation to a person: who did what, when, and what status says of it.

Nodes, attempts and contents are called by words that stay the same when something unrelated
changes: `worker B` is the second worker that the story speaks of, `bad's attempt` an attempt id.
What follows from what was told (hand-overs, renewals, syncs) is left out.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from simulation.apiserver import Body, Change
from simulation.bodies import channel_of, is_foreign
from simulation.cluster import CHANNEL, Simulation, rules_of
from simulation.prefetches import pulls
from simulation.stored import stored_in
from support.builders import digest
from wavegate.api import PLURALS, Phase, Reason, WaveState
from wavegate.rollout.attempt import Drill, Rollout, WaveRun
from wavegate.rollout.names import ATTEMPT_LABEL, CANARY_LABEL, LABEL_DOMAIN
from wavegate.rollout.record import Outcome, Record

RELEASES, DECISIONS = (PLURALS[f"SecurityContent{kind}"] for kind in ("Release", "Decision"))
CHANNELS = PLURALS["SecurityContentChannel"]

TOGETHER_SECONDS = 3.0
"""The same thing that happens to several nodes within this is told as one."""
MANY = 4
"""So many nodes are counted, not named."""

PROGRESS = {
    Reason.RolloutStarted,
    Reason.WaveOpened,
    Reason.WaveMoving,
    Reason.WaveSoaking,
    Reason.WaveJudging,
    Reason.WavePassed,
    Reason.Promoting,
}
"""While status gives one of these, the records tell the same, and more exactly."""
BRAKES = ("stopped renewing", "is interrupted", "be pulled ahead", "next wave, not on")
"""What status adds to such a reason, and a person would want to know."""


@dataclass(slots=True)
class Line:
    """One line of a story: seconds since its beginning, who, what, and to which nodes."""

    at: float
    who: str
    what: str
    nodes: list[str] = field(default_factory=list)
    until: float = 0.0


class Teller:
    """A watcher. `told` is what it told so far; nothing while it is `muted`."""

    def __init__(self) -> None:
        self.told: list[Line] = []
        self.muted = True
        self.contents: dict[str, str] = {}
        """What was published: digest → its name."""
        self.layers: dict[str, str] = {}
        """The same of the layers that releases list."""
        self._began = 0.0
        self._attempts: dict[str, str] = {}
        self._letters: dict[str, str] = {}
        self._count: dict[str, int] = defaultdict(int)
        self._said: dict[str, tuple[str, ...]] = {}

    def begin(self, sim: Simulation) -> None:
        """The story begins now."""
        self.muted, self._began = False, sim.now

    def say(self, sim: Simulation, who: str, what: str, nodes: Iterable[str] = ()) -> None:
        """Add a line; `{}` in it stands for the nodes, which are named when it is told."""
        if self.muted:
            return
        now, last = sim.now - self._began, self.told[-1] if self.told else None
        joins = last is not None and (last.who, last.what) == (who, what)
        if last and joins and now - last.until <= TOGETHER_SECONDS:
            last.nodes.extend(nodes)
            last.until = now
            return
        self._settle()
        self.told.append(Line(now, who, what if nodes else self.clean(what), list(nodes), now))

    def text(self) -> list[str]:
        """All lines: time, who, what."""
        self._settle()
        return [f"{clock(line.at):>8}  {line.who:<18} {line.what}".rstrip() for line in self.told]

    def clean(self, text: str) -> str:
        """The text with words in the place of names that a hash made."""
        for content, name in self.contents.items():
            text = text.replace(f"image {content}", f"{name}'s content")
            text = text.replace(content, f"{name}'s content")
        for layer, name in self.layers.items():
            text = text.replace(layer, f"({name})")
        for attempt, name in self._attempts.items():
            text = re.sub(rf"pod {CHANNEL}-{attempt}-\w+", f"a pod of {name}", text)
            text = re.sub(rf"(DaemonSet )?{CHANNEL}-{attempt}", f"{name}'s DaemonSet", text)
            text = text.replace(attempt, f"{name}'s attempt")
        text = re.sub(r"(sha256:)?[0-9a-f]{64}", "a template", text)
        text = re.sub(r"agent [0-9a-f]{12}", "an agent", text)
        text = re.sub(r"\d{4}-\d\d-\d\dT[\d:]+Z", "a time", text)
        return re.sub(r"(?<![\w-])[a-z]+-\d+(?![\w-])", lambda m: self.name(m.group()), text)

    def name(self, node: str) -> str:
        """What a node is called: `worker B`. Other words stay as they are."""
        prefix, _, number = node.rpartition("-")
        if not number.isdigit() or prefix in ("operator", "all", "rest", "last"):
            return node
        if node not in self._letters:
            self._letters[node] = chr(ord("A") + self._count[prefix])
            self._count[prefix] += 1
        return f"{prefix.removesuffix('s')} {self._letters[node]}"

    def nodes(self, names: list[str]) -> str:
        """Some nodes, named when they are few."""
        if len(names) >= MANY:
            return f"{len(names)} nodes"
        called = sorted(self.name(name) for name in names)
        return " and ".join([", ".join(called[:-1]), called[-1]] if len(called) > 1 else called)

    def _settle(self) -> None:
        """The last line is complete: name its nodes."""
        if self.told and self.told[-1].nodes:
            last = self.told[-1]
            last.what, last.nodes = last.what.format(self.nodes(last.nodes)), []

    # What is seen

    def __call__(self, sim: Simulation, change: Change) -> None:
        """Tell of one change, if a reader should know."""
        match change.plural:
            case "configmaps":
                self._record(sim, change)
            case "daemonsets":
                self._set(sim, change)
            case "nodes":
                self._node(sim, change)
            case "pods":
                self._pod(sim, change)
            case "leases":
                self._lease(sim, change)
            case kind if kind in (RELEASES, DECISIONS, CHANNELS):
                self._status(sim, change)

    def _lease(self, sim: Simulation, change: Change) -> None:
        before, after = (_holder(body) for body in (change.before, change.after))
        if after and after != before:
            self.say(sim, operator(change.actor), "leads")

    def _of(self, change: Change) -> str:
        """What a line about another channel than the usual begins with."""
        channel = channel_of(change)
        return f"{channel}: " if channel not in ("", CHANNEL) else ""

    def _record(self, sim: Simulation, change: Change) -> None:
        before, after = (_record_of(body) for body in (change.before, change.after))
        if after is None:
            return
        if after.rollout is not None:
            self._know(after.rollout.attempt, called(after.rollout))
        for what in tell_record(before, after):
            self.say(sim, operator(change.actor), self._of(change) + what)

    def _know(self, attempt: str, release: str) -> None:
        if attempt not in self._attempts:
            again = sum(name.startswith(release) for name in self._attempts.values())
            self._attempts[attempt] = f"{release} ({again + 1})" if again else release

    def _set(self, sim: Simulation, change: Change) -> None:
        old, new = change.before, change.after
        if not change.actor.startswith("operator") or is_foreign(change, CHANNEL, sim.key):
            return
        name = self._attempts.get(_attempt(new or old or {}), "?")
        if new is None:
            self.say(sim, operator(change.actor), f"deletes {name}'s DaemonSet")
        elif old is None or rules_of(old, sim.key) != rules_of(new, sim.key):
            verb = "creates" if old is None else "points"
            where = self.clean(targets(rules_of(new, sim.key)))
            self.say(sim, operator(change.actor), f"{verb} {name}'s DaemonSet at {where}")

    def _node(self, sim: Simulation, change: Change) -> None:
        old, new, name = change.before, change.after, change.key[1]
        if old is None or new is None:
            return
        was_on, is_on = _sides(old), _sides(new)
        side = next((v for k, v in is_on.items() if was_on.get(k) != v), "")
        if is_on != was_on and change.actor.startswith("operator"):
            words = f"gives {{}} to {self._attempts.get(side, '?')}" if side else "takes {} back"
            self.say(sim, operator(change.actor), words, [name])
        was, now = _ready(old), _ready(new)
        if was != now:
            who = "node controller" if now != "True" else "kubelet"
            self.say(sim, who, "{}: " + ("Ready" if now == "True" else "NotReady"), [name])

    def _pod(self, sim: Simulation, change: Change) -> None:
        pod, rollout = change.after or change.before or {}, sim.record.rollout
        attempt = _attempt(pod)
        deleted = change.after is None or "deletionTimestamp" in change.after["metadata"]
        if pulls(pod):
            self._pull(sim, change, pod, deleted=deleted)
            return
        if change.actor.startswith("operator") and deleted:
            what = f"deletes pods of {self._attempts.get(attempt, '?')}"
            self.say(sim, operator(change.actor), what)
        fenced = rollout is not None and rollout.phase is Phase.Reverting
        if fenced and change.before is None and rollout and attempt == rollout.attempt:
            name = self._attempts[attempt]
            what = f"a sync that began before the fence makes one more pod of {name}"
            self.say(sim, "controller", what)

    def _pull(self, sim: Simulation, change: Change, pod: Body, *, deleted: bool) -> None:
        """Images that are pulled ahead: on which nodes, since when they are there, until when."""
        who, node = operator(change.actor), pod["spec"]["nodeName"]
        images = f"images of {self._attempts.get(_attempt(pod), '?')}"
        if change.before is None:
            self.say(sim, who, f"has {images} pulled ahead on {{}}", [node])
        elif deleted and change.actor.startswith("operator"):
            self.say(sim, who, f"ends the pulling of {images}")
        elif pod["status"]["phase"] == "Failed" and change.before["status"]["phase"] != "Failed":
            self.say(sim, "kubelet", f"{{}}: has {images}", [node])

    def _status(self, sim: Simulation, change: Change) -> None:
        """Status, when it says something else than before that the records do not tell."""
        status = (change.after or {}).get("status") or {}
        kind, name = change.plural, change.key[1]
        if kind == CHANNELS:
            ready = next((c for c in status.get("conditions") or []), None)
            said = ("not ready", ready["reason"]) if ready and ready["status"] != "True" else ()
            message = ready["message"] if ready else ""
        else:
            said, message = notable(status), status.get("message", "")
        if not status or said == self._said.get(f"{kind}/{name}", ()):
            return
        self._said[f"{kind}/{name}"] = said
        channel = "channel" if name == CHANNEL else f"channel {name}"
        label = {RELEASES: f"status of {name}", DECISIONS: name}.get(kind, channel)
        if not said:
            self.say(sim, label, "ready")
        elif said[1:] == ("",):
            self.say(sim, label, said[0])
        else:
            self.say(sim, label, f"{said[0]}, {said[1]}: {short(message)}")


def _sides(node: Body) -> dict[str, str]:
    """All that labels of channels say of a node."""
    labels = node["metadata"]["labels"]
    return {k: v for k, v in labels.items() if k.startswith(LABEL_DOMAIN) and k != CANARY_LABEL}


def notable(status: Body) -> tuple[str, ...]:
    """Phase and reason; the reason is empty while it only says how far the release is."""
    reason, message = status.get("reason", ""), status.get("message", "")
    if not status.get("phase"):
        return ()
    brake = next((brake for brake in BRAKES if brake in message), "")
    if reason in PROGRESS and status["phase"] == Phase.Rolling:
        return (status["phase"], reason, brake) if brake else (status["phase"], "")
    return (status["phase"], reason)


def short(message: str) -> str:
    """A message without what ticks, and without the names of many."""
    message = re.sub(r", on \d+ nodes?", "", message)
    message = re.sub(r"; waiting for .*", "", message)
    message = re.sub(r"; the last were [^)]*", "", message)
    return re.sub(r" \((and \d+ more nodes)\)", r" (and more nodes)", message)


def targets(rules: list[str]) -> str:
    """Where a DaemonSet is pointed, in words."""
    if not rules:
        return "all nodes"
    if rules == ["Exists", "DoesNotExist"]:
        return "no node"
    verb, _, attempt = rules[0].partition(" ")
    return f"the nodes of {attempt}" if verb == "In" else f"all but the nodes of {attempt}"


def called(rollout: Rollout | Outcome) -> str:
    """The release, or that it is an agent's change."""
    agent = rollout.agent if isinstance(rollout, Outcome) else rollout.candidate.is_agent
    release = rollout.release if isinstance(rollout, Outcome) else rollout.candidate.release
    return f"an agent with {release}" if agent else release


def tell_record(before: Record | None, after: Record) -> Iterable[str]:
    """What a new record says that the one before did not."""
    old, new = before.rollout if before else None, after.rollout
    for block in after.blocked:
        if before is not None and block not in before.blocked:
            more = f", and its layers {', '.join(block.layers)}" if block.layers else ""
            yield f"blocks the content of {block.release}{more}: {block.reason}"
    if new is None:
        start = after.given_up_start(old.attempt) if old is not None else None
        if old is not None and start is not None:
            yield f"gives up the start of {called(old)}: {start.reason}"
        elif old is not None:
            outcome = after.outcomes[0]
            yield f"ends the rollout of {called(outcome)}: {outcome.phase} ({outcome.reason})"
        return
    if old is None:
        verb = "takes back" if new.phase is Phase.Reverting else "starts the rollout of"
        yield f"{verb} {called(new)}"
        return
    yield from _tell_waves(old, new)
    yield from _tell_suspects(old, new)
    yield from _tell_drill(old.drill, new.drill)
    if new.paused and not old.paused:
        yield f"pauses the rollout: {new.paused}"
    if new.promoting and not old.promoting:
        yield f"promotes {called(new)}"
    if new.phase is Phase.Reverting and old.phase is not Phase.Reverting:
        yield f"reverts {called(new)}"


def _tell_suspects(old: Rollout, new: Rollout) -> Iterable[str]:
    for suspect in new.suspects:
        if suspect not in old.suspects:
            again = " again, and leaves it there" if suspect.kept else ""
            yield f"suspects {suspect.node}: {suspect.reason}{again}"


def _tell_drill(was: Drill | None, drill: Drill | None) -> Iterable[str]:
    if drill is None:
        return
    if was is None or was.ledger != drill.ledger:
        yield f"drills the way back with {drill.node}"
    elif drill.done_at is not None and was.done_at is None:
        yield "ends the drill: it went back, and has it again"


def _tell_waves(old: Rollout, new: Rollout) -> Iterable[str]:
    for index, wave in enumerate(new.waves):
        was = old.waves[index] if index < len(old.waves) else None
        if was is None or wave.state is not was.state:
            yield from _tell_wave(was, wave)


def _tell_wave(was: WaveRun | None, wave: WaveRun) -> Iterable[str]:
    nodes = f"{wave.nodes} node" + "s"[: wave.nodes != 1]
    match wave.state:
        case WaveState.Moving if was is not None and was.state is WaveState.Pending:
            yield f"opens wave {wave.name}: {nodes}"
        case WaveState.Moving:
            yield f"looks at the nodes of wave {wave.name} again"
        case WaveState.AwaitingApproval:
            yield f"waits for an approval of wave {wave.name}"
        case WaveState.Pending if was is not None and was.state is WaveState.AwaitingApproval:
            yield f"takes wave {wave.name} as approved by {wave.approved}"
        case WaveState.Soaking:
            yield f"lets wave {wave.name} soak"
        case WaveState.Passed:
            yield f"passes wave {wave.name}" + ("" if wave.nodes else ": nothing is left to move")
        case WaveState.Held:
            yield f"holds wave {wave.name}{by(wave)}"
        case WaveState.Failed:
            yield f"fails wave {wave.name}{by(wave)}"
        case WaveState.Excused:
            yield f"begins wave {wave.name} again: its nodes were drained or removed"


def by(wave: WaveRun) -> str:
    """The gate that stopped it, as the record has it, without the counts of nodes."""
    gate = wave.gates[0] if wave.gates else ""
    return f" by {re.sub(r', [0-9]+ of [0-9]+$', '', gate)}" if gate else ""


def clock(seconds: float) -> str:
    """Hours, minutes and whole seconds."""
    whole = int(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def known_contents(names: Iterable[str]) -> dict[str, str]:
    """Digest → name, for what a story publishes."""
    return {digest(name): name for name in names}


def operator(actor: str) -> str:
    """`operator-1` → `operator 1`."""
    return actor.replace("-", " ")


def _record_of(body: Body | None) -> Record | None:
    return stored_in(body).record if body else None


def _holder(body: Body | None) -> str:
    return str(((body or {}).get("spec") or {}).get("holderIdentity") or "")


def _attempt(body: Body) -> str:
    return str((body.get("metadata", {}).get("labels") or {}).get(ATTEMPT_LABEL, ""))


def _ready(node: Body) -> str:
    return str(node["status"]["conditions"][0]["status"])
