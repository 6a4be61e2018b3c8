"""SecurityContentChannel: an agent's content on this cluster, and the policy how it spreads."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, ClassVar

from wavegate.api.resource import Resource
from wavegate.api.severity import Severity
from wavegate.api.values import ApiModel, Duration, IntOrPercent, LabelSelector, Number, ObjectName


class ContentKind(StrEnum):
    """How content gets into the agent's pod."""

    ImageVolume = "imageVolume"
    ConfigMap = "configMap"
    ContainerImage = "containerImage"


class HostState(StrEnum):
    """What of the content stays on the host when its pod is gone."""

    Nothing = "None"
    Cache = "Cache"
    Kernel = "Kernel"


class DrillMode(StrEnum):
    """Which releases try the way back on a node before their first wave soaks."""

    Never = "Never"
    NewAgentVersion = "NewAgentVersion"
    """The first one with each version of the agent, where its template says one."""
    Always = "Always"


class PrefetchMode(StrEnum):
    """Which images are pulled before the nodes that need them are moved."""

    Never = "Never"
    NextWave = "NextWave"


class OnFailure(StrEnum):
    """What happens when a wave fails."""

    Revert = "Revert"
    RevertFailing = "RevertFailing"
    Pause = "Pause"


class Approval(StrEnum):
    """What a wave waits for, beside the one before it."""

    Required = "Required"


class CheckScope(StrEnum):
    """What a sample of a check speaks about."""

    Node = "Node"
    Wave = "Wave"


class PresetName(StrEnum):
    """A check whose query comes with the operator."""

    NodeReboot = "node-reboot"
    NodeNotReady = "node-not-ready"
    KernelOops = "kernel-oops"
    OomKill = "oom-kill"
    AgentRestarts = "agent-restarts"
    WorkloadRestarts = "workload-restarts"
    WorkloadNotReady = "workload-not-ready"
    NodePressure = "node-pressure"
    AgentCpuMemory = "agent-cpu-memory"


class Agent(ApiModel):
    """Where the agent's pod template is. Exactly one field is set."""

    template: Mapping[str, Any] | None = None
    daemon_set_ref: ObjectName | None = None


class VolumeBinding(ApiModel):
    """A volume of the template."""

    volume_name: str


class ContainerBinding(ApiModel):
    """A container or init container of the template."""

    container_name: str


class Content(ApiModel):
    """Where content binds in the template. Exactly one of the first three is set."""

    image_volume: VolumeBinding | None = None
    config_map: VolumeBinding | None = None
    container_image: ContainerBinding | None = None
    host_state: HostState = HostState.Nothing

    @property
    def kind(self) -> ContentKind:
        """Which of the three is set."""
        if self.image_volume:
            return ContentKind.ImageVolume
        return ContentKind.ConfigMap if self.config_map else ContentKind.ContainerImage

    @property
    def target(self) -> str:
        """Name of the volume, or of the container."""
        if self.container_image:
            return self.container_image.container_name
        volume = self.image_volume or self.config_map
        return volume.volume_name if volume else ""


class Pool(ApiModel):
    """Nodes by label. The nodes of a `critical` one come after those of the others."""

    name: str
    selector: LabelSelector
    critical: bool = False


class Wave(ApiModel):
    """An ordered step: at its end, `up_to` of all nodes in its pools carry the release."""

    name: str
    up_to: IntOrPercent
    pools: tuple[str, ...] = ()
    soak: Duration | None = None
    approval: Approval | None = None


class Breaker(ApiModel):
    """So many reverts by harm within this time, and nothing starts until a person says so."""

    reverts: int = 2
    within: Duration = Duration.parse("24h")


class CriticalWorkload(ApiModel):
    """A Service of which no wave may hold too many nodes."""

    namespace: str
    service: str

    @property
    def key(self) -> str:
        """`namespace/service`."""
        return f"{self.namespace}/{self.service}"


class Rollout(ApiModel):
    """Pace and limits of a rollout."""

    max_unavailable: IntOrPercent = IntOrPercent(5, is_percent=True)
    settle: Duration = Duration.parse("60s")
    soak: Duration | None = None
    max_severity: Severity = Severity.Routine
    progress_deadline: Duration = Duration.parse("10m")
    hold_timeout: Duration = Duration.parse("30m")
    bake: Duration = Duration.parse("24h")
    on_failure: OnFailure = OnFailure.Revert
    drill: DrillMode = DrillMode.NewAgentVersion
    prefetch: PrefetchMode = PrefetchMode.Never
    cool_down: Duration = Duration.parse("30m")
    breaker: Breaker = Breaker()
    critical_workloads: tuple[CriticalWorkload, ...] = ()


class Prometheus(ApiModel):
    """Where the checks are asked. Exactly one field is set."""

    url: str | None = None
    connection: str | None = None


class Freshness(ApiModel):
    """How old a sample may be. `series` is a plain selector; without it, the query is one."""

    max_age: Duration
    series: str | None = None


class CheckControl(ApiModel):
    """How far above nodes without the content a value may be, though it is above `max`."""

    max_ratio: Number


class Check(ApiModel):
    """A PromQL query, or a `preset`; a sample above `max`, or below `min`, fails the wave. A query
    has one of the two, a preset has its own `max`.
    """

    name: str
    query: str | None = None
    preset: PresetName | None = None
    max: Number | None = None
    min: Number | None = None
    control: CheckControl | None = None
    per: CheckScope = CheckScope.Node
    node_label: str = "node"
    interval: Duration = Duration.parse("30s")
    timeout: Duration = Duration.parse("10s")
    freshness: Freshness | None = None
    coverage: IntOrPercent | None = None
    consecutive: int = 1
    hold_timeout: Duration | None = None
    dry_run: bool = False


class LoadedAnnotation(ApiModel):
    """An annotation that the agent writes on its own pod."""

    name: str = "wavegate.dev/loaded-digest"


class LoadedMetric(ApiModel):
    """Series with the loaded digest in a label: a plain selector, so that their age is known."""

    series: str
    digest_label: str = "digest"
    node_label: str = "node"
    max_age: Duration = Duration.parse("2m")
    interval: Duration = Duration.parse("30s")
    timeout: Duration = Duration.parse("10s")


class LoadedProof(ApiModel):
    """How each node reports which content its agent loaded. Exactly one field is set."""

    annotation: LoadedAnnotation | None = None
    metric: LoadedMetric | None = None


DEFAULT_WAVES = (
    Wave(name="first-node", up_to=IntOrPercent(1)),
    Wave(name="each-stratum", up_to=IntOrPercent(5, is_percent=True)),
    Wave(name="25-percent", up_to=IntOrPercent(25, is_percent=True)),
    Wave(name="half", up_to=IntOrPercent(50, is_percent=True)),
    Wave(name="all", up_to=IntOrPercent(100, is_percent=True)),
)
"""The plan of a channel without `waves`: over all ordinary pools together. The second takes one
node of each stratum that has proved nothing yet."""


class ChannelSpec(ApiModel):
    """What the platform team wants."""

    agent: Agent
    content: Content
    pools: tuple[Pool, ...]
    waves: tuple[Wave, ...] = ()
    rollout: Rollout = Rollout()
    prometheus: Prometheus | None = None
    checks: tuple[Check, ...] = ()
    loaded_proof: LoadedProof | None = None
    agent_selector: LabelSelector | None = None
    suspend: bool = False

    def planned_waves(
        self, severity: Severity = Severity.Routine, floor: float = 0.0
    ) -> tuple[Wave, ...]:
        """Return the waves with `pools` and `soak` filled in; the default plan when none is set.

        A wave that names no pool is about all that are not critical, or all if each is.
        Soak is the wave's own, else the rollout's, else the default of this severity, which is
        never shortened below `floor` (s).
        """
        ordinary = tuple(pool.name for pool in self.pools if not pool.critical)
        every_pool = ordinary or tuple(pool.name for pool in self.pools)
        return tuple(
            wave.model_copy(
                update={
                    "pools": wave.pools or every_pool,
                    "soak": wave.soak or self.rollout.soak or _default_soak(severity, index, floor),
                }
            )
            for index, wave in enumerate(self.waves or DEFAULT_WAVES)
        )


class Channel(Resource):
    """A SecurityContentChannel (wgc)."""

    kind: ClassVar[str] = "SecurityContentChannel"
    plural: ClassVar[str] = "securitycontentchannels"

    spec: ChannelSpec


def _default_soak(severity: Severity, index: int, floor: float) -> Duration:
    """A severity shortens what is routine, and nothing below the floor."""
    routine, soak = Severity.Routine.soak(index), severity.soak(index)
    return max(soak, min(routine, Duration(floor)))
