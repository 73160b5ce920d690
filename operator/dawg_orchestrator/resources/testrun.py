"""TestRun: run these tests on this commit, and what came of it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from dawg_orchestrator.resources.conditions import Condition
from dawg_orchestrator.resources.model import Duration, Model, Time, parse_duration
from dawg_orchestrator.resources.task import RULES, Glob, ObjectName, PriorityName, Task, TaskName, rule, validated

GIT_URL_PATTERN = r"^(https?://|ssh://|[A-Za-z0-9_.-]+@[A-Za-z0-9_.-]+:)"
FULL_COMMIT_PATTERN = r"^[0-9a-f]{40}([0-9a-f]{24})?$"
PATCH_REF_PATTERN = r"^sha256:[0-9a-f]{64}$"  # as the api answers who brings a patch
MAX_PATCH_BYTES = 8 * 2**20
MAX_TASKS = 1000
MAX_TASK_ENTRIES = 256
MAX_TOP_FAILURES = 20
STATUS_BUDGET = 256 * 1024  # bytes of JSON
OUTPUTS_PER_TASK = 4 * 1024
OUTPUTS_PER_RUN = 64 * 1024
MAX_PARAMETER = 4096  # characters of a value
MOST_COUNTED = 1_000_000_000  # single tests
MOST_ATTEMPTS = 1000


class SecretReference(Model):
    """A Secret in the run's namespace."""

    name: ObjectName


class GitSource(Model):
    """A repository at a revision. The revision is resolved to a full commit once; every task uses that commit."""

    url: str = Field(min_length=1, max_length=2048, pattern=GIT_URL_PATTERN)
    revision: str = Field(
        default="HEAD",
        min_length=1,
        max_length=256,
        pattern=r"^[^-\s~^:?*\[\\\x00-\x1f\x7f][^\s~^:?*\[\\\x00-\x1f\x7f]*$",
    )
    credentials_secret_ref: SecretReference | None = None
    sub_path: Glob | None = None


class Source(Model):
    """What is tested; of an ``untrusted`` one only pools of that trust run commands."""

    git: GitSource | None = None
    untrusted: bool | None = None
    patch_ref: str | None = Field(default=None, max_length=71, pattern=PATCH_REF_PATTERN)


class WorkflowReference(Model):
    """A Workflow in the run's namespace."""

    name: ObjectName


class GateSpec(Model):
    """Publish the merge verdict to a forge. Who may set it needs the verb ``gate`` on the run's Workflow."""

    repository: str = Field(min_length=1, max_length=512)
    context: str = Field(default="dawg", min_length=1, max_length=128)
    on_flaky: Literal["Allow", "Block"] = "Allow"


class SelectionTarget(Model):
    """How much of the risk the chosen tests must cover."""

    confidence: Annotated[float, Field(gt=0, le=1)] | None = None
    percent: Annotated[int, Field(ge=1, le=100)] | None = None
    time: Duration | None = None


class Selection(Model):
    """Run only the tests that matter for the change."""

    mode: Literal["off", "observe", "enforce"] = "off"
    target: SelectionTarget | None = None


class Concurrency(Model):
    """At most ``max`` runs of a group are under way in a namespace."""

    group: str = Field(min_length=1, max_length=253)
    max: int = Field(default=1, ge=1, le=1000)
    policy: Literal["Queue", "CancelInProgress", "Skip"] = "Queue"


_STAYS_CANCELLED = rule("!oldSelf || self", "a cancelled run stays cancelled; create another run instead")
_STORED = ("pool", "failFast", "timeout")  # always there, by their defaults
_OPTIONAL = ("tasks", "workflowRef", "source", "parameters", "gate", "selection", "concurrency")


def _freeze(schema: dict[str, Any]) -> None:
    """Rules that what a run tests stays as it is.

    A value is compared by its own rule, since to look at a field from above costs the apiserver more, at every write of
    every run; only whether the field is there cannot be asked in any other place, which one rule does for all of them.
    """
    immutable = "is immutable: a run tests one thing; create another run instead"
    for field in (*_STORED, *_OPTIONAL):
        schema["properties"][field][RULES] = [rule("self == oldSelf", f"{field} {immutable}")]
    changed = "".join(f"has(self.{field}) != has(oldSelf.{field}) ? '{field}' : " for field in _OPTIONAL[:-1])
    schema[RULES] = [
        rule("has(self.tasks) != has(self.workflowRef)", "set exactly one of tasks and workflowRef"),
        rule(
            " && ".join(f"has(self.{field}) == has(oldSelf.{field})" for field in _OPTIONAL),
            f"what a run tests {immutable}",
        )
        | {"messageExpression": f"({changed}'{_OPTIONAL[-1]}') + ' {immutable}'"},
    ]


class TestRunSpec(Model):
    """What to run. Immutable, but for ``cancelled`` (false to true), ``priority`` and ``ttlAfterFinished``."""

    __test__ = False
    model_config = ConfigDict(json_schema_extra=_freeze)

    pool: ObjectName = "default"
    priority: PriorityName = "medium"
    source: Source | None = None
    workflow_ref: WorkflowReference | None = None
    parameters: dict[Annotated[str, Field(max_length=63)], Annotated[str, Field(max_length=MAX_PARAMETER)]] = Field(
        default_factory=dict, max_length=64
    )
    tasks: list[Task] | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_TASKS,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    gate: GateSpec | None = None
    selection: Selection | None = None
    concurrency: Concurrency | None = None
    fail_fast: bool = False
    timeout: Duration = parse_duration("1h")
    ttl_after_finished: Duration = parse_duration("24h")
    cancelled: Annotated[bool, Field(json_schema_extra={RULES: [_STAYS_CANCELLED]})] = False


Count = Annotated[int, Field(ge=0, le=MOST_COUNTED)]
Attempts = Annotated[int, Field(ge=0, le=MOST_ATTEMPTS)]
ExitCode = Annotated[int, Field(ge=-(2**31), le=2**31 - 1)]


class TestCounts(Model):
    """Single tests, each counted once: one that failed and then passed is flaky."""

    __test__ = False

    total: Count = 0
    passed: Count = 0
    failed: Count = 0
    flaky: Count = 0
    skipped: Count = 0


NO_TESTS = TestCounts()


class QueueStatus(Model):
    """Why the run waits; written on entry and when the reason changes, live values come from the api."""

    position: int | None = None
    eta_seconds: dict[str, int] | None = None
    reason: str | None = Field(default=None, max_length=64)
    message: str | None = Field(default=None, max_length=1024)


class RetryCounts(Model):
    """Attempts already used up, by what went wrong."""

    infra: Attempts = 0
    tests: Attempts = 0


class TaskStatus(Model):
    """One task of the frozen expansion, as far as it has come."""

    name: TaskName
    index: int = Field(default=0, ge=0, lt=MAX_TASKS)
    cell: dict[str, str] | None = None
    shard: int | None = None
    verdict: str | None = None
    attempt: Attempts = 0
    retries: RetryCounts | None = None
    agent: str | None = None
    job: str | None = None
    reason: str | None = Field(default=None, max_length=64)
    message: str | None = Field(default=None, max_length=1024)
    start_time: Time | None = None
    completion_time: Time | None = None
    exit_code: ExitCode | None = None
    tests: TestCounts | None = None
    cached: bool | None = None


class TopFailure(Model):
    """One failed test of those worth seeing first."""

    test: str = Field(max_length=512)
    task: str = Field(max_length=256)
    message: str = Field(default="", max_length=1024)
    signature: str | None = Field(default=None, max_length=64)
    seen_before: int | None = None


class RiskStatus(Model):
    """How likely the commit breaks something, and who says so."""

    score: float | None = None
    level: PriorityName | None = None
    source: str | None = Field(default=None, max_length=64)
    reasons: list[Annotated[str, Field(max_length=256)]] = Field(default_factory=list, max_length=20)


class GateStatus(Model):
    """What the gate is, and whether the forge shows it; NotGated says only that nothing is published."""

    state: Literal["NotGated", "Pending", "Open", "Closed"] = "NotGated"
    reason: str | None = Field(default=None, max_length=64)
    message: str | None = Field(default=None, max_length=1024)
    published: bool | None = None  # of a run that has its verdict: whether nothing is left to be published
    superseded_by: str | None = Field(default=None, max_length=253)  # the newer run that decides for this commit
    published_at: Time | None = None
    url: str | None = Field(default=None, max_length=2048)


class StoredResults(Model):
    """Where the full results are."""

    stored: bool = False
    ref: str | None = Field(default=None, max_length=512)
    sha256: str | None = Field(default=None, max_length=64)


class SourceStatus(Model):
    """The commit that every task used."""

    commit: str | None = Field(default=None, max_length=64)


class Analysis(Model):
    """Why the run failed, and who says so."""

    category: str | None = Field(default=None, max_length=64)
    root_cause: str | None = Field(default=None, max_length=2048)
    auto_fixable: bool | None = None
    source: str | None = Field(default=None, max_length=64)
    suggestion: str | None = Field(default=None, max_length=4096)


class Fix(Model):
    """A proposed fix and its proof."""

    state: str | None = Field(default=None, max_length=64)
    branch: str | None = Field(default=None, max_length=256)
    pull_request: str | None = Field(default=None, max_length=2048)
    evidence: str | None = Field(default=None, max_length=4096)


class TestRunStatus(Model):
    """What came of the run. Written by the leading controller only; absent means blocked."""

    __test__ = False
    model_config = validated(
        rule(
            "!has(oldSelf.term) || (has(self.term) && self.term >= oldSelf.term)",
            "a newer leader has written this status; a former leader's word no longer counts",
        ),
        rule(
            "!has(oldSelf.verdict) || (has(self.verdict) && self.verdict == oldSelf.verdict)",
            "a verdict is final; create another run instead",
        ),
    )

    term: int | None = None
    observed_generation: int | None = None
    start_time: Time | None = None
    completion_time: Time | None = None
    duration: Duration | None = None
    source: SourceStatus | None = None
    workflow_revision: str | None = Field(default=None, max_length=253)
    rerun_of: str | None = Field(default=None, max_length=253)
    phase: Literal["Queued", "Running", "Finished"] | None = None
    progress: str | None = Field(default=None, max_length=16)
    verdict: Literal["Passed", "Failed", "Flaky", "InfraError", "TimedOut", "Cancelled", "Skipped"] | None = None
    merge_blocked: bool = True
    conditions: list[Condition] = Field(
        default_factory=list,
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    queue: QueueStatus | None = None
    risk: RiskStatus | None = None
    tests: TestCounts | None = None
    top_failures: list[TopFailure] = Field(default_factory=list, max_length=MAX_TOP_FAILURES)
    tasks: list[TaskStatus] = Field(default_factory=list, max_length=MAX_TASK_ENTRIES)
    task_verdicts: str | None = Field(default=None, max_length=MAX_TASKS)
    outputs: dict[str, dict[str, str]] | None = None
    gate: GateStatus | None = None
    results: StoredResults | None = None
    analysis: Analysis | None = None
    fix: Fix | None = None


#: What the CRD answers before any controller has spoken: blocked, and nobody has seen it.
UNSEEN_STATUS: dict[str, Any] = {
    "mergeBlocked": True,
    "conditions": [
        {
            "type": "Seen",
            "status": "False",
            "reason": "NotSeen",
            "message": "no controller has taken the run; see `dawg why`",
        },
        {"type": "Finished", "status": "False", "reason": "NotSeen", "message": ""},
        {"type": "Succeeded", "status": "Unknown", "reason": "NotSeen", "message": ""},
        {"type": "Failed", "status": "Unknown", "reason": "NotSeen", "message": ""},
        {"type": "MergeAllowed", "status": "False", "reason": "TestsPending", "message": ""},
    ],
}
