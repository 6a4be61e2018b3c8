"""The operator's own metrics, in a registry of its own. Only one has a series per node; it is
bounded (`controller.candidates`).
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Metrics:
    """All metrics; names are documented in docs/reference/metrics.md."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "wavegate_api_requests_total",
            "Requests to the apiserver, by verb and outcome (2xx, 4xx, 5xx, none).",
            ["verb", "outcome"],
            registry=self.registry,
        )
        self.leader = Gauge(
            "wavegate_leader", "1 while this process leads, else 0.", registry=self.registry
        )
        self.blind = Gauge(
            "wavegate_blind",
            "1 while the leader does not see the cluster as it is, or can't work in it (/readyz "
            "says why), so that no node moves; else 0.",
            registry=self.registry,
        )
        self.passes = Histogram(
            "wavegate_pass_seconds",
            "Duration of one pass over a channel: gather, decide, act, record.",
            registry=self.registry,
            buckets=(0.005, 0.02, 0.1, 0.5, 2, 10),
        )
        self.errors = Counter(
            "wavegate_pass_errors_total", "Passes that ended in an error.", registry=self.registry
        )
        self.moved = Counter(
            "wavegate_nodes_moved_total",
            "Node labels written to move a node to a candidate.",
            ["namespace", "channel"],
            registry=self.registry,
        )
        self.reverts = Counter(
            "wavegate_reverts_total",
            "Rollouts that ended reverted, by reason.",
            ["namespace", "channel", "reason"],
            registry=self.registry,
        )
        self.fence_seconds = Histogram(
            "wavegate_fence_seconds",
            "Seconds from the decision to revert until both DaemonSets were re-targeted.",
            registry=self.registry,
            buckets=(0.01, 0.05, 0.1, 0.5, 1, 5, 30),
        )
        self.check_verdict = Gauge(
            "wavegate_check_verdict",
            "The newest answer of a check, also of a dry run: 0 Pass, 1 Wait, 2 Hold, 3 Fail.",
            ["namespace", "channel", "check"],
            registry=self.registry,
        )
        self.gate_verdict = Gauge(
            "wavegate_gate_verdict",
            "What nodes and agents show of a running rollout (gate Nodes, Agents), and whether the "
            "operator sees what it judges and could take it back (Sight): 0 Pass, 1 Wait, 2 Hold, "
            "3 Fail.",
            ["namespace", "channel", "gate"],
            registry=self.registry,
        )
        self.candidate_node_info = Gauge(
            "wavegate_candidate_node_info",
            "1 for each node that has the content of a release that rolls out or bakes, to join "
            "queries with. At most 10,000 of all channels; a channel that does not fit has none.",
            ["namespace", "channel", "node", "release", "wave"],
            registry=self.registry,
        )
        self.candidate_nodes = Gauge(
            "wavegate_candidate_nodes",
            "How many nodes those of a channel are, also if wavegate_candidate_node_info has none.",
            ["namespace", "channel"],
            registry=self.registry,
        )
        self.phase = Gauge(
            "wavegate_rollout_phase",
            "1 for the phase that the channel's running release is in.",
            ["namespace", "channel", "phase"],
            registry=self.registry,
        )
        self.paused = Gauge(
            "wavegate_rollout_paused",
            "1 while a channel waits for a person because the operator stopped by itself: a hold "
            "took too long, a wave failed and the channel says Pause, state is lost.",
            ["namespace", "channel", "reason"],
            registry=self.registry,
        )
        self.held = Gauge(
            "wavegate_wave_held",
            "1 while evidence is missing for the channel's running release, so that no node moves.",
            ["namespace", "channel"],
            registry=self.registry,
        )

    def observe_request(self, verb: str, _path: str, status: int) -> None:
        """Count one request to the apiserver."""
        outcome = f"{status // 100}xx" if status else "none"
        self.requests.labels(verb, outcome).inc()
