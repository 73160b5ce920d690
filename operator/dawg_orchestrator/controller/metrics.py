"""What Prometheus sees of the controller; labels are bounded, no run is named."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 300, 900, 3600)

REGISTRY = CollectorRegistry()
TASKS = Counter(
    "dawg_tasks", "Tasks that got their verdict.", ("namespace", "pool", "priority", "verdict"), registry=REGISTRY
)
RUNS = Counter("dawg_runs", "Runs that got their verdict.", ("verdict",), registry=REGISTRY)
TASK_SECONDS = Histogram(
    "dawg_task_duration_seconds",
    "From the test's start to its end.",
    ("namespace", "pool"),
    buckets=_SECONDS,
    registry=REGISTRY,
)
QUEUE_SECONDS = Histogram(
    "dawg_task_queue_seconds",
    "From the run's creation to the task's grant.",
    ("namespace", "pool"),
    buckets=_SECONDS,
    registry=REGISTRY,
)
QUEUE_DEPTH = Gauge("dawg_queue_depth", "Tasks that wait.", ("namespace", "pool", "priority"), registry=REGISTRY)
AGENTS = Gauge("dawg_agents", "Agents by state.", ("namespace", "pool", "state"), registry=REGISTRY)
UTILIZATION = Gauge(
    "dawg_agent_utilization_ratio", "Taken slots of connected agents.", ("namespace", "pool"), registry=REGISTRY
)
SCALE_EVENTS = Counter(
    "dawg_scale_events", "Changes of a pool's size.", ("namespace", "pool", "direction"), registry=REGISTRY
)
SCHEDULE_DELAY = Histogram(
    "dawg_schedule_delay_seconds",
    "From a Schedule's due time, or the start that it chose, to the creation of its run.",
    ("namespace",),
    buckets=_SECONDS,
    registry=REGISTRY,
)
COMMITS_DETECTED = Counter(
    "dawg_commits_detected", "Commits that were seen on watched branches.", ("namespace",), registry=REGISTRY
)
RECONCILE_SECONDS = Histogram(
    "dawg_reconcile_seconds", "One look at one object, writes included.", ("kind",),
    buckets=(0.0005, 0.002, 0.01, 0.05, 0.2, 1, 5), registry=REGISTRY,
)  # fmt: skip
RECONCILE_ERRORS = Counter("dawg_reconcile_errors", "Looks that failed.", ("kind", "error"), registry=REGISTRY)
TERM = Gauge("dawg_leader_term", "The term of this process if it leads, else 0.", registry=REGISTRY)
RUNS_LIVE = Gauge("dawg_runs_live", "Runs without a verdict.", registry=REGISTRY)
WORK_QUEUE = Gauge("dawg_work_queue_depth", "Keys that wait to be reconciled.", registry=REGISTRY)
