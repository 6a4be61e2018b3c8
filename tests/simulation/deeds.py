"""What can happen: one function for each thing that machines, people, networks and operators do.

Each takes a number to choose by; whatever it is, the deed is legal (or does nothing). So a list of
names and numbers is a whole story that can be told again.
"""

import random
from collections.abc import Sequence
from typing import TypeVar

from simulation import carried
from simulation.apiserver import Body
from simulation.bodies import attempt_of, is_ours
from simulation.chaos import NEIGHBOUR, Chaos, Deed
from simulation.cluster import another_agent
from simulation.critical import serve
from simulation.deeds_agent import edit_agent, unblock_agent
from simulation.deeds_drill import spoil_drill
from simulation.deeds_starts import empty_a_pool
from simulation.line import LOST_BEFORE, Faulty, Weather
from simulation.machines import crash_loops, kills, only_on
from wavegate.rollout.names import HANDS_OFF_ANNOTATION, record_name

T = TypeVar("T")


def _pick(found: Sequence[T], pick: int) -> T | None:
    return found[pick % len(found)] if found else None


# Time


def a_moment(c: Chaos, pick: int) -> None:
    c.wait(0.1 + pick % 10 / 3)


def a_while(c: Chaos, pick: int) -> None:
    c.wait(5.0 + pick % 10 * 4)


def long(c: Chaos, pick: int) -> None:
    c.wait(60.0 + pick % 10 * 40)


# Machines


def join(c: Chaos, pick: int) -> None:
    if len(c.nodes()) < 14:
        c.sim.add_nodes(("canary", "workers", "other")[pick % 3], 1 + pick % 2)


def leave(c: Chaos, pick: int) -> None:
    name = _pick(c.nodes(), pick)
    if name and len(c.nodes()) > 3:
        c.sim.remove_node(name)


def shrink(c: Chaos, pick: int) -> None:
    name = _pick(c.living(), pick)
    if name and len(c.nodes()) > 3:
        c.sim.act(lambda: c.sim.autoscaler.shrink(name, 5.0 + pick % 20))


def crash(c: Chaos, pick: int) -> None:
    name = _pick(c.living(), pick)
    if name:
        c.sim.crash(name)


def revive(c: Chaos, pick: int) -> None:
    name = _pick([n for n in c.nodes() if n not in c.living()], pick)
    if name:
        c.sim.boot(name)


def reboot(c: Chaos, pick: int) -> None:
    name = _pick(c.living(), pick)
    if name:
        c.sim.crash(name)
        c.sim.later(1.0 + pick % 90, lambda: c.sim.machines.boot(name))


def silence(c: Chaos, pick: int) -> None:
    name = _pick(c.living(), pick)
    if name:
        machine = c.sim.machines.machines[name]
        machine.silent = not machine.silent


def replace(c: Chaos, pick: int) -> None:
    name = _pick(c.nodes(), pick)
    if name:
        pool = (c.sim.server.find("nodes", name) or {})["metadata"]["labels"].get("pool", "other")
        c.sim.remove_node(name)
        c.wait(pick % 3)
        c.sim.act(lambda: c.sim.machines.add(name, {"pool": pool}))


def _spec(c: Chaos, name: str | None, **spec: object) -> None:
    node = c.sim.server.find("nodes", name or "")
    if node is not None:
        new = {**node["spec"], **spec}
        c.sim.act(lambda: c.sim.server.update("people", "nodes", node, spec=new))


def taint(c: Chaos, pick: int) -> None:
    name = _pick(c.nodes(), pick)
    node = c.sim.server.find("nodes", name or "")
    old = [t for t in (node or {"spec": {}})["spec"].get("taints") or [] if t["key"] != "by-people"]
    effect = ("NoSchedule", "NoExecute", "")[pick % 3]
    _spec(c, name, taints=[*old, {"key": "by-people", "effect": effect}] if effect else old)


def cordon(c: Chaos, pick: int) -> None:
    _spec(c, _pick(c.nodes(), pick), unschedulable=pick % 2 == 0)


def relabel(c: Chaos, pick: int) -> None:
    """Someone sets our label to what it was not, or takes it away, or another pool's."""
    name, rollout = _pick(c.nodes(), pick), c.sim.record.rollout
    stable = c.sim.record.stable
    values = [None, "foreign", stable.attempt if stable else None, rollout and rollout.attempt]
    if name and pick % 5 == 4:
        c.sim.label_node(name, pool=("canary", "workers")[pick % 2])
    elif name:
        c.sim.label_node(name, key=values[pick % 5])


# Pods


def pod_crash(c: Chaos, pick: int) -> None:
    pod = _pick([p for p in c.sim.pods() if p["spec"].get("nodeName") in c.living()], pick)
    if pod:
        name = pod["spec"]["nodeName"]
        c.sim.act(lambda: c.sim.machines.restart_container(name, pod))
        c.sim.later(3.0, lambda: _ready_again(c, name, pod))


def _ready_again(c: Chaos, name: str, pod: Body) -> None:
    machines = c.sim.machines
    stored = machines._current(pod)
    if stored is not None and machines.machines[name].alive:
        restarts = stored["status"]["containerStatuses"][0]["restartCount"]
        machines._report(name, stored, ready=True, restarts=restarts)


def dns_moves(c: Chaos, pick: int) -> None:
    """CoreDNS runs elsewhere, on up to eight nodes, or nowhere."""
    names = c.nodes()
    first = pick % max(1, len(names))
    serve(c.sim, "kube-system/kube-dns", (names[first:] + names[:first])[: pick % 9])


def evict(c: Chaos, pick: int) -> None:
    name = _pick(c.nodes(), pick)
    if name:
        c.sim.delete_pod(name)


# The agent of someone else, to which our pods carry content


def other_crash(c: Chaos, pick: int) -> None:
    """It crashes, and is Ready again soon or late."""
    name = _pick(c.living(), pick)
    if name:
        carried.crash(c.sim, name)
        c.sim.later(1.0 + pick % 7 * 8, lambda: carried.recover_now(c.sim, name))


def other_loops(c: Chaos, pick: int) -> None:
    """It crashes again and again, and is Ready for a moment in between."""
    name = _pick(c.living(), pick)
    for again in range(2 + pick % 9) if name else ():
        c.sim.later(again * 20.0, lambda n=name: carried.crash_now(c.sim, n))
        c.sim.later(again * 20.0 + 10.0, lambda n=name: carried.recover_now(c.sim, n))


def other_unready(c: Chaos, pick: int) -> None:
    """It is not Ready for a while, here or everywhere."""
    name = _pick(c.living(), pick)
    for node in c.living() if pick % 3 == 0 else filter(None, [name]):
        carried.unready(c.sim, node)
        c.sim.later(5.0 + pick % 8 * 25, lambda n=node: carried.recover_now(c.sim, n))


def other_replaced(c: Chaos, pick: int) -> None:
    name = _pick(c.nodes(), pick)
    if name:
        carried.replace(c.sim, name)


def publish_carried(c: Chaos, pick: int) -> None:
    """Content on which that agent crashes, everywhere or on some machines."""
    harm = carried.crashes_it(1.0 + pick % 5 * 8)
    victims = frozenset(c.nodes()[pick % 3 :: 3])
    _publish(c, "bad", only_on(victims, harm) if pick % 2 else harm)


# Releases and people


def publish(c: Chaos, pick: int) -> None:
    _publish(c, "good", None)


def publish_bad(c: Chaos, pick: int) -> None:
    victims = frozenset(c.nodes()[pick % 3 :: 3])
    harms = (
        kills(),
        crash_loops(),
        only_on(victims, kills(5.0)),
        only_on(victims, crash_loops(20.0)),
        crash_loops(2.0, "OOMKilled", 137),
        kills(40.0),
    )
    _publish(c, "bad", harms[pick % len(harms)])


def publish_unpullable(c: Chaos, pick: int) -> None:
    name = _publish(c, "missing", None)
    if name:
        content = c.sim.server.find("securitycontentreleases", name, "agents")
        image = (content or {})["spec"]["content"]["image"].partition("@")[2]
        c.sim.machines.unpullable.add(image)
        if pick % 2:
            c.sim.later(30.0 + pick % 100, lambda: c.sim.machines.unpullable.discard(image))


def _publish(c: Chaos, kind: str, harm: object) -> str:
    if len(c.releases()) > 12:
        return ""
    name = f"{kind}-{c.sim.sequence + 1}"
    if harm is not None:
        c.sim.harm(name, harm)
    severity = ("Routine", "Routine", "Urgent", "Emergency")[c.sim.sequence % 4]
    return c.sim.publish(name, severity=severity, **_said(c, kind, name))


def _said(c: Chaos, kind: str, name: str) -> dict[str, object]:
    """What a release says of its content besides its digest. What does harm often comes again, in
    another image; some list no layers, so that there may be nothing that clears the base.
    """
    number = c.sim.sequence
    if kind != "bad":
        return {"layers": ["base", name]} if number % 4 else {}
    listed = {"layers": ["base", f"fault {number % 4 // 2}"]} if number % 2 else {}
    return {"loaded": f"f00d-{number % 3}", **listed}


def neighbour(c: Chaos, pick: int) -> None:
    """Another channel, for another agent on the same nodes, gets its next release."""
    agent, rollout = another_agent("scanner"), {"holdTimeout": "5m"}
    c.sim.apply_channel(NEIGHBOUR, agent=agent, rollout=rollout, suspend=pick % 5 == 0)
    c.sim.publish(f"model-{c.sim.sequence + 1}", channel=NEIGHBOUR)


def suspend(c: Chaos, pick: int) -> None:
    name = _pick(c.releases()[-2:], pick)
    if name:
        c.sim.patch("Release", name, suspend=pick % 3 == 0)


def delete_release(c: Chaos, pick: int) -> None:
    name = _pick(c.releases()[-3:], pick)
    if name:
        c.sim.delete("Release", name)


def decide(c: Chaos, pick: int) -> None:
    rollout = c.sim.record.rollout
    if rollout is not None and c.releases():
        action = ("Pause", "Revert", "Resume", "Approve", "Block")[pick % 5]
        name, release = f"decision-{len(c.done)}", rollout.candidate.release
        extra = {"Pause": {"expiresAfter": "5m"}, "Approve": {"wave": "all"}}.get(action, {})
        if rollout.candidate.is_agent and pick % 7:
            extra = {**extra, "digest": rollout.candidate.agent}
        c.sim.decide(name, release, action, **extra)


def let_go(c: Chaos, pick: int) -> None:
    """A person lets releases start again after a revert: the last one, or one that is not."""
    reverted = [o for o in c.sim.record.outcomes if o.phase == "Reverted"]
    named = reverted[:1] if pick % 4 else reverted[1:2]
    if named and c.sim.record.rollout is None:
        release, said = named[0].named
        c.sim.decide(f"decision-{len(c.done)}", release, "Resume", digest=said)


def take_back(c: Chaos, pick: int) -> None:
    """A person goes back one further: where stable is not in doubt, that is refused."""
    stable = c.sim.record.stable
    if stable is not None and c.sim.record.rollout is None:
        c.sim.decide(f"decision-{len(c.done)}", stable.release, "Revert", stable.release)


def approval(c: Chaos, pick: int) -> None:
    """The second wave is to be approved, or is not any more."""
    channel = c.channel()
    if channel is not None and channel["spec"]["waves"]:
        *others, last = channel["spec"]["waves"]
        last = {name: value for name, value in last.items() if name != "approval"}
        wanted = {"approval": "Required"} if pick % 2 else {}
        c.sim.patch("Channel", "rules", waves=[*others, {**last, **wanted}])


def unblock(c: Chaos, pick: int) -> None:
    """A person takes the content of an incident off the block list."""
    entry = _pick(c.sim.record.blocked, pick)
    if entry is not None and entry.release in c.releases():
        name = f"decision-{len(c.done)}"
        c.sim.decide(name, entry.release, "Unblock", entry.release, incident=entry.incident)


def policies(c: Chaos, pick: int) -> None:
    """Someone takes the policies of decisions away, or puts them back."""
    c.sim.policies = pick % 3 != 0


def suspend_channel(c: Chaos, pick: int) -> None:
    if c.channel():
        c.sim.patch("Channel", "rules", suspend=pick % 3 == 0)


def edit_channel(c: Chaos, pick: int) -> None:
    channel = c.channel()
    if channel is None:
        return
    changes = (
        {"soak": "60s"},
        {"maxUnavailable": 1},
        {"onFailure": "Pause"},
        {"onFailure": "Revert"},
        {"onFailure": "RevertFailing"},
        {"settle": "20s"},
        {"soak": "10s", "maxUnavailable": 2},
        {"settle": "5s", "maxUnavailable": "100%"},
        {"drill": "Always"},
        {"drill": "Never"},
        {"prefetch": "NextWave"},
        {"prefetch": "Never"},
    )
    rollout = {**channel["spec"]["rollout"], **changes[pick % len(changes)]}
    waves = channel["spec"]["waves"]
    if pick % 3 == 0 and waves:  # another share of the last wave: fewer nodes, or all again
        waves = [*waves[:-1], {**waves[-1], "upTo": ("50%", "100%", 2)[pick % 9 // 3]}]
    c.sim.patch("Channel", "rules", rollout=rollout, waves=waves)


def delete_channel(c: Chaos, pick: int) -> None:
    c.sim.delete("Channel", "rules")
    c.wait(pick % 4 * 20)
    if pick % 5:
        apply_channel(c, pick)


def apply_channel(c: Chaos, pick: int) -> None:
    if c.channel() is None:
        c.sim.apply_channel(**{k: dict(v) if isinstance(v, dict) else v for k, v in c.spec.items()})


def point_set(c: Chaos, pick: int) -> None:
    """Someone points one of our DaemonSets elsewhere."""
    found = _pick(c.sets(), pick)
    key, operators = c.sim.key, (["Exists", "DoesNotExist"], [], ["Exists"], ["DoesNotExist"])
    if found is not None:
        rules = [{"key": key, "operator": o} for o in operators[pick // 7 % 4]]
        c.sim.retarget(attempt_of(found), rules)


def delete_set(c: Chaos, pick: int) -> None:
    """Someone deletes one of our DaemonSets; stable's is restored some time later."""
    found = _pick(c.sets(), pick)
    if found is None:
        return
    attempt = attempt_of(found)
    c.lost_sets[attempt] = found
    c.sim.act(lambda: c.sim.server.delete("people", "daemonsets", found))
    c.wait(pick % 5 * 15)
    stable = c.sim.record.stable
    if stable is not None and stable.attempt == attempt:
        c.restore_set(attempt)


# Prometheus


def prometheus(c: Chaos, pick: int) -> None:
    c.sim.prometheus.error = "down" if pick % 5 == 0 else ""
    c.sim.prometheus.default = None if pick % 5 == 1 else 0.0
    c.sim.prometheus.values.clear()
    name = _pick(c.nodes(), pick)
    if name and pick % 5 in (2, 3):
        c.sim.prometheus.values[name] = float("nan") if pick % 5 == 2 else 3.0


# Operators and their network


def kill(c: Chaos, pick: int) -> None:
    """The leader is killed, and comes back soon or late."""
    operator = c.leader
    if operator is not None:
        c.absent[operator.name] = c.sim.now + (0.0, 1.0, 10.0, 200.0)[pick % 4]
        c.sim.act(operator.kill)


def die_after(c: Chaos, pick: int) -> None:
    """The leader is killed right after one of its next writes."""
    operator = c.leader
    if operator is not None and operator.line is not None:
        operator.line.dies_after = operator.line.writes + 1 + pick % 12


def both_absent(c: Chaos, pick: int) -> None:
    for operator in c.sim.operators:
        c.absent[operator.name] = c.sim.now + 30.0 + pick % 10 * 30
        c.sim.act(operator.kill)


def believe(c: Chaos, pick: int) -> None:
    """The standby believes to lead, or stops to."""
    operator = c.sim.operators[pick % 2]
    operator.believes = not operator.believes
    c.guard.two_leaders = True
    if operator.believes:
        c.sim.act(operator.kill)
        c.absent.pop(operator.name, None)


def partition(c: Chaos, pick: int) -> None:
    """No request of an operator arrives, and its watches stand still, for a while."""
    operator = c.sim.operators[pick % 2]
    weather = operator.weather
    ends = c.sim.now + 5.0 + pick % 10 * 10
    weather.fails = lambda _verb, _path: LOST_BEFORE if c.sim.now < ends else None
    weather.lag = lambda _path: max(0.0, ends - c.sim.now)
    c.guard.lag = max(c.guard.lag, 100.0)


def bad_writes(c: Chaos, pick: int) -> None:
    only = ("", "configmaps", "nodes", "daemonsets", "pods", "leases")[pick % 6]
    share = (0.1, 0.3, 0.0)[pick % 3]
    for operator in c.sim.operators:
        operator.weather.fails = Faulty(random.Random(pick), share, only=only)  # noqa: S311


def slow_watches(c: Chaos, pick: int) -> None:
    kinds = ("", "nodes", "pods", "configmaps", "daemonsets", "securitycontentreleases")
    kind, lag = kinds[pick % 6], (0.0, 2.0, 15.0, 60.0, 150.0)[pick // 6 % 5]
    for operator in c.sim.operators:
        operator.weather.lag = lambda path: lag if kind in path else 0.0
    c.guard.lag = max(c.guard.lag, lag + 5.0)


def clear_weather(c: Chaos, pick: int) -> None:
    for operator in c.sim.operators:
        operator.weather.fails = Weather().fails
        operator.weather.lag = Weather().lag
        operator.weather.stale_list = Weather().stale_list


def break_watches(c: Chaos, pick: int) -> None:
    c.sim.act(lambda: c.sim.server.break_watches((0, 410, 500)[pick % 3]))


def stale_lists(c: Chaos, pick: int) -> None:
    """Lists come from an apiserver that lags behind, for a while; watches are broken, so that it
    is listed anew.
    """
    version = max(1, c.sim.server.version - 5 - pick % 100)
    kinds = ("nodes", "pods", "daemonsets", "configmaps")
    kind = kinds[pick % 4]
    for operator in c.sim.operators:
        operator.weather.stale_list = lambda path: version if path.endswith(f"/{kind}") else None
    c.sim.act(lambda: c.sim.server.break_watches(410))
    c.wait(2.0 + pick % 5)
    for operator in c.sim.operators:
        operator.weather.stale_list = lambda _path: None
    c.guard.lag = max(c.guard.lag, 60.0)


# Backups


def restore_record(c: Chaos, pick: int) -> None:
    """The record is overwritten by an older one, or comes back as it was."""
    name = record_name("rules")
    past = [
        body for _, body in c.sim.server.history("configmaps") if body["metadata"]["name"] == name
    ]
    old, new = _pick(past, pick), c.sim.server.find("configmaps", name, "agents")
    c.restored = True
    if old is not None and new is not None:
        c.sim.act(lambda: c.sim.server.update("people", "configmaps", new, data=old["data"]))
    elif old is not None:
        c.recreate("configmaps", old)


def restore_namespace(c: Chaos, pick: int) -> None:
    """All of ours in the namespace is as it was some time ago: records, ledgers, DaemonSets."""
    server, version = c.sim.server, max(1, c.sim.server.version - 10 - pick % 500)
    c.restored = True
    for plural, part in (("configmaps", "data"), ("daemonsets", "spec")):
        past = (body for body in server.past(plural, version) if is_ours(body))
        before = {body["metadata"]["name"]: body for body in past}
        for body in [body for body in server.all(plural) if is_ours(body)]:
            old = before.pop(body["metadata"]["name"], None)
            if old is None:
                c.sim.act(lambda p=plural, b=body: server.remove("people", p, b))
            elif part in old:
                new = {part: old[part]}
                c.sim.act(lambda p=plural, b=body, n=new: server.update("people", p, b, **n))
        for body in before.values():
            c.recreate(plural, body)


def delete_record(c: Chaos, pick: int) -> None:
    found = c.sim.server.find("configmaps", record_name("rules"), "agents")
    c.restored = True
    if found is not None:
        c.sim.act(lambda: c.sim.server.remove("people", "configmaps", found))


def hands_off(c: Chaos, pick: int) -> None:
    """Someone annotates the channel, or takes the annotation away."""
    c.annotate(HANDS_OFF_ANNOTATION, "true" if pick % 3 == 0 else None)


MACHINES: tuple[Deed, ...] = (
    *(join, leave, shrink, crash, revive, reboot, reboot, silence, replace, taint, cordon),
    *(relabel, pod_crash, evict, dns_moves),
)
PEOPLE: tuple[Deed, ...] = (
    *(publish, publish, publish, publish_bad, publish_bad, publish_unpullable, suspend),
    *(
        delete_release,
        decide,
        decide,
        let_go,
        take_back,
        approval,
        unblock,
        policies,
        suspend_channel,
        edit_channel,
        delete_channel,
        apply_channel,
    ),
    *(point_set, delete_set, hands_off, neighbour, neighbour),
    *(edit_agent, edit_agent, edit_agent, unblock_agent, spoil_drill, spoil_drill, empty_a_pool),
)
BACKUPS: tuple[Deed, ...] = (restore_record, restore_namespace, delete_record)
CARRIED: tuple[Deed, ...] = (
    *(other_crash, other_crash, other_loops, other_unready, other_replaced),
    *(publish, publish_carried, publish_carried),
)
"""Only of stories with a carrier."""
WEATHER: tuple[Deed, ...] = (
    *(kill, die_after, die_after, die_after, both_absent, believe, partition, bad_writes),
    *(slow_watches, clear_weather, break_watches, stale_lists, prometheus),
)
TIME: tuple[Deed, ...] = (a_moment, a_while, long)
