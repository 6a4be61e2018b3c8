"""The one vocabulary of reasons: status, events, metric labels and docs use it.

A member's name is its value, so that a word seen in a cluster is found in the code. `meaning` is
one sentence: what happened, and what a person can do. It is a table, under headings that the docs
repeat, and longer than other files: an enumeration has to stand in one place, and who looks a word
up, or adds one, has all that there are before him.
"""

from enum import StrEnum
from typing import Self


def _reason(name: str, meaning: str) -> tuple[str, str]:
    return name, meaning


_THEN = (
    "in a first wave, or when it is more than chance explains, spec.rollout.onFailure acts (by "
    "default all nodes go back to stable), else this node alone goes back as a suspect"
)
"""What is done about harm on a node, for whoever reads of it at night."""


def _harm(name: str, what: str, to_do: str) -> tuple[str, str]:
    return name, f"{what}: {_THEN}; {to_do}."


class Reason(StrEnum):
    """Why something is as it is."""

    _value_: str
    meaning: str

    def __new__(cls, value: str, meaning: str) -> Self:
        """Make a member that is its value and carries its meaning."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    # The object itself
    Accepted = _reason(
        "Accepted",
        "The object is valid and acted upon; nothing to do.",
    )
    UnknownChannel = _reason(
        "UnknownChannel",
        "The release names a channel that does not exist in its namespace; create that channel, "
        "or delete the release and create it with the right name.",
    )
    ContentMismatch = _reason(
        "ContentMismatch",
        "The channel binds another kind of content than the release brings; publish an image for "
        "imageVolume and containerImage, a ConfigMap for configMap.",
    )
    AgentIncompatible = _reason(
        "AgentIncompatible",
        "The release is made for other versions of the agent than the channel runs, or the agent's "
        "template does not say its version; do what the message says.",
    )
    MissingVolume = _reason(
        "MissingVolume",
        "The agent's template has no volume of that name and kind; add it to spec.volumes of the "
        "template, or correct volumeName in the channel's spec.content.",
    )
    MissingContainer = _reason(
        "MissingContainer",
        "The agent's template has no container or init container of that name; correct "
        "containerName in the channel's spec.content.",
    )
    PoolMatchesNoNode = _reason(
        "PoolMatchesNoNode",
        "A pool selects no node that can carry the agent; label nodes, or correct the pool's "
        "selector.",
    )
    InvalidTemplate = _reason(
        "InvalidTemplate",
        "The apiserver refused the agent's template or would drop its content, or it holds what a "
        "revision cannot carry; correct the field that the message names.",
    )
    ImageNotPinned = _reason(
        "ImageNotPinned",
        "An image of the agent's template is named by tag, so a revert might not bring the old "
        "one back; write it as repository@sha256:<digest>.",
    )
    ContentNotFound = _reason(
        "ContentNotFound",
        "The ConfigMap of the release does not exist in its namespace; create it.",
    )
    ContentMutable = _reason(
        "ContentMutable",
        "The ConfigMap of the release can still be changed under the running agents; create it "
        "with `immutable: true`.",
    )
    AgentTemplateNotFound = _reason(
        "AgentTemplateNotFound",
        "The DaemonSet of spec.agent.daemonSetRef does not exist in the channel's namespace; "
        "create it, parked (nodeSelector wavegate.dev/parked: 'true'), or correct the name.",
    )
    AgentAlreadyRunning = _reason(
        "AgentAlreadyRunning",
        "The DaemonSet of spec.agent.daemonSetRef still runs pods, and a node must not carry two "
        "agents; park it with the nodeSelector wavegate.dev/parked: 'true'.",
    )
    NodeClaimedTwice = _reason(
        "NodeClaimedTwice",
        "An older channel runs the same agent on some of these nodes, and a node must not carry it "
        "twice; no release starts here; let the two agents' nodeSelectors keep apart, or delete "
        "one of the channels.",
    )
    SoakBelowFloor = _reason(
        "SoakBelowFloor",
        "A soak is shorter than the operator's floor, too short to see a crash loop; write a "
        "longer soak in the channel, or change the operator's setting.",
    )
    StateLost = _reason(
        "StateLost",
        "DaemonSets, ledgers and the record contradict each other, as after a restored backup, "
        "so nothing is started; do what the message says, or, once what runs is adopted as "
        "stable, set the channel's spec.suspend to true and back to false.",
    )
    HandsOff = _reason(
        "HandsOff",
        "The channel carries the annotation wavegate.dev/hands-off, so nothing but status is "
        "written for it, not even a revert; remove the annotation to go on from what is there.",
    )

    NamespaceNotBound = _reason(
        "NamespaceNotBound",
        "RBAC does not let the operator write in the channel's namespace, so nothing starts or "
        "moves there and a revert waits; make the RoleBinding, or do else what the message names.",
    )

    NotProven = _reason(
        "NotProven",
        "The channel has no spec.loadedProof, so no node says which content its agent loaded: a "
        "wave passes on the agent's readiness; add one if your agent can report.",
    )
    UngatedInput = _reason(
        "UngatedInput",
        "The agent's template reads ConfigMaps or Secrets that can change on all nodes at once, "
        "past the waves; releases go on, but make ConfigMaps immutable, or publish it as content.",
    )

    # Whether and when a release may start
    DigestBlocked = _reason(
        "DigestBlocked",
        "This content, or a layer of it, failed before on this channel and may not return; publish "
        "fixed content under a new digest, or, if it was blamed wrongly, decide Unblock, naming "
        "the incident in the channel's status.blocked.",
    )
    BlockedByDecision = _reason(
        "BlockedByDecision",
        "A person put this content on the block list, so it may not return until another decision "
        "takes it off; see the SecurityContentDecision for the reason.",
    )
    NotNewer = _reason(
        "NotNewer",
        "The channel already carries a release with the same or a higher sequence; publish with "
        "a higher spec.sequence if this content is to run.",
    )
    Queued = _reason(
        "Queued",
        "Another release of the channel is rolling out; this one starts after it, or takes its "
        "place, as the message says.",
    )
    Replaced = _reason(
        "Replaced",
        "A newer release came while this one was in its first wave, or a more urgent one came "
        "later; its nodes go back to stable, its content is not blocked, then the newer one "
        "starts; nothing to do.",
    )
    Superseded = _reason(
        "Superseded",
        "A release with a higher sequence came first; nothing to do.",
    )
    Suspended = _reason(
        "Suspended",
        "The release's spec.suspend is true, so no node is moved; set it to false to go on.",
    )
    ChannelSuspended = _reason(
        "ChannelSuspended",
        "The channel's spec.suspend is true, so no node is moved; set it to false to go on.",
    )
    CoolingDown = _reason(
        "CoolingDown",
        "A release was taken back for harm, so no other starts on the channel for "
        "spec.rollout.coolDown; the message says until when, and how a person cuts it short.",
    )
    BreakerOpen = _reason(
        "BreakerOpen",
        "So many releases were taken back for harm in so short a time (spec.rollout.breaker) that "
        "nothing starts on the channel any more; find the common cause, then decide Resume, naming "
        "the release that was taken back last.",
    )
    PausedByDecision = _reason(
        "PausedByDecision",
        "A person paused the release, so no node is moved until the decision expires; decide "
        "Resume, or delete the SecurityContentDecision, to go on earlier.",
    )
    AwaitingApproval = _reason(
        "AwaitingApproval",
        "The channel wants a person's approval before this wave opens; look at the waves so far, "
        "then decide Approve with the wave's name, or Revert.",
    )
    NodeBusy = _reason(
        "NodeBusy",
        "Another channel has these nodes in an active wave, and harm could not be told to either; "
        "the wave goes on by itself when that one has passed, is taken back, or is held or paused "
        "for 30 minutes; look at the other channel if it lasts.",
    )
    NoCanary = _reason(
        "NoCanary",
        "No pool has a second node, so nothing would notice harm before all is lost; decide "
        "Approve with the wave's name, or give the channel waves of its own.",
    )
    HoldTimeout = _reason(
        "HoldTimeout",
        "A wave was without evidence for holdTimeout (the rollout's, or that of the check which "
        "held it) and the release is paused; "
        "repair what is missing, then decide Resume, or set the release's spec.suspend to true and "
        "back to false.",
    )

    StableSuspect = _reason(
        "StableSuspect",
        "The stable release failed its bake, or nodes that went back to it failed on it too, so no "
        "node is moved to a newer one until a person has looked at them; decide Resume if stable "
        "is well or the newer one is the repair, else Revert, of what the message or the runbook "
        "names.",
    )

    # Progress
    RolloutStarted = _reason(
        "RolloutStarted",
        "The plan is frozen and the candidate's DaemonSet exists; watch the waves.",
    )
    PlanSlowerThanFeed = _reason(
        "PlanSlowerThanFeed",
        "Releases come faster than a rollout ends, so newer ones overtake most of them and late "
        "waves keep old content; shorten the plan, or publish less often.",
    )
    PlanOutdated = _reason(
        "PlanOutdated",
        "The channel was edited while a release rolls out: what tightens acts already, and the "
        "fields in the message wait for the next release; if they must act now, revert this one.",
    )
    WaveOpened = _reason(
        "WaveOpened",
        "The wave's nodes are chosen and written to its ledger; they are moved next.",
    )
    WaveMoving = _reason(
        "WaveMoving",
        "Nodes of the wave are handed over to the candidate, a few at a time; wait.",
    )
    WaveSoaking = _reason(
        "WaveSoaking",
        "All nodes of the wave run the candidate and are watched for the soak time; wait.",
    )
    WaveHeld = _reason(
        "WaveHeld",
        "Evidence about the wave is missing, so nothing moves; the message says what is missing, "
        "and the release goes on by itself when it is back.",
    )
    SoakInterrupted = _reason(
        "SoakInterrupted",
        "The good time of a wave's soak is not collected after three times its length, so a "
        "person is asked after holdTimeout; repair what interrupts it, which the message names.",
    )
    LabelRemoved = _reason(
        "LabelRemoved",
        "Someone took the candidate's label from every node of the wave, so nothing speaks for "
        "it; set the label again on a node of its ledger, or revert the release.",
    )
    WaveJudging = _reason(
        "WaveJudging",
        "The soak is over and the evidence about every node of the wave is collected; wait.",
    )
    WavePassed = _reason(
        "WavePassed",
        "Every node of the wave gave positive evidence; the next wave opens.",
    )
    Promoting = _reason(
        "Promoting",
        "The candidate is made the revision for all nodes; wait.",
    )
    Completed = _reason(
        "Completed",
        "The release is stable on all nodes; nothing to do.",
    )

    Baking = _reason(
        "Baking",
        "The release is stable on all nodes and is watched for the channel's bake time; if more "
        "nodes come to harm than chance explains, it is taken back.",
    )
    Baked = _reason(
        "Baked",
        "The release was stable for its whole bake time and every proof was there at its end; "
        "nothing to do.",
    )
    NotBaked = _reason(
        "NotBaked",
        "The release was not watched for a whole bake, as a newer one completed before or the "
        "channel's bake is 0s; nothing to do.",
    )
    BakeFailed = _reason(
        "BakeFailed",
        "More nodes came to harm during the bake than chance explains, and the release was not "
        "taken back by itself; the message says why, and what a person can do.",
    )
    BakeUnproven = _reason(
        "BakeUnproven",
        "More nodes were drained or removed as announced than a bake can remember, so it proves "
        "nothing and has ended; publish the next release, or look at the nodes yourself.",
    )

    # Going back
    Reverting = _reason(
        "Reverting",
        "The candidate is fenced and its nodes go back to stable by themselves; wait, and see "
        "status.incident for why.",
    )
    Reverted = _reason(
        "Reverted",
        "Every node runs stable again and is Ready; publish fixed content as a new release.",
    )
    RevertedWithNodesDown = _reason(
        "RevertedWithNodesDown",
        "The candidate is gone from all nodes that can be reached, and the nodes named in the "
        "message are still down; repair or restart them, they come back on stable.",
    )
    RevertedNotProven = _reason(
        "RevertedNotProven",
        "The candidate is gone, but the nodes in the message do not report stable's content, so "
        "what was taken back may still be loaded; look at their agents, or reboot them.",
    )
    RevertedAgentsUnwell = _reason(
        "RevertedAgentsUnwell",
        "The candidate is gone, but on the nodes in the message the agents that "
        "spec.agentSelector selects are not Ready as they were, or can't be seen; look at their "
        "logs: what the content left on the host may have to be deleted.",
    )
    FencedByHand = _reason(
        "FencedByHand",
        "Someone edited or deleted the candidate's DaemonSet, which counts as a revert; publish "
        "a new release to try again.",
    )
    ReleaseDeleted = _reason(
        "ReleaseDeleted",
        "The running release was deleted, which reverts it; create a new one to try again.",
    )
    ChannelDeleted = _reason(
        "ChannelDeleted",
        "The channel was deleted: its rollout ended and the stable agent stays on all nodes; "
        "delete its DaemonSet by hand if the agent should go.",
    )
    RevertDecided = _reason(
        "RevertDecided",
        "A person reverted the release, so its nodes go back to stable and nothing is blocked; see "
        "the SecurityContentDecision for the reason.",
    )

    # Harm on a node of a wave
    NodeNotReady = _harm(
        "NodeNotReady",
        "A node that got the candidate is not Ready",
        "look at its kubelet and console",
    )
    NodeRebooted = _harm(
        "NodeRebooted",
        "A node that got the candidate has another bootID, so it rebooted",
        "look at its kernel log from before the reboot",
    )
    NodeCondition = _harm(
        "NodeCondition",
        "A node that got the candidate has a bad condition that it did not have before, as of the "
        "Node Problem Detector",
        "look at the condition's message and at the node's kernel log",
    )
    NodeVanished = _harm(
        "NodeVanished",
        "A node that got the candidate was removed from the cluster, which nobody had announced",
        "ask who removed it, or look at the machine",
    )
    NodeReplaced = _harm(
        "NodeReplaced",
        "A node that got the candidate was created anew under its name (another UID)",
        "ask who replaced it, or look at the machine",
    )
    Suspect = _reason(
        "Suspect",
        "A node came to harm alone, which proves nothing against the content after the first wave: "
        "the node goes back to stable, and is tried once more at the end; look at that node.",
    )
    RollbackDrill = _reason(
        "RollbackDrill",
        "A node of the first wave goes back to stable and gets the release again before the wave "
        "soaks, which proves the way back (spec.rollout.drill); wait.",
    )
    Unsteady = _reason(
        "Unsteady",
        "A node that got the candidate is well and unwell in turns, so that its wave came to no "
        "end; it goes back to stable as a suspect: look at its kubelet and agent.",
    )
    ClusterWideDisturbance = _reason(
        "ClusterWideDisturbance",
        "Nodes without the candidate come to the same harm, so it is the cluster's and not the "
        "content's; nothing moves until both are well again: look at the network, the zone or the "
        "power of the nodes in the message.",
    )
    LeaseStale = _reason(
        "LeaseStale",
        "A node that got the candidate stopped renewing its lease, so no further node is moved; "
        "look at its kubelet and console.",
    )
    NotHeardFrom = _reason(
        "NotHeardFrom",
        "The operator has not seen the node renew its lease since it began to watch; wait, and "
        "look at the node's kubelet if it lasts.",
    )
    ViewStale = _reason(
        "ViewStale",
        "The operator's watch of nodes, pods or its own objects is interrupted, so nothing moves "
        "and no wave passes; look at the apiserver and at the operator's log.",
    )
    LedgerLost = _reason(
        "LedgerLost",
        "The ledger of a wave is gone or can't be read, so its nodes can't be judged and nothing "
        "moves; restore its ConfigMap, or revert the release.",
    )
    AgentRestarted = _harm(
        "AgentRestarted",
        "The agent's container restarted on the candidate",
        "look at `kubectl logs --previous` of the pod",
    )
    RebootAwaited = _reason(
        "RebootAwaited",
        "The agent restarted on a node whose drain or reboot was announced, so nothing moves for "
        "30 s: if the node has another bootID by then it is excused, else the restart is harm; "
        "wait.",
    )
    AgentNotReady = _harm(
        "AgentNotReady",
        "The agent was not Ready on the candidate within the channel's progressDeadline",
        "look at the pod's events and log",
    )
    AgentOOMKilled = _harm(
        "AgentOOMKilled",
        "The agent's container ran out of memory on the candidate",
        "compare its memory limit with what the new content needs",
    )

    LoadedNotReported = _reason(
        "LoadedNotReported",
        "The agent on a node does not report which content it loaded, so the wave waits, then is "
        "held after progressDeadline; look at the agent's log and the channel's spec.loadedProof.",
    )
    OtherContentLoaded = _reason(
        "OtherContentLoaded",
        "The agent on a node reports other content than the release's, and after progressDeadline "
        "the release is taken back without a block; look at why the agent did not load it.",
    )

    # No evidence: held, nobody is blamed
    NoWitness = _reason(
        "NoWitness",
        "All nodes of the wave were drained, removed or rebooted as announced, so nothing speaks "
        "for it; it goes on when another healthy node of its pools can take their place.",
    )
    NodeExcused = _reason(
        "NodeExcused",
        "A node that got the candidate was drained, removed or rebooted as somebody had announced "
        "before: it is no harm, and no evidence either; nothing to do.",
    )
    CannotFetch = _reason(
        "CannotFetch",
        "A node cannot get the image, Secret or ConfigMap of the candidate, so the wave is held; "
        "after 2 minutes the node goes back to stable, to be tried again later; look at the pod's "
        "events and repair the registry, the pull secret or the object.",
    )
    Unschedulable = _reason(
        "Unschedulable",
        "The candidate's pod does not start on its node (no room, a volume, a long pull), so past "
        "progressDeadline the wave is held and the node goes back to stable; look at the pod's "
        "events (one that ran and is gone counts as harmed then, without a block).",
    )
    NotMovable = _reason(
        "NotMovable",
        "Moving the node would take its agent away, now or at a revert, or bring a second one: a "
        "template does not run there, or its kubernetes.io/hostname label is missing or shared; "
        "correct what the message names.",
    )
    RevertPathBlocked = _reason(
        "RevertPathBlocked",
        "A dry run shows that a write of the revert would be refused or changed, so no wave "
        "opens; correct the webhook, policy or quota that the message tells of.",
    )
    WorkloadsUnseen = _reason(
        "WorkloadsUnseen",
        "EndpointSlices or webhook configurations can't be listed, so no wave chooses its nodes: "
        "it might take all on which a critical workload runs; look at the operator's rights "
        "(ClusterRole) and at the apiserver.",
    )
    CheckNoData = _reason(
        "CheckNoData",
        "A check gave no usable sample for every node of the wave, so the wave is held; run the "
        "query by hand and compare its series with the wave's nodes.",
    )
    CheckUnreachable = _reason(
        "CheckUnreachable",
        "Prometheus did not answer in time or with an error, so the wave is held; look at the "
        "channel's spec.prometheus and at Prometheus.",
    )
    CheckIncomplete = _reason(
        "CheckIncomplete",
        "Prometheus warns that its answer may lack data, so the wave is held whatever the values "
        "are; look at what the warning names, often a store or a replica that is down.",
    )
    CheckStale = _reason(
        "CheckStale",
        "Samples are older than the check's freshness.maxAge, so the wave is held; look at the "
        "scrape targets in Prometheus.",
    )
    DrillFailed = _reason(
        "DrillFailed",
        "In the rollback drill the node that was given back to stable did not get well there, so "
        "the release is taken back before more nodes have it, and not blocked; look at that node: "
        "stable's image, its agent, what the content left on the host.",
    )
    EvidenceLostOnWave = _reason(
        "EvidenceLostOnWave",
        "A check lost nodes of the wave for three intervals and three minutes at least, while the "
        "nodes without the content report: it is taken back, not blocked; look at these nodes.",
    )
    CheckInvalid = _reason(
        "CheckInvalid",
        "Prometheus refused a check's query, so the wave is held; correct the query in the "
        "channel's spec.checks.",
    )

    # Evidence of harm by a query
    CheckAboveMax = _reason(
        "CheckAboveMax",
        "A check's sample was above its max, so the wave failed and spec.rollout.onFailure acts, "
        "without a block; run the query by hand to see what rose.",
    )
    CheckBelowMin = _reason(
        "CheckBelowMin",
        "A check's sample was below its min, so the wave failed and spec.rollout.onFailure acts, "
        "without a block; run the query by hand to see what fell.",
    )

    # The agent's template
    AgentTemplateChanged = _reason(
        "AgentTemplateChanged",
        "The channel's template is not the one that stable was made from, so it rolls out as "
        "status.agentRollout says; one that people changed back meanwhile was taken back and may "
        "be tried again.",
    )
    AgentTemplateFailed = _reason(
        "AgentTemplateFailed",
        "The channel's template was rolled out and reverted, so it is not tried again, and "
        "releases go on with stable's; change spec.agent, or decide Unblock as the message says.",
    )

    AgentTemplateAssumed = _reason(
        "AgentTemplateAssumed",
        "An older version of the operator did not note which template stable was made from, so the "
        "present one is taken for it and nothing is rolled out; the next change of spec.agent is.",
    )

    # Decisions
    DecisionAccepted = _reason(
        "DecisionAccepted",
        "The decision is carried out; nothing to do.",
    )
    DecisionRefused = _reason(
        "DecisionRefused",
        "The decision does not fit what is there, such as a digest that is not rolling out; look "
        "at the release and create a new decision, as the message says.",
    )
    PoliciesNotInForce = _reason(
        "PoliciesNotInForce",
        "The decision would loosen something, and nothing proves who made it; install the chart's "
        "admission policies as the message says, then create it again.",
    )
    DecisionExpired = _reason(
        "DecisionExpired",
        "The pause is over and the release goes on; create a new decision to pause it again.",
    )
